//! A peer that speaks PostgreSQL's protocol message by message (chapter "Message Formats"), well or badly as it is told.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::wire::{Address, Wire};

/// A peer with what it has heard and not yet looked at.
#[derive(Debug)]
pub struct Frontend {
    wire: Wire,
    heard: Vec<u8>,
    /// How much of that has been looked at.
    taken: usize,
}

/// One message of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

/// Longer silence than this fails the test.
const PATIENCE: Duration = Duration::from_mins(1);
/// An answer with more messages is none that a journey asked for.
const MOST_MESSAGES: usize = 100_000;

/// Protocol 3.0.
pub const V3_0: u32 = 3 << 16;
/// Protocol 3.2.
pub const V3_2: u32 = (3 << 16) | 2;

// === impl Frontend ===

impl Frontend {
    /// Connects and says nothing.
    #[track_caller]
    pub fn dial(address: &Address) -> Self {
        Self::try_dial(address).unwrap_or_else(|error| panic!("cannot dial {address}: {error}"))
    }

    /// Connects and says nothing, if it can.
    pub fn try_dial(address: &Address) -> io::Result<Self> {
        let wire = Wire::dial(address)?;
        wire.read_within(Some(PATIENCE))?;
        wire.write_within(Some(PATIENCE))?;
        Ok(Self { wire, heard: Vec::new(), taken: 0 })
    }

    /// A second handle, which hears what this one does not read.
    #[must_use]
    #[track_caller]
    pub fn second(&self) -> Self {
        Self { wire: self.wire.second().expect("a connection has a second handle"), heard: Vec::new(), taken: 0 }
    }

    /// Connects as `postgres` to the database of that name; fails the test if it is not let in.
    #[track_caller]
    pub fn login(address: &Address) -> Self {
        let (peer, welcome) = Self::login_as(address, V3_0, &[("user", "postgres"), ("database", "postgres")]);
        assert_eq!(welcome.last().map(|message| message.tag), Some(b'Z'), "{}", transcript(&welcome));
        peer
    }

    /// Connects with this startup packet, and what was said to it.
    #[track_caller]
    pub fn login_as(address: &Address, version: u32, parameters: &[(&str, &str)]) -> (Self, Vec<Message>) {
        let mut peer = Self::dial(address);
        peer.send(&startup(version, parameters));
        let welcome = peer.until_ready(1);
        (peer, welcome)
    }

    /// Sends any bytes. That the other side no longer listens is seen by who reads.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.wire.write_all(bytes);
    }

    /// Sends as much of `bytes` as the other side takes, and gives up when it takes nothing for `patience`.
    pub fn send_within(&mut self, bytes: &[u8], patience: Duration) {
        self.wire.write_within(Some(patience)).expect("a stream has timeouts");
        self.send(bytes);
        self.wire.write_within(Some(PATIENCE)).expect("a stream has timeouts");
    }

    /// Says nothing more, and can still hear.
    pub fn half_close(&self) {
        // The other side may have ended the connection.
        let _ = self.wire.shutdown(Shutdown::Write);
    }

    /// Goes away so that the other side sees a reset.
    pub fn reset(self) {
        self.wire.reset();
    }

    /// Reads so many bytes, which are no message; fewer where the connection ends.
    #[track_caller]
    pub fn raw(&mut self, count: usize) -> Vec<u8> {
        while self.untaken().len() < count && self.more() {}
        let count = count.min(self.untaken().len());
        self.take(count)
    }

    /// The next message; `None` where the connection has ended.
    #[track_caller]
    pub fn message(&mut self) -> Option<Message> {
        while self.untaken().len() < 5 {
            if !self.more() {
                return None;
            }
        }
        let head = self.untaken();
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let end = 1 + usize::try_from(length).expect("a length fits");
        while self.untaken().len() < end {
            if !self.more() {
                return None;
            }
        }
        let tag = self.take(5)[0];
        Some(Message { tag, body: self.take(end - 5) })
    }

    fn untaken(&self) -> &[u8] {
        &self.heard[self.taken..]
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.untaken()[..count].to_vec();
        self.taken += count;
        taken
    }

    /// The messages up to the `count`th ReadyForQuery, or to the end of the connection.
    #[track_caller]
    pub fn until_ready(&mut self, count: usize) -> Vec<Message> {
        self.until(b'Z', count)
    }

    /// The messages up to the `count`th of type `tag`, or to the end of the connection.
    #[track_caller]
    pub fn until(&mut self, tag: u8, count: usize) -> Vec<Message> {
        let (mut messages, mut left) = (Vec::new(), count);
        while left > 0 {
            let Some(message) = self.message() else { break };
            left -= usize::from(message.tag == tag);
            messages.push(message);
            assert!(messages.len() < MOST_MESSAGES, "an answer without an end");
        }
        messages
    }

    /// The messages up to the end of the connection.
    #[track_caller]
    pub fn until_end(&mut self) -> Vec<Message> {
        self.until(b'\0', 1)
    }

    /// Asks one simple query: the transcript of its answer.
    #[track_caller]
    pub fn ask(&mut self, sql: &str) -> String {
        self.send(&query(sql));
        transcript(&self.until_ready(1))
    }

    /// Whether there was more; a failed connection has ended as well.
    #[track_caller]
    fn more(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match self.wire.read(&mut bytes) {
            Ok(0) => false,
            Ok(read) => {
                self.heard.drain(..std::mem::take(&mut self.taken));
                self.heard.extend_from_slice(&bytes[..read]);
                true
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("nothing came within {PATIENCE:?}; {} bytes of a message are there", self.untaken().len())
            }
            // A process that was stopped and goes on hears so here.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.more(),
            Err(_) => false,
        }
    }
}

