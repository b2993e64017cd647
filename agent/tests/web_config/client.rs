//! A client of HTTP/1.1, with TLS and without, whose connection can be kept.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};

use super::certificates::{Authority, Pair};

trait Both: Read + Write {}

impl<T: Read + Write> Both for T {}

/// A connection.
pub(crate) struct Client {
    stream: Box<dyn Both>,
    /// What the server showed.
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// How a client speaks TLS.
pub(crate) struct Tls<'a> {
    pub(crate) trusts: &'a Authority,
    pub(crate) shows: Option<&'a Pair>,
    pub(crate) versions: &'a [&'static SupportedProtocolVersion],
}

impl<'a> Tls<'a> {
    pub(crate) fn new(trusts: &'a Authority) -> Tls<'a> {
        Tls { trusts, shows: None, versions: BOTH }
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusts.der()).expect("an authority");
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(self.versions).expect("versions");
        let builder = builder.with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let pair = (vec![pair.der()], pair.key_der());
                builder.with_client_auth_cert(pair.0, pair.1).expect("a pair")
            }
        };
        // As Prometheus offers them.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

/// A connection without TLS.
pub(crate) fn tcp(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a valid time-out");
    stream
}

impl Client {
    pub(crate) fn plain(addr: SocketAddr) -> Client {
        Client { stream: Box::new(tcp(addr)), certificate: None }
    }

    /// After the handshake; in TLS 1.3 the server may refuse after it all the same.
    pub(crate) fn tls(addr: SocketAddr, how: &Tls<'_>) -> io::Result<Client> {
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::new(how.config()), name);
        let mut stream = StreamOwned::new(connection.expect("a connection"), tcp(addr));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let certificate = stream.conn.peer_certificates().map(|shown| shown[0].clone());
        Ok(Client { stream: Box::new(stream), certificate })
    }

    /// The whole answer to a GET; the connection is kept.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<String> {
        self.ask(path, "")
    }

    /// The same with a name and a password.
    pub(crate) fn get_as(&mut self, path: &str, name_and_password: &str) -> io::Result<String> {
        let told = BASE64_STANDARD.encode(name_and_password);
        self.ask(path, &format!("Authorization: Basic {told}\r\n"))
    }

    fn ask(&mut self, path: &str, line: &str) -> io::Result<String> {
        write!(self.stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{line}\r\n")?;
        self.stream.flush()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let mut answer = String::from_utf8(head).expect("text");
        let length = answer.lines().find_map(|it| it.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |it| it.parse().expect("a number"))];
        self.stream.read_exact(&mut body)?;
        answer.push_str(&String::from_utf8(body).expect("text"));
        Ok(answer)
    }
}

/// The status of an answer.
pub(crate) fn status(answer: &str) -> u16 {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status.and_then(|status| status.parse().ok()).expect("a status")
}
