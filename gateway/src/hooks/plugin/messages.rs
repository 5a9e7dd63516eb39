//! The messages of a PostgreSQL session that a plugin asked for, each as a whole; all others pass without a copy.

use std::borrow::Cow;

use wasmtime::component::Resource;

use super::instance::{Function, Instance, Stopped};
use super::refusals::{Refusals, body_of, shown, told};
use super::rows::{self, Rows};
use super::wit::postern::plugin::types::{Interests, Introduction, StartupVerdict, StatementVerdict};
use crate::hooks::Failure;
use crate::postgres::frames::{Frames, Sender, Step};
use crate::postgres::passage::{Onward, Passage};
use crate::postgres::startup::{Request, StartupMessage};
use crate::postgres::wire::{ErrorResponse, HEADER, message, split_text, tag};
use crate::proxy::relay::Direction;

/// Both streams of a session, as they arrive.
pub(super) struct Messages {
    wanted: Interests,
    login: Login,
    from_client: Stream,
    from_server: Stream,
    refusals: Refusals,
    /// Kept where the plugin wants to see rows.
    rows: Option<Rows>,
    /// How much of what was taken last is the peer's first packet, which is no message.
    introduced: usize,
}

/// How far the login is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    /// Nobody has introduced themselves.
    Awaited,
    /// The two sides prove who they are, which nobody else sees.
    Going,
    /// The database has said that it is over, which the peer has not been sent yet.
    Ending,
    Over,
    /// The plugin does not let the peer in.
    Refused,
}

/// One direction.
struct Stream {
    frames: Frames,
    /// The beginning of a message that is wanted as a whole.
    part: Option<Vec<u8>>,
    /// Whether something came that is no message: nothing behind it can be understood.
    is_lost: bool,
}

/// Who is asked, and how that failed first.
struct Asking<'a> {
    plugin: &'a mut Instance,
    failure: Option<Failure>,
}

/// What becomes of a piece that was read.
pub(super) enum Taken<'a> {
    /// This goes on, after what was kept of earlier pieces, and without what is kept of this one.
    On(Cow<'a, [u8]>),
    /// Whoever sent it gets this.
    Reply(Vec<u8>),
    Close,
}

/// What becomes of a whole message.
enum Said {
    AsItIs,
    /// This is its body.
    Body(Vec<u8>),
    Close,
}

/// A longer message is not collected, and the plugin has failed to see it.
const MOST_BODY: usize = 1024 * 1024;
// === impl Messages ===

impl Messages {
    pub(super) fn new(wanted: Interests) -> Messages {
        Messages {
            wanted,
            login: Login::Awaited,
            from_client: Stream::of(Sender::Entrant),
            from_server: Stream::of(Sender::Database),
            refusals: Refusals::default(),
            rows: wanted.contains(Interests::ROWS).then(Rows::new),
            introduced: 0,
        }
    }

    /// How much of what was taken last is the peer's first packet, which is no message.
    pub(super) fn introduced(&self) -> usize {
        self.introduced
    }

    /// Whether what was taken last belongs to a login.
    pub(super) fn is_login(&self, direction: Direction) -> bool {
        match self.login {
            Login::Ending => direction == Direction::ToPeer,
            Login::Over => false,
            Login::Awaited | Login::Going | Login::Refused => true,
        }
    }

    /// Whether what has been sent just now belongs to a login; called once for each piece.
    pub(super) fn was_login(&mut self, direction: Direction) -> bool {
        let was_login = self.is_login(direction);
        if self.login == Login::Ending && direction == Direction::ToPeer {
            self.login = Login::Over;
        }
        was_login
    }

