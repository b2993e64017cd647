//! Clients' certificates: of a known authority if there is one, and of an allowed name if there are any.

use std::{net::IpAddr, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::EndEntityCert;

/// What judges them. Whoever shows a certificate has proved by a signature that it is theirs; without an
/// authority that is all that is known.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) authority: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) is_required: bool,
    /// DNS names, IP addresses and URIs of which a certificate must have one, if there are any.
    pub(super) allowed_sans: Vec<String>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    fn is_allowed(&self, certificate: &EndEntityCert<'_>) -> bool {
        let is_of = |san: &String| {
            let is_ip = |ip: IpAddr| {
                let name = ServerName::IpAddress(ip.into());
                certificate.verify_is_valid_for_subject_name(&name).is_ok()
            };
            certificate.valid_dns_names().any(|name| name == san)
                || certificate.valid_uri_names().any(|name| name == san)
                || san.parse().is_ok_and(is_ip)
        };
        self.allowed_sans.is_empty() || self.allowed_sans.iter().any(is_of)
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authority.as_ref().map_or(&[], |authority| authority.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(authority) = &self.authority {
            authority.verify_client_cert(end_entity, intermediates, now)?;
        }
        let parsed = EndEntityCert::try_from(end_entity);
        let parsed = parsed.map_err(|_| Error::from(CertificateError::BadEncoding))?;
        if !self.is_allowed(&parsed) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
