//! `gateway wait`: rests until the gateway beside it serves, so that the containers after it find it at once. It asks
//! `/startupz` by literal address, and needs no name.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clock::{Instant, sleep, timeout};
use crate::config::{self, reload};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);
/// How long one question may take.
const QUESTION_TIME: Duration = Duration::from_secs(1);
/// What of an answer is read.
const MOST_BYTES: u64 = 4096;

/// The gateway that is asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The configuration, which says where.
    pub file: Option<PathBuf>,
    /// Where, whatever the configuration says.
    pub admin: Option<SocketAddr>,
}

/// Waits until the gateway that is `asked` serves, for at most `limit`; how long that took.
///
/// # Errors
/// What its last answer was, in one sentence.
pub async fn until_it_serves(asked: &Asked, limit: Duration) -> Result<Duration, String> {
    let begin = Instant::now();
    let mut last = "it was not asked".to_owned();
    let asking = async {
        loop {
            for addr in reached_at(asked.admin()) {
                match timeout(QUESTION_TIME, ask(addr)).await {
                    Ok(Ok(())) => return,
                    Ok(Err(why)) => last = why,
                    Err(_) => last = format!("{addr} does not answer"),
                }
            }
            sleep(PAUSE).await;
        }
    };
    match timeout(limit, asking).await {
        Ok(()) => Ok(begin.elapsed()),
        Err(_) => Err(last),
    }
}

// === impl Asked ===

impl Asked {
    /// Where the gateway listens as far as is known now: the file may come, or change, meanwhile.
    fn admin(&self) -> SocketAddr {
        let read = || self.file.as_deref().and_then(|file| reload::read_document(file).ok());
        self.admin.unwrap_or_else(|| config::admin_of(&read().unwrap_or_default()))
    }
}

/// Where who listens on `admin` can be reached from the same host.
fn reached_at(admin: SocketAddr) -> Vec<SocketAddr> {
    let at = |ip: IpAddr| SocketAddr::new(ip, admin.port());
    match admin.ip() {
        // Where there is no IPv6 it listens on all of IPv4 instead.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => vec![at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())],
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => vec![at(Ipv4Addr::LOCALHOST.into())],
        ip => vec![at(ip)],
    }
}

/// Whether the gateway at `addr` serves; if not, why.
async fn ask(addr: SocketAddr) -> Result<(), String> {
    let answer = fetch(addr).await.map_err(|error| format!("{addr} does not answer: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some("503") => Err(body.trim().to_owned()),
        _ => Err(format!("{addr} is no gateway's admin address")),
    }
}

async fn fetch(addr: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(b"GET /startupz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