    /// Takes a piece that was read, and asks the plugin about the messages that are whole with it. What goes on; and how
    /// the plugin failed, if it did: then the messages go on as they are.
    pub(super) fn take<'a>(
        &mut self,
        direction: Direction,
        piece: &'a [u8],
        plugin: &mut Instance,
    ) -> (Taken<'a>, Option<Failure>) {
        let mut asking = Asking { plugin, failure: None };
        self.introduced = 0;
        if direction == Direction::ToDatabase {
            match self.login {
                Login::Awaited => match self.introduce(piece, &mut asking) {
                    Ok(length) => self.introduced = length,
                    Err(taken) => return (taken, None),
                },
                Login::Refused => return (Taken::Close, None),
                Login::Going | Login::Ending | Login::Over => {}
            }
        }
        let mut onward = Vec::new();
        let mut passage = Passage::new(piece, &mut onward);
        passage.keep(self.introduced);
        let is_open = self.follow(direction, &mut passage, &mut asking);
        let taken = match (is_open, passage.finish()) {
            (false, _) => Taken::Close,
            (true, Onward::AsItIs(length)) => Taken::On(Cow::Borrowed(&piece[..length])),
            (true, Onward::Rewritten) => Taken::On(Cow::Owned(onward)),
        };
        (taken, asking.failure)
    }

    /// The peer has been answered, with whole messages, by somebody else than the database.
    pub(super) fn hears_reply(&mut self, mut reply: &[u8]) {
        let mut frames = self.from_server.frames.clone();
        while let Ok(Some(step)) = frames.step(reply) {
            let passed = match step {
                Step::Head { tag, kept, .. } => {
                    self.note(Direction::ToPeer, tag);
                    HEADER - kept
                }
                Step::Body { bytes, .. } => bytes,
            };
            reply = &reply[passed..];
        }
    }

    /// Follows the messages of a piece; `false` when the session is to end.
    fn follow(&mut self, direction: Direction, passage: &mut Passage<'_>, asking: &mut Asking<'_>) -> bool {
        loop {
            let rest = passage.rest();
            let stream = self.stream(direction);
            if stream.is_lost {
                passage.keep(rest.len());
                return true;
            }
            let (cut, kept) = stream.frames.cut();
            let goes_on = match stream.frames.step(rest) {
                Ok(None) => return true,
                Ok(Some(Step::Head { tag, body, kept })) => {
                    self.begin((direction, tag), (HEADER - kept, body), passage, asking)
                }
                Ok(Some(Step::Body { tag, bytes, is_last })) => {
                    self.go_on((direction, tag), (&rest[..bytes], is_last), passage, asking)
                }
                Err(error) => {
                    stream.is_lost = true;
                    passage.write(|out| out.extend_from_slice(&cut[..kept]));
                    let sentence = format!("what passes is not understood: {error}");
                    let function = if direction == Direction::ToPeer { Function::Error } else { Function::Query };
                    let missed = asking.plugin.miss(function, Stopped { reason: "protocol", sentence });
                    asking.failure.get_or_insert(missed);
                    true
                }
            };
            if !goes_on {
                return false;
            }
        }
    }

    /// A message begins, of whose header so many bytes are in this piece; `false` when the session is to end.
    fn begin(
        &mut self,
        (direction, tag): (Direction, u8),
        (head, body): (usize, usize),
        passage: &mut Passage<'_>,
        asking: &mut Asking<'_>,
    ) -> bool {
        self.note(direction, tag);
        let is_wanted = self.is_wanted(direction, tag, asking.plugin);
        let is_wanted = asking.or(is_wanted, false);
        if is_wanted && body <= MOST_BODY {
            let Some(whole) = passage.rest().get(head..head + body) else {
                self.stream(direction).part = Some(Vec::new());
                passage.drop(head);
                return true;
            };
            self.stream(direction).frames.pass_body();
            let said = self.ask((direction, tag), whole, asking.plugin);
            let said = asking.or(said, Said::AsItIs);
            if matches!(said, Said::AsItIs) && head == HEADER {
                passage.keep(head + body);
                return true;
            }
            passage.drop(head + body);
            return write(passage, tag, whole, &said);
        }
        if is_wanted {
            let missed = self.miss((direction, tag), body, asking.plugin);
            asking.or(missed, ());
        }
        if head == HEADER {
            passage.keep(head);
        } else {
            passage.drop(head);
            passage.write(|out| write_head(out, tag, body));
        }
        true
    }

    /// The body of a message goes on; `false` when the session is to end.
    fn go_on(
        &mut self,
        (direction, tag): (Direction, u8),
        (bytes, is_last): (&[u8], bool),
        passage: &mut Passage<'_>,
        asking: &mut Asking<'_>,
    ) -> bool {
        let Some(part) = &mut self.stream(direction).part else {
            passage.keep(bytes.len());
            return true;
        };
        part.extend_from_slice(bytes);
        passage.drop(bytes.len());
        if !is_last {
            return true;
        }
        let whole = self.stream(direction).part.take().unwrap_or_default();
        let said = self.ask((direction, tag), &whole, asking.plugin);
        let said = asking.or(said, Said::AsItIs);
        write(passage, tag, &whole, &said)
    }

    fn stream(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::ToDatabase => &mut self.from_client,
            Direction::ToPeer => &mut self.from_server,
        }
    }

    fn note(&mut self, direction: Direction, tag: u8) {
        let is_ready = direction == Direction::ToPeer && tag == tag::READY_FOR_QUERY;
        if is_ready && self.login == Login::Going {
            self.login = Login::Ending;
        }
        match (&mut self.rows, direction) {
            (Some(rows), Direction::ToDatabase) => rows.asks(tag),
            (Some(rows), Direction::ToPeer) => rows.hears(tag),
            (None, _) => {}
        }
    }

    /// Whether a message that begins is to be read as a whole.
    fn is_wanted(&mut self, direction: Direction, tag: u8, plugin: &mut Instance) -> Result<bool, Failure> {
        Ok(match (direction, tag) {
            (Direction::ToDatabase, tag::QUERY) => self.wanted.contains(Interests::QUERY),
            (Direction::ToDatabase, tag::PARSE) if self.wanted.contains(Interests::PARSE) => true,
            (Direction::ToDatabase, _) => self.rows.is_some() && Rows::reads(tag),
            (Direction::ToPeer, tag::ERROR_RESPONSE) => {
                self.wanted.contains(Interests::ERROR) || !self.refusals.is_empty()
            }
            (Direction::ToPeer, tag::ROW_DESCRIPTION) => self.rows.is_some(),
            (Direction::ToPeer, tag::DATA_ROW) => match &mut self.rows {
                Some(rows) => rows.shows_row(plugin)?,
                None => false,
            },
            (Direction::ToPeer, _) => false,
        })
    }

    /// A message is too long to be shown, which the plugin has failed to see if it wanted to.
    fn miss(&mut self, (direction, tag): (Direction, u8), body: usize, plugin: &Instance) -> Result<(), Failure> {
        if let (Some(rows), Direction::ToDatabase) = (&mut self.rows, direction) {
            rows.misses(tag);
        }
        let function = match (direction, tag) {
            (Direction::ToDatabase, tag::QUERY) => Function::Query,
            (Direction::ToDatabase, tag::PARSE) if self.wanted.contains(Interests::PARSE) => Function::Parse,
            (Direction::ToDatabase, _) => return Ok(()),
            (Direction::ToPeer, tag::ROW_DESCRIPTION) => Function::OnColumns,
            (Direction::ToPeer, tag::DATA_ROW) => Function::OnRow,
            (Direction::ToPeer, _) => Function::Error,
        };
        let sentence = format!("a message of {body} bytes is longer than what plugins are shown");
        Err(plugin.miss(function, Stopped { reason: "size", sentence }))
    }

    /// The peer's first packet: how long it is.
    ///
    /// # Errors
    /// What becomes of the peer, which the plugin does not let in.
    fn introduce(&mut self, piece: &[u8], asking: &mut Asking<'_>) -> Result<usize, Taken<'static>> {
        let Ok(Some((Request::Startup(startup), length))) = Request::read(piece) else {
            self.from_client.is_lost = true;
            let sentence = "the peer does not introduce itself".to_owned();
            let missed = asking.plugin.miss(Function::Startup, Stopped { reason: "protocol", sentence });
            asking.failure = Some(missed);
            return Ok(piece.len());
        };
        self.login = Login::Going;
        if !self.wanted.contains(Interests::STARTUP) {
            return Ok(length);
        }
        let introduction = introduction(&startup);
        let verdict = asking.plugin.call(Function::Startup, |store, guest| guest.call_startup(store, &introduction));
        if let Ok(verdict) = &verdict {
            asking.plugin.plugin().count(Function::Startup, |calls| match verdict {
                StartupVerdict::Pass => &calls.pass,
                StartupVerdict::Refuse(_) => &calls.reply,
                StartupVerdict::Close => &calls.close,
            });
        }
        let verdict = asking.or(verdict, StartupVerdict::Pass);
        match verdict {
            StartupVerdict::Pass => Ok(length),
            StartupVerdict::Close => Err(Taken::Close),
            StartupVerdict::Refuse(error) => {
                self.login = Login::Refused;
                let mut reply = Vec::new();
                told(error, "FATAL").write(&mut reply);
                Err(Taken::Reply(reply))
            }
        }
    }

    /// Asks the plugin about a whole message.
    fn ask(&mut self, (direction, tag): (Direction, u8), body: &[u8], plugin: &mut Instance) -> Result<Said, Failure> {
        if let (Some(rows), Direction::ToDatabase) = (&mut self.rows, direction) {
            rows.notes(tag, body);
        }
        match (direction, tag) {
            (Direction::ToDatabase, tag::QUERY) => self.query(body, plugin),
            (Direction::ToDatabase, tag::PARSE) if self.wanted.contains(Interests::PARSE) => self.parse(body, plugin),
            (Direction::ToPeer, tag::ERROR_RESPONSE) => self.error(body, plugin),
            (Direction::ToPeer, tag::ROW_DESCRIPTION) => {
                if let Some(rows) = &mut self.rows {
                    rows.describes(body, plugin)?;
                }
                Ok(Said::AsItIs)
            }
            (Direction::ToPeer, tag::DATA_ROW) => Ok(rows::row(body, plugin)?.map_or(Said::AsItIs, Said::Body)),
            _ => Ok(Said::AsItIs),
        }
    }

    fn query(&mut self, body: &[u8], plugin: &mut Instance) -> Result<Said, Failure> {
        // What is malformed is for the database to judge.
        let Some((text, b"")) = split_text(body) else { return Ok(Said::AsItIs) };
        let ask = (text, &[][..]);
        let verdict =
            plugin.call_about(Function::Query, ask, |store, guest| guest.call_query(store, Resource::new_borrow(0)))?;
        count_statement(plugin, Function::Query, &verdict);
        Ok(self.statement(verdict, |text| [text, b"\0"].concat()))
    }

    fn parse(&mut self, body: &[u8], plugin: &mut Instance) -> Result<Said, Failure> {
        let Some((name, rest)) = split_text(body) else { return Ok(Said::AsItIs) };
        let Some((text, types)) = split_text(rest) else { return Ok(Said::AsItIs) };
        let called = String::from_utf8_lossy(name);
        let verdict = plugin.call_about(Function::Parse, (text, &[]), |store, guest| {
            guest.call_parse(store, &called, Resource::new_borrow(0))
        })?;
        count_statement(plugin, Function::Parse, &verdict);
        Ok(self.statement(verdict, |text| [name, b"\0", text, b"\0", types].concat()))
    }

    /// What is asked, by the plugin's verdict, where `body` makes a message of a statement.
    fn statement(&mut self, verdict: StatementVerdict, body: impl FnOnce(&[u8]) -> Vec<u8>) -> Said {
        match verdict {
            StatementVerdict::Pass => Said::AsItIs,
            StatementVerdict::Replace(mut text) => {
                text.retain(|byte| *byte != 0);
                Said::Body(body(&text))
            }
            StatementVerdict::Refuse(error) => {
                let instead = self.refusals.open(told(error, "ERROR"));
                Said::Body(body(instead.as_bytes()))
            }
            StatementVerdict::Close => Said::Close,
        }
    }

    fn error(&mut self, body: &[u8], plugin: &mut Instance) -> Result<Said, Failure> {
        let error = ErrorResponse::read(body);
        if let Some(refusal) = self.refusals.settle(&error.message) {
            return Ok(Said::Body(body_of(&refusal)));
        }
        if !self.wanted.contains(Interests::ERROR) {
            return Ok(Said::AsItIs);
        }
        let (severity, shown) = (error.severity.to_string(), shown(error));
        let answer = plugin.call(Function::Error, |store, guest| guest.call_error(store, &shown))?;
        plugin.plugin().count(Function::Error, |calls| if answer.is_some() { &calls.replace } else { &calls.pass });
        Ok(answer.map_or(Said::AsItIs, |error| Said::Body(body_of(&told(error, &severity)))))
    }
}

