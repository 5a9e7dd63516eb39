//! Several candidates in order: the next as soon as one fails, or beside it when it does not answer (the rule of RFC
//! 8305, with the patience of the design).

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock::sleep;

/// How long one candidate may be silent before the next is tried beside it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first success of `attempt` over `candidates`, which are tried in order; what still runs then is dropped.
///
/// # Errors
/// When all failed: which one is told of an earlier and a later failure, is for `told` to say.
///
/// # Panics
/// When there is no candidate, or where an attempt panics.
pub(super) async fn first_of<C, T, E, A, F>(
    candidates: impl IntoIterator<Item = C>,
    attempt: A,
    told: impl Fn(E, E) -> E,
) -> Result<T, E>
where
    A: Fn(C) -> F,
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: 'static,
{
    let mut candidates = candidates.into_iter().peekable();
    let first = candidates.next().expect("a configuration has an address, and a resolved name has one");
    if candidates.peek().is_none() {
        return attempt(first).await;
    }
    let (mut running, mut failure) = (JoinSet::new(), None);
    running.spawn_local(attempt(first));
    loop {
        tokio::select! {
            biased;
            Some(ended) = running.join_next() => match ended.expect("an attempt neither panics nor is aborted") {
                Ok(success) => return Ok(success),
                Err(error) => {
                    let error = match failure.take() {
                        Some(earlier) => told(earlier, error),
                        None => error,
                    };
                    match candidates.next() {
                        Some(next) => { running.spawn_local(attempt(next)); }
                        None if running.is_empty() => return Err(error),
                        None => {}
                    }
                    failure = Some(error);
                }
            },
            () = sleep(PATIENCE), if candidates.peek().is_some() => {
                running.spawn_local(attempt(candidates.next().expect("the guard has seen one")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;
    use crate::clock::Instant;

    /// Each candidate answers after its milliseconds: `Ok` if the flag is set. Returns the outcome and the time.
    fn race(candidates: &'static [(u64, bool)]) -> (Result<usize, usize>, u128) {
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build_local(LocalOptions::default()).expect("a runtime");
        runtime.block_on(async {
            let begin = Instant::now();
            let outcome = first_of(
                candidates.iter().enumerate(),
                |(index, &(millis, ok))| async move {
                    sleep(Duration::from_millis(millis)).await;
                    if ok { Ok(index) } else { Err(index) }
                },
                std::cmp::max,
            )
            .await;
            (outcome, begin.elapsed().as_millis())
        })
    }

    #[test]
    fn the_next_candidate_is_tried_as_soon_as_one_fails() {
        assert_eq!(race(&[(10, false), (10, true)]), (Ok(1), 20));
    }

    #[test]
    fn a_silent_candidate_gets_company_after_a_second() {
        assert_eq!(race(&[(60_000, true), (5, true)]), (Ok(1), 1005));
        assert_eq!(race(&[(1500, true), (60_000, true)]), (Ok(0), 1500));
    }

    #[test]
    fn the_failure_that_tells_most_is_told_when_all_failed() {
        assert_eq!(race(&[(1, false), (2, false), (3, false)]), (Err(2), 6));
        assert_eq!(race(&[(1500, false), (10, false)]), (Err(1), 1500));
    }
}
