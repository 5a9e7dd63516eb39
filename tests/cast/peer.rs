//! A peer: someone who dials the gateway, with a stream of bytes that is nobody else's.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::random::Random;
use crate::wire::{Address, Wire};

/// How long a peer waits for a byte before it says that the gateway hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// A connection to the gateway that speaks [`Exchange`]s.
#[derive(Debug)]
pub struct Peer(Wire);

/// One request and its answer: `up` bytes to the database and `down` bytes back, both out of the streams of `seed`.
///
/// On the wire: seed, up, down (8 bytes each), the stream of `seed`; then one byte (1 if the database saw what was
/// sent) and the stream of the inverted seed. A byte of another session, a lost one or a doubled one shows.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// What the streams are made of.
    pub seed: u64,
    /// How many bytes the peer sends.
    pub up: u64,
    /// How many bytes the database answers.
    pub down: u64,
}

// === impl Peer ===

impl Peer {
    /// Dials the gateway; fails the test when that is refused.
    #[track_caller]
    pub fn dial(address: &Address) -> Self {
        Self::try_dial(address).unwrap_or_else(|error| panic!("cannot dial {address}: {error}"))
    }

    /// Dials the gateway.
    pub fn try_dial(address: &Address) -> io::Result<Self> {
        let wire = Wire::dial(address)?;
        wire.read_within(Some(PATIENCE))?;
        wire.write_within(Some(PATIENCE))?;
        Ok(Self(wire))
    }

    /// The connection itself.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.0
    }

    /// Carries out an exchange while reading and writing one after the other.
    pub fn exchange(&mut self, exchange: Exchange) -> io::Result<()> {
        exchange.ask(&mut self.0)?;
        exchange.check(&mut self.0)
    }

    /// Sends `bytes` and expects to read as many back that are the same.
    #[track_caller]
    pub fn echoes(&mut self, bytes: &[u8]) {
        self.try_echo(bytes).unwrap_or_else(|error| panic!("the echo of {} bytes: {error}", bytes.len()));
    }

    /// Sends `bytes` and says whether the same came back.
    pub fn try_echo(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        let mut back = vec![0; bytes.len()];
        self.0.read_exact(&mut back)?;
        if back == bytes { Ok(()) } else { Err(wrong("other bytes came back than were sent")) }
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub fn finish_sending(&self) {
        // A gateway that has closed already is what the reading then tells.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Whether the other side closes or resets the connection within `patience`, and what was sent before.
    pub fn closed_within(&mut self, patience: Duration) -> Option<Vec<u8>> {
        self.0.read_within(Some(patience)).expect("a socket takes a time limit");
        let mut before = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            match self.0.read(&mut bytes) {
                Ok(0) => return Some(before),
                Ok(length) => before.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Some(before),
                Err(_) => return None,
            }
        }
    }

    /// Leaves with a reset.
    pub fn reset(self) {
        self.0.reset();
    }
}

// === impl Exchange ===

impl Exchange {
    /// Sends the request.
    pub fn ask(&self, wire: &mut impl Write) -> io::Result<()> {
        let mut head = Vec::with_capacity(24);
        for number in [self.seed, self.up, self.down] {
            head.extend_from_slice(&number.to_be_bytes());
        }
        // One write with the first bytes of the stream, so that small requests are one packet.
        let mut random = Random::seeded(self.seed);
        let first = self.up.min(64 * 1024);
        head.extend(random.bytes(usize::try_from(first).map_err(io::Error::other)?));
        wire.write_all(&head)?;
        send(wire, &mut random, self.up - first)
    }

    /// Reads and checks the answer.
    pub fn check(&self, wire: &mut impl Read) -> io::Result<()> {
        let mut verdict = [0];
        wire.read_exact(&mut verdict)?;
        if verdict != [1] {
            return Err(wrong("the database received other bytes than were sent"));
        }
        receive(wire, &mut Random::seeded(!self.seed), self.down)
    }

    /// The database's side: serves exchanges until the connection ends.
    pub fn serve(mut wire: Wire) -> io::Result<()> {
        loop {
            let mut head = [0; 24];
            wire.read_exact(&mut head)?;
            let number = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().expect("8 bytes are a number"));
            let exchange = Self { seed: number(0), up: number(8), down: number(16) };
            let intact = match receive(&mut wire, &mut Random::seeded(exchange.seed), exchange.up) {
                Ok(()) => 1,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => 0,
                Err(error) => return Err(error),
            };
            let mut random = Random::seeded(!exchange.seed);
            let first = exchange.down.min(64 * 1024);
            let mut answer = vec![intact];
            answer.extend(random.bytes(usize::try_from(first).map_err(io::Error::other)?));
            wire.write_all(&answer)?;
            send(&mut wire, &mut random, exchange.down - first)?;
        }
    }
}

fn send(wire: &mut impl Write, random: &mut Random, mut length: u64) -> io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    while length > 0 {
        let piece = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
        random.fill(&mut bytes[..piece]);
        wire.write_all(&bytes[..piece])?;
        length -= piece as u64;
    }
    Ok(())
}

fn receive(wire: &mut impl Read, random: &mut Random, mut length: u64) -> io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    while length > 0 {
        let piece = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
        let read = wire.read(&mut bytes[..piece])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !random.matches(&bytes[..read]) {
            return Err(wrong(&format!("the bytes differ, {length} before the end")));
        }
        length -= read as u64;
    }
    Ok(())
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
