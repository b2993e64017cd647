//! The web configuration of Prometheus' exporters: a text, what it says, and each mistake with its place.
//!
//! The format is that of the exporter toolkit, in YAML. What is written and cannot be honoured is a mistake,
//! never ignored: whoever asks for protection gets it or an error. Nothing is read from disk here; `tls` and
//! `guard` do that.

mod fields;
mod yaml;

use std::{fmt, path::PathBuf};

use axum::http::{HeaderName, HeaderValue};
use rustls::{
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{SupportedKxGroup, ring},
    version::{TLS12, TLS13},
};

use self::fields::{Fields, Mistakes};
use super::{headers, passwords};

const TLS_SECTION: &str = "tls_server_config";
const HTTP_SECTION: &str = "http_server_config";
const USERS: &str = "basic_auth_users";
const SECTIONS: &[&str] = &[TLS_SECTION, HTTP_SECTION, USERS, "rate_limit"];
const TLS_KEYS: &[&str] = &[
    "cert",
    "cert_file",
    "key",
    "key_file",
    "client_ca",
    "client_ca_file",
    "client_auth_type",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "curve_preferences",
    "prefer_server_cipher_suites",
];

/// How much is asked of a client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// None is asked for.
    #[default]
    None,
    /// One is asked for; whoever has none, or one of anybody's making, is served.
    Request,
    /// Each client has one, of anybody's making.
    RequireAny,
    /// If there is one it must be of a known authority.
    VerifyIfGiven,
    /// Each client has one of a known authority.
    RequireAndVerify,
}

/// As the format calls them.
const CLIENT_AUTH_TYPES: &[(&str, ClientAuth)] = &[
    ("NoClientCert", ClientAuth::None),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    // What it was called once.
    ("RequireClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
];

impl ClientAuth {
    /// Whether a certificate that was taken proves who the client is.
    pub(super) fn verifies(self) -> bool {
        matches!(self, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify)
    }

    /// Whether there is no connection without a certificate.
    pub(super) fn is_required(self) -> bool {
        matches!(self, ClientAuth::RequireAny | ClientAuth::RequireAndVerify)
    }
}

/// Protocol versions, the older first.
const VERSIONS: &[(&str, &SupportedProtocolVersion)] = &[("TLS12", &TLS12), ("TLS13", &TLS13)];
/// Those of the format that rustls does not speak, for they are broken.
const BROKEN_VERSIONS: &[&str] = &["TLS10", "TLS11"];
/// Key exchanges, as the format calls them.
const CURVES: &[(&str, &dyn SupportedKxGroup)] = &[
    ("X25519", ring::kx_group::X25519),
    ("CurveP256", ring::kx_group::SECP256R1),
    ("CurveP384", ring::kx_group::SECP384R1),
];

/// Where in the file something is, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mistake {
    pub(super) place: Option<Place>,
    pub(super) what: String,
}

/// A web configuration that is not taken, with every mistake that was found.
#[derive(Debug)]
pub struct WebConfigError {
    pub(super) file: PathBuf,
    pub(super) mistakes: Vec<Mistake>,
}

impl fmt::Display for WebConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Mistake { place, what }) in self.mistakes.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "\n" })?;
            write!(f, "{}:", self.file.display())?;
            if let Some(Place { line, column }) = place {
                write!(f, "{line}:{column}:")?;
            }
            write!(f, " {what}")?;
        }
        Ok(())
    }
}

impl std::error::Error for WebConfigError {}

/// Something that was written, and where.
#[derive(Clone, Debug)]
pub(super) struct Written<T> {
    pub(super) key: &'static str,
    pub(super) place: Place,
    pub(super) value: T,
}

impl<T> Written<T> {
    pub(super) fn mistake(&self, what: impl fmt::Display) -> Mistake {
        Mistake { place: Some(self.place), what: format!("{TLS_SECTION}.{}: {what}", self.key) }
    }
}

/// Certificates or a key, in a file or on the spot.
#[derive(Clone, Debug)]
pub(super) enum Pem {
    File(PathBuf),
    Inline(String),
}

/// What is said of TLS.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) place: Place,
    pub(super) cert: Written<Pem>,
    pub(super) key: Written<Pem>,
    pub(super) client_ca: Option<Written<Pem>>,
    pub(super) client_auth: ClientAuth,
    pub(super) client_allowed_sans: Vec<String>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    pub(super) cipher_suites: Vec<SupportedCipherSuite>,
    pub(super) curves: Vec<&'static dyn SupportedKxGroup>,
    pub(super) prefer_server_cipher_suites: bool,
}

