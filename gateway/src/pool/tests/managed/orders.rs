//! Pools that a person pauses, resumes and reconnects.

use super::*;
use crate::view::DatabaseState;

#[test]
fn a_pool_that_is_paused_lends_nobody_and_dials_nothing_until_it_is_resumed() {
    with_pool("paused", "size: 2, minIdle: 1, acquireTimeout: 1m", async |pool, database| {
        lent(&pool).await.give_back();
        soon().await;
        pool.pause();
        assert_eq!(pool.counts(), Counts::default(), "what nobody has is closed");
        assert!(pool.try_get(&Route::default()).is_none());
        let waiting = spawn_local({
            let pool = pool.clone();
            async move { lent(&pool).await.number() }
        });
        let before = database.log();
        sleep(Duration::from_secs(30)).await;
        assert_eq!((pool.counts().waiting, database.log()), (1, before));
        assert!(pool.view(Instant::now()).paused);
        pool.resume();
        waiting.await.expect("it is served");
        assert_eq!(pool.database(Instant::now()).state, DatabaseState::Up);
    });
}

#[test]
fn a_pause_is_complete_when_the_last_lease_has_ended_however_that_comes() {
    with_pool("last", "size: 3, minIdle: 0", async |pool, database| {
        let (clean, dirty, mut spent) = (lent(&pool).await, lent(&pool).await, lent(&pool).await);
        pool.pause();
        let paused = spawn_local({
            let pool = pool.clone();
            async move { pool.paused().await }
        });
        clean.give_back();
        spent.client();
        drop(spent);
        soon().await;
        assert!(!paused.is_finished() && pool.counts().lent == 1);
        dirty.give_back_dirty(false);
        paused.await.expect("it is complete");
        assert_eq!(pool.counts(), Counts::default(), "none comes back into the pool");
        assert_eq!(database.log().last().map(String::as_str), Some("DISCARD ALL"));
        pool.paused().await;
    });
}

#[test]
fn who_resumes_ends_the_wait_of_who_pauses() {
    with_pool("resumed", "size: 1, minIdle: 0", async |pool, _database| {
        let lease = lent(&pool).await;
        pool.pause();
        let paused = spawn_local({
            let pool = pool.clone();
            async move { pool.paused().await }
        });
        soon().await;
        pool.resume();
        paused.await.expect("it ends");
        lease.give_back();
        assert_eq!(pool.counts().idle, 1);
    });
}

#[test]
fn who_waits_in_vain_for_a_pool_that_is_paused_hears_that() {
    with_pool("vain", "size: 1, minIdle: 0, acquireTimeout: 2s", async |pool, _database| {
        pool.pause();
        let begin = Instant::now();
        let got = pool.get(&Route::default()).await;
        assert!(matches!(got, Err(Error::Paused { .. })), "{:?}", got.err());
        assert!(begin.elapsed() >= Duration::from_secs(2));
    });
    with_pool("at-once", "size: 1, minIdle: 0, acquireTimeout: 0s", async |pool, _database| {
        pool.pause();
        assert!(matches!(pool.get(&Route::default()).await, Err(Error::Paused { .. })));
    });
}

#[test]
fn a_dial_that_comes_to_its_end_in_a_pause_leads_to_no_client() {
    with_pool("landing", "size: 1, minIdle: 0, acquireTimeout: 1m", async |pool, database| {
        let waiting = spawn_local({
            let pool = pool.clone();
            async move { lent(&pool).await.number() }
        });
        yield_now().await;
        pool.pause();
        sleep(Duration::from_secs(1)).await;
        assert_eq!((pool.counts().idle, pool.counts().lent, pool.counts().waiting), (0, 0, 1));
        pool.resume();
        waiting.await.expect("it is served");
        assert!(!database.log().is_empty());
    });
}

#[test]
fn a_pool_is_reconnected_without_taking_a_client_from_whoever_has_one() {
    with_pool("reconnect", "size: 2, minIdle: 0", async |pool, _database| {
        let (kept, idle) = (lent(&pool).await, lent(&pool).await);
        let numbers = [kept.number(), idle.number()];
        idle.give_back();
        pool.reconnect();
        sleep(Duration::from_secs(1)).await;
        assert_eq!((pool.counts().lent, pool.counts().idle), (1, 0));
        kept.give_back();
        assert_eq!(pool.counts().idle, 0, "it is of the generation before");
        let fresh = lent(&pool).await.number();
        assert!(!numbers.contains(&fresh), "{fresh} of {numbers:?}");
    });
}
