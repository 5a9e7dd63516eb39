//! The pool against real sockets: its schedule in simulated time, its queue, and what a cancelled `get` leaves behind.

use std::cell::RefCell;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{spawn_local, yield_now};
use tokio::time::{advance, sleep};

use super::*;
use crate::metrics::Metrics;
use crate::roll::Numbers;
use crate::secrets::Secrets;
use crate::{client, config};

mod managed;

/// A worker's runtime; with simulated time a wait takes none.
fn on_a_worker<T>(is_simulated: bool, test: impl Future<Output = T>) -> T {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_all().start_paused(is_simulated);
    runtime.build_local(LocalOptions::default()).expect("a runtime").block_on(test)
}

/// A proxy to the Unix socket at `path`, with these lines of its manifest.
fn proxy(path: &Path, pool: &str, client: &str) -> Arc<ProxyConfig> {
    let manifest = format!(
        "apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\nmetadata: {{name: test}}\nspec:\n  proxies:\n  - name: db\n    \
         pool: {{{pool}}}\n    client: {{network: unix, addresses: [{}]{client}}}\n    server: {{network: tcp, address: '127.0.0.1:0'}}\n",
        path.display()
    );
    config::load(manifest.as_bytes()).unwrap_or_else(|problems| panic!("{problems}")).proxies[0].clone()
}

fn pool(config: &Arc<ProxyConfig>) -> Pool {
    let metrics = Metrics::new().expect("the metrics are well-formed").proxy(&config.name);
    Pool::new(
        config.clone(),
        client::Context::new(Secrets::in_folder(Path::new("/nowhere")), Numbers::of_worker(0, 1)),
        &metrics,
        Random::from_seed(1),
    )
}

/// A database: it accepts, and does nothing more.
struct Database {
    path: PathBuf,
    listener: UnixListener,
    _folder: Folder,
}

struct Folder(PathBuf);

