//! What a plugin does, in the order of a session, and how it becomes the one that is called.

use std::cell::RefCell;

use crate::{Cell, Column, ErrorResponse, Interests, Introduction, Session, StartupVerdict, StatementVerdict, Verdict};

/// What a plugin does. It is called for what [`configure`](Plugin::configure) asked for and nothing else; every other
/// method lets pass. Each session has a plugin of its own.
#[expect(clippy::wrong_self_convention, reason = "these are the names of the interface")]
pub trait Plugin {
    /// Takes `spec.hooks[].config`, which is JSON, and says what the plugin wants to see; or refuses it, with a sentence.
    /// Also called without a session, when a configuration is checked.
    fn configure(&mut self, config: &str) -> Result<Interests, String>;

    /// A peer has connected; it has no connection to the database yet.
    fn on_opening(&mut self, _session: &Session) {}

    /// The session has its connection to the database.
    fn on_opened(&mut self) {}

    /// The session's first byte has arrived.
    fn on_traffic(&mut self) {}

    /// The peer introduces itself.
    fn startup(&mut self, _introduction: &Introduction) -> StartupVerdict {
        StartupVerdict::Pass
    }

    /// The peer asks this, which may be several statements.
    fn query(&mut self, _statement: &dyn Chunk) -> StatementVerdict {
        StatementVerdict::Pass
    }

    /// The peer prepares this statement under this name, which may be empty.
    fn parse(&mut self, _name: &str, _statement: &dyn Chunk) -> StatementVerdict {
        StatementVerdict::Pass
    }

    /// The peer sent this; the verdict says what the database gets.
    fn from_client(&mut self, _chunk: &dyn Chunk) -> Verdict {
        Verdict::Pass
    }

    /// The database has been sent this.
    fn to_server(&mut self, _chunk: &dyn Chunk) {}

    /// The database tells the peer of an error; what it shall hear in its place, if anything.
    fn error(&mut self, _error: &ErrorResponse) -> Option<ErrorResponse> {
        None
    }

    /// A result begins that has these columns; the numbers of those that [`on_row`](Plugin::on_row) wants to see.
    fn on_columns(&mut self, _columns: &[Column]) -> Vec<u32> {
        Vec::new()
    }

    /// A row of that result; what is to be put in place of its values.
    fn on_row(&mut self, _row: &dyn Row) -> Vec<Cell> {
        Vec::new()
    }

    /// The database sent this; the verdict says what the peer gets.
    fn from_server(&mut self, _chunk: &dyn Chunk) -> Verdict {
        Verdict::Pass
    }

    /// The peer has been sent this.
    fn to_client(&mut self, _chunk: &dyn Chunk) {}

    /// The session is about to end.
    fn on_closing(&mut self) {}

    /// The session has ended.
    fn on_closed(&mut self) {}
}

/// Bytes that are being looked at. They stay in the gateway, and only what is read is copied.
pub trait Chunk {
    /// How many there are.
    fn length(&self) -> u32;

    /// A copy of at most `length` of them, from `offset` on.
    fn read(&self, offset: u32, length: u32) -> Vec<u8>;

    /// All of them, as text; what is not UTF-8 is replaced.
    fn text(&self) -> String {
        match String::from_utf8(self.read(0, self.length())) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }
}

/// A row of a result.
pub trait Row {
    /// The value in the column of that number, counted from 0, as the database sent it; nothing for NULL.
    fn value(&self, column: u32) -> Option<Vec<u8>>;
}

thread_local! {
    /// The plugin of this instance, once its `main` has run.
    static PLUGIN: RefCell<Option<Box<dyn Plugin>>> = const { RefCell::new(None) };
}

/// Hands over the plugin; the last thing that `main` does. Nothing happens until the gateway calls it.
pub fn run(plugin: impl Plugin + 'static) {
    PLUGIN.set(Some(Box::new(plugin)));
}

/// Does `call` with the plugin, if there is one.
#[cfg(target_arch = "wasm32")]
pub(crate) fn with<T>(call: impl FnOnce(&mut (dyn Plugin + 'static)) -> T) -> Option<T> {
    PLUGIN.with_borrow_mut(|plugin| plugin.as_deref_mut().map(call))
}

// === impl Chunk ===

impl Chunk for &[u8] {
    fn length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn read(&self, offset: u32, length: u32) -> Vec<u8> {
        self.iter().skip(offset as usize).take(length as usize).copied().collect()
    }
}

impl Chunk for &str {
    fn length(&self) -> u32 {
        self.as_bytes().length()
    }

    fn read(&self, offset: u32, length: u32) -> Vec<u8> {
        self.as_bytes().read(offset, length)
    }
}

// === impl Row ===

impl Row for Vec<Option<&str>> {
    fn value(&self, column: u32) -> Option<Vec<u8>> {
        let value = self.get(column as usize).copied().flatten();
        value.map(|value| value.as_bytes().to_vec())
    }
}