/// What a file says.
#[derive(Clone, Debug, Default)]
pub(super) struct WebConfig {
    pub(super) tls: Option<Tls>,
    /// `None`: the header is left out.
    pub(super) headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Names and the hashes of their passwords.
    pub(super) users: Vec<(String, String)>,
}

/// Reads a text; paths stay as they are written.
pub(super) fn parse(text: &str) -> Result<WebConfig, Vec<Mistake>> {
    let root = yaml::read(text).map_err(|mistake| vec![mistake])?;
    let mut mistakes = Mistakes::default();
    let mut config = WebConfig::default();
    let mut top = Fields::of("", root, SECTIONS, &mut mistakes);
    if let Some((place, _)) = top.take("rate_limit") {
        mistakes.push(
            place,
            "rate_limit: requests are not counted here; connections, what each may send and how long it may \
             take are bounded in any case: remove it",
        );
    }
    if let Some((place, node)) = top.take(TLS_SECTION) {
        let fields = Fields::of(TLS_SECTION, node, TLS_KEYS, &mut mistakes);
        config.tls = tls(place, fields, &mut mistakes);
    }
    if let Some((_, node)) = top.take(HTTP_SECTION) {
        let fields = Fields::of(HTTP_SECTION, node, &["http2", "headers"], &mut mistakes);
        config.headers = http(fields, &mut mistakes);
    }
    if let Some((_, node)) = top.take(USERS) {
        config.users = users(Fields::of_any(USERS, node, &mut mistakes), &mut mistakes);
    }
    mistakes.none_or(config)
}

fn tls(place: Place, mut fields: Fields, mistakes: &mut Mistakes) -> Option<Tls> {
    let cert = pem(&mut fields, "cert", "cert_file", mistakes);
    let key = pem(&mut fields, "key", "key_file", mistakes);
    for (name, it) in [("cert_file", &cert), ("key_file", &key)] {
        if it.is_none() {
            let what = format!("{TLS_SECTION} has no {name}, and there is no TLS without: add it");
            mistakes.push(place, what);
        }
    }
    let client_ca = pem(&mut fields, "client_ca", "client_ca_file", mistakes);
    let (client_auth, client_allowed_sans) = clients(&mut fields, client_ca.as_ref(), mistakes);
    let suites = ring::ALL_CIPHER_SUITES.iter().map(|suite| (name_of(*suite), *suite));
    let suites: Vec<_> = suites.collect();
    let suites: Vec<_> = suites.iter().map(|(name, suite)| (&**name, *suite)).collect();
    let chosen = fields.choices("cipher_suites", &suites, mistakes);
    let curves = fields.choices("curve_preferences", CURVES, mistakes);
    Some(Tls {
        place,
        client_ca,
        client_auth,
        client_allowed_sans,
        versions: versions(&mut fields, mistakes),
        cipher_suites: spoken(chosen),
        curves,
        prefer_server_cipher_suites: fields
            .flag("prefer_server_cipher_suites", mistakes)
            .is_none_or(|it| it.value),
        cert: cert?,
        key: key?,
    })
}

/// A PEM that is given in one of two ways.
fn pem(
    fields: &mut Fields,
    inline: &'static str,
    file: &'static str,
    mistakes: &mut Mistakes,
) -> Option<Written<Pem>> {
    let here = fields.text(inline, mistakes);
    let there = fields.text(file, mistakes);
    if let (Some(here), Some(_)) = (&here, &there) {
        mistakes
            .push(here.place, format!("{TLS_SECTION}: {inline} and {file}: remove one of them"));
    }
    let here =
        here.map(|it| Written { key: it.key, place: it.place, value: Pem::Inline(it.value) });
    here.or(there.map(|it| {
        let value = Pem::File(PathBuf::from(it.value));
        Written { key: it.key, place: it.place, value }
    }))
}