impl Database {
    fn new(name: &str) -> Database {
        let folder = std::env::temp_dir().join(format!("postern-pool-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        Database { path, listener, _folder: Folder(folder) }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// When the pool dials a database that is not there, in seconds of simulated time.
fn attempts_within(seconds: u64, client: &str) -> Vec<u64> {
    let nowhere = Path::new("/nonexistent/postern");
    on_a_worker(true, async {
        let config = proxy(nowhere, "", client);
        let pool = pool(&config);
        let (begin, mut attempts, mut known) = (Instant::now(), Vec::new(), 0);
        while begin.elapsed() < Duration::from_secs(seconds) {
            let now = pool.inner.reconnect.attempts("no_socket");
            if now > known {
                known = now;
                // Seen at the next look, at most 50 ms later.
                attempts.push(begin.elapsed().as_secs());
            }
            sleep(Duration::from_millis(50)).await;
        }
        attempts
    })
}

#[test]
fn attempts_start_at_0_2_6_and_14_seconds_and_go_on_after_the_round() {
    assert_eq!(attempts_within(40, ""), [0, 2, 6, 14, 22, 30, 38]);
}

/// The seeds' first table, summed up: waits of 2, 4, 8, 16, 32 and five times 60 s; then the pool goes on every 30 s.
#[test]
fn eleven_retries_are_ten_and_no_wait_is_longer_than_a_minute() {
    let attempts = attempts_within(400, ", retries: 11");
    assert_eq!(attempts, [0, 2, 6, 14, 30, 62, 122, 182, 242, 302, 362, 392]);
}

/// The seeds' second table, summed up: waits of 2, 4, 8, ... 2048 s.
#[test]
fn without_the_caps_eleven_retries_are_eleven_and_waits_double_to_the_end() {
    let attempts = attempts_within(4100, ", retries: 11, disableBackoffCaps: true");
    assert_eq!(attempts, [0, 2, 6, 14, 30, 62, 126, 254, 510, 1022, 2046, 4094]);
}

#[test]
fn without_retries_the_pool_still_goes_on_every_second() {
    assert_eq!(attempts_within(4, ", retries: 0"), [0, 1, 2, 3]);
    assert_eq!(attempts_within(3, ", backoff: 0s, retries: 1"), [0, 1, 2]);
}

#[test]
fn a_waiting_peer_is_served_within_one_probe_of_the_databases_return() {
    let folder = Folder(std::env::temp_dir().join(format!("postern-pool-return-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).expect("a folder");
    let path = folder.0.join("socket");
    on_a_worker(true, async {
        let pool = pool(&proxy(&path, "acquireTimeout: 1h", ""));
        // Deep in the schedule, where the next scheduled dial is far away.
        sleep(Duration::from_secs(100)).await;
        let waiting = spawn_local({
            let pool = pool.clone();
            async move { pool.get(&Route::default()).await.map(|lease| (lease, Instant::now())) }
        });
        sleep(Duration::from_secs(3)).await;
        let (_listener, back) = (UnixListener::bind(&path).expect("a socket"), Instant::now());
        let (_lease, served) = waiting.await.expect("no panic").expect("the database is back");
        assert!(served - back <= Duration::from_millis(500), "served after {:?}", served - back);
    });
}

#[test]
fn waiters_are_served_in_the_order_in_which_they_came() {
    let database = Database::new("order");
    on_a_worker(false, async {
        let pool = pool(&proxy(&database.path, "size: 1", ""));
        let first = pool.get(&Route::default()).await.expect("a client");
        let order = Rc::new(RefCell::new(Vec::new()));
        let waiters: Vec<_> = (0..10)
            .map(|number| {
                let (pool, order) = (pool.clone(), order.clone());
                spawn_local(async move {
                    let mut lease = pool.get(&Route::default()).await.expect("a client");
                    lease.client();
                    order.borrow_mut().push(number);
                })
            })
            .collect();
        yield_now().await;
        drop(first);
        for waiter in waiters {
            waiter.await.expect("no panic");
        }
        assert_eq!(*order.borrow(), (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn a_get_cancelled_at_any_poll_leaves_no_trace() {
    for polls in 0..40 {
        let database = Database::new("cancel");
        on_a_worker(false, async {
            let pool = pool(&proxy(&database.path, "size: 2, minIdle: 0", ""));
            let route = Route::default();
            let mut gets: Vec<_> = (0..4).map(|_| Box::pin(pool.get(&route))).collect();
            let mut got = Vec::new();
            for _ in 0..polls {
                let mut cx = Context::from_waker(Waker::noop());
                gets.retain_mut(|get| match get.as_mut().poll(&mut cx) {
                    Poll::Ready(lease) => {
                        got.push(lease.expect("a client"));
                        false
                    }
                    Poll::Pending => true,
                });
                assert!(pool.counts().lent + pool.counts().dialing + pool.counts().idle <= 2);
                yield_now().await;
            }
            drop(gets);
            drop(got);
            while pool.counts().dialing > 0 {
                yield_now().await;
            }
            let left = pool.counts();
            assert_eq!((left.lent, left.dialing, left.waiting), (0, 0, 0), "after {polls} polls");
            assert!(left.idle <= 2);
        });
    }
}

#[test]
fn a_touched_client_is_never_lent_again_and_an_untouched_one_is() {
    let database = Database::new("touch");
    on_a_worker(false, async {
        let pool = pool(&proxy(&database.path, "size: 1, minIdle: 1", ""));
        let untouched = pool.get(&Route::default()).await.expect("a client");
        let since = untouched.client.as_ref().expect("it has a client").since();
        drop(untouched);
        let mut again = pool.get(&Route::default()).await.expect("a client");
        assert_eq!(again.client().since(), since);
        drop(again);
        let mut fresh = pool.get(&Route::default()).await.expect("a client");
        assert_ne!(fresh.client().since(), since);
    });
}

#[test]
fn nobody_waits_where_acquire_timeout_is_zero_but_a_dial_is_waited_for() {
    let database = Database::new("impatient");
    on_a_worker(false, async {
        let pool = pool(&proxy(&database.path, "size: 1, minIdle: 0, acquireTimeout: 0s", ""));
        let _lent = pool.get(&Route::default()).await.expect("a client that had to be dialed");
        assert!(matches!(pool.get(&Route::default()).await, Err(Error::Busy { size: 1, .. })));
    });
    on_a_worker(true, async {
        let pool = pool(&proxy(Path::new("/nonexistent/postern"), "minIdle: 0, acquireTimeout: 0s", ""));
        assert!(matches!(pool.get(&Route::default()).await, Err(Error::Away { .. })));
    });
}

#[test]
fn more_than_max_waiting_are_refused() {
    let database = Database::new("full");
    on_a_worker(false, async {
        let pool = pool(&proxy(&database.path, "size: 1, maxWaiting: 1", ""));
        let _lent = pool.get(&Route::default()).await.expect("a client");
        let waiting = spawn_local({
            let pool = pool.clone();
            async move { pool.get(&Route::default()).await.map(drop) }
        });
        yield_now().await;
        assert!(matches!(pool.get(&Route::default()).await, Err(Error::TooManyWaiting(1))));
        waiting.abort();
    });
}

#[test]
fn warm_clients_are_recycled_before_max_idle_and_not_all_at_once() {
    let database = Database::new("recycle");
    on_a_worker(true, async {
        let pool = pool(&proxy(&database.path, "size: 10, minIdle: 10, maxIdle: 30s", ""));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(pool.counts().idle, 10);
        let ages = |pool: &Pool| -> Vec<Instant> {
            pool.inner.slots.borrow_mut().idle_mut().map(|idle| idle.client.since()).collect()
        };
        let mut most_at_once = 0;
        let mut before = ages(&pool);
        for _ in 0..600 {
            advance(Duration::from_millis(100)).await;
            // A dial needs a few turns of the runtime.
            for _ in 0..20 {
                yield_now().await;
            }
            let now = ages(&pool);
            most_at_once = most_at_once.max(now.iter().filter(|since| !before.contains(since)).count());
            assert!(now.iter().all(|since| since.elapsed() <= Duration::from_secs(30)));
            before = now;
        }
        assert!((1..=4).contains(&most_at_once), "{most_at_once} of 10 were recycled within 100 ms");
    });
    drop(database.listener);
}

#[test]
fn a_changed_way_to_the_database_starts_a_new_generation_and_keeps_who_waits() {
    let (old, new) = (Database::new("old"), Database::new("new"));
    on_a_worker(false, async {
        let pool = pool(&proxy(&old.path, "size: 1", ""));
        let mut lent = pool.get(&Route::default()).await.expect("a client of the old generation");
        lent.client();
        let waiting = spawn_local({
            let pool = pool.clone();
            async move { pool.get(&Route::default()).await }
        });
        yield_now().await;
        pool.reconfigure(&proxy(&new.path, "size: 1", ""));
        assert_eq!(pool.counts().waiting, 1, "whoever waits stays");
        drop(lent);
        let mut lease = waiting.await.expect("no panic").expect("a client of the new generation");
        assert_eq!(lease.client().address, config::Address::Unix(new.path.clone()));
    });
}

#[test]
fn what_the_database_says_first_is_kept_and_then_nothing_is_kept_warm() {
    use std::io::Write;
    let database = Database::new("greeting");
    on_a_worker(false, async {
        let pool = pool(&proxy(&database.path, "", ""));
        while pool.counts().idle == 0 {
            yield_now().await;
        }
        let (mut accepted, _) = database.listener.accept().expect("the warm client");
        accepted.write_all(b"welcome").expect("it is open");
        while !pool.inner.speaks_first.get() {
            yield_now().await;
        }
        let mut lease = pool.get(&Route::default()).await.expect("the warm client");
        assert_eq!(lease.client().early, b"welcome");
        drop(lease);
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(pool.counts(), Counts::default(), "no client is kept warm for a database that speaks first");
    });
}

#[test]
fn what_was_dialed_for_the_old_generation_is_never_lent_to_the_new_one() {
    for turns in 0..12 {
        let (old, new) = (Database::new(&format!("old-{turns}")), Database::new(&format!("new-{turns}")));
        on_a_worker(false, async {
            let pool = pool(&proxy(&old.path, "size: 1, minIdle: 0", ""));
            let waiting = spawn_local({
                let pool = pool.clone();
                async move { pool.get(&Route::default()).await }
            });
            for _ in 0..turns {
                yield_now().await;
            }
            let was_served = waiting.is_finished();
            pool.reconfigure(&proxy(&new.path, "size: 1, minIdle: 0", ""));
            let mut lease = waiting.await.expect("no panic").expect("a client");
            let is_new = lease.client().address == config::Address::Unix(new.path.clone());
            assert!(is_new || was_served || lease.generation == 0, "after {turns} turns");
        });
    }
}
