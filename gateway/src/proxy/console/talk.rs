//! One console's conversation, message by message: simple queries, and the extended protocol as far as drivers need it for
//! commands without parameters.

use std::collections::HashMap;
use std::future::poll_fn;

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::console::command::{Command, SETTINGS, USAGE, read};
use crate::console::table::{Cell, Column, Format, Row, Show, Type, describe, row};
use crate::console::{Answer, Console};
use crate::net::Stream;
use crate::postgres::cancel::Registration;
use crate::postgres::wire::{ErrorResponse, HEADER, message, split_text, tag, text};
use crate::proxy::ended::Ended;
use crate::proxy::watch;

mod extended;

use extended::Portal;

/// A console and what it has prepared.
pub(super) struct Talk<'a> {
    peer: &'a mut Stream,
    console: &'a Console,
    registration: &'a Registration,
    /// What it said and nobody has looked at.
    heard: Vec<u8>,
    /// What it has not been told.
    out: Vec<u8>,
    statements: HashMap<String, Option<Command>>,
    portals: HashMap<String, Portal>,
    /// After an error everything up to the next Sync is skipped.
    is_skipping: bool,
}

/// How a command ended other than well.
enum Trouble {
    /// The peer is told, and goes on.
    Said(Box<ErrorResponse>),
    /// The session ends.
    Ends(Ended),
}

/// Commands are short.
const MOST_BODY: usize = 64 * 1024;
/// Bytes of one read.
const CHUNK: usize = 4096;
/// Of what is not sent so much is kept, so that a table of any size is sent in parts.
const MOST_UNSENT: usize = 64 * 1024;
/// The state of a session that has no transactions.
const IDLE: u8 = b'I';

// === impl Talk ===

impl<'a> Talk<'a> {
    /// With a peer that has been let in, and has said so much already.
    pub(super) fn new(
        peer: &'a mut Stream,
        console: &'a Console,
        (registration, heard): (&'a Registration, Vec<u8>),
    ) -> Talk<'a> {
        let (statements, portals) = (HashMap::new(), HashMap::new());
        Talk { peer, console, registration, heard, out: Vec::new(), statements, portals, is_skipping: false }
    }

    /// Answers until the peer leaves.
    pub(super) async fn run(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.step().await {
                return ended;
            }
        }
    }

    /// Answers one message.
    async fn step(&mut self) -> Result<(), Ended> {
        let (tag, body) = self.next_message().await?;
        if self.is_skipping && tag != tag::SYNC && tag != tag::TERMINATE {
            return Ok(());
        }
        let is_extended = !matches!(tag, tag::QUERY | tag::FUNCTION_CALL);
        match self.answer(tag, &body).await {
            Ok(()) => {}
            Err(Trouble::Ends(ended)) => return Err(ended),
            Err(Trouble::Said(said)) => {
                said.write(&mut self.out);
                self.is_skipping = is_extended;
                if !is_extended {
                    self.is_ready();
                }
            }
        }
        // What belongs together is sent together.
        if is_extended && !matches!(tag, tag::SYNC | tag::FLUSH) && self.out.len() < MOST_UNSENT {
            return Ok(());
        }
        self.send().await
    }

    async fn answer(&mut self, tag: u8, body: &[u8]) -> Result<(), Trouble> {
        match tag {
            tag::QUERY => self.query(body).await,
            tag::PARSE => Ok(self.parse(body)?),
            tag::BIND => Ok(self.bind(body)?),
            tag::DESCRIBE => Ok(self.describe(body)?),
            tag::EXECUTE => self.execute(body).await,
            tag::CLOSE => Ok(self.close(body)?),
            tag::SYNC => {
                self.is_skipping = false;
                self.portals.clear();
                self.is_ready();
                Ok(())
            }
            // What is left of a COPY that was refused.
            tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => Ok(()),
            tag::TERMINATE => Err(Trouble::Ends(Ended::Peer)),
            tag::FUNCTION_CALL => Err(said("0A000", "the console calls no functions").into()),
            tag => {
                Err(Trouble::Ends(self.offended(&format!("there is no message of type {}", tag.escape_ascii())).await))
            }
        }
    }

    // --- simple queries ---

    async fn query(&mut self, body: &[u8]) -> Result<(), Trouble> {
        let sql = text_of(body)?;
        let commands = read(sql)?;
        if commands.is_empty() {
            message(&mut self.out, tag::EMPTY_QUERY_RESPONSE, |_| ());
        }
        for command in commands {
            let rows = self.ask(&command).await?;
            if let Some(columns) = columns_of(&command) {
                describe(columns, |_| Format::Text, &mut self.out);
                self.send_rows(columns, &rows, |_| Format::Text).await?;
            }
            self.complete(&command, rows.len());
        }
        self.is_ready();
        Ok(())
    }

    async fn send_rows(
        &mut self,
        columns: &[Column],
        rows: &[Row],
        format: impl Fn(usize) -> Format,
    ) -> Result<(), Trouble> {
        for cells in rows {
            row(columns, cells, &format, &mut self.out);
            self.send_if_much().await?;
        }
        Ok(())
    }

    async fn send_if_much(&mut self) -> Result<(), Trouble> {
        if self.out.len() < MOST_UNSENT { Ok(()) } else { self.send().await.map_err(Trouble::Ends) }
    }

    /// What the gateway answers; meanwhile the peer may leave, or cancel.
    async fn ask(&mut self, command: &Command) -> Result<Vec<Row>, Trouble> {
        match command {
            Command::Setting(name) => {
                let value = SETTINGS.iter().find(|(known, _)| known == name).map_or("", |(_, value)| *value);
                return Ok(vec![vec![Cell::from(value)]]);
            }
            Command::Help => {
                notice(&mut self.out, "Console usage", USAGE);
                return Ok(Vec::new());
            }
            Command::Nothing(_) => return Ok(Vec::new()),
            _ => {}
        }
        let target = self.registration.target();
        let answered: Result<Answer, Trouble> = tokio::select! {
            biased;
            answer = self.console.ask(command.clone()) => Ok(answer),
            () = poll_fn(|cx| target.poll_given_up(cx)) => {
                Err(said("57014", "canceling statement due to user request").into())
            }
            ended = watch(self.peer, &mut self.heard, MOST_BODY) => Err(Trouble::Ends(ended)),
        };
        // Whoever cancels now has nothing to cancel.
        let _ = target.release();
        Ok(answered??)
    }

    fn complete(&mut self, command: &Command, rows: usize) {
        message(&mut self.out, tag::COMMAND_COMPLETE, |out| match command {
            Command::Show(_) | Command::Setting(_) => text(out, &format!("SHOW {rows}")),
            Command::Help => text(out, "SHOW"),
            Command::Pause(_) => text(out, "PAUSE"),
            Command::Resume(_) => text(out, "RESUME"),
            Command::Reconnect(_) => text(out, "RECONNECT"),
            Command::Reload => text(out, "RELOAD"),
            Command::Kill(_, tag) | Command::Nothing(tag) => text(out, tag),
        });
    }

    // --- messages ---

    async fn next_message(&mut self) -> Result<(u8, Vec<u8>), Ended> {
        loop {
            if let Some((&[tag, ref length @ ..], rest)) = self.heard.split_first_chunk::<HEADER>() {
                let length = i32::from_be_bytes(*length);
                let body = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
                let Some(body) = body.filter(|body| *body <= MOST_BODY) else {
                    return Err(self.offended(&format!("a message claims {length} bytes")).await);
                };
                if rest.len() >= body {
                    let message = rest[..body].to_vec();
                    self.heard.drain(..HEADER + body);
                    return Ok((tag, message));
                }
            }
            let mut bytes = [0; CHUNK];
            match self.peer.read(&mut bytes).await {
                Ok(0) => return Err(Ended::Peer),
                Ok(read) => self.heard.extend_from_slice(&bytes[..read]),
                Err(error) => return Err(Ended::PeerFailed(error)),
            }
        }
    }

    fn is_ready(&mut self) {
        message(&mut self.out, tag::READY_FOR_QUERY, |out| out.put_u8(IDLE));
    }

    async fn send(&mut self) -> Result<(), Ended> {
        let out = std::mem::take(&mut self.out);
        self.peer.write_all(&out).await.map_err(Ended::PeerFailed)?;
        self.peer.flush().await.map_err(Ended::PeerFailed)
    }

    /// The peer broke the rules, and hears so.
    async fn offended(&mut self, sentence: &str) -> Ended {
        ErrorResponse::fatal("08P01", sentence).write(&mut self.out);
        // Whoever does not listen is not told.
        let _ = self.send().await;
        Ended::Protocol(sentence.to_owned())
    }
}

