//! The endpoint behind a web configuration, over real sockets: who is served and who is not, by which TLS, and
//! what a file that changes changes.

#[path = "web_config/certificates.rs"]
mod certificates;
#[path = "web_config/client.rs"]
mod client;
#[path = "web_config/server.rs"]
mod server;

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Instant,
};

use certificates::{Authority, Pair};
use client::{Client, Tls, status, tcp};
use endiod::http::CONNECTIONS_MAX;
use rustls::version::{TLS12, TLS13};
use server::{Dir, Server, TIMEOUTS};

/// The configuration's TLS, before what a test adds.
const PAIR: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
/// Every path, and one that is none.
const PATHS: [&str; 5] = ["/", "/metrics", "/healthz", "/readyz", "/nothing"];
const LAST_RELOAD: &str = "endiod_config_last_reload_successful ";

fn dir(test: &str) -> Dir {
    Dir::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("web_config").join(test))
}

/// A server's certificate in a directory, and its authority.
fn pair(dir: &Dir) -> Authority {
    let authority = Authority::new();
    dir.put_pair("server", &authority.pair(&["localhost"]));
    authority
}

fn users(pairs: &[(&str, &str)]) -> String {
    let hash = |password: &str| bcrypt::hash(password, 4).expect("a hash");
    let lines = pairs.iter().map(|(name, it)| format!("  {name}: {}\n", hash(it)));
    format!("basic_auth_users:\n{}", lines.collect::<String>())
}

/// Whether a client is answered at all.
fn is_served(server: &Server, how: &Tls<'_>) -> bool {
    let answered = Client::tls(server.addr, how).and_then(|mut client| client.get("/healthz"));
    answered.is_ok_and(|answer| status(&answer) == 200)
}

#[test]
fn without_a_word_on_it_everyone_is_served_without_tls() {
    let dir = dir("nothing");
    dir.put("web.yml", "# nothing\n");
    let server = Server::start(&dir);
    let mut client = Client::plain(server.addr);
    for path in PATHS {
        let answer = client.get(path).expect("an answer");
        assert_eq!(status(&answer), if path == "/nothing" { 404 } else { 200 }, "{path}");
        for header in [
            "x-content-type-options: nosniff\r\n",
            "x-frame-options: deny\r\n",
            "referrer-policy: no-referrer\r\n",
            "content-security-policy: ",
            "frame-ancestors 'none'",
        ] {
            assert!(answer.contains(header), "{path}: no {header} in {answer}");
        }
    }
}

#[test]
fn every_path_wants_a_name_and_its_password() {
    let dir = dir("passwords");
    let header = "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n";
    dir.put("web.yml", &format!("{}{header}", users(&[("a", "of:a"), ("b", "of b")])));
    let server = Server::start(&dir);
    let mut client = Client::plain(server.addr);
    for path in PATHS {
        let refused = client.get(path).expect("an answer");
        assert_eq!(status(&refused), 401, "{path}");
        assert!(refused.contains("www-authenticate: Basic realm="), "{refused}");
        assert!(refused.contains("x-frame-options: sameorigin\r\n"), "{refused}");
        for wrong in ["a:of b", "a:", "b:of:a", "nobody:of:a", ":", "a"] {
            let answer = client.get_as(path, wrong).expect("an answer");
            assert_eq!(status(&answer), 401, "{path} as {wrong}");
        }
        for right in ["a:of:a", "b:of b"] {
            let answer = client.get_as(path, right).expect("an answer");
            assert_ne!(status(&answer), 401, "{path} as {right}");
        }
    }
}

#[test]
fn a_trace_is_given_to_who_has_the_password_and_to_nobody_without_one() {
    const TRACE: &str = "/findings/00f1a5c0ffee0042/trace";
    for (name, config, asked, expected) in [
        ("trace-none", "# nothing\n".to_owned(), None, 403),
        ("trace-refused", users(&[("a", "secret")]), None, 401),
        ("trace-wrong", users(&[("a", "secret")]), Some("a:wrong"), 401),
        ("trace-given", users(&[("a", "secret")]), Some("a:secret"), 200),
    ] {
        let dir = dir(name);
        fs::create_dir(dir.path("findings")).expect("a directory");
        for (ending, text) in [("json", "{}"), ("endiod", "what it holds")] {
            dir.put(&format!("findings/finding-00f1a5c0ffee0042.{ending}"), text);
        }
        dir.put("web.yml", &config);
        let server = Server::start(&dir);
        let mut client = Client::plain(server.addr);
        let answer = match asked {
            None => client.get(TRACE),
            Some(who) => client.get_as(TRACE, who),
        };
        let answer = answer.expect("an answer");
        assert_eq!(status(&answer), expected, "{name}: {answer}");
        assert_eq!(answer.contains("attachment; filename="), expected == 200, "{answer}");
        assert!(expected == 200 || !answer.contains("what it holds"), "{answer}");
    }
}

