//! An endpoint behind TLS and a password, which `cargo xtask test` has a real Prometheus scrape: makes what it
//! needs in the directory that it is given, prints its address and serves until its stdin ends.

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/web_config/certificates.rs"]
mod certificates;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/web_config/server.rs"]
mod server;

use std::{env, io, path::PathBuf};

use certificates::Authority;
use server::{Dir, Server};

fn main() {
    let [dir, name, password] = env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .expect("three arguments: a directory, which is emptied, a name, a password");
    let dir = Dir::new(PathBuf::from(dir));
    let authority = Authority::new();
    dir.put("ca.crt", &authority.pem());
    dir.put_pair("server", &authority.pair(&["localhost", "127.0.0.1"]));
    let hash = bcrypt::hash(password, 10).expect("a hash");
    dir.put(
        "web.yml",
        &format!(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  min_version: TLS13\n\
             basic_auth_users:\n  {name}: {hash}\n"
        ),
    );
    let server = Server::start(&dir);
    println!("{}", server.addr);
    io::copy(&mut io::stdin(), &mut io::sink()).expect("stdin can be read");
}
