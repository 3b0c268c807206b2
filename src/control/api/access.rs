//! Who may write: a request and its key in; the request goes on, or a problem comes out.

use std::fmt;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Api;
use super::problem::Problem;

/// The header for a key where `Authorization` is taken, as by the signature that AWS asks for.
pub const KEY_HEADER: &str = "x-api-key";

/// Who may write.
#[derive(Clone, PartialEq, Eq)]
pub enum Writers {
    /// Whoever shows the key with this SHA-256.
    Key([u8; 32]),
    /// Whoever reaches the API: on a loopback address, by an explicit setting.
    Anybody,
    /// No one: there is no key.
    Nobody,
}

impl Writers {
    /// Whoever shows this key.
    #[must_use]
    pub fn with_key(key: &str) -> Self {
        Self::Key(Sha256::digest(key).into())
    }

    /// Whether a request with these headers may write.
    fn allow(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match self {
            // A page of another site that is open in a browser on this machine reaches the API too.
            Self::Anybody if is_from_another_site(headers) => Err(Problem::foreign_site()),
            Self::Anybody => Ok(()),
            Self::Nobody => Err(Problem::no_key_configured()),
            Self::Key(expected) => {
                let shown: [u8; 32] = Sha256::digest(shown_key(headers).ok_or_else(Problem::no_key)?).into();
                // Digests have one length, and the comparison takes one time wherever they differ.
                match bool::from(shown.ct_eq(expected)) {
                    true => Ok(()),
                    false => Err(Problem::wrong_key()),
                }
            }
        }
    }
}

/// Without the digest: settings end up in logs.
impl fmt::Debug for Writers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Key(_) => "Key",
            Self::Anybody => "Anybody",
            Self::Nobody => "Nobody",
        })
    }
}

/// Lets a request that writes pass, if it may.
pub(super) async fn check(State(api): State<Api>, request: Request, next: Next) -> Response {
    match api.writers.allow(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// The key of `Authorization: Bearer …` or of [`KEY_HEADER`].
fn shown_key(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get(KEY_HEADER) {
        return Some(key.as_bytes());
    }
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim().as_bytes())
}

fn is_from_another_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(axum::http::HeaderValue::as_bytes);
    !matches!(site, None | Some(b"same-origin" | b"none"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const KEY: &str = "0123456789abcdef";

    fn check(writers: &Writers, name: &'static str, value: &str) -> Option<u16> {
        let headers =
            HeaderMap::from_iter([(axum::http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())]);
        writers.allow(&headers).err().map(|problem| problem.status)
    }

    #[test]
    fn the_key_opens_in_either_header() {
        let writers = Writers::with_key(KEY);
        assert_eq!(check(&writers, "authorization", &format!("Bearer {KEY}")), None);
        assert_eq!(check(&writers, "authorization", &format!("bearer {KEY}")), None);
        assert_eq!(check(&writers, "x-api-key", KEY), None);
    }

    #[test]
    fn nothing_else_opens() {
        let writers = Writers::with_key(KEY);
        for value in ["", "Bearer", "Bearer ", "Bearer 0123456789abcdeF", "Basic 0123456789abcdef", KEY] {
            assert_eq!(check(&writers, "authorization", value), Some(401), "{value}");
        }
        assert_eq!(check(&writers, "x-api-key", &format!("{KEY}0")), Some(401));
        assert_eq!(check(&writers, "accept", KEY), Some(401));
        assert_eq!(check(&Writers::Nobody, "x-api-key", KEY), Some(403));
    }

    #[test]
    fn another_site_does_not_write_to_an_unprotected_machine() {
        assert_eq!(check(&Writers::Anybody, "accept", "*/*"), None);
        assert_eq!(check(&Writers::Anybody, "sec-fetch-site", "same-origin"), None);
        assert_eq!(check(&Writers::Anybody, "sec-fetch-site", "cross-site"), Some(403));
        assert_eq!(check(&Writers::Anybody, "sec-fetch-site", "same-site"), Some(403));
    }
}
