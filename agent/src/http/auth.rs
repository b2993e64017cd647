//! Who asks, and whether they are answered: basic authentication, on every path.
//!
//! As the exporters do it: with `basic_auth_users` each request needs a name and its password, whatever its
//! path, also over a connection with a client's certificate.

use std::sync::Arc;

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    guard::{Guard, Protection},
    headers,
    transport::Peer,
};

/// In the extensions of a request whose sender is known: by a password, or by a certificate of an authority
/// that was named. A request without it may be anybody's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authenticated;

/// Answers for the routes unless they may; in any case with the headers that are in force.
pub(super) async fn guarded(
    State(guard): State<Arc<Guard>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let protection = guard.refreshed().await;
    let has_password = has_password(&guard, &protection, request.headers()).await;
    if has_password || peer.is_verified() {
        request.extensions_mut().insert(Authenticated);
    }
    let mut answer = match protection.users.is_empty() || has_password {
        true => next.run(request).await,
        false => refusal(),
    };
    headers::apply(&protection.headers, answer.headers_mut());
    answer
}

/// Whether a request has the password of a user.
async fn has_password(guard: &Guard, protection: &Protection, headers: &HeaderMap) -> bool {
    if protection.users.is_empty() {
        return false;
    }
    let Some((name, password)) = headers.get(header::AUTHORIZATION).and_then(credentials) else {
        return false;
    };
    guard.judge.is_right(&protection.users, &name, &password).await
}

/// Name and password of an `Authorization` (RFC 7617).
fn credentials(value: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, told) = value.as_bytes().split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let mut name = BASE64_STANDARD.decode(told.trim_ascii()).ok()?;
    let colon = name.iter().position(|byte| *byte == b':')?;
    let password = name.split_off(colon).split_off(1);
    Some((String::from_utf8(name).ok()?, password))
}

fn refusal() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"endiod\", charset=\"UTF-8\"")];
    (StatusCode::UNAUTHORIZED, challenge, "a name and its password are needed\n").into_response()
}

#[cfg(test)]
mod tests {
    use axum::{Extension, Router, middleware::from_fn_with_state, routing::get};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::http::passwords::Users;

    /// What a page is told of who asks, with a certificate of an authority or none, and with that line.
    async fn known(guard: &Arc<Guard>, is_verified: bool, line: &str) -> String {
        let page = async |request: Request| {
            request.extensions().get::<Authenticated>().map_or("anybody", |_| "known")
        };
        let routes = Router::new()
            .route("/", get(page))
            .layer(from_fn_with_state(Arc::clone(guard), guarded))
            .layer(Extension(ConnectInfo(Peer::new(is_verified))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(axum::serve(listener, routes).into_future());
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{line}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        server.abort();
        answer.rsplit("\r\n").next().unwrap().trim_end().to_owned()
    }

    #[tokio::test]
    async fn a_page_is_told_whether_it_is_known_who_asks() {
        let open = Arc::new(Guard::open());
        let right = "Authorization: Basic YTpi\r\n";
        assert_eq!(known(&open, false, "").await, "anybody");
        assert_eq!(known(&open, false, right).await, "anybody");
        assert_eq!(known(&open, true, "").await, "known");
        let users = vec![("a".to_owned(), bcrypt::hash("b", 4).unwrap())];
        let closed = Protection { users: Users::new(users), ..Protection::default() };
        let closed = Arc::new(Guard::of(closed));
        let refused = "a name and its password are needed";
        assert_eq!(known(&closed, false, right).await, "known");
        assert_eq!(known(&closed, false, "").await, refused);
        assert_eq!(known(&closed, true, "").await, refused);
    }

    #[track_caller]
    fn check(value: &str, expected: Option<(&str, &str)>) {
        let told = credentials(&HeaderValue::from_str(value).unwrap());
        let told = told.map(|(name, password)| (name, String::from_utf8(password).unwrap()));
        let expected = expected.map(|(name, password)| (name.to_owned(), password.to_owned()));
        assert_eq!(told, expected, "{value}");
    }

    #[test]
    fn name_and_password_are_parted_at_the_first_colon() {
        check("Basic YTpi", Some(("a", "b")));
        check("basic  YTpi ", Some(("a", "b")));
        check("Basic YTpiOmM=", Some(("a", "b:c")));
        check("Basic Og==", Some(("", "")));
    }

    #[test]
    fn what_is_no_basic_authentication_names_nobody() {
        for value in ["", "Basic", "Basic ", "Bearer YTpi", "Basic YTp", "Basic YQ==", "Basic /zo="]
        {
            check(value, None);
        }
    }
}
