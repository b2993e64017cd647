//! Headers of every answer that tell a browser what it may do with a page: safe by default, and as the web
//! configuration says where it says so.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers that the web configuration may set: those of the format, and one more that has a default here.
pub(super) const NAMES: &[&str] = &[
    "Content-Security-Policy",
    "Referrer-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
];

/// What nothing here needs: guessed types, a page within another's, addresses told to others.
const DEFAULTS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "deny"),
];

/// A header as it is written; without a value it is left out.
pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, Option<HeaderValue>), String> {
    let allowed: &[&str] = match name {
        "X-Frame-Options" => &["deny", "sameorigin"],
        "X-Content-Type-Options" => &["nosniff"],
        _ => &[],
    };
    if !value.is_empty() && !allowed.is_empty() && !allowed.contains(&value) {
        return Err(format!(
            "`{value}` means nothing to a browser; write {}",
            allowed.join(" or ")
        ));
    }
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
    let value = (!value.is_empty()).then(|| HeaderValue::from_str(value)).transpose();
    let value = value.map_err(|_| "no header can have such letters".to_owned())?;
    Ok((name, value))
}

/// Puts them into an answer. What is configured goes before what the page itself says, and that before the
/// defaults.
pub(super) fn apply(configured: &[(HeaderName, Option<HeaderValue>)], answer: &mut HeaderMap) {
    for (name, value) in DEFAULTS {
        answer.entry(name).or_insert(HeaderValue::from_static(value));
    }
    for (name, value) in configured {
        match value {
            Some(value) => drop(answer.insert(name, value.clone())),
            None => drop(answer.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_before_the_page_and_the_page_before_the_default() {
        let mut answer = HeaderMap::new();
        answer.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("of the page"));
        answer.insert(header::REFERRER_POLICY, HeaderValue::from_static("of the page"));
        let configured =
            [header("Referrer-Policy", "origin").unwrap(), header("X-Frame-Options", "").unwrap()];
        apply(&configured, &mut answer);
        let told = |name: &str| answer.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(told("content-security-policy"), Some("of the page"));
        assert_eq!(told("referrer-policy"), Some("origin"));
        assert_eq!(told("x-content-type-options"), Some("nosniff"));
        assert_eq!(told("x-frame-options"), None);
    }

    #[test]
    fn the_default_headers_can_all_be_configured() {
        for (name, _) in DEFAULTS {
            assert!(NAMES.iter().any(|known| known.eq_ignore_ascii_case(name.as_str())), "{name}");
        }
    }
}