#[test]
fn tls_is_of_the_versions_that_are_asked_for() {
    let dir = dir("versions");
    let authority = pair(&dir);
    for (least, most, with_12, with_13) in [
        ("TLS12", "TLS13", true, true),
        ("TLS13", "TLS13", false, true),
        ("TLS12", "TLS12", true, false),
    ] {
        dir.put("web.yml", &format!("{PAIR}  min_version: {least}\n  max_version: {most}\n"));
        let server = Server::start(&dir);
        let with = |versions| is_served(&server, &Tls { versions, ..Tls::new(&authority) });
        assert_eq!((with(&[&TLS12]), with(&[&TLS13])), (with_12, with_13), "{least} to {most}");
    }
}

#[test]
fn a_certificate_is_asked_for_as_the_type_says() {
    let dir = dir("clients");
    let (authority, others) = (pair(&dir), Authority::new());
    dir.put("ca.crt", &authority.pem());
    let (ours, theirs) = (authority.pair(&["prometheus"]), others.pair(&["prometheus"]));
    let own = Pair::of_ones_own(&["prometheus"]);
    const CA: &str = "  client_ca_file: ca.crt\n";
    for (kind, ca, with_none, with_theirs, with_ours) in [
        ("NoClientCert", "", true, true, true),
        ("RequestClientCert", "", true, true, true),
        ("RequireAnyClientCert", "", false, true, true),
        ("VerifyClientCertIfGiven", CA, true, false, true),
        ("RequireAndVerifyClientCert", CA, false, false, true),
    ] {
        dir.put("web.yml", &format!("{PAIR}  client_auth_type: {kind}\n{ca}"));
        let server = Server::start(&dir);
        let with = |shows| {
            let served = [&[&TLS12][..], &[&TLS13]].map(|versions| {
                is_served(&server, &Tls { shows, versions, ..Tls::new(&authority) })
            });
            assert_eq!(served[0], served[1], "{kind} depends on the version");
            served[0]
        };
        assert_eq!(with(None), with_none, "{kind} without a certificate");
        assert_eq!(with(Some(&own)), with_theirs, "{kind} with one of one's own");
        assert_eq!(with(Some(&theirs)), with_theirs, "{kind} with one of another authority");
        assert_eq!(with(Some(&ours)), with_ours, "{kind} with one of the authority");
    }
}

#[test]
fn a_certificate_has_an_allowed_name() {
    let dir = dir("names");
    let authority = pair(&dir);
    let auth = format!(
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca: |\n    {}",
        authority.pem().replace('\n', "\n    ").trim_end()
    );
    dir.put(
        "web.yml",
        &format!(
            "{PAIR}{auth}\n  client_allowed_sans: [prometheus.example, 10.0.0.1, 'spiffe://a/b']\n"
        ),
    );
    let server = Server::start(&dir);
    for (names, expected) in [
        (&["prometheus.example"][..], true),
        (&["other.example", "prometheus.example"], true),
        (&["10.0.0.1"], true),
        (&["spiffe://a/b"], true),
        (&["other.example"], false),
        (&["a.prometheus.example"], false),
        (&["*.example"], false),
        (&["10.0.0.2"], false),
        (&["spiffe://a/bc"], false),
        (&[], false),
    ] {
        let shows = authority.pair(names);
        let how = Tls { shows: Some(&shows), ..Tls::new(&authority) };
        assert_eq!(is_served(&server, &how), expected, "{names:?}");
    }
}

#[test]
fn a_password_that_changes_is_another_at_once() {
    let dir = dir("new-password");
    dir.put("web.yml", &users(&[("a", "old")]));
    let server = Server::start(&dir);
    let mut kept = Client::plain(server.addr);
    assert_eq!(status(&kept.get_as("/", "a:old").expect("an answer")), 200);
    dir.put("web.yml", &users(&[("a", "new")]));
    for client in [&mut kept, &mut Client::plain(server.addr)] {
        assert_eq!(status(&client.get_as("/", "a:old").expect("an answer")), 401);
        assert_eq!(status(&client.get_as("/", "a:new").expect("an answer")), 200);
    }
}

#[test]
fn a_certificate_that_changes_is_shown_to_new_connections_and_the_old_ones_live() {
    let dir = dir("new-certificate");
    let authority = pair(&dir);
    dir.put("web.yml", PAIR);
    let server = Server::start(&dir);
    let connect = || Client::tls(server.addr, &Tls::new(&authority)).expect("a connection");
    let mut kept = connect();
    assert_eq!(status(&kept.get("/metrics").expect("an answer")), 200);
    let renewed = authority.pair(&["localhost"]);
    dir.put_pair("server", &renewed);
    let mut new = connect();
    assert_eq!(new.certificate, Some(renewed.der()));
    assert_ne!(kept.certificate, new.certificate);
    for client in [&mut new, &mut kept] {
        assert_eq!(status(&client.get("/metrics").expect("an answer")), 200);
    }
}

