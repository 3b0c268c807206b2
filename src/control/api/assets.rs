//! The pages: a status page and the documentation of the API, with what they load. They are part of the program, and
//! name no other host.

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

/// A file of a page.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Where it is served.
    pub path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing from elsewhere, nothing inline: what the API answers is shown as text and never run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Every file.
pub const ASSETS: [Asset; 6] = [
    Asset { path: "/", content_type: HTML, text: include_str!("assets/status.html") },
    Asset { path: "/docs", content_type: HTML, text: include_str!("assets/docs.html") },
    Asset { path: "/assets/page.css", content_type: CSS, text: include_str!("assets/page.css") },
    Asset { path: "/assets/status.js", content_type: SCRIPT, text: include_str!("assets/status.js") },
    Asset { path: "/assets/docs.js", content_type: SCRIPT, text: include_str!("assets/docs.js") },
    Asset { path: "/assets/icon.svg", content_type: "image/svg+xml", text: include_str!("assets/icon.svg") },
];

impl Asset {
    /// The file as an answer.
    pub(super) fn response(self) -> Response {
        ([(CONTENT_TYPE, self.content_type), (CONTENT_SECURITY_POLICY, POLICY)], self.text).into_response()
    }
}
