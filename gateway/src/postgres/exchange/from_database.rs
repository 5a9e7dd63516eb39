//! What the database sends: settled against what it owes.

use super::{Error, Exchange, FOLLOWING, Fate, Memory, Owed, Pin, Whom};
use crate::postgres::frames::Step;
use crate::postgres::passage::{Onward, Passage};
use crate::postgres::statements::Named;
use crate::postgres::wire::{self, ErrorResponse, HEADER, Parameters, Status, message, tag};

/// Longer errors and settings are passed on unread.
const MOST_READ: usize = 64 * 1024;
/// The bodies of the CommandComplete messages that end a session's prepared statements.
const FORGETS: [&[u8]; 2] = [b"DISCARD ALL\0", b"DEALLOCATE ALL\0"];
/// That of the message that ends one of them.
const FORGETS_ONE: &[u8] = b"DEALLOCATE\0";
/// Those of the messages that end its settings.
const RESETS: [&[u8]; 2] = [FORGETS[0], b"RESET\0"];
/// How long the bodies of these are.
const TELLING: [usize; 4] = [FORGETS[0].len(), FORGETS[1].len(), FORGETS_ONE.len(), RESETS[1].len()];

// === impl Exchange ===

impl Exchange {
    /// What becomes of `piece`, which the database sent; what is rewritten is appended to `onward`.
    ///
    /// # Errors
    /// The session cannot go on, and its client must not be lent again.
    pub fn from_database(&mut self, piece: &[u8], memory: &mut Memory, onward: &mut Vec<u8>) -> Result<Onward, Error> {
        let mut passage = Passage::new(piece, onward);
        while let Some(step) = self.database.step(passage.rest()).map_err(Error::Database)? {
            let (tag, bytes, is_last) = match step {
                // The rows of a large result are most of what passes.
                Step::Head { tag: tag::DATA_ROW | tag::COPY_DATA, body, kept: 0 }
                    if self.gives_rows() && passage.rest().len() - HEADER >= body =>
                {
                    self.database.pass_body();
                    passage.keep(HEADER + body);
                    continue;
                }
                Step::Head { tag, body, kept } => {
                    self.answer_begins(tag, body, kept, &mut passage)?;
                    if passage.rest().len() < body {
                        continue;
                    }
                    self.database.pass_body();
                    (tag, body, true)
                }
                Step::Body { tag, bytes, is_last } => (tag, bytes, is_last),
            };
            if self.reads_answer {
                self.held_answer.extend_from_slice(&passage.rest()[..bytes]);
            }
            if self.to_peer == Fate::Keep {
                passage.keep(bytes);
            } else {
                passage.drop(bytes);
            }
            if is_last {
                self.answer_ends(tag, memory, &mut passage)?;
            }
        }
        self.is_within_answer = self.database.is_in_body() && self.to_peer == Fate::Keep;
        Ok(passage.finish())
    }

    fn answer_begins(&mut self, tag: u8, body: usize, kept: usize, passage: &mut Passage<'_>) -> Result<(), Error> {
        let is_ours = match (self.owed.front(), tag) {
            (Some(Owed::Own { is_told }), tag::PARAMETER_STATUS) => !is_told,
            // Only who has kept its client can have asked for it.
            (Some(Owed::Own { .. }), tag::NOTIFICATION_RESPONSE) => self.is_sharing(),
            (Some(Owed::Own { .. }), _) | (Some(Owed::Prelude), tag::COMMAND_COMPLETE) => true,
            (Some(Owed::Parse { whom, .. }), tag::PARSE_COMPLETE)
            | (Some(Owed::Close { whom, .. }), tag::CLOSE_COMPLETE) => *whom == Whom::Us,
            _ => false,
        };
        self.to_peer = match tag {
            _ if is_ours => Fate::Drop,
            tag::ERROR_RESPONSE if body <= MOST_READ && self.may_name_a_statement() => Fate::Hold,
            tag::NOTIFICATION_RESPONSE if body <= MOST_READ => Fate::Hold,
            _ => Fate::Keep,
        };
        self.reads_answer = body <= MOST_READ
            && match tag {
                tag::READY_FOR_QUERY | tag::ERROR_RESPONSE | tag::PARAMETER_STATUS | tag::NOTIFICATION_RESPONSE => true,
                tag::COMMAND_COMPLETE => TELLING.contains(&body),
                _ => false,
            };
        self.held_answer.clear();
        if !is_ours {
            self.expect(tag)?;
        }
        if self.to_peer != Fate::Keep {
            passage.drop(HEADER - kept);
        } else if kept == 0 {
            passage.keep(HEADER);
        } else {
            passage.drop(HEADER - kept);
            let length = u32::try_from(body + 4).unwrap_or(u32::MAX).to_be_bytes();
            passage.write(|out| {
                out.push(tag);
                out.extend_from_slice(&length);
            });
        }
        Ok(())
    }

