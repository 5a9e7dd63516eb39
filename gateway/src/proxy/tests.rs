//! Sessions over real sockets: what hooks see and may do, and how the two directions end.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::{self, OnError};
use crate::hooks::{Failure, Hook, Session, Verdict};
use crate::metrics::Metrics;
use crate::secrets::Secrets;
use crate::shutdown::Drain;

/// A proxy in front of a database that a test plays.
struct Scene {
    proxy: Rc<Proxy>,
    database: UnixListener,
    drain: Drain,
    tracker: TaskTracker,
    folder: PathBuf,
}

impl Scene {
    fn new(name: &str, client: &str, hooks: Hooks) -> Scene {
        let folder = std::env::temp_dir().join(format!("postern-proxy-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("socket");
        let manifest = format!(
            "apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\nmetadata: {{name: test}}\nspec:\n  proxies:\n  - name: db\n    \
             client: {{network: unix, addresses: [{}]{client}}}\n    server: {{network: tcp, address: '127.0.0.1:0'}}\n",
            path.display()
        );
        let config =
            config::load(manifest.as_bytes()).unwrap_or_else(|problems| panic!("{problems}")).proxies[0].clone();
        let database = UnixListener::bind(&path).expect("a socket");
        let (drain, tracker) = (Drain::default(), TaskTracker::new());
        let metrics = Rc::new(Metrics::new().expect("the metrics are well-formed").proxy(&config.name));
        let surroundings = Surroundings {
            cancels: crate::postgres::cancel::Cancels::default(),
            drain: drain.clone(),
            tracker: tracker.clone(),
            sessions: crate::roll::Numbers::of_worker(0, 1),
            clients: crate::roll::Numbers::of_worker(0, 1),
            secrets: Secrets::in_folder(&folder),
            console: crate::console::Console::unanswered(),
        };
        let proxy = Proxy::new(config, Rc::new(hooks), metrics, surroundings);
        Scene { proxy, database, drain, tracker, folder }
    }

    /// A peer, and the connection to the database that its session got.
    async fn session(&self) -> (UnixStream, UnixStream) {
        let (peer, ours) = UnixStream::pair().expect("a pair");
        self.proxy.admit(Stream::Unix(ours), Endpoint::Unnamed);
        let (database, _) = self.database.accept().await.expect("the client dials");
        (peer, database)
    }

    async fn all_ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn on_a_worker<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_all().build_local(LocalOptions::default()).expect("a runtime").block_on(test)
}

async fn read(stream: &mut UnixStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.expect("the bytes arrive");
    bytes
}

async fn rest(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.map(|_| bytes)
}

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Recorder(Rc<RefCell<Vec<&'static str>>>);

impl Recorder {
    #[expect(clippy::unnecessary_wraps, reason = "it ends every method of the hook")]
    fn note(&self, event: &'static str) -> Result<(), Failure> {
        self.0.borrow_mut().push(event);
        Ok(())
    }
}

#[async_trait(?Send)]
impl Hook for Recorder {
    async fn on_opening(&self, _: &Session) -> Result<(), Failure> {
        self.note("OnOpening")
    }
    async fn on_opened(&self, _: &Session) -> Result<(), Failure> {
        self.note("OnOpened")
    }
    async fn on_traffic(&self, _: &Session) -> Result<(), Failure> {
        self.note("OnTraffic")
    }
    async fn on_traffic_from_client(&self, _: &Session, bytes: Bytes) -> Result<Verdict, Failure> {
        self.note("OnTrafficFromClient").map(|()| Verdict::Pass(bytes))
    }
    async fn on_traffic_to_server(&self, _: &Session, _: &Bytes) -> Result<(), Failure> {
        self.note("OnTrafficToServer")
    }
    async fn on_traffic_from_server(&self, _: &Session, bytes: Bytes) -> Result<Verdict, Failure> {
        self.note("OnTrafficFromServer").map(|()| Verdict::Pass(bytes))
    }
    async fn on_traffic_to_client(&self, _: &Session, _: &Bytes) -> Result<(), Failure> {
        self.note("OnTrafficToClient")
    }
    async fn on_closing(&self, _: &Session) -> Result<(), Failure> {
        self.note("OnClosing")
    }
    async fn on_closed(&self, _: &Session) -> Result<(), Failure> {
        self.note("OnClosed")
    }
}

/// Judges what the peer sends by its first byte.
struct Judge;

#[async_trait(?Send)]
impl Hook for Judge {
    async fn on_traffic_from_client(&self, _: &Session, bytes: Bytes) -> Result<Verdict, Failure> {
        match bytes[0] {
            b'r' => Ok(Verdict::Reply(Bytes::from_static(b"reply"))),
            b'c' => Ok(Verdict::Close),
            b'p' => Ok(Verdict::Pass(Bytes::from_static(b"in its place"))),
            b'f' => Err(Failure("a failure on purpose".to_owned())),
            _ => Ok(Verdict::Pass(bytes)),
        }
    }
    async fn on_traffic_from_server(&self, _: &Session, bytes: Bytes) -> Result<Verdict, Failure> {
        if bytes[0] == b'r' {
            Ok(Verdict::Reply(Bytes::from_static(b"to the database")))
        } else {
            Ok(Verdict::Pass(bytes))
        }
    }
}

#[test]
fn hooks_are_called_in_the_order_of_the_seeds_diagram() {
    on_a_worker(async {
        let recorder = Recorder::default();
        let scene = Scene::new("order", "", Hooks::of(recorder.clone(), OnError::Close));
        let (mut peer, mut database) = scene.session().await;
        for _ in 0..2 {
            peer.write_all(b"query").await.expect("the session is open");
            assert_eq!(read(&mut database, 5).await, b"query");
            database.write_all(b"answer").await.expect("the session is open");
            assert_eq!(read(&mut peer, 6).await, b"answer");
        }
        drop((peer, database));
        scene.all_ended().await;
        let exchange = ["OnTrafficFromClient", "OnTrafficToServer", "OnTrafficFromServer", "OnTrafficToClient"];
        let expected = [&["OnOpening", "OnOpened", "OnTraffic"][..], &exchange, &exchange, &["OnClosing", "OnClosed"]];
        assert_eq!(*recorder.0.borrow(), expected.concat());
    });
}

#[test]
fn a_hooks_verdict_passes_replaces_replies_or_closes() {
    on_a_worker(async {
        let scene = Scene::new("verdicts", "", Hooks::of(Judge, OnError::Close));
        let (mut peer, mut database) = scene.session().await;
        peer.write_all(b"as it is").await.expect("the session is open");
        assert_eq!(read(&mut database, 8).await, b"as it is");
        peer.write_all(b"p").await.expect("the session is open");
        assert_eq!(read(&mut database, 12).await, b"in its place");
        peer.write_all(b"r").await.expect("the session is open");
        assert_eq!(read(&mut peer, 5).await, b"reply");
        database.write_all(b"r").await.expect("the session is open");
        assert_eq!(read(&mut database, 15).await, b"to the database");
        peer.write_all(b"c").await.expect("the session is open");
        assert_eq!(rest(&mut database).await.unwrap_or_default(), b"", "the database has seen nothing of it");
        scene.all_ended().await;
    });
}

#[test]
fn a_hook_that_fails_does_what_its_on_error_says() {
    on_a_worker(async {
        let passing = Scene::new("pass", "", Hooks::of(Judge, OnError::Pass));
        let (mut peer, mut database) = passing.session().await;
        peer.write_all(b"fail").await.expect("the session is open");
        assert_eq!(read(&mut database, 4).await, b"fail");
        let closing = Scene::new("close", "", Hooks::of(Judge, OnError::Close));
        let (mut peer, mut database) = closing.session().await;
        peer.write_all(b"fail").await.expect("the session is open");
        assert_eq!(rest(&mut database).await.unwrap_or_default(), b"");
        assert_eq!(rest(&mut peer).await.unwrap_or_default(), b"");
    });
}

#[test]
fn each_half_closes_by_itself() {
    for hooks in [Hooks::default(), Hooks::of(Recorder::default(), OnError::Close)] {
        on_a_worker(async {
            let scene = Scene::new("half", "", hooks);
            let (mut peer, mut database) = scene.session().await;
            peer.write_all(b"everything").await.expect("the session is open");
            peer.shutdown().await.expect("the session is open");
            assert_eq!(rest(&mut database).await.expect("a regular end"), b"everything");
            database.write_all(b"the answer").await.expect("the other half is open");
            drop(database);
            assert_eq!(rest(&mut peer).await.expect("a regular end"), b"the answer");
            scene.all_ended().await;
        });
    }
}

#[test]
fn the_databases_last_words_are_heard_although_it_takes_no_more() {
    on_a_worker(async {
        let scene = Scene::new("last", "", Hooks::default());
        let (mut peer, mut database) = scene.session().await;
        database.write_all(b"FATAL").await.expect("the session is open");
        drop(database);
        // The peer has not read yet, and what it sends meets a closed socket.
        peer.write_all(b"query").await.expect("our own socket takes it");
        assert_eq!(rest(&mut peer).await.expect("a regular end"), b"FATAL");
    });
}

#[test]
fn a_peer_that_does_not_read_stops_the_database_and_loses_nothing() {
    for hooks in [Hooks::default(), Hooks::of(Recorder::default(), OnError::Close)] {
        on_a_worker(async {
            let scene = Scene::new("slow", ", receiveChunkSize: 1000", hooks);
            let (mut peer, mut database) = scene.session().await;
            let sent: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
            let expected = sent.clone();
            let writing = spawn_local(async move { database.write_all(&sent).await.map(|()| database) });
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert!(!writing.is_finished(), "what nobody reads is not collected");
            assert!(read(&mut peer, expected.len()).await == expected, "every byte arrives, in order");
            drop(writing.await.expect("no panic"));
        });
    }
}

#[test]
fn sessions_between_two_exchanges_close_at_once_when_the_drain_closes() {
    on_a_worker(async {
        let scene = Scene::new("drain", "", Hooks::default());
        let (mut idle, _its_database) = scene.session().await;
        let (mut busy, mut its_database) = scene.session().await;
        busy.write_all(b"query").await.expect("the session is open");
        assert_eq!(read(&mut its_database, 5).await, b"query");
        scene.drain.close();
        assert_eq!(rest(&mut idle).await.expect("a regular end"), b"");
        its_database.write_all(b"answer").await.expect("the exchange may end");
        assert_eq!(rest(&mut busy).await.expect("a regular end"), b"answer");
        scene.all_ended().await;
    });
}

#[test]
fn a_dead_peer_keeps_nobody_although_the_database_is_stuck_in_its_answer() {
    on_a_worker(async {
        let scene = Scene::new("stuck", "", Hooks::default());
        let (peer, mut database) = scene.session().await;
        let answering = spawn_local(async move { database.write_all(&vec![0; 4_000_000]).await });
        // The peer sends without reading until nobody takes anything any more, and dies.
        let mut quiet = 0;
        while quiet < 50 {
            match peer.try_write(&[0; 8192]) {
                Ok(_) => quiet = 0,
                Err(_) => quiet += 1,
            }
            tokio::task::yield_now().await;
        }
        drop(peer);
        scene.all_ended().await;
        drop(answering.await.expect("no panic"));
    });
}

#[test]
fn a_waiting_peer_that_said_much_and_left_is_noticed() {
    on_a_worker(async {
        let scene = Scene::new("left", "", Hooks::default());
        let config = scene.proxy.config.borrow().clone();
        let only_one = config::PoolConfig { size: std::num::NonZeroUsize::MIN, ..config.pool.clone() };
        scene.proxy.reconfigure(Arc::new(ProxyConfig { pool: only_one, ..(*config).clone() }), Rc::default());
        let (_peer, _database) = scene.session().await;
        let (mut waiting, ours) = UnixStream::pair().expect("a pair");
        scene.proxy.admit(Stream::Unix(ours), Endpoint::Unnamed);
        waiting.write_all(&vec![0; 20_000]).await.expect("our own socket takes it");
        drop(waiting);
        while scene.proxy.sessions.open() > 1 {
            sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn an_upload_at_full_speed_does_not_keep_answers_waiting() {
    on_a_worker(async {
        let scene = Scene::new("fair", ", receiveChunkSize: 512", Hooks::default());
        let (peer, database) = scene.session().await;
        let (mut answers, mut upload) = peer.into_split();
        let (mut sink, mut source) = database.into_split();
        let uploading = spawn_local(async move {
            loop {
                if upload.write_all(&[0; 16_000]).await.is_err() {
                    return;
                }
            }
        });
        let sinking = spawn_local(async move { tokio::io::copy(&mut sink, &mut tokio::io::sink()).await });
        for answer in 0..100_u8 {
            source.write_all(&[answer]).await.expect("the session is open");
            // Counted in turns of the runtime, not in time.
            let heard = tokio::select! {
                biased;
                heard = answers.read_u8() => Some(heard.expect("the session is open")),
                () = turns(2000) => None,
            };
            assert_eq!(heard, Some(answer), "the answer waits behind the upload");
        }
        uploading.abort();
        sinking.abort();
    });
}

async fn turns(number: usize) {
    for _ in 0..number {
        tokio::task::yield_now().await;
    }
}
