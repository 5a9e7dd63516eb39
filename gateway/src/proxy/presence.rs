//! What is told of a session while it lasts: who it is, what it does, and which client it has. The session keeps it true
//! itself, which costs it a few stores of a word, and no look at the clock that it would not take anyway.

use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::hooked::Chain;
use super::session::Sessions;
use crate::clock::Instant;
use crate::postgres::startup::StartupMessage;
use crate::roll::Placed;
use crate::view::{SessionState, SessionView, seconds};

/// What is told of one session.
pub(super) struct Presence {
    place: Cell<usize>,
    pub(super) begin: Instant,
    state: Cell<SessionState>,
    /// Since when it is in its state, or was asked or answered something last.
    since: Cell<Instant>,
    /// The number of its client; 0: it has none.
    client: Cell<u64>,
    who: OnceCell<Rc<Identity>>,
    /// Whether it is a console, which does not end with the sessions that it ends.
    is_console: Cell<bool>,
    /// Whether somebody wants its end.
    is_killed: Cell<bool>,
    /// Who is to be told of that.
    waker: Cell<Option<Waker>>,
}

/// Who a peer says it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    user: Box<str>,
    database: Box<str>,
    application: Box<str>,
}

/// Of each word that a peer says of itself so many characters: PostgreSQL keeps no longer names.
const MOST_NAME: usize = 63;

// === impl Presence ===

impl Presence {
    /// Of a session that begins now.
    pub(super) fn new() -> Presence {
        let now = Instant::now();
        Presence {
            place: Cell::default(),
            begin: now,
            state: Cell::new(SessionState::Idle),
            since: Cell::new(now),
            client: Cell::new(0),
            who: OnceCell::new(),
            is_console: Cell::new(false),
            is_killed: Cell::new(false),
            waker: Cell::new(None),
        }
    }

    /// It shall end.
    fn kill(&self) {
        self.is_killed.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether it shall end; costs nothing.
    #[inline]
    pub(super) fn is_killed(&self) -> bool {
        self.is_killed.get()
    }

    /// Ready when it shall end. A session is one task, and wakes for it wherever it waits.
    pub(super) fn poll_killed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_killed() {
            return Poll::Ready(());
        }
        let known = self.waker.take().filter(|known| known.will_wake(cx.waker()));
        self.waker.set(Some(known.unwrap_or_else(|| cx.waker().clone())));
        Poll::Pending
    }

    /// Waits until it shall end.
    pub(super) async fn killed(&self) {
        poll_fn(|cx| self.poll_killed(cx)).await;
    }

    /// It is a console.
    pub(super) fn is_for_console(&self) {
        self.is_console.set(true);
    }

    /// It begins to wait for a client.
    pub(super) fn waits(&self) {
        self.is(SessionState::Waiting, Instant::now());
    }

    /// It has the client of this number.
    #[inline]
    pub(super) fn has(&self, client: u64) {
        self.client.set(client);
        self.state.set(SessionState::Active);
    }

    /// It has no client, and needs none.
    #[inline]
    pub(super) fn has_none(&self) {
        self.client.set(0);
        self.state.set(SessionState::Idle);
    }

    /// It is in this state since `at`.
    #[inline]
    pub(super) fn is(&self, state: SessionState, at: Instant) {
        self.state.set(state);
        self.since.set(at);
    }
}

// === impl Chain ===

impl Chain {
    fn view(&self, now: Instant) -> SessionView {
        let Presence { begin, state, since, client, who, .. } = &self.presence;
        let told =
            |word: fn(&Identity) -> &str| who.get().map(|who| word(who).to_owned()).filter(|word| !word.is_empty());
        SessionView {
            id: self.session.id,
            peer: self.session.peer.to_string(),
            user: told(|who| &who.user),
            database: told(|who| &who.database),
            application: told(|who| &who.application),
            state: state.get(),
            since_seconds: seconds(*begin, now),
            state_since_seconds: seconds(since.get(), now),
            waits: state.get() == SessionState::Waiting,
            client: Some(client.get()).filter(|client| *client != 0),
        }
    }
}

impl Placed for Chain {
    fn place(&self) -> &Cell<usize> {
        &self.presence.place
    }
}

// === impl Sessions ===

impl Sessions {
    /// The peer has said who it is.
    pub(super) fn identify(&self, chain: &Chain, startup: &StartupMessage) {
        let who = Identity::of(startup);
        let mut latest = self.latest.borrow_mut();
        // Almost all peers of one proxy say the same.
        let who = latest.take().filter(|latest| **latest == who).unwrap_or_else(|| Rc::new(who));
        *latest = Some(who.clone());
        // A peer says it once.
        let _ = chain.presence.who.set(who);
    }

    /// Ends the session of this number, or all but consoles; how many there were.
    pub(super) fn kill(&self, number: Option<u64>) -> usize {
        let is_meant = |chain: &Chain| match number {
            Some(number) => chain.session.id == number,
            None => !chain.presence.is_console.get(),
        };
        let all = self.roll.first(usize::MAX, |_| (), |chain| chain.session.id);
        let meant = all.iter().filter(|chain| is_meant(chain));
        meant.inspect(|chain| chain.presence.kill()).count()
    }

    /// At most `most` of the sessions.
    pub(super) fn list(&self, most: usize, now: Instant) -> Vec<SessionView> {
        let chosen = self.roll.first(most, |chain| chain.presence.state.get(), |chain| chain.session.id);
        chosen.iter().map(|chain| chain.view(now)).collect()
    }
}

// === impl Identity ===

impl Identity {
    fn of(startup: &StartupMessage) -> Identity {
        let cut = |word: &str| word.chars().take(MOST_NAME).collect();
        let application = startup.get_any_case("application_name").unwrap_or_default();
        Identity { user: cut(startup.user()), database: cut(startup.database()), application: cut(application) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::wire::Version;

    #[test]
    fn what_a_peer_says_of_itself_takes_little_whatever_it_says() {
        let long = "\u{e4}".repeat(5000);
        let parameters = vec![("user".to_owned(), long), ("Application_Name".to_owned(), "psql".to_owned())];
        let who = Identity::of(&StartupMessage { version: Version::V3_0, parameters });
        let cut = "\u{e4}".repeat(MOST_NAME);
        assert_eq!((&*who.user, &*who.database, &*who.application), (&*cut, &*cut, "psql"));
    }
}
