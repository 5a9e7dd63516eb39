//! What `/settings` answers: what `gateway check` says of the document that is served, whatever the file says meanwhile.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};

use super::{json, text};
use crate::config::check::check;

/// What this document means; nothing is served yet where it is empty. It is told anew each time: few ask, and so it takes no
/// memory until then.
pub(super) fn answer(served: &[u8]) -> Response<Full<Bytes>> {
    if served.is_empty() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "there is no configuration to serve yet\n");
    }
    json(&check(served))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_configuration_there_are_no_settings() {
        assert_eq!(answer(b"").status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer(b"1").status(), StatusCode::OK);
    }
}
