//! One session's instance of a plugin: its memory, and the calls into it, each within the limits.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;
use wasmtime::{Store, StoreContextMut, Trap, UpdateDeadline};

use super::offer::{State, TooMuchMemory};
use super::sandbox::TICK;
use super::wit::Plugin as World;
use super::wit::exports::postern::plugin::hooks::Guest;
use super::wit::postern::plugin::types::Interests;
use super::{Blueprint, Plugin};
use crate::clock::Instant;
use crate::hooks::Failure;

/// An instance, made when it is first called.
pub(super) struct Instance {
    plugin: Arc<Plugin>,
    session: u64,
    life: Life,
}

enum Life {
    Unborn,
    Alive(Box<Alive>),
    /// A call has failed: there is no telling what it left behind.
    Dead,
}

/// What runs.
pub(super) struct Alive {
    store: Store<State>,
    world: World,
}

/// What can be called of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Configure,
    OnOpening,
    OnOpened,
    OnTraffic,
    OnClosing,
    OnClosed,
    FromClient,
    ToServer,
    FromServer,
    ToClient,
    Startup,
    Query,
    Parse,
    Error,
    OnColumns,
    OnRow,
}

/// How a call ended that was none.
#[derive(Debug)]
pub(super) struct Stopped {
    /// The metric's word.
    pub(super) reason: &'static str,
    /// What happened.
    pub(super) sentence: String,
}

#[derive(Debug, Error)]
#[error("it took longer than limits.time allows")]
struct TooMuchTime;

/// Bytes that a plugin may hand over in one call.
const MOST_SAID: usize = 4 * 1024 * 1024;
/// Of so many calls the time of one is measured: looking at the clock takes as long as a short call.
const MEASURED: u32 = 16;

thread_local! {
    /// What is lent to a call, in its turn.
    static LENT: Cell<(Vec<u8>, u32)> = const { Cell::new((Vec::new(), 0)) };
}

// === impl Instance ===

impl Instance {
    pub(super) fn new(plugin: Arc<Plugin>, session: u64) -> Instance {
        Instance { plugin, session, life: Life::Unborn }
    }

    pub(super) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Calls `function` as `ask` says.
    ///
    /// # Errors
    /// It was stopped, now or before; it is not called again.
    pub(super) fn call<T>(
        &mut self,
        function: Function,
        ask: impl FnOnce(&mut Store<State>, &Guest) -> wasmtime::Result<T>,
    ) -> Result<T, Failure> {
        let Life::Alive(alive) = &mut self.life else {
            self.begin(function)?;
            return self.call(function, ask);
        };
        let calls = self.plugin.calls(function);
        let seconds = calls.filter(|_| is_measured()).map(|calls| (&calls.seconds, Instant::now()));
        let answer = alive.call(&self.plugin.blueprint, ask);
        if let Some((seconds, began)) = seconds {
            seconds.observe(began.elapsed().as_secs_f64());
        }
        answer.map_err(|stopped| {
            self.life = Life::Dead;
            self.plugin.failed(function, stopped)
        })
    }

    /// The same, where the plugin may read these bytes, of which those are values of a row.
    pub(super) fn call_about<T>(
        &mut self,
        function: Function,
        (bytes, values): (&[u8], &[Option<Range<usize>>]),
        ask: impl FnOnce(&mut Store<State>, &Guest) -> wasmtime::Result<T>,
    ) -> Result<T, Failure> {
        self.call(function, |store, guest| {
            let (mut buffer, measured) = LENT.take();
            buffer.clear();
            buffer.extend_from_slice(bytes);
            let lent = &mut store.data_mut().lent;
            lent.bytes = buffer;
            lent.values.clear();
            lent.values.extend_from_slice(values);
            let answer = ask(store, guest);
            LENT.set((std::mem::take(&mut store.data_mut().lent.bytes), measured));
            answer
        })
    }

    /// Ends it, because of what it has answered.
    pub(super) fn stop(&mut self, function: Function, stopped: Stopped) -> Failure {
        self.life = Life::Dead;
        self.plugin.failed(function, stopped)
    }

    /// It cannot be asked about something, which is not its fault.
    pub(super) fn miss(&self, function: Function, stopped: Stopped) -> Failure {
        self.plugin.failed(function, stopped)
    }

    /// Makes the instance, and gives it its configuration.
    fn begin(&mut self, function: Function) -> Result<(), Failure> {
        if let Life::Dead = self.life {
            return Err(self.plugin.is_dead(function));
        }
        let begun = Alive::new(&self.plugin.blueprint, self.session);
        let begun = begun
            .and_then(|(alive, interests)| interests.map(|_| alive).map_err(|sentence| Stopped::refused(&sentence)));
        match begun {
            Ok(alive) => self.life = Life::Alive(Box::new(alive)),
            Err(stopped) => {
                self.life = Life::Dead;
                return Err(self.plugin.failed(Function::Configure, stopped));
            }
        }
        Ok(())
    }
}

/// Whether it is the turn of this call to be measured.
fn is_measured() -> bool {
    let (buffer, calls) = LENT.take();
    LENT.set((buffer, calls.wrapping_add(1)));
    calls.is_multiple_of(MEASURED)
}

// === impl Alive ===

