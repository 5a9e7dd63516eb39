//! Every call to the API server: bounded in time, and when it fails, in one sentence.
//!
//! The client itself knows no bound for an answer, and tries again for long where the server asks for it.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tokio::time::timeout;

/// How long a call may take that nobody waits for in particular.
pub const CALL: Duration = Duration::from_secs(10);

/// Of a message that the API server sends, at most this many characters are passed on.
const MAX_MESSAGE: usize = 512;

/// Why a call to the API server failed.
#[derive(Debug)]
pub enum ApiError {
    /// There was no answer in time.
    Timeout(Duration),
    /// There was, and it says no; or there is no server.
    Refused(Box<kube::Error>),
}

/// Makes a call that takes at most `limit`.
pub async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApiError> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| ApiError::Refused(Box::new(error))),
        Err(_) => Err(ApiError::Timeout(limit)),
    }
}

/// The first `most` characters of `text`, with dots where more was; nothing in it breaks a line.
pub fn cut(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= most {
        return text.trim().chars().map(plain).collect();
    }
    text.trim().chars().take(most.saturating_sub(3)).map(plain).chain("...".chars()).collect()
}

// === impl ApiError ===

impl ApiError {
    /// Whether there is no such object, or no such kind.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    /// Whether somebody else was faster.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409)
    }

    /// Whether we may not do this.
    pub fn is_forbidden(&self) -> bool {
        self.status().is_some_and(|status| status.code == 403)
    }

    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            ApiError::Refused(error) => match &**error {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            ApiError::Timeout(_) => None,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.status()) {
            (ApiError::Timeout(limit), _) => write!(out, "the API server did not answer within {limit:?}"),
            (_, Some(status)) if status.message.is_empty() => {
                write!(out, "the API server answered {} {}", status.code, status.reason)
            }
            (_, Some(status)) => out.write_str(&cut(&status.message, MAX_MESSAGE)),
            (ApiError::Refused(error), None) => write!(out, "{}", cut(&root(&**error).to_string(), MAX_MESSAGE)),
        }
    }
}

impl Error for ApiError {}

/// The innermost cause: what went wrong, without the layers through which it came.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn refused(code: u16, message: &str) -> ApiError {
        ApiError::Refused(Box::new(kube::Error::Api(Status::failure(message, "Reason").with_code(code).boxed())))
    }

    #[test]
    fn a_refusal_is_the_servers_own_sentence() {
        let error = refused(403, "pods is forbidden: no");
        assert!(error.is_forbidden() && !error.is_conflict());
        assert_eq!(error.to_string(), "pods is forbidden: no");
        assert_eq!(refused(500, "").to_string(), "the API server answered 500 Reason");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_in_time() {
        let never = std::future::pending::<Result<(), kube::Error>>();
        let error = within(Duration::from_secs(1), never).await.unwrap_err();
        assert_eq!(error.to_string(), "the API server did not answer within 1s");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüäöü", 5), "äö...");
        assert_eq!(cut("a\nb", 5), "a b");
    }
}
