//! A steady application, and a prober that asks the database itself: callers that write something short every few
//! milliseconds, and come back after an error.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use cast::Postgres;
use cast::time::{Stopwatch, comes_true, pause};
use cast::wire::Address;

use super::record::{Record, causes, longest_gap};
use crate::rounds::Stop;
use crate::session::Session;

/// How many connections the application has.
pub(crate) const PEERS: u16 = 8;

/// How long each rests between an answer and its next question.
pub(crate) const PACE: Duration = Duration::from_millis(5);

/// How long the application rests after an error, and how long it waits for an answer: what pools of connections do.
const REST: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the prober waits for an answer; then it tries anew, so that it sees the end of an outage.
const PROBE: Duration = Duration::from_millis(100);

/// How long all goes well before the outage, and after everybody is served again.
const STEADY: Duration = Duration::from_secs(1);

/// After this everybody has to be served again.
const LIMIT: Duration = Duration::from_mins(1);

/// Fails on a server that takes no writes, as libpq's `target_session_attrs=read-write` does.
const WRITABLE: &str = "select 1 / (not pg_is_in_recovery())::int";

/// One who asks.
struct Caller<'a> {
    number: u16,
    /// Where: of several addresses the first that takes writes.
    addresses: &'a [Address],
    patience: Duration,
    rest: Duration,
}

/// What was seen from before the outage until everybody was served again.
pub(super) struct Sight {
    peers: Vec<Record>,
    prober: Record,
    window: Range<Duration>,
}

/// Ends all callers, however we leave.
struct Over<'a>(&'a AtomicBool);

/// Makes the table that the callers write to.
pub(super) fn prepare(postgres: &Postgres) {
    postgres.query("create table steady (caller int primary key, turns bigint not null) with (fillfactor = 50)");
    postgres.query(&format!("insert into steady select number, 0 from generate_series(0, {PEERS}) number"));
}

/// Asks at these addresses, and probes the databases, while something happens.
pub(super) fn watch(asked: &[Address], databases: &[Address], stop: &Stop, fault: impl FnOnce()) -> Result<Sight> {
    let peer = |number| Caller { number, addresses: asked, patience: PATIENCE, rest: REST };
    let prober = Caller { number: PEERS, addresses: databases, patience: PROBE, rest: PACE };
    let callers: Vec<_> = (0..PEERS).map(peer).chain([prober]).collect();
    let records: Vec<_> = callers.iter().map(|_| Mutex::new(Record::default())).collect();
    let (clock, over) = (Stopwatch::start(), AtomicBool::new(false));
    let served = |since: Duration| {
        let all = || records.iter().all(|record| locked(record).answered_since(since));
        let within = comes_true(LIMIT, || stop.is_wanted() || all());
        ensure!(within, "not everybody was served within {LIMIT:?}: {}", last_words(&records));
        pause(STEADY);
        Ok(clock.elapsed())
    };
    let window = thread::scope(|scope| {
        let _end = Over(&over);
        for (caller, record) in callers.iter().zip(&records) {
            let over = &over;
            scope.spawn(move || caller.ask_until(over, clock, record));
        }
        let start = served(Duration::ZERO).context("before the outage")?;
        fault();
        Ok::<_, anyhow::Error>(start..served(clock.elapsed())?)
    })?;
    let mut peers: Vec<_> = records.into_iter().map(|record| record.into_inner().unwrap_or_default()).collect();
    let prober = peers.pop().context("there is a prober")?;
    Ok(Sight { peers, prober, window })
}

/// What each caller was told last, if that was an error.
fn last_words(records: &[Mutex<Record>]) -> String {
    let words: Vec<_> = records.iter().filter_map(|record| locked(record).last_error()).collect();
    words.join(", ")
}

fn locked(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().expect("no caller panics while it writes down what it saw")
}

// === impl Caller ===

impl Caller<'_> {
    fn ask_until(&self, over: &AtomicBool, clock: Stopwatch, record: &Mutex<Record>) {
        let mut session = None;
        while !over.load(Ordering::Relaxed) {
            let answer = self.ask(&mut session);
            let rest = if answer.is_ok() { PACE } else { self.rest };
            locked(record).note(clock.elapsed(), answer);
            pause(rest);
        }
        session.into_iter().for_each(Session::close);
    }

    /// Asks once, on a new session where there is none; one that has failed is left.
    fn ask(&self, session: &mut Option<Session>) -> Result<()> {
        let mut open = match session.take() {
            Some(open) => open,
            None => self.connect()?,
        };
        open.query(&format!("update steady set turns = turns + 1 where caller = {}", self.number))?;
        *session = Some(open);
        Ok(())
    }

    fn connect(&self) -> Result<Session> {
        let mut reason = anyhow!("there is no address");
        for address in self.addresses {
            let opened = Session::open_within(address, 1024, self.patience).and_then(|mut session| {
                if self.addresses.len() > 1 {
                    session.query(WRITABLE)?;
                }
                Ok(session)
            });
            match opened {
                Ok(session) => return Ok(session),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }
}

// === impl Sight ===

impl Sight {
    /// How long the database was away, as the prober saw it.
    pub(super) fn away(&self) -> Duration {
        longest_gap(self.prober.answers().to_vec(), &self.window)
    }

    /// The longest time without an answer to anybody.
    pub(super) fn gap(&self) -> Duration {
        longest_gap(self.peers.iter().flat_map(Record::answers).copied().collect(), &self.window)
    }

    /// The longest time without an answer to one of the peers.
    pub(super) fn worst(&self) -> Duration {
        let gaps = self.peers.iter().map(|peer| longest_gap(peer.answers().to_vec(), &self.window));
        gaps.max().unwrap_or_default()
    }

    /// What the application was told, and how often.
    pub(super) fn causes(&self) -> BTreeMap<String, u32> {
        causes(self.peers.iter().flat_map(|peer| peer.errors(&self.window)))
    }
}

// === impl Over ===

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
