//! A session with PostgreSQL by hand: just enough to stay idle in it, or to read a result as fast as it comes.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cast::wire::{Address, Wire};

/// How long an answer may let us wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// `ReadyForQuery`, outside of a transaction: the end of each answer.
const READY: [u8; 6] = *b"Z\0\0\0\x05I";

/// A logged-in session; dropping it hangs up.
#[derive(Debug)]
pub(crate) struct Session {
    wire: Wire,
    buffer: Vec<u8>,
}

// === impl Session ===

impl Session {
    /// Logs in as a user whom the server trusts, reading up to `buffer` bytes at once.
    pub(crate) fn open(address: &Address, buffer: usize) -> Result<Self> {
        Self::open_within(address, buffer, PATIENCE)
    }

    /// The same for who waits for the connection, and for each answer, no longer than `patience`.
    pub(crate) fn open_within(address: &Address, buffer: usize, patience: Duration) -> Result<Self> {
        let wire = Wire::dial_within(address, patience).with_context(|| format!("cannot dial {address}"))?;
        wire.read_within(Some(patience))?;
        let mut session = Self { wire, buffer: vec![0; buffer] };
        session.send(&[], b"\0\x03\0\0user\0postgres\0database\0postgres\0\0")?;
        session.answer().context("cannot log in")?;
        Ok(session)
    }

    /// So many of them that have each run a query and are idle now.
    pub(crate) fn several(count: u16, address: &Address) -> Result<Vec<Self>> {
        let idle = |number| {
            let mut session = Self::open(address, 1024).with_context(|| format!("session {number}"))?;
            session.query("select 1")?;
            Ok(session)
        };
        (0..count).map(idle).collect()
    }

    /// Runs a query and returns the number of bytes of its answer.
    pub(crate) fn query(&mut self, sql: &str) -> Result<u64> {
        self.send(b"Q", format!("{sql}\0").as_bytes())?;
        self.answer().with_context(|| format!("cannot run {sql}"))
    }

    /// Says goodbye, as clients do.
    pub(crate) fn close(mut self) {
        // Whether the server still listens does not matter any more.
        let _ = self.send(b"X", b"");
    }

    fn send(&mut self, kind: &[u8], body: &[u8]) -> Result<()> {
        let length = u32::try_from(body.len() + 4).context("a short message")?;
        self.wire.write_all(&[kind, &length.to_be_bytes(), body].concat())?;
        Ok(())
    }

    /// Reads up to `ReadyForQuery`. The results of the benchmark hold nothing that looks like it.
    fn answer(&mut self) -> Result<u64> {
        let mut tail = [0; READY.len()];
        let mut total = 0;
        while tail != READY {
            let length = self.wire.read(&mut self.buffer)?;
            let new = &self.buffer[..length];
            match new.first() {
                None => bail!("the other side hung up after {total} bytes"),
                Some(b'E') if total == 0 => bail!("{}", String::from_utf8_lossy(new).replace('\0', " ")),
                Some(_) => total += new.len() as u64,
            }
            let kept = new.len().min(tail.len());
            tail.rotate_left(kept);
            let start = tail.len() - kept;
            tail[start..].copy_from_slice(&new[new.len() - kept..]);
        }
        Ok(total)
    }
}