// === impl Message ===

impl Message {
    /// A field of an ErrorResponse or NoticeResponse, such as `C`, the SQLSTATE.
    pub fn field(&self, field: u8) -> Option<String> {
        let parts = self.body.split(|byte| *byte == 0);
        let part = parts.filter(|part| part.first() == Some(&field)).map(|part| &part[1..]).next()?;
        Some(String::from_utf8_lossy(part).into_owned())
    }

    /// The SQLSTATE of an ErrorResponse.
    pub fn sqlstate(&self) -> Option<String> {
        (self.tag == b'E').then(|| self.field(b'C')).flatten()
    }
}

/// Messages as text, a line each, without what differs from one connection to the next: process ids, keys, and the order
/// in which settings are reported.
pub fn transcript(messages: &[Message]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for message in messages {
        let body = match message.tag {
            b'K' => &[][..],
            b'A' => &message.body[4..],
            _ => &message.body[..],
        };
        lines.push(format!("{} {}", char::from(message.tag), body.escape_ascii()));
    }
    for run in lines.chunk_by_mut(|one, next| one.starts_with("S ") && next.starts_with("S ")) {
        run.sort();
    }
    lines.into_iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}");
        text
    })
}

/// StartupMessage.
pub fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(texts(&[name, value]));
    }
    body.push(0);
    packet(&body)
}

/// SSLRequest.
pub fn ssl_request() -> Vec<u8> {
    packet(&80_877_103_u32.to_be_bytes())
}

/// GSSENCRequest.
pub fn gss_request() -> Vec<u8> {
    packet(&80_877_104_u32.to_be_bytes())
}

/// CancelRequest, with what the body of a BackendKeyData said.
pub fn cancel_request(key: &[u8]) -> Vec<u8> {
    packet(&[&80_877_102_u32.to_be_bytes()[..], key].concat())
}

/// A message of any type.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &packet(body)].concat()
}

/// A message that claims any length.
pub fn claiming(tag: u8, length: i32, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// Query.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &texts(&[sql]))
}

/// Parse, without types.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[texts(&[name, sql]), vec![0, 0]].concat())
}

/// Bind, with values and results as text.
pub fn bind(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    let mut body = texts(&[portal, statement]);
    body.extend([0, 0]);
    body.extend(u16::try_from(values.len()).expect("few values").to_be_bytes());
    for value in values {
        body.extend(u32::try_from(value.len()).expect("a short value").to_be_bytes());
        body.extend(value.as_bytes());
    }
    body.extend([0, 0]);
    message(b'B', &body)
}

/// Describe of a statement (`S`) or portal (`P`).
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[vec![kind], texts(&[name])].concat())
}

/// Close of a statement (`S`) or portal (`P`).
pub fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &[vec![kind], texts(&[name])].concat())
}

/// Execute, up to so many rows; 0 is all.
pub fn execute(portal: &str, most: u32) -> Vec<u8> {
    message(b'E', &[texts(&[portal]), most.to_be_bytes().to_vec()].concat())
}

/// FunctionCall with one value as text, and the result as text.
pub fn function_call(oid: u32, value: &str) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("a short value").to_be_bytes();
    let body = [&oid.to_be_bytes()[..], &[0, 0], &[0, 1], &length, value.as_bytes(), &[0, 0]].concat();
    message(b'F', &body)
}

/// Sync.
pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// Flush.
pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

/// CopyData.
pub fn copy_data(data: &str) -> Vec<u8> {
    message(b'd', data.as_bytes())
}

/// CopyDone.
pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

/// CopyFail.
pub fn copy_fail(why: &str) -> Vec<u8> {
    message(b'f', &texts(&[why]))
}

fn packet(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short packet").to_be_bytes();
    [&length[..], body].concat()
}

fn texts(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| text.bytes().chain([0])).collect()
}