    /// Whether the database answers a question that may have rows.
    fn gives_rows(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Execute | Owed::Query))
    }

    /// Whether anybody asked for a message of this type.
    fn expect(&self, tag: u8) -> Result<(), Error> {
        let is_expected = match tag {
            // These may come at any time.
            tag::ERROR_RESPONSE | tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS | tag::NOTIFICATION_RESPONSE => true,
            tag::PARSE_COMPLETE => matches!(self.owed.front(), Some(Owed::Parse { .. })),
            tag::BIND_COMPLETE => matches!(self.owed.front(), Some(Owed::Bind(_))),
            tag::CLOSE_COMPLETE => matches!(self.owed.front(), Some(Owed::Close { .. })),
            tag::PARAMETER_DESCRIPTION | tag::NO_DATA => matches!(self.owed.front(), Some(Owed::Described(_))),
            tag::ROW_DESCRIPTION => matches!(self.owed.front(), Some(Owed::Described(_) | Owed::Query)),
            tag::PORTAL_SUSPENDED => matches!(self.owed.front(), Some(Owed::Execute)),
            tag::DATA_ROW
            | tag::COMMAND_COMPLETE
            | tag::EMPTY_QUERY_RESPONSE
            | tag::COPY_IN_RESPONSE
            | tag::COPY_OUT_RESPONSE
            | tag::COPY_BOTH_RESPONSE
            | tag::COPY_DATA
            | tag::COPY_DONE => self.gives_rows(),
            tag::FUNCTION_CALL_RESPONSE => matches!(self.owed.front(), Some(Owed::FunctionCall)),
            tag::READY_FOR_QUERY => matches!(self.owed.front(), Some(Owed::Sync | Owed::Query | Owed::FunctionCall)),
            _ => false,
        };
        if is_expected { Ok(()) } else { Err(Error::Desync(tag)) }
    }

    /// A message has passed.
    fn answer_ends(&mut self, tag: u8, memory: &mut Memory, passage: &mut Passage<'_>) -> Result<(), Error> {
        let read = std::mem::take(&mut self.held_answer);
        match tag {
            tag::PARAMETER_STATUS => self.setting(&read, memory),
            tag::ERROR_RESPONSE => {
                if self.to_peer == Fate::Hold {
                    let said = self.in_the_peers_words(&read);
                    passage.write(|out| message(out, tag, |out| out.extend_from_slice(&said)));
                }
                self.failed(&read, memory)?;
            }
            tag::NOTIFICATION_RESPONSE if self.to_peer == Fate::Hold => {
                passage.write(|out| self.notification(&read, memory, out))?;
            }
            tag::READY_FOR_QUERY => self.ready(&read, memory)?,
            tag::PARSE_COMPLETE | tag::BIND_COMPLETE | tag::CLOSE_COMPLETE | tag::NO_DATA | tag::PORTAL_SUSPENDED => {
                match self.owed.pop_front() {
                    Some(Owed::Parse { whom: Whom::Us, edition: Some(edition), .. }) => self.has_prepared(edition),
                    // The first one of this name was skipped, so this one has taken its name on the client.
                    Some(Owed::Parse { is_new: false, replaced: Some(first), .. }) => first.renew(),
                    _ => {}
                }
            }
            tag::ROW_DESCRIPTION if matches!(self.owed.front(), Some(Owed::Described(_))) => {
                drop(self.owed.pop_front());
            }
            tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE => {
                let is_ours = matches!(self.owed.front(), Some(Owed::Own { .. }));
                if (read == FORGETS_ONE || FORGETS.contains(&&read[..])) && !is_ours {
                    self.forgets(&read, memory);
                }
                if RESETS.contains(&&read[..]) && !is_ours {
                    self.wishes.reset();
                }
                self.is_copying_in = false;
                if matches!(self.owed.front(), Some(Owed::Execute | Owed::Prelude)) {
                    self.owed.pop_front();
                }
            }
            tag::COPY_IN_RESPONSE | tag::COPY_BOTH_RESPONSE => self.copies_in(),
            _ => {}
        }
        self.held_answer = read;
        self.settle(memory, |tag| passage.write(|out| message(out, tag, |_| ())));
        Ok(())
    }

    /// Passes a notification on. Peers tell their own by the process, which is the one that they were told of.
    fn notification(&self, read: &[u8], memory: &Memory, out: &mut Vec<u8>) -> Result<(), Error> {
        let malformed = || Error::Database(wire::Error::Body(tag::NOTIFICATION_RESPONSE));
        let (sender, rest) = read.split_first_chunk().ok_or_else(malformed)?;
        let is_own = memory.process.is_some_and(|process| process.to_be_bytes() == *sender);
        let process = self.process.filter(|_| is_own).map_or(*sender, u32::to_be_bytes);
        message(out, tag::NOTIFICATION_RESPONSE, |out| {
            out.extend_from_slice(&process);
            out.extend_from_slice(rest);
        });
        Ok(())
    }

    /// Keeps what is known of the client true. What cannot be known would reach whoever has the client next.
    fn setting(&mut self, read: &[u8], memory: &mut Memory) {
        let Some((name, value)) = Parameters::read(read) else { return self.pin_by(Some(Pin::Set)) };
        memory.parameters.set(name, value);
        if FOLLOWING.contains(&name) && memory.parameters.get(name) != Some(value) {
            self.pin_by(Some(Pin::Set));
        }
        let says_no = matches!(name, "in_hot_standby" | "default_transaction_read_only") && value == "on";
        // A peer that sets it itself keeps its client; where a session has its client anyway, nobody can tell.
        let is_servers = name == "in_hot_standby" || self.is_sharing();
        self.tally.refuses_writes |= says_no && is_servers;
        if self.to_peer != Fate::Drop {
            self.parameters.set(name, value);
            self.wishes.reported(name);
            self.is_setting |= FOLLOWING.contains(&name);
        }
    }

    /// An error ends everything up to the next Sync, in the extended protocol; a Query ends by itself.
    fn failed(&mut self, read: &[u8], memory: &mut Memory) -> Result<(), Error> {
        let error = ErrorResponse::read(read);
        if &*error.code == "25006" {
            self.tally.refuses_writes = true;
        }
        if matches!(&*error.severity, "FATAL" | "PANIC") {
            self.is_over = true;
        }
        self.is_copying_in = false;
        if matches!(self.owed.front(), Some(Owed::Prelude)) {
            self.owed.pop_front();
        }
        match self.owed.front() {
            Some(Owed::Own { .. }) if self.is_over => return Err(Error::Over(Box::new(error))),
            Some(Owed::Own { .. }) => return Err(Error::Settings(error.to_string())),
            None | Some(Owed::Sync | Owed::Query | Owed::FunctionCall) => return Ok(()),
            _ => {}
        }
        if matches!(&*error.code, "0A000" | "26000")
            && let Some(Owed::Bind(Some(Named { statement, .. })) | Owed::Described(Some(Named { statement, .. }))) =
                self.owed.front()
        {
            // Its plan does not fit the tables any more, or somebody has deallocated it by its name: it is prepared anew.
            memory.prepared.remove(statement.edition());
            statement.renew();
        }
        self.undo_up_to_sync(memory);
        // What was sent behind a Sync goes on, and may need another one.
        if self.owed.is_empty() {
            (self.is_skipping, self.is_open) = (true, true);
        }
        Ok(())
    }

    /// `DISCARD ALL` and `DEALLOCATE ALL` reach the statements of others on this client, too: they are prepared again. Where
    /// a Query did so, what was prepared behind it stays.
    fn forgets(&mut self, read: &[u8], memory: &mut Memory) {
        if let Some(Owed::Forgotten(forgotten)) = self.owed.get_mut(1) {
            *forgotten = None;
        } else if read != FORGETS_ONE {
            memory.prepared.clear();
            self.names.clear();
        }
        if read == FORGETS[0] {
            self.pin = None;
        }
    }

    fn ready(&mut self, read: &[u8], memory: &Memory) -> Result<(), Error> {
        self.status = Status::read(read).ok_or(Error::Desync(tag::READY_FOR_QUERY))?;
        let is_ours = matches!(self.owed.pop_front(), Some(Owed::Own { .. }));
        self.is_copying_in = false;
        if !is_ours {
            self.tally.answered += 1;
            self.tally.transactions += u64::from(self.status == Status::Idle);
        }
        self.is_setting &= !(self.owed.is_empty() && self.status == Status::Idle);
        self.has_reset |= self.wishes.ready(self.status == Status::Idle, memory, &mut self.parameters);
        Ok(())
    }

    /// A COPY begins. The database ignores Syncs until it has ended.
    fn copies_in(&mut self) {
        while matches!(self.owed.get(1), Some(Owed::Sync)) {
            self.owed.remove(1);
        }
        self.is_copying_in = self.owed.len() == 1;
        let needs_sync = matches!(self.owed.front(), Some(Owed::Execute));
        self.is_open |= needs_sync && !self.owed.iter().any(|owed| matches!(owed, Owed::Sync | Owed::Query));
    }
}
