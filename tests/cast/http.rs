//! The smallest HTTP client that can ask our admin address, and a browser's driver.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What was answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The head, from the status line on.
    pub head: String,
    /// The text.
    pub body: String,
}

/// Asks for `path`, and takes a connection of its own for it.
pub(crate) fn get(address: SocketAddr, path: &str, patience: Duration) -> io::Result<Response> {
    ask(address, &format!("GET {path}"), "", patience)
}

/// Asks with a body; `what` is the method and the path.
pub(crate) fn ask(address: SocketAddr, what: &str, body: &str, patience: Duration) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let length = body.len();
    let length = if length == 0 { String::new() } else { format!("Content-Length: {length}\r\n") };
    write!(stream, "{what} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{length}\r\n{body}")?;
    let text = String::from_utf8(answer(stream)?).map_err(io::Error::other)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no HTTP status"))?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok(Response { status, head: head.to_owned(), body: if chunked { joined(body) } else { body.to_owned() } })
}

/// All that is sent until the connection ends, or until as much has come as was announced: a browser's driver leaves it open.
fn answer(mut stream: TcpStream) -> io::Result<Vec<u8>> {
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let length = stream.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..length]);
        if length == 0 || announced(&bytes).is_some_and(|announced| bytes.len() >= announced) {
            return Ok(bytes);
        }
    }
}

/// How long the whole answer is, where its head is there and says so.
fn announced(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    Some(end + 4 + length.trim().parse::<usize>().ok()?)
}

/// The text of a body that was sent in chunks.
fn joined(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let Ok(length @ 1..) = usize::from_str_radix(length.trim(), 16) else { break };
        text.push_str(rest.get(..length).unwrap_or(rest));
        body = rest.get(length + 2..).unwrap_or_default();
    }
    text
}
