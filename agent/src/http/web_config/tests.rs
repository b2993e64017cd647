//! Texts, and what is made of them: all that is understood, or every mistake with its place.

use super::*;

/// The smallest that has TLS.
const PAIR: &str = "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n";

/// The mistakes of a text, a line each.
fn told(text: &str) -> String {
    let mistakes = parse(text).expect_err("it is taken");
    WebConfigError { file: PathBuf::from("web.yml"), mistakes }.to_string()
}

/// Each line of what is told begins with its place, and says these words.
#[track_caller]
fn refused(text: &str, expected: &[(&str, &str)]) {
    let told = told(text);
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{told}");
    for (line, (place, words)) in lines.iter().zip(expected) {
        let begins = line.starts_with(&format!("web.yml:{place}: "));
        assert!(begins && line.contains(words), "{line:?} is not at {place} or not of {words:?}");
    }
}

fn tls(lines: &str) -> Tls {
    parse(&format!("{PAIR}{lines}")).expect("no mistake").tls.expect("TLS")
}

#[test]
fn what_the_exporters_take_is_taken() {
    let config = parse(
        "# TLS and passwords\n\
         tls_server_config:\n  \
           cert_file: server.crt\n  \
           key_file: \"server.key\"\n  \
           client_auth_type: RequireAndVerifyClientCert\n  \
           client_ca_file: ca.crt\n  \
           client_allowed_sans: [prometheus.example, 10.0.0.1, 'spiffe://a/b']\n  \
           min_version: TLS13\n  \
           max_version: TLS13\n  \
           cipher_suites:\n  \
           - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\n  \
           curve_preferences: [CurveP384, X25519]\n  \
           prefer_server_cipher_suites: false\n\
         http_server_config:\n  \
           http2: false\n  \
           headers:\n    \
             X-Frame-Options: sameorigin\n    \
             Strict-Transport-Security: ''\n\
         basic_auth_users:\n  \
           alice: $2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze\n",
    );
    let config = config.unwrap();
    let tls = config.tls.unwrap();
    assert!(matches!(tls.cert.value, Pem::File(path) if path.as_os_str() == "server.crt"));
    assert_eq!(tls.client_auth, ClientAuth::RequireAndVerify);
    assert_eq!(tls.client_allowed_sans, ["prometheus.example", "10.0.0.1", "spiffe://a/b"]);
    assert_eq!(tls.versions, [&TLS13]);
    let curves: Vec<_> = tls.curves.iter().map(|curve| format!("{:?}", curve.name())).collect();
    assert_eq!(curves, ["secp384r1", "X25519"]);
    assert!(!tls.prefer_server_cipher_suites);
    assert_eq!(config.headers.len(), 2);
    assert_eq!(config.headers[1].1, None);
    assert_eq!(config.users[0].0, "alice");
}

#[test]
fn what_is_not_written_is_as_with_the_exporters() {
    let tls = tls("");
    assert_eq!(tls.versions, [&TLS12, &TLS13]);
    assert_eq!(tls.cipher_suites, ring::DEFAULT_CIPHER_SUITES);
    assert_eq!(tls.client_auth, ClientAuth::None);
    assert!(tls.prefer_server_cipher_suites && tls.curves.is_empty());
    for nothing in ["", "# nothing\n", "basic_auth_users:\n", "http_server_config: {}\n"] {
        let config = parse(nothing).unwrap();
        assert!(config.tls.is_none() && config.users.is_empty(), "{nothing}");
    }
}

#[test]
fn a_list_of_suites_is_of_1_2_unless_it_names_those_of_1_3() {
    let names = |list: &str| -> Vec<_> {
        let tls = tls(&format!("  cipher_suites: [{list}]\n"));
        tls.cipher_suites.iter().map(|suite| name_of(*suite)).collect()
    };
    assert_eq!(
        names("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        [
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_AES_256_GCM_SHA384",
            "TLS_AES_128_GCM_SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
        ]
    );
    assert_eq!(names("TLS_AES_128_GCM_SHA256"), ["TLS_AES_128_GCM_SHA256"]);
}