/// What is asked of clients, if it makes sense together.
fn clients(
    fields: &mut Fields,
    client_ca: Option<&Written<Pem>>,
    mistakes: &mut Mistakes,
) -> (ClientAuth, Vec<String>) {
    let chosen = fields.choice("client_auth_type", CLIENT_AUTH_TYPES, mistakes);
    let auth = chosen.as_ref().map_or(ClientAuth::None, |it| it.value);
    match (client_ca, &chosen) {
        (None, Some(it)) if auth.verifies() => mistakes.0.push(it.mistake(
            "nothing says which authority certificates must be of: add client_ca_file",
        )),
        (Some(ca), _) if !auth.verifies() => mistakes.0.push(ca.mistake(
            "no certificate is verified with it: write `client_auth_type: RequireAndVerifyClientCert`",
        )),
        _ => {}
    }
    let sans = fields.texts("client_allowed_sans", mistakes);
    if let (Some(first), false) = (sans.first(), auth.is_required()) {
        mistakes.0.push(first.mistake(
            "who has no certificate has no name either: write `client_auth_type: \
             RequireAndVerifyClientCert`",
        ));
    }
    for san in sans.iter().filter(|san| san.value.contains('@') && !san.value.contains("://")) {
        mistakes.0.push(san.mistake(format!(
            "`{}` is an e-mail address, which is not compared here; take a DNS name, an IP address or a URI",
            san.value
        )));
    }
    (auth, sans.into_iter().map(|san| san.value).collect())
}

/// The versions from the least to the most; without a word on it all that there are.
fn versions(
    fields: &mut Fields,
    mistakes: &mut Mistakes,
) -> Vec<&'static SupportedProtocolVersion> {
    let mut bound = |key: &'static str, otherwise: usize| {
        let Some(text) = fields.text(key, mistakes) else { return (None, otherwise) };
        let at = VERSIONS.iter().position(|(name, _)| *name == text.value);
        if at.is_none() {
            let name = &text.value;
            mistakes.0.push(text.mistake(match BROKEN_VERSIONS.contains(&&**name) {
                true => format!("{name} is broken and not spoken here; write TLS12 or TLS13"),
                false => format!("there is no version `{name}`; write TLS12 or TLS13"),
            }));
        }
        (Some(text), at.unwrap_or(otherwise))
    };
    let (_, least) = bound("min_version", 0);
    let (written, most) = bound("max_version", VERSIONS.len() - 1);
    if let (Some(written), true) = (written, least > most) {
        mistakes
            .0
            .push(written.mistake("it is below min_version, so that nothing could be spoken"));
        return Vec::new();
    }
    VERSIONS[least..=most].iter().map(|(_, version)| *version).collect()
}

/// The list is of TLS 1.2 unless it names suites of 1.3 itself; an empty one leaves all.
fn spoken(mut chosen: Vec<SupportedCipherSuite>) -> Vec<SupportedCipherSuite> {
    if chosen.iter().all(|suite| suite.tls13().is_none()) {
        let of_13 = ring::ALL_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_some());
        let all = chosen.is_empty();
        chosen.extend(of_13);
        if all {
            chosen = ring::DEFAULT_CIPHER_SUITES.to_vec();
        }
    }
    chosen
}

/// As the registry of TLS and the format call it; rustls marks those of 1.3.
fn name_of(suite: SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

fn http(mut fields: Fields, mistakes: &mut Mistakes) -> Vec<(HeaderName, Option<HeaderValue>)> {
    if let Some(it) = fields.flag("http2", mistakes).filter(|it| it.value) {
        mistakes.push(
            it.place,
            format!(
                "{HTTP_SECTION}.http2: HTTP/1.1 is spoken here, by Prometheus too: remove it or write `false`"
            ),
        );
    }
    let Some((_, node)) = fields.take("headers") else { return Vec::new() };
    let path = "http_server_config.headers";
    let entries = Fields::of(path, node, headers::NAMES, mistakes).entries;
    let mut all = Vec::new();
    for (key, node) in entries {
        let place = node.place;
        let Some(value) = fields::text_of(path, &key.text, node, mistakes) else { continue };
        match headers::header(&key.text, &value) {
            Ok(header) => all.push(header),
            Err(why) => mistakes.push(place, format!("{path}.{}: {why}", key.text)),
        }
    }
    all
}

fn users(fields: Fields, mistakes: &mut Mistakes) -> Vec<(String, String)> {
    let mut users = Vec::new();
    for (key, node) in fields.entries {
        let place = node.place;
        let Some(hash) = fields::text_of(USERS, &key.text, node, mistakes) else { continue };
        if key.text.contains(':') {
            mistakes.push(key.place, format!("{USERS}.{}: a name cannot have a colon", key.text));
        }
        match passwords::check(&hash) {
            Ok(()) => users.push((key.text, hash)),
            Err(why) => mistakes.push(place, format!("{USERS}.{}: {why}", key.text)),
        }
    }
    users
}

#[cfg(test)]
mod tests;