fn count_statement(plugin: &Instance, function: Function, verdict: &StatementVerdict) {
    plugin.plugin().count(function, |calls| match verdict {
        StatementVerdict::Pass => &calls.pass,
        StatementVerdict::Replace(_) => &calls.replace,
        StatementVerdict::Refuse(_) => &calls.reply,
        StatementVerdict::Close => &calls.close,
    });
}

/// Has a whole message go on; `false` when the session is to end instead.
fn write(passage: &mut Passage<'_>, tag: u8, whole: &[u8], said: &Said) -> bool {
    let body = match said {
        Said::AsItIs => whole,
        Said::Body(body) => body,
        Said::Close => return false,
    };
    passage.write(|out| message(out, tag, |out| out.extend_from_slice(body)));
    true
}

fn write_head(out: &mut Vec<u8>, tag: u8, body: usize) {
    out.push(tag);
    out.extend_from_slice(&u32::try_from(body + 4).unwrap_or(u32::MAX).to_be_bytes());
}

fn introduction(startup: &StartupMessage) -> Introduction {
    let parameters = startup.parameters().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Introduction {
        user: startup.user().to_owned(),
        database: startup.database().to_owned(),
        parameters: parameters.filter(|(name, _)| !["user", "database"].contains(&name.as_str())).collect(),
    }
}

// === impl Stream ===

impl Stream {
    fn of(sender: Sender) -> Stream {
        Stream { frames: Frames::new(sender), part: None, is_lost: false }
    }
}

// === impl Asking ===

impl Asking<'_> {
    /// The answer, or this where the plugin failed, which is noted.
    fn or<T>(&mut self, answer: Result<T, Failure>, otherwise: T) -> T {
        answer.unwrap_or_else(|failed| {
            self.failure.get_or_insert(failed);
            otherwise
        })
    }
}
