//! Clients that the gateway logs in itself, against a database that speaks just enough of the protocol.

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::refusals::REFUSAL_HOLDS;
use super::*;
use crate::config::{Address, ClientAuth, Protocol, Target};
use crate::postgres::wire::{CancelKey, message, tag, text};

mod orders;

const READY: &[u8] = b"Z\0\0\0\x05I";
const NOTICE: &[u8] = b"N\0\0\0\x05\0";

/// A database that lets everybody in, writes down what it is asked, and does what the test says.
#[derive(Clone)]
struct Postgres {
    path: PathBuf,
    said: Rc<Said>,
}

#[derive(Default)]
struct Said {
    /// Logins by database, and queries.
    log: RefCell<Vec<String>>,
    /// Databases that are refused, with the SQLSTATE.
    refused: RefCell<Vec<(&'static str, &'static str)>>,
    /// What it answers to each query; `None`: nothing.
    answer: RefCell<Option<Vec<u8>>>,
    is_standby: Cell<bool>,
    /// Whether nobody's login is answered.
    is_silent: Cell<bool>,
    /// Who is logged in.
    open: RefCell<Vec<Rc<tokio::net::UnixStream>>>,
}

impl Postgres {
    /// One that listens, in `folder`.
    fn start(folder: &Folder, name: &str) -> Postgres {
        let path = folder.0.join(name);
        let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
        let said = Rc::new(Said::default());
        *said.answer.borrow_mut() = Some([b"C\0\0\0\x05\0", READY].concat());
        spawn_local({
            let said = said.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    // Who leaves in the middle is no failure of the test.
                    spawn_local(said.clone().serve(stream));
                }
            }
        });
        Postgres { path, said }
    }

    fn log(&self) -> Vec<String> {
        self.said.log.borrow().clone()
    }

    /// Says this to everybody who is logged in.
    fn speak(&self, bytes: &[u8]) {
        for stream in &*self.said.open.borrow() {
            stream.try_write(bytes).expect("an open connection");
        }
    }

    fn refuse(&self, database: &'static str, code: &'static str) {
        self.said.refused.borrow_mut().push((database, code));
    }
}

impl Said {
    async fn serve(self: Rc<Self>, mut stream: tokio::net::UnixStream) -> std::io::Result<()> {
        let mut startup = vec![0; usize::try_from(stream.read_u32().await?).expect("a length") - 4];
        stream.read_exact(&mut startup).await?;
        let words: Vec<_> = startup[4..].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let database = words.iter().position(|word| word == "database").map(|place| words[place + 1].to_string());
        let database = database.expect("a database");
        self.log.borrow_mut().push(format!("login {database}"));
        let code = self.refused.borrow().iter().find(|(refused, _)| *refused == database).map(|(_, code)| *code);
        if self.is_silent.get() {
            std::future::pending::<()>().await;
        }
        let mut out = Vec::new();
        if let Some(code) = code {
            ErrorResponse::fatal(code, "no").write(&mut out);
            return stream.write_all(&out).await;
        }
        message(&mut out, tag::AUTHENTICATION, |out| out.put_u32(0));
        message(&mut out, tag::PARAMETER_STATUS, |out| {
            text(out, "in_hot_standby");
            text(out, if self.is_standby.get() { "on" } else { "off" });
        });
        message(&mut out, tag::PARAMETER_STATUS, |out| {
            text(out, "default_transaction_read_only");
            text(out, "off");
        });
        let key = CancelKey { process: 7, secret: b"key!".as_slice().into() };
        message(&mut out, tag::BACKEND_KEY_DATA, |out| key.write(out));
        out.extend_from_slice(READY);
        stream.write_all(&out).await?;
        let stream = Rc::new(stream);
        self.open.borrow_mut().push(stream.clone());
        let mut read = Vec::new();
        let ended = loop {
            stream.readable().await?;
            let mut bytes = [0; 1024];
            match stream.try_read(&mut bytes) {
                Ok(0) => break Ok(()),
                Ok(count) => read.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => break Err(error),
            }
            while let Some(header) = read.first_chunk::<5>() {
                let length = 1 + u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
                let Some(query) = read.get(5..length - 1) else { break };
                self.log.borrow_mut().push(String::from_utf8_lossy(query).into_owned());
                read.drain(..length);
                if let Some(answer) = &*self.answer.borrow() {
                    stream.try_write(answer).expect("an open connection");
                }
            }
        };
        self.open.borrow_mut().retain(|other| !Rc::ptr_eq(other, &stream));
        ended
    }
}

