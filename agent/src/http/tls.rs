//! TLS as the web configuration asks for it: its files read, and what rustls makes of them.
//!
//! The key's file may not be for everyone to read: whoever has it is this host.

mod clients;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::WebPkiClientVerifier,
};

use self::clients::Clients;
use super::{
    files::Files,
    web_config::{ClientAuth, Mistake, Pem, Tls, Written},
};

/// Whom a file may not be readable by, of its mode.
const OTHERS_READ: u32 = 0o004;

/// What connections are to go by; paths in it are of `dir`. `files` has what was read, also after a mistake.
pub(super) fn server(
    tls: &Tls,
    config: &Path,
    files: &mut Files,
) -> Result<Arc<ServerConfig>, Mistake> {
    let provider = provider(tls);
    let dir = config.parent().unwrap_or(Path::new(""));
    let ca = tls.client_ca.as_ref().map(|ca| roots(ca, dir, files)).transpose();
    let chain = certificates(&tls.cert, dir, files);
    let key = key(&tls.key, config, files);
    let (ca, chain, key) = (ca?, chain?, key?);
    let of_tls = |error: rustls::Error| Mistake {
        place: Some(tls.place),
        what: format!("tls_server_config: {error}"),
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&tls.versions).map_err(of_tls)?;
    let builder = match clients(tls, ca, &provider)? {
        Some(clients) => builder.with_client_cert_verifier(Arc::new(clients)),
        None => builder.with_no_client_auth(),
    };
    let server = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            tls.key.mistake("it is not the key of the certificate: one of both is of another pair")
        }
        error => tls.key.mistake(error),
    });
    let mut server = server?;
    server.ignore_client_order = tls.prefer_server_cipher_suites;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

/// What of rustls is used.
fn provider(tls: &Tls) -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites.clone_from(&tls.cipher_suites);
    if !tls.curves.is_empty() {
        provider.kx_groups.clone_from(&tls.curves);
    }
    Arc::new(provider)
}

/// What judges clients' certificates, if they are asked for one.
fn clients(
    tls: &Tls,
    ca: Option<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Clients>, Mistake> {
    if tls.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let verifier = ca.map(|ca| {
        WebPkiClientVerifier::builder_with_provider(Arc::new(ca), Arc::clone(provider)).build()
    });
    let authority = verifier.transpose().map_err(|error| Mistake {
        place: tls.client_ca.as_ref().map(|ca| ca.place),
        what: format!("tls_server_config.client_ca_file: {error}"),
    })?;
    Ok(Some(Clients {
        authority,
        is_required: tls.client_auth.is_required(),
        allowed_sans: tls.client_allowed_sans.clone(),
        algorithms: provider.signature_verification_algorithms,
    }))
}

fn certificates(
    of: &Written<Pem>,
    dir: &Path,
    files: &mut Files,
) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let bytes = bytes(of, dir, files)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(of.mistake("there is no certificate in it (PEM)")),
        Ok(found) => Ok(found),
        Err(error) => Err(of.mistake(format!("no certificates: {error}"))),
    }
}

/// The authorities that clients' certificates may be of.
fn roots(of: &Written<Pem>, dir: &Path, files: &mut Files) -> Result<RootCertStore, Mistake> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(of, dir, files)? {
        roots.add(certificate).map_err(|error| of.mistake(error))?;
    }
    Ok(roots)
}

fn key(
    of: &Written<Pem>,
    config: &Path,
    files: &mut Files,
) -> Result<PrivateKeyDer<'static>, Mistake> {
    let dir = config.parent().unwrap_or(Path::new(""));
    let bytes = bytes(of, dir, files)?;
    // The file that has it, which is the configuration itself for one that is written there.
    let path = match &of.value {
        Pem::File(path) => dir.join(path),
        Pem::Inline(_) => config.to_owned(),
    };
    match std::fs::metadata(&path).map(|meta| meta.permissions().mode()) {
        Ok(mode) if mode & OTHERS_READ == 0 => {}
        Ok(mode) => {
            return Err(of.mistake(format!(
                "everyone on this host may read {} (mode {:04o}): `chmod 0600`, or `defaultMode: 0400` of a \
                 volume of Kubernetes",
                path.display(),
                mode & 0o7777
            )));
        }
        Err(error) => return Err(of.mistake(format!("cannot look at {}: {error}", path.display()))),
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            of.mistake("there is no private key in it that is not encrypted (PEM)")
        }
        error => of.mistake(format!("no private key: {error}")),
    })
}

fn bytes(of: &Written<Pem>, dir: &Path, files: &mut Files) -> Result<Vec<u8>, Mistake> {
    match &of.value {
        Pem::Inline(text) => Ok(text.clone().into_bytes()),
        Pem::File(path) => {
            let path: PathBuf = dir.join(path);
            let read = files.read(&path);
            read.map_err(|error| of.mistake(format!("cannot read {}: {error}", path.display())))
        }
    }
}