#[test]
fn a_broken_file_changes_nothing_and_is_told() {
    let dir = dir("broken");
    let authority = pair(&dir);
    let config = format!("{PAIR}{}", users(&[("a", "of a")]));
    dir.put("web.yml", &config);
    let server = Server::start(&dir);
    let ask = |as_whom: &str| {
        let mut client = Client::tls(server.addr, &Tls::new(&authority)).expect("a connection");
        client.get_as("/metrics", as_whom).expect("an answer")
    };
    let key = fs::read_to_string(dir.path("server.key")).expect("a key");
    let another = Pair::of_ones_own(&["localhost"]).key_pem();
    for (name, broken, whole) in [
        ("web.yml", "tls_server_config: [", &*config),
        // Taking protection away is no change that a running daemon makes.
        ("web.yml", "", &config),
        ("web.yml", PAIR, &config),
        ("web.yml", &users(&[("a", "of a")]), &config),
        ("server.key", &another, &key),
        ("server.key", "", &key),
    ] {
        dir.put(name, broken);
        assert_eq!(status(&ask("a:wrong")), 401, "{name}: {broken}");
        let answer = ask("a:of a");
        assert!(answer.contains(&format!("{LAST_RELOAD}0\n")), "{name}: {broken}: {answer}");
        dir.put(name, whole);
        let answer = ask("a:of a");
        assert!(answer.contains(&format!("{LAST_RELOAD}1\n")), "{name}: {answer}");
    }
    fs::remove_file(dir.path("server.crt")).expect("it was there");
    assert!(ask("a:of a").contains(&format!("{LAST_RELOAD}0\n")));
}

#[test]
fn whoever_asks_to_read_it_again_has_it_read() {
    let dir = dir("asked");
    dir.put("web.yml", &users(&[("a", "of a")]));
    let server = Server::start(&dir);
    let ask = || Client::plain(server.addr).get_as("/metrics", "a:of a").expect("an answer");
    assert!(!ask().contains(LAST_RELOAD), "it was read although nothing changed");
    server.guard.reload();
    assert!(ask().contains(&format!("{LAST_RELOAD}1\n")));
}

#[test]
fn handshakes_that_stall_lose_their_place_and_stop_nobody() {
    let dir = dir("stalled");
    let authority = pair(&dir);
    dir.put("web.yml", PAIR);
    let server = Server::start(&dir);
    let start = Instant::now();
    let stalled: Vec<_> = (0..CONNECTIONS_MAX + 8)
        .map(|at| {
            let mut stream = tcp(server.addr);
            // Nothing, or the beginning of a ClientHello of 512 bytes.
            let begun = [0x16, 3, 1, 2, 0, 1, 0, 1];
            stream.write_all(&begun[..if at % 2 == 0 { 0 } else { 8 }]).expect("it is taken");
            stream
        })
        .collect();
    assert!(is_served(&server, &Tls::new(&authority)));
    assert!(start.elapsed() >= TIMEOUTS.request, "it was served although every place was taken");
    for mut stream in stalled {
        let mut rest = Vec::new();
        // A reset is an end as well; a time-out of the read is none.
        let end = stream.read_to_end(&mut rest);
        assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        assert!(rest.is_empty(), "{rest:?}");
    }
}

#[test]
fn a_connection_that_says_nothing_after_its_handshake_loses_its_place() {
    let dir = dir("silent");
    let authority = pair(&dir);
    dir.put("web.yml", PAIR);
    let server = Server::start(&dir);
    let silent: Vec<_> = (0..CONNECTIONS_MAX)
        .map(|_| Client::tls(server.addr, &Tls::new(&authority)).expect("a connection"))
        .collect();
    // Were they taken for idle, their places would be theirs for longer than a client waits.
    assert!(is_served(&server, &Tls::new(&authority)));
    drop(silent);
}

#[test]
fn who_asks_without_tls_is_told_that_there_is_some() {
    let dir = dir("not-tls");
    pair(&dir);
    dir.put("web.yml", PAIR);
    let server = Server::start(&dir);
    let mut stream = tcp(server.addr);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
}

#[test]
fn files_that_cannot_be_used_are_told_with_the_key_that_names_them() {
    let dir = dir("files");
    pair(&dir);
    let told = dir.refused(&PAIR.replace("server.crt", "missing.crt"));
    let expected =
        "web.yml:2:14: tls_server_config.cert_file: cannot read missing.crt: No such file";
    assert!(told.starts_with(expected), "{told}");
    let told = dir.refused(&PAIR.replace("server.key", "server.crt"));
    assert!(
        told.starts_with("web.yml:3:13: tls_server_config.key_file: there is no priv"),
        "{told}"
    );
    let told = dir.refused(&PAIR.replace("server.crt", "server.key"));
    assert!(told.contains("cert_file: there is no certificate in it"), "{told}");
    dir.put_pair("other", &Pair::of_ones_own(&["localhost"]));
    let told = dir.refused(&PAIR.replace("server.key", "other.key"));
    assert!(told.contains("key_file: it is not the key of the certificate"), "{told}");
    let readable = Permissions::from_mode(0o644);
    fs::set_permissions(dir.path("server.key"), readable).expect("a mode");
    let told = dir.refused(PAIR);
    assert!(
        told.contains("everyone on this host may read server.key (mode 0644): `chmod"),
        "{told}"
    );
    assert_eq!(dir.refused("users: {}\n").lines().count(), 1);
}
