//! What a plugin is offered: the bytes that it is asked about, a line in the log, counters, a clock. And what of the
//! machine it may take.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, IntCounter};
use thiserror::Error;
use tracing::{debug, error, info, warn};
use wasmtime::ResourceLimiter;
use wasmtime::component::Resource;

use super::wit::postern::plugin::host::{Host, Level};
use super::wit::postern::plugin::types::{HostChunk, HostRow};
use crate::clock::Instant;
use crate::metrics::PluginMetrics;

/// What belongs to one instance, beside its own memory.
pub(super) struct State {
    pub(super) lent: Lent,
    pub(super) allowance: Allowance,
    /// Until when the present call may go on; nothing while it has not been looked at.
    pub(super) deadline: Option<Duration>,
    voice: Arc<Voice>,
    session: u64,
    began: Instant,
}

/// What the present call may read.
#[derive(Default)]
pub(super) struct Lent {
    pub(super) bytes: Vec<u8>,
    /// Where the values of a row are among them.
    pub(super) values: Vec<Option<Range<usize>>>,
}

/// What [`Chunk`]'s handle stands for: the bytes that are lent.
#[expect(unreachable_pub, reason = "what wasmtime makes of the interface names it again")]
pub struct Chunk;

/// What [`Row`]'s handle stands for: the values that are lent.
#[expect(unreachable_pub, reason = "what wasmtime makes of the interface names it again")]
pub struct Row;

/// How much memory an instance may have.
pub(super) struct Allowance {
    most: usize,
    taken: usize,
}

/// Memory that an instance may not have.
#[derive(Debug, Error)]
#[error("it wants more memory than limits.memory allows")]
pub(super) struct TooMuchMemory;

/// How all instances of one plugin make themselves heard.
pub(super) struct Voice {
    name: Arc<str>,
    metrics: PluginMetrics,
    heard: Mutex<Heard>,
}

/// What was heard of a plugin.
struct Heard {
    counters: HashMap<String, IntCounter>,
    histograms: HashMap<String, Histogram>,
    /// When the present second began, and how many lines it has.
    second: Instant,
    lines: u32,
    unheard: u64,
}

/// Elements of all tables of one instance: as many functions can be called by pointer.
const MOST_ELEMENTS: usize = 100_000;
/// Core instances of one component: its own, and those that toolchains put around it.
const MOST_INSTANCES: usize = 32;
/// Names of counters and histograms of one plugin, each.
const MOST_NAMES: usize = 32;
/// Characters of such a name.
const MOST_LETTERS: usize = 64;
/// Lines in the log in a second, of one plugin.
const MOST_LINES: u32 = 50;
/// Bytes of a line.
const MOST_BYTES: usize = 2048;

// === impl State ===

impl State {
    pub(super) fn new(voice: Arc<Voice>, memory: usize, session: u64) -> State {
        let (lent, allowance) = (Lent::default(), Allowance { most: memory, taken: 0 });
        State { lent, allowance, deadline: None, voice, session, began: Instant::now() }
    }
}

impl super::wit::postern::plugin::types::Host for State {}

impl HostChunk for State {
    fn length(&mut self, _: Resource<Chunk>) -> wasmtime::Result<u32> {
        Ok(u32::try_from(self.lent.bytes.len()).unwrap_or(u32::MAX))
    }

    fn read(&mut self, _: Resource<Chunk>, offset: u32, length: u32) -> wasmtime::Result<Vec<u8>> {
        let from = self.lent.bytes.len().min(offset as usize);
        let rest = &self.lent.bytes[from..];
        Ok(rest[..rest.len().min(length as usize)].to_vec())
    }

    fn drop(&mut self, _: Resource<Chunk>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl HostRow for State {
    fn value(&mut self, _: Resource<Row>, column: u32) -> wasmtime::Result<Option<Vec<u8>>> {
        let place = self.lent.values.get(column as usize).cloned().flatten();
        Ok(place.and_then(|place| self.lent.bytes.get(place)).map(<[u8]>::to_vec))
    }

    fn drop(&mut self, _: Resource<Row>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl Host for State {
    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.voice.say(level, &message, self.session);
        Ok(())
    }

    fn counter(&mut self, name: String, increment: u64) -> wasmtime::Result<()> {
        self.voice.count(&name, increment);
        Ok(())
    }

    fn histogram(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.voice.observe(&name, value);
        Ok(())
    }

    fn monotonic_clock(&mut self) -> wasmtime::Result<u64> {
        Ok(nanos(self.began.elapsed()))
    }

    fn wall_clock(&mut self) -> wasmtime::Result<u64> {
        Ok(nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

// === impl Allowance ===

impl ResourceLimiter for Allowance {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let taken = self.taken.saturating_sub(current).saturating_add(desired);
        if taken > self.most {
            return Err(wasmtime::Error::new(TooMuchMemory));
        }
        self.taken = taken;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > MOST_ELEMENTS {
            return Err(wasmtime::Error::new(TooMuchMemory));
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        MOST_INSTANCES
    }

    fn tables(&self) -> usize {
        MOST_INSTANCES
    }

    fn memories(&self) -> usize {
        MOST_INSTANCES
    }
}

// === impl Voice ===

impl Voice {
    pub(super) fn new(name: Arc<str>, metrics: PluginMetrics) -> Voice {
        let (counters, histograms) = (HashMap::new(), HashMap::new());
        let heard = Heard { counters, histograms, second: Instant::now(), lines: 0, unheard: 0 };
        Voice { name, metrics, heard: Mutex::new(heard) }
    }

    fn say(&self, level: Level, message: &str, session: u64) {
        let Some(more) = self.may_say() else { return };
        let end = (0..=MOST_BYTES.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
        let message = &message[..end.unwrap_or(0)];
        let plugin = &*self.name;
        match level {
            Level::Error => error!(plugin, session, more, "A plugin says: {message}"),
            Level::Warn => warn!(plugin, session, more, "A plugin says: {message}"),
            Level::Info => info!(plugin, session, more, "A plugin says: {message}"),
            Level::Debug => debug!(plugin, session, more, "A plugin says: {message}"),
        }
    }

    /// Whether this second has room for another line, and how many were left out before it.
    fn may_say(&self) -> Option<u64> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now - heard.second >= Duration::from_secs(1) {
            (heard.second, heard.lines) = (now, 0);
        }
        if heard.lines >= MOST_LINES {
            heard.unheard += 1;
            return None;
        }
        heard.lines += 1;
        Some(std::mem::take(&mut heard.unheard))
    }

    fn count(&self, name: &str, increment: u64) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let new = |name: &str| self.metrics.counter(name);
        if let Some(counter) = named(&mut heard.counters, name, new) {
            counter.inc_by(increment);
        }
    }

    fn observe(&self, name: &str, value: f64) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let new = |name: &str| self.metrics.histogram(name);
        if let Some(histogram) = named(&mut heard.histograms, name, new) {
            histogram.observe(value);
        }
    }
}

/// The metric of this name, unless it is no name, or one too many.
fn named<'a, T>(known: &'a mut HashMap<String, T>, name: &str, new: impl FnOnce(&str) -> T) -> Option<&'a T> {
    if !known.contains_key(name) {
        let is_name = (1..=MOST_LETTERS).contains(&name.len()) && !name.contains(char::is_control);
        if !is_name || known.len() >= MOST_NAMES {
            return None;
        }
        known.insert(name.to_owned(), new(name));
    }
    known.get(name)
}
