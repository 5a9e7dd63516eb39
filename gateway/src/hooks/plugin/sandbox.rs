//! Where plugins run: one engine for the process, made for the first plugin and gone with the last. What a plugin may
//! import is what [`offer`](super::offer) has, and nothing else.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, EngineWeak, OptLevel};

use super::offer::State;
use super::wit::{Plugin as World, PluginPre};

/// The engine, and the clock of its calls.
pub(super) struct Sandbox {
    engine: Engine,
    linker: Linker<State>,
    clock: Arc<Clock>,
    ticking: thread::Thread,
}

/// Whether somebody needs the clock.
#[derive(Default)]
struct Clock {
    /// A call has begun since the last tick.
    is_needed: AtomicBool,
    is_resting: AtomicBool,
}

/// The clock's unit: a call is stopped at most this much later than its limit says.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// The clock rests when no call has begun for so many ticks; no call lasts so long.
const RESTS_AFTER: u32 = 10_000;
/// How often a resting clock looks whether its engine is gone.
const REST: Duration = Duration::from_secs(1);
/// The interfaces that a plugin may import begin with this.
const OURS: &str = "postern:plugin/";
/// Of the stack of a thread, which has 2 MiB, or 8.
const MOST_STACK: usize = 512 * 1024;

// === impl Sandbox ===

impl Sandbox {
    pub(super) fn new() -> Result<Sandbox, String> {
        let mut config = Config::new();
        config
            .consume_fuel(true)
            .epoch_interruption(true)
            .max_wasm_stack(MOST_STACK)
            .cranelift_opt_level(OptLevel::Speed)
            .concurrency_support(false)
            .native_unwind_info(false)
            .wasm_backtrace_max_frames(None)
            .wasm_memory64(false)
            .wasm_multi_memory(false)
            .wasm_relaxed_simd(false);
        let engine = Engine::new(&config).map_err(|error| format!("no plugin can run here: {error:#}"))?;
        let mut linker = Linker::new(&engine);
        World::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)
            .map_err(|error| format!("no plugin can run here: {error:#}"))?;
        let clock = Arc::new(Clock::default());
        let (weak, engine_to_tick) = (Arc::downgrade(&clock), engine.weak());
        let ticking = thread::Builder::new()
            .name("plugin-clock".to_owned())
            .spawn(move || tick(&weak, &engine_to_tick))
            .map_err(|error| format!("no thread for the clock of plugins: {error}"))?;
        Ok(Sandbox { engine, linker, clock, ticking: ticking.thread().clone() })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Makes machine code of a component, which takes its time.
    ///
    /// # Errors
    /// A sentence: it is no component, or one that wants what it cannot have, or lacks what it must have.
    pub(super) fn compile(&self, code: &[u8]) -> Result<PluginPre<State>, String> {
        if is_core_module(code) {
            return Err("it is a core module of WebAssembly and not a component".to_owned());
        }
        let component = Component::new(&self.engine, code).map_err(|error| format!("{error:#}"))?;
        let foreign: Vec<_> = component
            .component_type()
            .imports(&self.engine)
            .map(|(name, _)| name.to_owned())
            .filter(|name| !name.starts_with(OURS))
            .collect();
        if !foreign.is_empty() {
            let foreign = foreign.join(", ");
            return Err(format!("it imports {foreign}, and a plugin is offered {OURS}host and nothing else"));
        }
        let instance = self.linker.instantiate_pre(&component).map_err(|error| format!("{error:#}"))?;
        PluginPre::new(instance).map_err(|error| format!("{error:#}"))
    }

    /// A call begins, which the clock may have to end.
    #[inline]
    pub(super) fn watch(&self) {
        self.clock.is_needed.store(true, SeqCst);
        if self.clock.is_resting.load(SeqCst) {
            self.ticking.unpark();
        }
    }
}

/// Whether these are the first bytes of a module, which a component has otherwise.
fn is_core_module(code: &[u8]) -> bool {
    code.starts_with(b"\0asm\x01\0\0\0")
}

/// Has the engine notice that time passes, for as long as somebody runs in it.
fn tick(clock: &Weak<Clock>, engine: &EngineWeak) {
    let mut idle = 0;
    loop {
        thread::park_timeout(TICK);
        let (Some(clock), Some(engine)) = (clock.upgrade(), engine.upgrade()) else { return };
        engine.increment_epoch();
        idle = if clock.is_needed.swap(false, SeqCst) { 0 } else { idle + 1 };
        if idle < RESTS_AFTER {
            continue;
        }
        clock.is_resting.store(true, SeqCst);
        // Whoever begins a call from here on sees that it rests, and wakes it.
        while !clock.is_needed.load(SeqCst) && Arc::strong_count(&clock) > 1 {
            thread::park_timeout(REST);
        }
        clock.is_resting.store(false, SeqCst);
        idle = 0;
    }
}