/// A folder with the Secret of everybody's login.
fn folder(name: &str) -> Folder {
    let folder = Folder(std::env::temp_dir().join(format!("postern-managed-{name}-{}", std::process::id())));
    let secret = folder.0.join("login");
    std::fs::create_dir_all(&secret).expect("a folder");
    std::fs::write(secret.join("username"), "app").expect("a file");
    std::fs::write(secret.join("password"), "secret").expect("a file");
    folder
}

/// A proxy to `addresses` that logs in itself.
fn managed(addresses: &[&Postgres], limits: &str, target: Target) -> Arc<ProxyConfig> {
    let mut config = ProxyConfig::clone(&proxy(&addresses[0].path, limits, ""));
    config.protocol = Protocol::Postgres;
    config.client.addresses = addresses.iter().map(|address| Address::Unix(address.path.clone())).collect();
    config.client.auth = Some(ClientAuth { secret: "login".into(), database: None });
    config.client.target = target;
    Arc::new(config)
}

fn pool_of(folder: &Folder, config: &Arc<ProxyConfig>) -> Pool {
    let metrics = Metrics::new().expect("the metrics are well-formed").proxy(&config.name);
    let context = client::Context::new(Secrets::in_folder(&folder.0), Numbers::of_worker(0, 1));
    Pool::new(config.clone(), context, &metrics, Random::from_seed(1))
}

/// A pool of one database, in simulated time.
fn with_pool<T: Future<Output = ()>>(name: &str, limits: &str, test: impl FnOnce(Pool, Postgres) -> T) {
    let folder = folder(name);
    on_a_worker(true, async {
        let database = Postgres::start(&folder, "socket");
        let pool = pool_of(&folder, &managed(&[&database], limits, Target::Any));
        test(pool, database).await;
    });
}

fn to(database: &str) -> Route {
    Route::new(database.into(), Vec::new())
}

/// Lets happen what happens in no time.
async fn soon() {
    sleep(Duration::from_millis(1)).await;
}

async fn lent(pool: &Pool) -> Lease {
    pool.get(&Route::default()).await.expect("a client")
}

#[test]
fn who_waits_in_vain_for_a_login_does_not_hear_that_all_are_lent() {
    with_pool("silent", "size: 2, minIdle: 0, acquireTimeout: 300ms", async |pool, database| {
        let _lent = lent(&pool).await;
        database.said.is_silent.set(true);
        let got = pool.get(&Route::default()).await;
        assert!(matches!(got, Err(Error::Dialing { lent: 1, size: 2, .. })), "{:?}", got.err());
    });
}

// === given back ===

#[test]
fn a_clean_client_is_lent_again_as_it_is() {
    with_pool("clean", "size: 1", async |pool, database| {
        for _ in 0..3 {
            let mut lease = lent(&pool).await;
            assert_eq!(
                lease.client().backend.as_ref().and_then(|backend| backend.key.as_ref()).map(|key| key.process),
                Some(7)
            );
            lease.give_back();
        }
        assert_eq!(database.log(), ["login app"]);
    });
}

#[test]
fn behind_a_client_that_timed_out_nobody_is_lent_one_that_was_idle_meanwhile() {
    let failures = [
        (std::io::ErrorKind::TimedOut, true),
        (std::io::ErrorKind::HostUnreachable, true),
        (std::io::ErrorKind::ConnectionReset, false),
    ];
    for (kind, is_cut_off) in failures {
        with_pool("cut-off", "size: 3, minIdle: 0", async |pool, database| {
            let (mut failing, idle) = (lent(&pool).await, lent(&pool).await);
            idle.give_back();
            failing.client();
            failing.failed(&kind.into());
            drop(failing);
            lent(&pool).await.give_back();
            let logins = database.log().len();
            assert_eq!(logins, if is_cut_off { 3 } else { 2 }, "{kind}");
        });
    }
}