/// What the rows of a command's answer consist of; none where it has no rows.
fn columns_of(command: &Command) -> Option<&'static [Column]> {
    match command {
        Command::Show(show) => Some(Show::columns(*show)),
        Command::Setting(name) => SETTINGS.iter().position(|(known, _)| known == name).map(|place| &SETTING[place][..]),
        _ => None,
    }
}

/// The one column of a setting is called by its name.
static SETTING: [[Column; 1]; SETTINGS.len()] = {
    let mut columns = [[("", Type::Text)]; SETTINGS.len()];
    let mut place = 0;
    while place < columns.len() {
        columns[place][0].0 = SETTINGS[place].0;
        place += 1;
    }
    columns
};

fn text_of(body: &[u8]) -> Result<&str, Box<ErrorResponse>> {
    let (text, rest) = split_text(body).ok_or_else(malformed)?;
    if rest.is_empty() { utf8(text) } else { Err(malformed()) }
}

fn utf8(text: &[u8]) -> Result<&str, Box<ErrorResponse>> {
    std::str::from_utf8(text).map_err(|_| said("22021", "a command must be UTF-8"))
}

#[expect(clippy::unnecessary_box_returns, reason = "answers carry it so, to be small when all is well")]
fn malformed() -> Box<ErrorResponse> {
    said("08P01", "the message is malformed")
}

#[expect(clippy::unnecessary_box_returns, reason = "answers carry it so, to be small when all is well")]
fn said(code: &str, sentence: &str) -> Box<ErrorResponse> {
    Box::new(ErrorResponse::error(code, sentence))
}

fn notice(out: &mut Vec<u8>, sentence: &str, detail: &str) {
    message(out, tag::NOTICE_RESPONSE, |out| {
        for (field, value) in [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', sentence), (b'D', detail)] {
            out.push(field);
            text(out, value);
        }
        out.push(0);
    });
}

impl From<Box<ErrorResponse>> for Trouble {
    fn from(said: Box<ErrorResponse>) -> Trouble {
        Trouble::Said(said)
    }
}

impl From<ErrorResponse> for Trouble {
    fn from(said: ErrorResponse) -> Trouble {
        Trouble::Said(Box::new(said))
    }
}
