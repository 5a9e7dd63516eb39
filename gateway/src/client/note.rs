//! What is told of a client while it is connected, wherever it is: in the pool, with a session, or between the two.

use std::cell::Cell;
use std::sync::Arc;

use crate::clock::Instant;
use crate::net::{Endpoint, Stream};
use crate::roll::Placed;
use crate::view::{ClientState, ClientView, seconds};

/// What is told of one client.
#[derive(Debug)]
pub(crate) struct Note {
    place: Cell<usize>,
    pub(crate) number: u64,
    remote: Endpoint,
    local: Endpoint,
    /// When the database accepted it.
    pub(crate) since: Instant,
    /// Where the gateway has logged in itself.
    login: Option<Box<Login>>,
    /// What becomes of it; the pool keeps it true.
    pub(crate) state: Cell<ClientState>,
}

/// As whom it is logged in, and where.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) user: Arc<str>,
    pub(super) database: Arc<str>,
    pub(super) process: Option<u32>,
}

// === impl Note ===

impl Note {
    /// Of a client that nobody has had yet.
    pub(super) fn new(number: u64, stream: &Stream, login: Option<Box<Login>>) -> Note {
        let state = Cell::new(ClientState::Idle);
        let (remote, local) = (stream.remote(), stream.local());
        Note { place: Cell::default(), number, remote, local, since: Instant::now(), login, state }
    }

    pub(crate) fn view(&self, now: Instant) -> ClientView {
        let login = self.login.as_ref();
        ClientView {
            id: self.number,
            remote: self.remote.to_string(),
            local: self.local.to_string(),
            user: login.map(|login| login.user.to_string()),
            database: login.map(|login| login.database.to_string()),
            state: self.state.get(),
            age_seconds: seconds(self.since, now),
            backend_pid: login.and_then(|login| login.process),
        }
    }
}

impl Placed for Note {
    fn place(&self) -> &Cell<usize> {
        &self.place
    }
}
