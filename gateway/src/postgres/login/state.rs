//! Whether a server is in the state that is wanted (libpq's `target_session_attrs`).

use tokio::io::{AsyncRead, AsyncWrite};

use super::conversation::{Conversation, Message};
use super::{Backend, Error};
use crate::config::Target;
use crate::postgres::wire::{self, message, tag, text};

/// Whether the server will do. PostgreSQL reports its state since version 14; others, and proxies before them, are asked.
///
/// Of `PreferStandby` a primary is not the first choice: whoever has tried all addresses in vain takes it nevertheless.
///
/// # Errors
/// The server had to be asked, and did not answer.
pub async fn will_do<S>(stream: &mut S, backend: &mut Backend, target: Target) -> Result<bool, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match target {
        Target::Any => Ok(true),
        Target::Primary => Ok(!is_standby(stream, backend).await?),
        Target::Standby | Target::PreferStandby => is_standby(stream, backend).await,
        Target::ReadWrite => Ok(!is_read_only(stream, backend).await?),
        Target::ReadOnly => is_read_only(stream, backend).await,
    }
}

async fn is_standby<S>(stream: &mut S, backend: &mut Backend) -> Result<bool, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(said) = backend.memory.parameters.get("in_hot_standby") {
        return Ok(said == "on");
    }
    Ok(ask(stream, backend, "SELECT pg_catalog.pg_is_in_recovery()").await? == "t")
}

async fn is_read_only<S>(stream: &mut S, backend: &mut Backend) -> Result<bool, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reported = |name| backend.memory.parameters.get(name).map(|said| said == "on");
    if let (Some(is_standby), Some(is_by_default)) =
        (reported("in_hot_standby"), reported("default_transaction_read_only"))
    {
        return Ok(is_standby || is_by_default);
    }
    Ok(ask(stream, backend, "SHOW transaction_read_only").await? == "on")
}

/// Asks for one value.
async fn ask<S>(stream: &mut S, backend: &mut Backend, query: &str) -> Result<String, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut conversation = Conversation::over(stream);
    let mut asked = Vec::new();
    message(&mut asked, tag::QUERY, |out| text(out, query));
    conversation.send(&asked).await?;
    let mut answer = None;
    let mut is_complete = false;
    loop {
        let Message { tag, body } = conversation.next().await?;
        match tag {
            tag::ROW_DESCRIPTION => {}
            tag::DATA_ROW if answer.is_none() => answer = Some(only_value(&body).ok_or(wire::Error::Body(tag))?),
            tag::COMMAND_COMPLETE => is_complete = true,
            tag::READY_FOR_QUERY if *body == *b"I" && is_complete => break,
            tag::READY_FOR_QUERY => return Err(wire::Error::Body(tag).into()),
            _ => backend.take_aside(tag, &body)?,
        }
    }
    conversation.end()?;
    answer.ok_or(wire::Error::Type(tag::READY_FOR_QUERY).into())
}

/// The value of a DataRow that has one.
fn only_value(row: &[u8]) -> Option<String> {
    let (columns, rest) = row.split_first_chunk::<2>()?;
    let (length, value) = rest.split_first_chunk::<4>()?;
    let is_whole = u16::from_be_bytes(*columns) == 1 && usize::try_from(i32::from_be_bytes(*length)) == Ok(value.len());
    is_whole.then(|| String::from_utf8_lossy(value).into_owned())
}
