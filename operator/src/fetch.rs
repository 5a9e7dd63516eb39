//! One question over HTTP on a stream that is open already: bounded in size; who asks bounds the time.

use std::error::Error;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// What went wrong, in the words of whoever noticed.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Asks `host` for `path`, of which at most `most` bytes are read. What is not OK has no body here: a redirection is an
/// answer like any other that is not ours, and is not followed.
pub(crate) async fn get<S>(stream: S, (host, path): (&str, &str), most: usize) -> Result<(StatusCode, Bytes), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let question = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("postern-operator/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let answer = sender.send_request(question).await?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Ok((status, Bytes::new()));
        }
        Ok((status, Limited::new(answer.into_body(), most).collect().await?.to_bytes()))
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        ended = connection => ended?,
    }
    // All that will come has come.
    answer.await
}
