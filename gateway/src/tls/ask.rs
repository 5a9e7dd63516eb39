//! PostgreSQL's way to begin TLS: an SSLRequest, and one byte in answer. Nothing may follow that byte before the
//! handshake: it would be taken for something that came encrypted (CVE-2021-23222).

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Error;
use crate::net::TcpStream;
use crate::postgres::startup::Request;

/// What the database answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It waits for a handshake.
    Yes,
    /// It goes on without encryption.
    No,
}

/// Asks the database for TLS.
///
/// # Errors
/// It answers with anything but one byte, `S` or `N`.
pub(crate) async fn ask(tcp: &mut TcpStream) -> Result<Answer, Error> {
    let mut request = Vec::new();
    Request::Tls.write(&mut request);
    tcp.write_all(&request).await?;
    // One byte more than is allowed.
    let mut answer = [0; 2];
    let length = tcp.read(&mut answer).await?;
    let refused = |sentence: &str| Err(Error::Answer(sentence.to_owned()));
    match &answer[..length] {
        b"S" => Ok(Answer::Yes),
        b"N" => Ok(Answer::No),
        [] => refused("the database closed the connection when it was asked for TLS; its log says why"),
        [b'E', ..] => refused(
            "the database answered the request for TLS with an error: it is out of resources, or too old for TLS; its log \
             says which",
        ),
        [b'S' | b'N', _] => refused(
            "more than one byte answered the request for TLS: somebody on the way may have put it there, so the \
             connection is not used",
        ),
        _ => refused("what answered the request for TLS does not speak PostgreSQL; look at client.addresses"),
    }
}
