//! Waiting for a moment. A thread that serves peers has one timer of the kernel, which is set anew only for an alarm that
//! is nearer than all others.
//!
//! The runtime's own timers would cost each of its rests two looks at the clock and two locks, a quarter of what a minimal
//! relay spends in user mode, and arm a timer of the kernel for each. So the runtimes of workers have none; a thread that
//! has not called [`start`] waits by those of its runtime, whose time tests can simulate.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;
pub use tokio::time::Instant;
use tracing::error;

/// The alarms of this thread, for as long as it lives.
#[must_use = "without it nobody rings"]
pub struct Ringing(AbortHandle);

/// A wait until a moment; it ends at most a millisecond late, and never early. Dropping it leaves nothing behind.
pub struct Sleep {
    deadline: Instant,
    is_over: bool,
    way: Way,
}

/// The time was over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

enum Way {
    /// By an alarm of this thread, once it was waited for.
    Alarm(Arc<Clock>, Option<Key>),
    /// By the runtime's own timers.
    Runtime(Pin<Box<tokio::time::Sleep>>),
}

struct Clock {
    began: Instant,
    timer: AsyncFd<OwnedFd>,
    alarms: Mutex<Alarms>,
}

/// Who is to be woken, the next one first.
#[derive(Default)]
struct Alarms {
    pending: BTreeMap<Key, Waker>,
    /// Tells two of one moment apart.
    next: u64,
    /// For when the timer is set.
    set: Option<u64>,
}

/// The millisecond since the clock began, rounded up, and which of that.
type Key = (u64, u64);

/// The moment of whoever waits for longer than anybody can.
const NEVER: Duration = Duration::from_hours(30 * 365 * 24);

thread_local! {
    static CLOCK: RefCell<Option<Arc<Clock>>> = const { RefCell::new(None) };
}

/// Gives this thread, which runs a runtime for its own tasks, alarms of its own.
///
/// # Errors
/// The system's, when it has no timer for us.
///
/// # Panics
/// Outside such a runtime.
pub fn start() -> io::Result<Ringing> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    #[expect(deprecated, reason = "what replaces it is unsafe; an OwnedFd is always a descriptor of its own")]
    let timer = AsyncFd::new(timer)?;
    let clock = Arc::new(Clock { began: Instant::now(), timer, alarms: Mutex::default() });
    CLOCK.set(Some(clock.clone()));
    Ok(Ringing(tokio::task::spawn_local(ring(clock)).abort_handle()))
}

/// Waits for `time`.
pub fn sleep(time: Duration) -> Sleep {
    let now = Instant::now();
    sleep_until(now.checked_add(time).unwrap_or(now + NEVER))
}

/// Waits until `deadline`.
pub fn sleep_until(deadline: Instant) -> Sleep {
    let way = CLOCK.with_borrow(|clock| match clock {
        Some(clock) => Way::Alarm(clock.clone(), None),
        None => Way::Runtime(Box::pin(tokio::time::sleep_until(deadline))),
    });
    Sleep { deadline, is_over: false, way }
}

/// What comes of `future`, if that is within `limit`.
///
/// # Errors
/// It is not; the future is dropped.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut sleep) = (pin!(future), sleep(limit));
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => Pin::new(&mut sleep).poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}

/// Wakes whoever waited for long enough, for as long as it is polled.
async fn ring(clock: Arc<Clock>) {
    loop {
        // It fails only where the runtime ends.
        let Ok(mut ready) = clock.timer.readable().await else { return };
        ready.clear_ready();
        drop(ready);
        // How often it has rung does not matter, and what is not read stays readable.
        let _ = rustix::io::read(&clock.timer, &mut [0; 8]);
        clock.wake_all_due();
    }
}

// === impl Clock ===

impl Clock {
    fn alarms(&self) -> MutexGuard<'_, Alarms> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_all_due(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = {
            let mut alarms = self.alarms();
            let later = alarms.pending.split_off(&(now.saturating_add(1), 0));
            let due = std::mem::replace(&mut alarms.pending, later);
            alarms.set = None;
            self.set_for_the_next(&mut alarms);
            due
        };
        due.into_values().for_each(Waker::wake);
    }

    /// An alarm for `deadline`.
    fn add(&self, deadline: Instant, waker: Waker) -> Key {
        let time = deadline.saturating_duration_since(self.began);
        let at = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let mut alarms = self.alarms();
        let key = (at, alarms.next);
        alarms.next += 1;
        alarms.pending.insert(key, waker);
        self.set_for_the_next(&mut alarms);
        key
    }

    /// Whether the alarm has rung; if not, it is for `waker` from now on.
    fn has_rung(&self, key: Key, waker: &Waker) -> bool {
        let mut alarms = self.alarms();
        let Some(known) = alarms.pending.get_mut(&key) else { return true };
        if !known.will_wake(waker) {
            let old = std::mem::replace(known, waker.clone());
            drop(alarms);
            drop(old);
        }
        false
    }

    /// Has the kernel wake us for the nearest alarm, unless it does so already.
    fn set_for_the_next(&self, alarms: &mut Alarms) {
        let Some((&(at, _), _)) = alarms.pending.first_key_value() else { return };
        if alarms.set.is_some_and(|set| set <= at) {
            return;
        }
        alarms.set = Some(at);
        let rest = Duration::from_millis(at).saturating_sub(self.began.elapsed());
        // Zero would stop it.
        let rest = rest.max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: rest.as_secs().cast_signed(), tv_nsec: rest.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        if let Err(error) = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once) {
            error!(%error, "The kernel sets no timer; limits of time are late");
            alarms.set = None;
        }
    }
}

// === impl Ringing ===

impl Drop for Ringing {
    fn drop(&mut self) {
        self.0.abort();
        CLOCK.set(None);
    }
}

// === impl Sleep ===

impl Sleep {
    /// Until when it lasts.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether somebody has waited for it and it is over.
    pub fn is_elapsed(&self) -> bool {
        self.is_over
    }

    /// Lasts until `deadline` instead, whether it was over or not.
    pub fn reset(&mut self, deadline: Instant) {
        self.forget();
        (self.deadline, self.is_over) = (deadline, false);
        if let Way::Runtime(sleep) = &mut self.way {
            sleep.as_mut().reset(deadline);
        }
    }

    fn forget(&mut self) {
        if let Way::Alarm(clock, key) = &mut self.way
            && let Some(key) = key.take()
        {
            let waker = clock.alarms().pending.remove(&key);
            // What it wakes may be gone with it, and have alarms too.
            drop(waker);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.get_mut();
        if sleep.is_over {
            return Poll::Ready(());
        }
        let is_over = match &mut sleep.way {
            Way::Runtime(sleep) => sleep.as_mut().poll(cx).is_ready(),
            Way::Alarm(clock, Some(key)) => clock.has_rung(*key, cx.waker()),
            Way::Alarm(..) if Instant::now() >= sleep.deadline => true,
            Way::Alarm(clock, key) => {
                *key = Some(clock.add(sleep.deadline, cx.waker().clone()));
                false
            }
        };
        sleep.is_over = is_over;
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests;
