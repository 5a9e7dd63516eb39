//! Resets a client that a session left behind, so that the next one finds nothing of it. Any surprise destroys it.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::debug;

use super::Lease;
use crate::client::Client;
use crate::clock::timeout;
use crate::postgres::wire::{self, HEADER, Parameters, Status, tag};
use crate::view::ClientState;

/// How long a reset may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How much a database may answer to it.
const MOST_BYTES: usize = 64 * 1024;

/// Spawns the task that resets the client and gives it back; it ends with the pool, and the client with it.
pub(super) fn start(mut lease: Lease, in_transaction: bool) {
    lease.is_spent = true;
    lease.end = "reset_failed";
    if let Some(client) = &lease.client {
        client.note.state.set(ClientState::Resetting);
    }
    let closed = lease.pool.closed.clone();
    tokio::task::spawn_local(closed.run_until_cancelled_owned(async move {
        let Some(client) = &mut lease.client else { return };
        // Not cancel-safe: a reset that is cut off leaves the lease spent, so that the client is destroyed.
        match timeout(LIMIT, reset(client, in_transaction)).await {
            Ok(Ok(())) => lease.give_back(),
            Ok(Err(error)) => debug!(proxy = %lease.pool.proxy_name(), %error, "A client could not be reset"),
            Err(_) => debug!(proxy = %lease.pool.proxy_name(), "A client was not reset in time"),
        }
    }));
}

async fn reset(client: &mut Client, in_transaction: bool) -> io::Result<()> {
    // What came before anything was asked: half a message may be left, of which the rest comes first.
    let mut buffer = std::mem::take(&mut client.early);
    heed(client, &mut buffer, 0)?;
    let statements: &[&str] = if in_transaction { &["ROLLBACK", "DISCARD ALL"] } else { &["DISCARD ALL"] };
    let mut out = Vec::new();
    for statement in statements {
        wire::message(&mut out, tag::QUERY, |out| wire::text(out, statement));
    }
    client.stream.write_all(&out).await?;
    client.stream.flush().await?;
    let (mut total, mut owed) = (0, statements.len());
    while owed > 0 {
        let mut bytes = [0; 4096];
        let read = client.stream.read(&mut bytes).await?;
        total += read;
        if read == 0 || total > MOST_BYTES {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.extend_from_slice(&bytes[..read]);
        owed = heed(client, &mut buffer, owed)?;
    }
    if !buffer.is_empty() {
        return Err(unexpected());
    }
    if let Some(backend) = &mut client.backend {
        backend.memory.prepared.clear();
    }
    Ok(())
}

/// Takes the complete messages out of `buffer`; how many ReadyForQuery are owed still.
fn heed(client: &mut Client, buffer: &mut Vec<u8>, mut owed: usize) -> io::Result<usize> {
    let mut taken = 0;
    while let Some((tag, body)) = next_message(&buffer[taken..]).map_err(io::Error::other)? {
        match tag {
            tag::READY_FOR_QUERY if Status::read(body) == Some(Status::Idle) && owed > 0 => owed -= 1,
            tag::PARAMETER_STATUS => keep_parameter(client, body)?,
            tag::COMMAND_COMPLETE if owed > 0 => {}
            tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE => {}
            _ => return Err(unexpected()),
        }
        taken += HEADER + body.len();
    }
    buffer.drain(..taken);
    Ok(owed)
}

/// Keeps what is known of the backend true.
pub(super) fn keep_parameter(client: &mut Client, body: &[u8]) -> io::Result<()> {
    let (name, value) = Parameters::read(body).ok_or_else(unexpected)?;
    if let Some(backend) = &mut client.backend {
        backend.memory.parameters.set(name, value);
    }
    Ok(())
}

/// The first message of `bytes`, if it is complete: its tag and its body.
pub(super) fn next_message(bytes: &[u8]) -> Result<Option<(u8, &[u8])>, wire::Error> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let [tag, length @ ..] = *header;
    let length = i32::from_be_bytes(length);
    let body = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
    let body = body.filter(|body| *body <= MOST_BYTES).ok_or(wire::Error::Length { tag, length })?;
    Ok(rest.get(..body).map(|body| (tag, body)))
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the database said something that is no answer to a reset")
}