#[test]
fn a_client_that_was_left_dirty_is_lent_again_once_it_is_reset() {
    with_pool("dirty", "size: 1", async |pool, database| {
        let mut lease = lent(&pool).await;
        let backend = lease.client().backend.as_mut().expect("a login");
        backend.memory.prepared.unnamed = Some(
            crate::postgres::statements::Statements::default()
                .single(b"select 1\0\0\0", crate::postgres::effects::Leaves::Nothing)
                .expect("there is room")
                .edition(),
        );
        lease.give_back_dirty(true);
        assert_eq!(pool.counts(), Counts { lent: 1, ..Counts::default() });
        assert!(pool.try_get(&Route::default()).is_none());
        let mut lease = lent(&pool).await;
        assert_eq!(lease.client().backend.as_ref().expect("a login").memory.prepared.unnamed, None);
        lease.give_back_dirty(false);
        lent(&pool).await;
        assert_eq!(database.log(), ["login app", "ROLLBACK", "DISCARD ALL", "DISCARD ALL"]);
    });
}

#[test]
fn a_client_of_which_the_reset_is_not_answered_as_it_should_be_is_destroyed() {
    let answers = [
        None,
        Some(b"E\0\0\0\x05\0".to_vec()),
        Some(b"Z\0\0\0\x05T".to_vec()),
        Some([b"C\0\0\0\x05\0", READY, b"C\0\0\0\x05\0"].concat()),
        Some(b"D\0\0\0\x06\0\0".to_vec()),
    ];
    for answer in answers {
        let is_silent = answer.is_none();
        with_pool("surprise", "size: 1, minIdle: 0", async |pool, database| {
            *database.said.answer.borrow_mut() = answer;
            let mut lease = lent(&pool).await;
            lease.client();
            let begin = Instant::now();
            lease.give_back_dirty(false);
            lent(&pool).await;
            assert_eq!(database.log(), ["login app", "DISCARD ALL", "login app"]);
            let limit = Duration::from_secs(if is_silent { 5 } else { 0 });
            assert!((limit..limit + Duration::from_secs(1)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
        });
    }
}

#[test]
fn what_came_before_a_reset_is_no_answer_to_it() {
    for (early, is_sound) in [(NOTICE, true), (&NOTICE[..3], false), (READY, false), (b"C\0\0\0\x05\0", false)] {
        with_pool("early", "size: 1", async |pool, database| {
            let mut lease = lent(&pool).await;
            lease.client().early.extend_from_slice(early);
            lease.give_back_dirty(false);
            lent(&pool).await;
            assert_eq!(database.log().last().is_some_and(|last| last == "DISCARD ALL"), is_sound, "{early:?}");
        });
    }
}

#[test]
fn a_client_that_comes_back_too_old_is_closed() {
    with_pool("age", "size: 1, minIdle: 0, maxAge: 60s", async |pool, database| {
        let lease = lent(&pool).await;
        sleep(Duration::from_secs(30)).await;
        lease.give_back();
        let lease = lent(&pool).await;
        assert_eq!(database.log(), ["login app"]);
        sleep(Duration::from_secs(30)).await;
        lease.give_back();
        assert_eq!(pool.counts(), Counts::default());
        lent(&pool).await;
        assert_eq!(database.log(), ["login app", "login app"]);
    });
}

#[test]
fn lending_and_giving_back_wakes_the_refill_only_where_it_would_dial() {
    with_pool("wakes", "size: 2, minIdle: 1", async |pool, database| {
        let first = lent(&pool).await;
        soon().await;
        assert_eq!(pool.counts(), Counts { lent: 1, idle: 1, ..Counts::default() }, "what was warm is replaced");
        first.give_back();
        soon().await;
        let mut woken = Box::pin(pool.inner.changed.notified());
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..100 {
            pool.try_get(&Route::default()).expect("an idle client").give_back();
        }
        assert!(woken.as_mut().poll(&mut cx).is_pending());
        assert_eq!(database.log().len(), 2);
        let both = [pool.try_get(&Route::default()), pool.try_get(&Route::default())];
        assert!(both.iter().all(Option::is_some) && pool.try_get(&Route::default()).is_none());
        assert!(woken.as_mut().poll(&mut cx).is_pending(), "no room is left");
        drop(both);
    });
}

#[test]
fn at_once_or_not_at_all_never_dials() {
    with_pool("at-once", "size: 2, minIdle: 0", async |pool, database| {
        assert!(pool.try_get(&Route::default()).is_none());
        lent(&pool).await.give_back();
        assert!(pool.try_get(&to("other")).is_none());
        soon().await;
        assert!(pool.try_get(&Route::default()).is_some());
        assert_eq!(database.log(), ["login app"]);
    });
}

// === refused ===

#[test]
fn a_refused_route_is_told_to_all_who_wait_for_it_and_is_no_outage() {
    with_pool("refused", "size: 4, minIdle: 0, acquireTimeout: 10s", async |pool, database| {
        database.refuse("absent", "3D000");
        let begin = Instant::now();
        let refused = || async { pool.get(&to("absent")).await.err().map(|error| (error.reason(), error.to_string())) };
        let sentence = Some(("login_refused", "FATAL: no (3D000)".to_owned()));
        let (first, second, served) = tokio::join!(refused(), refused(), lent(&pool));
        assert_eq!((first, second), (sentence.clone(), sentence.clone()));
        assert!(begin.elapsed() < Duration::from_millis(100));
        served.give_back();
        assert_eq!(pool.inner.away.borrow().clone(), None);
        let dials = database.log().len();
        assert_eq!(refused().await, sentence);
        assert_eq!(database.log().len(), dials, "whoever comes soon after gets the same answer without a dial");
        sleep(REFUSAL_HOLDS).await;
        assert_eq!(refused().await, sentence);
        assert_eq!(database.log().len(), dials + 1);
    });
}

#[test]
fn a_refused_login_is_tried_again_for_nobody_twice_a_minute() {
    with_pool("nobody", "size: 1, minIdle: 1", async |pool, database| {
        database.refuse("app", "28P01");
        sleep(Duration::from_secs(299)).await;
        assert_eq!(database.log().len(), 10);
        database.said.refused.borrow_mut().clear();
        sleep(Duration::from_secs(30)).await;
        assert_eq!(pool.counts(), Counts { idle: 1, ..Counts::default() });
    });
}

#[test]
fn a_missing_secret_is_told_and_read_again() {
    let folder = folder("secret");
    on_a_worker(true, async {
        let database = Postgres::start(&folder, "socket");
        std::fs::rename(folder.0.join("login"), folder.0.join("away")).expect("a folder");
        let pool = pool_of(&folder, &managed(&[&database], "size: 1, minIdle: 0", Target::Any));
        let refused = pool.get(&Route::default()).await.err().expect("no Secret");
        assert_eq!(refused.reason(), "login_refused");
        assert!(refused.to_string().contains("key username of Secret \"login\""), "{refused}");
        std::fs::rename(folder.0.join("away"), folder.0.join("login")).expect("a folder");
        sleep(REFUSAL_HOLDS).await;
        lent(&pool).await;
    });
}

#[test]
fn a_database_that_takes_no_more_or_is_starting_up_is_away_for_a_while() {
    for code in ["53300", "57P03"] {
        with_pool("full", "size: 1, minIdle: 0, acquireTimeout: 1m", async |pool, database| {
            database.refuse("app", code);
            let waiting = spawn_local({
                let pool = pool.clone();
                async move { pool.get(&Route::default()).await.map(drop) }
            });
            sleep(Duration::from_secs(5)).await;
            assert!(!waiting.is_finished());
            let cause = pool.inner.away.borrow().clone().expect("an outage");
            assert!(cause.contains(code), "{cause}");
            database.said.refused.borrow_mut().clear();
            waiting.await.expect("no panic").expect("a client, once the database takes it");
        });
    }
}

// === watched ===

#[test]
fn what_the_database_says_to_a_warm_client_is_heeded() {
    let mut setting = Vec::new();
    message(&mut setting, tag::PARAMETER_STATUS, |out| {
        text(out, "in_hot_standby");
        text(out, "on");
    });
    let mut farewell = Vec::new();
    ErrorResponse::fatal("57P01", "terminating").write(&mut farewell);
    let rows: [(&[u8], usize, u64); 6] = [
        (&setting, 1, 0),
        (NOTICE, 1, 0),
        (&farewell, 0, 0),
        (READY, 0, 1),
        (b"?\0\0\0\x04", 0, 1),
        (b"S\0\0\0\x05\0", 0, 1),
    ];
    for (said, kept, doubts) in rows {
        with_pool("watched", "size: 1", async |pool, database| {
            soon().await;
            assert_eq!(pool.counts().idle, 1);
            database.speak(said);
            sleep(Duration::from_secs(2)).await;
            let outcome = (pool.counts().idle, pool.inner.metrics.desync.get());
            assert_eq!(outcome, (kept, doubts), "{}", said.escape_ascii());
            if said == setting {
                let mut lease = lent(&pool).await;
                let backend = lease.client().backend.as_ref().expect("a login");
                assert_eq!(backend.memory.parameters.get("in_hot_standby"), Some("on"));
            }
        });
    }
}

#[test]
fn half_a_message_makes_a_warm_client_no_client() {
    with_pool("half", "size: 1", async |pool, database| {
        soon().await;
        database.speak(&NOTICE[..3]);
        soon().await;
        lent(&pool).await;
        assert_eq!((database.log().len(), pool.inner.metrics.desync.get()), (2, 1));
    });
}

// === which server will do ===

/// Two servers, of which these are standbys: the first one's place in the list that a client is had of, if any.
fn chosen(target: Target, standbys: [bool; 2]) -> Option<usize> {
    let folder = folder("chosen");
    on_a_worker(true, async {
        let servers = [Postgres::start(&folder, "first"), Postgres::start(&folder, "second")];
        servers.iter().zip(standbys).for_each(|(server, is_standby)| server.said.is_standby.set(is_standby));
        let config = managed(&[&servers[0], &servers[1]], "size: 1, minIdle: 0, acquireTimeout: 1s", target);
        let mut lease = pool_of(&folder, &config).get(&Route::default()).await.ok()?;
        let address = lease.client().address.clone();
        config.client.addresses.iter().position(|other| *other == address)
    })
}

#[test]
fn the_first_server_that_will_do_is_taken() {
    let rows = [
        (Target::Any, [true, false], Some(0)),
        (Target::Primary, [true, false], Some(1)),
        (Target::ReadWrite, [true, false], Some(1)),
        (Target::Standby, [false, true], Some(1)),
        (Target::ReadOnly, [false, true], Some(1)),
        (Target::Primary, [true, true], None),
        (Target::PreferStandby, [false, true], Some(1)),
        (Target::PreferStandby, [true, false], Some(0)),
        (Target::PreferStandby, [false, false], Some(0)),
    ];
    for (target, standbys, expected) in rows {
        assert_eq!(chosen(target, standbys), expected, "{target:?} {standbys:?}");
    }
}

#[test]
fn a_refusal_is_told_even_where_the_next_address_is_silent_about_it() {
    let folder = folder("telling");
    on_a_worker(true, async {
        let (database, gone) = (Postgres::start(&folder, "socket"), Postgres::start(&folder, "gone"));
        std::fs::remove_file(&gone.path).expect("a socket");
        database.refuse("app", "28P01");
        let pool = pool_of(&folder, &managed(&[&database, &gone], "size: 1, minIdle: 0", Target::Any));
        assert_eq!(pool.get(&Route::default()).await.err().map(|error| error.reason()), Some("login_refused"));
    });
}