#[test]
fn a_key_that_nobody_knows_is_told_with_the_one_that_was_meant() {
    refused("tls_server_confg: {}\n", &[("1:1", "did you mean `tls_server_config`?")]);
    refused(
        &format!("{PAIR}  cert_fle: b\nother: 1\nhttp_server_config:\n  headers:\n    Server: x\n"),
        &[
            (
                "4:3",
                "no setting of tls_server_config is called `cert_fle`; did you mean `cert_file`?",
            ),
            ("5:1", "there are tls_server_config, http_server_config, basic_auth_users"),
            ("8:5", "no setting of http_server_config.headers is called `Server`"),
        ],
    );
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    refused(
        &format!(
            "{PAIR}  min_version: TLS10\n  cipher_suites:\n  - TLS_RSA_WITH_AES_128_CBC_SHA\n  \
             curve_preferences: [CurveP521]\nhttp_server_config:\n  http2: true\nrate_limit:\n  burst: 1\n"
        ),
        &[
            (
                "4:16",
                "tls_server_config.min_version: TLS10 is broken and not spoken here; write TLS12",
            ),
            ("6:5", "`TLS_RSA_WITH_AES_128_CBC_SHA` is not to be had here; there are TLS_AES_256"),
            ("7:23", "there are X25519, CurveP256, CurveP384"),
            ("9:10", "http_server_config.http2: HTTP/1.1 is spoken here"),
            ("10:1", "rate_limit: "),
        ],
    );
    refused(
        &format!("{PAIR}  max_version: TLS12\n  min_version: TLS13\n"),
        &[("4:16", "max_version: it is below min_version")],
    );
    refused(&format!("{PAIR}  max_version: '1.3'\n"), &[("4:16", "no version `1.3`; write TLS12")]);
}

#[test]
fn half_of_a_protection_is_none() {
    refused(
        "tls_server_config:\n  min_version: TLS12\n",
        &[("1:1", "has no cert_file"), ("1:1", "has no key_file")],
    );
    refused(&format!("{PAIR}  client_ca_file: ca\n"), &[("4:19", "no certificate is verified")]);
    for auth in ["RequireAndVerifyClientCert", "VerifyClientCertIfGiven"] {
        refused(&format!("{PAIR}  client_auth_type: {auth}\n"), &[("4:21", "add client_ca_file")]);
    }
    refused(
        &format!("{PAIR}  client_auth_type: RequestClientCert\n  client_allowed_sans: [a]\n"),
        &[("5:25", "who has no certificate has no name")],
    );
    refused(
        &format!("{PAIR}  client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [a@b]\n"),
        &[("5:25", "is an e-mail address")],
    );
    refused(&format!("{PAIR}  key: inline\n"), &[("4:8", "key and key_file: remove one")]);
    refused(&format!("{PAIR}  client_auth_type: Any\n"), &[("4:21", "there are NoClientCert")]);
}

#[test]
fn passwords_are_hashes() {
    refused(
        "basic_auth_users:\n  a: secret\n  b:c: x\n  d: [x]\n",
        &[
            ("2:6", "basic_auth_users.a: no hash of bcrypt"),
            ("3:3", "basic_auth_users.b:c: a name cannot have a colon"),
            ("3:8", "basic_auth_users.b:c: no hash of bcrypt"),
            ("4:6", "basic_auth_users.d is a list; write a text"),
        ],
    );
    refused(
        "basic_auth_users: [a]\n",
        &[("1:19", "basic_auth_users is a list where `key: value`")],
    );
}

#[test]
fn headers_mean_something_to_a_browser() {
    let of = |line: &str| format!("http_server_config:\n  headers:\n    {line}\n");
    refused(&of("X-Frame-Options: ALLOWALL"), &[("3:22", "write deny or sameorigin")]);
    refused(&of("X-Content-Type-Options: sniff"), &[("3:29", "write nosniff")]);
    refused(
        &of("Content-Security-Policy: \"a\\nb\""),
        &[("3:30", "no header can have such letters")],
    );
}

#[test]
fn what_is_no_mapping_of_yaml_is_told_with_its_place() {
    refused("tls_server_config: [\n", &[("2:1", "this is no YAML")]);
    refused("plain\n", &[("1:1", "the file is a text where `key: value` is expected")]);
    refused("http_server_config: {}\nhttp_server_config: {}\n", &[("2:1", "first in line 1")]);
    refused("a: &x 1\nb: *x\n", &[("2:4", "an alias; write out")]);
    refused("basic_auth_users: {}\n---\nbasic_auth_users: {}\n", &[("2:1", "a second document")]);
    refused(&"- ".repeat(20), &[("1:19", "nested too deeply")]);
    refused("? [a]\n: b\n", &[("1:3", "a key must be a text")]);
    refused(&format!("{PAIR}  prefer_server_cipher_suites: 1\n"), &[("4:32", "write `true` or")]);
}

#[test]
fn the_example_that_is_shipped_is_taken_and_shows_every_key() {
    let example = include_str!("../../../packaging/web-config.yml");
    let config = parse(example).unwrap();
    assert!(config.tls.is_some() && config.users.len() == 1);
    let all = example.replace("\n  #", "\n  ").replace("\n    #", "\n    ");
    for key in TLS_KEYS.iter().chain(headers::NAMES) {
        assert!(
            all.contains(&format!("{key}: "))
                || all.contains(&format!("`{key}`"))
                || all.contains(&format!("{key}:\n")),
            "{key} is not in it"
        );
    }
}