impl Alive {
    /// A new instance, and what it says to its configuration.
    pub(super) fn new(blueprint: &Blueprint, session: u64) -> Result<(Alive, Result<Interests, String>), Stopped> {
        let limits = &blueprint.limits;
        let state = State::new(blueprint.voice.clone(), limits.memory, session);
        let mut store = Store::new(blueprint.sandbox.engine(), state);
        store.limiter(|state| &mut state.allowance);
        store.set_hostcall_fuel(MOST_SAID);
        let time = limits.time;
        store.epoch_deadline_callback(move |context| look_at_the_clock(context, time));
        blueprint.arm(&mut store).map_err(|error| Stopped::by(&error))?;
        let world = blueprint.code.instantiate(&mut store).map_err(|error| Stopped::by(&error))?;
        let mut alive = Alive { store, world };
        let answer = alive.call(blueprint, |store, guest| guest.call_configure(store, &blueprint.config))?;
        Ok((alive, answer))
    }

    fn call<T>(
        &mut self,
        blueprint: &Blueprint,
        ask: impl FnOnce(&mut Store<State>, &Guest) -> wasmtime::Result<T>,
    ) -> Result<T, Stopped> {
        let Alive { store, world } = self;
        let answer = blueprint.arm(store).and_then(|()| ask(store, world.postern_plugin_hooks()));
        answer.map_err(|error| Stopped::by(&error))
    }
}

impl Blueprint {
    /// Gives the next call what it may take.
    fn arm(&self, store: &mut Store<State>) -> wasmtime::Result<()> {
        store.set_fuel(self.limits.fuel)?;
        store.set_epoch_deadline(1);
        store.data_mut().deadline = None;
        self.sandbox.watch();
        Ok(())
    }
}

/// Called at each tick while a plugin runs. What counts is the time of this thread: one that the machine keeps waiting
/// is not the plugin's fault.
fn look_at_the_clock(mut context: StoreContextMut<'_, State>, limit: Duration) -> wasmtime::Result<UpdateDeadline> {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let now = Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or_default());
    let deadline = *context.data_mut().deadline.get_or_insert(now + limit.saturating_sub(TICK));
    if now >= deadline {
        return Err(wasmtime::Error::new(TooMuchTime));
    }
    Ok(UpdateDeadline::Continue(1))
}

// === impl Stopped ===

impl Stopped {
    /// What an error of the engine means.
    pub(super) fn by(error: &wasmtime::Error) -> Stopped {
        let (reason, sentence) = if let Some(error) = error.downcast_ref::<TooMuchMemory>() {
            ("memory", error.to_string())
        } else if let Some(error) = error.downcast_ref::<TooMuchTime>() {
            ("time", error.to_string())
        } else {
            match error.downcast_ref::<Trap>() {
                Some(Trap::OutOfFuel) => ("fuel", "it took more instructions than limits.fuel allows".to_owned()),
                Some(Trap::StackOverflow) => ("stack", "it called itself too deeply".to_owned()),
                Some(trap) => ("trap", format!("it trapped: {trap}")),
                None => ("trap", format!("it was stopped: {error:#}")),
            }
        };
        Stopped { reason, sentence }
    }

    /// It took its configuration when it was loaded, and does not now.
    fn refused(sentence: &str) -> Stopped {
        Stopped { reason: "refused", sentence: format!("it refuses its configuration: {sentence}") }
    }
}

// === impl Function ===

impl Function {
    /// All of them.
    pub(super) const ALL: [Function; 16] = [
        Function::Configure,
        Function::OnOpening,
        Function::OnOpened,
        Function::OnTraffic,
        Function::OnClosing,
        Function::OnClosed,
        Function::FromClient,
        Function::ToServer,
        Function::FromServer,
        Function::ToClient,
        Function::Startup,
        Function::Query,
        Function::Parse,
        Function::Error,
        Function::OnColumns,
        Function::OnRow,
    ];

    /// As the interface calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Function::Configure => "configure",
            Function::OnOpening => "on-opening",
            Function::OnOpened => "on-opened",
            Function::OnTraffic => "on-traffic",
            Function::OnClosing => "on-closing",
            Function::OnClosed => "on-closed",
            Function::FromClient => "from-client",
            Function::ToServer => "to-server",
            Function::FromServer => "from-server",
            Function::ToClient => "to-client",
            Function::Startup => "startup",
            Function::Query => "query",
            Function::Parse => "parse",
            Function::Error => "error",
            Function::OnColumns => "on-columns",
            Function::OnRow => "on-row",
        }
    }

    /// What a plugin must have asked for to be called with it.
    pub(super) fn interest(self) -> Interests {
        match self {
            Function::Configure => Interests::default(),
            Function::OnOpening => Interests::ON_OPENING,
            Function::OnOpened => Interests::ON_OPENED,
            Function::OnTraffic => Interests::ON_TRAFFIC,
            Function::OnClosing => Interests::ON_CLOSING,
            Function::OnClosed => Interests::ON_CLOSED,
            Function::FromClient => Interests::FROM_CLIENT,
            Function::ToServer => Interests::TO_SERVER,
            Function::FromServer => Interests::FROM_SERVER,
            Function::ToClient => Interests::TO_CLIENT,
            Function::Startup => Interests::STARTUP,
            Function::Query => Interests::QUERY,
            Function::Parse => Interests::PARSE,
            Function::Error => Interests::ERROR,
            Function::OnColumns | Function::OnRow => Interests::ROWS,
        }
    }
}
