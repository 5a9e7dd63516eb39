//! What `/settings` answers: what `gateway check` says of the document that is served, whatever the file says meanwhile.

use std::cell::RefCell;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};

use super::{json, text};
use crate::config::check::check;

/// The document that is served, and one that may be soon.
#[derive(Default)]
pub(super) struct Documents {
    served: RefCell<Vec<u8>>,
    /// By its hash.
    read: RefCell<Option<(String, Vec<u8>)>>,
}

// === impl Documents ===

impl Documents {
    /// This has been read and understood; whether it is served will be said.
    pub(super) fn read(&self, hash: &str, document: Vec<u8>) {
        *self.read.borrow_mut() = Some((hash.to_owned(), document));
    }

    /// The one with this hash is served.
    pub(super) fn applied(&self, hash: &str) {
        if let Some((_, document)) = self.read.borrow_mut().take_if(|(read, _)| read == hash) {
            *self.served.borrow_mut() = document;
        }
    }

    /// What it means. It is told anew each time: few ask, and so it takes no memory until then.
    pub(super) fn answer(&self) -> Response<Full<Bytes>> {
        let served = self.served.borrow();
        if served.is_empty() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "there is no configuration to serve yet\n");
        }
        json(&check(&served))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_served() {
        let documents = Documents::default();
        assert_eq!(documents.answer().status(), StatusCode::SERVICE_UNAVAILABLE);
        documents.read("one", b"1".to_vec());
        documents.applied("another");
        assert!(documents.served.borrow().is_empty());
        documents.applied("one");
        documents.read("two", b"2".to_vec());
        assert_eq!((&**documents.served.borrow(), documents.answer().status()), (&b"1"[..], StatusCode::OK));
    }
}
