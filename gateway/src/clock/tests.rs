use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use tokio::task::spawn_local;

use super::*;
use crate::worker::run_here;

fn on_our_clock<T>(test: impl AsyncFnOnce() -> T) -> T {
    run_here(test).expect("a runtime")
}

/// How many alarms of this thread have yet to ring.
fn pending() -> usize {
    CLOCK.with_borrow(|clock| clock.as_ref().expect("this thread has a clock").alarms().pending.len())
}

/// Waits until whoever was spawned waits, too.
async fn until_pending(count: usize) {
    while pending() != count {
        tokio::task::yield_now().await;
    }
}

#[test]
fn whoever_waits_is_woken_in_order_and_never_early() {
    on_our_clock(async || {
        let begin = Instant::now();
        let last = Rc::new(Cell::new(0));
        let waiting: Vec<_> = (0..200)
            .map(|number| {
                let (millis, last) = ((number * 37) % 100, last.clone());
                spawn_local(async move {
                    sleep_until(begin + Duration::from_millis(millis)).await;
                    let after = begin.elapsed();
                    assert!(after >= Duration::from_millis(millis), "{after:?} instead of {millis} ms");
                    (last.replace(millis), millis, after)
                })
            })
            .collect();
        for waited in waiting {
            let (before, millis, after) = waited.await.expect("no panic");
            // Those whose time was over when they were first asked have not waited.
            assert!(before <= millis || after < Duration::from_millis(before + 1), "{before} rang before {millis}");
        }
        assert_eq!(pending(), 0);
    });
}

#[test]
fn a_nearer_alarm_rings_although_a_later_one_was_set_before() {
    on_our_clock(async || {
        let mut long = Box::pin(sleep(Duration::from_hours(1)));
        tokio::select! {
            biased;
            () = &mut long => panic!("an hour is over"),
            () = sleep(Duration::from_millis(5)) => {}
        }
        assert_eq!(pending(), 1);
        drop(long);
        assert_eq!(pending(), 0);
        // The kernel's timer is still set for it, or for nothing: the next one rings all the same.
        sleep(Duration::from_millis(5)).await;
    });
}

#[test]
fn what_is_in_time_leaves_no_alarm_and_what_is_not_is_given_up() {
    on_our_clock(async || {
        assert_eq!(timeout(Duration::from_hours(1), std::future::ready(7)).await, Ok(7));
        let in_time = timeout(Duration::from_hours(1), sleep(Duration::from_millis(1)));
        assert_eq!(in_time.await, Ok(()));
        assert_eq!(pending(), 0);
        assert_eq!(timeout(Duration::from_millis(1), std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(timeout(Duration::ZERO, std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(pending(), 0);
    });
}

#[test]
fn a_wait_may_begin_again_earlier_or_later() {
    on_our_clock(async || {
        let mut wait = Box::pin(sleep(Duration::from_hours(1)));
        assert_eq!(timeout(Duration::from_millis(1), &mut wait).await, Err(Elapsed));
        let soon = Instant::now() + Duration::from_millis(2);
        wait.reset(soon);
        assert_eq!((wait.deadline(), wait.is_elapsed()), (soon, false));
        (&mut wait).await;
        assert!(wait.is_elapsed() && Instant::now() >= soon);
        wait.reset(Instant::now() + Duration::from_hours(1));
        assert_eq!(timeout(Duration::from_millis(1), &mut wait).await, Err(Elapsed));
        assert_eq!(pending(), 1);
    });
}

#[test]
fn no_time_is_too_long() {
    on_our_clock(async || {
        assert_eq!(timeout(Duration::from_millis(1), sleep(Duration::MAX)).await, Err(Elapsed));
        assert_eq!(timeout(Duration::MAX, std::future::ready(())).await, Ok(()));
    });
}

#[test]
fn a_task_that_goes_on_waiting_elsewhere_is_the_one_that_is_woken() {
    on_our_clock(async || {
        let mut wait = Box::pin(sleep(Duration::from_millis(20)));
        assert_eq!(timeout(Duration::from_millis(1), &mut wait).await, Err(Elapsed));
        let other = spawn_local(wait);
        until_pending(1).await;
        other.await.expect("it is woken");
    });
}

#[test]
fn a_thread_without_alarms_waits_by_its_runtime_whose_time_may_be_simulated() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let begin = Instant::now();
        let mut wait = sleep(Duration::from_hours(1));
        (&mut wait).await;
        assert_eq!(begin.elapsed().as_secs(), 3600);
        wait.reset(begin + Duration::from_hours(3));
        assert_eq!(timeout(Duration::from_hours(1), &mut wait).await, Err(Elapsed));
        wait.await;
        assert_eq!(begin.elapsed().as_secs(), 3 * 3600);
    });
}

/// Those who name the runtime's own waits, among the sources in `folder`.
fn waiting_by_the_runtime(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the sources are here") {
        let path = entry.expect("an entry").path();
        let is_test = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        if path.is_dir() {
            waiting_by_the_runtime(&path, found);
        } else if !is_test && !path.ends_with("clock.rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            if code.contains("tokio::time") {
                found.push(path.display().to_string());
            }
        }
    }
}

#[test]
fn nobody_waits_by_timers_that_the_runtimes_of_workers_do_not_have() {
    let mut found = Vec::new();
    waiting_by_the_runtime(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert_eq!(found, Vec::<String>::new(), "these would panic: use crate::clock");
}
