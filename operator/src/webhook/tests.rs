use http_body_util::BodyExt;
use hyper::client::conn::http1 as client;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpSocket;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pace::{IDLE, READ};
use super::*;
use crate::caches::Caches;
use crate::certificates::tests::serve_another;
use crate::events::Events;
use crate::fake::FakeApi;
use crate::inject::Defaults;
use crate::metrics::Metrics;

/// Places at the webhook, where a test needs to know.
const MOST: usize = 16;
const NAME: &str = "postern-webhook.postern-system.svc";
/// The head of a request whose body is about to come.
const STUCK: &[u8] = b"POST /inject/pod HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n";

/// A webhook that ends with the test.
struct Webhook {
    address: SocketAddr,
    current: Current,
    bundle: String,
    stops: Stops,
    server: JoinSet<()>,
    _api: FakeApi,
}

impl Webhook {
    async fn new() -> Self {
        Self::with(MOST_CONNECTIONS).await
    }

    /// With so many places.
    async fn with(most: usize) -> Self {
        let api = FakeApi::new(|asked| (200, asked.body.clone())).await;
        let stops = Stops { leaving: CancellationToken::new(), closing: CancellationToken::new() };
        let metrics = Metrics::new().expect("the names are fine");
        let (events, _) = Events::new(api.client.clone(), "0".into(), metrics.clone(), stops.closing.clone());
        let defaults = Defaults {
            image: "gateway".into(),
            image_pull_policy: "Always".into(),
            image_pull_secrets: Vec::new(),
            requests: crate::settings::Resources::default(),
            limits: crate::settings::Resources::default(),
        };
        let review = Review::new(api.client.clone(), Caches::with(&[], Vec::new()), (events, metrics), defaults);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let current = Current::default();
        let bundle = serve_another(&current);
        let mut server = JoinSet::new();
        let places = Places::new(most);
        let shared = Server { review, places, weights: Semaphore::new(WEIGHTS), stops: stops.clone() };
        let tls = TlsAcceptor::from(Arc::new(tls(current.clone()).expect("it is what TLS needs")));
        server.spawn(Arc::new(shared).serve(listener, tls));
        Self { address, current, bundle, stops, server, _api: api }
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it listens")
    }

    /// Dials from another address of this machine.
    async fn dial_from(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0))).expect("all of 127/8 is this machine");
        socket.connect(self.address).await.expect("it listens")
    }

    /// Dials as an API server does that trusts `bundle`.
    async fn dial_trusting(&self, bundle: &str) -> std::io::Result<TlsStream<TcpStream>> {
        shake(bundle, self.dial().await).await
    }

    /// Dials from another address, and begins a request.
    async fn begin_from(&self, last: u8, request: &[u8]) -> TlsStream<TcpStream> {
        let mut stream = shake(&self.bundle, self.dial_from(last).await).await.expect("it is trusted");
        stream.write_all(request).await.expect("it listens");
        stream
    }

    async fn peer(&self) -> Peer {
        let stream = self.dial_trusting(&self.bundle).await.expect("it is trusted");
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // However it ends, the sender says so.
            let _ = connection.await;
        });
        Peer { sender, driver }
    }
}

async fn shake(bundle: &str, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(bundle.as_bytes()).map(|one| one.expect("PEM"));
    roots.add_parsable_certificates(certificates);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(NAME).expect("a name");
    TlsConnector::from(Arc::new(tls)).connect(name, stream).await
}

/// Of these connections, those that have not been ended.
async fn open(streams: &mut [impl AsyncRead + Unpin]) -> usize {
    let mut open = 0;
    for stream in streams {
        // Nobody was answered, so all that can be read is the end.
        let ended = std::future::poll_fn(|context| {
            let (mut byte, mut stream) = ([0], std::pin::pin!(&mut *stream));
            let mut into = ReadBuf::new(&mut byte);
            Poll::Ready(stream.as_mut().poll_read(context, &mut into).is_ready())
        });
        open += usize::from(!ended.await);
    }
    open
}

/// An API server's connection.
struct Peer {
    sender: client::SendRequest<Full<Bytes>>,
    driver: JoinSet<()>,
}

impl Peer {
    async fn send(&mut self, method: &str, path: &str, body: impl Into<Bytes>) -> (StatusCode, String, bool) {
        let request = Request::builder().method(method).uri(path).header("host", NAME);
        let request = request.body(Full::new(body.into())).expect("it is valid");
        let response = self.sender.send_request(request).await.expect("an answer");
        let closes = response.headers().get(CONNECTION).is_some_and(|value| value == "close");
        let status = response.status();
        let body = response.into_body().collect().await.expect("all of it").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"), closes)
    }

    async fn review(&mut self, uid: &str) -> Value {
        let (status, body, _) = self.send("POST", "/inject/pod?timeout=5s", review(uid)).await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_str(&body).expect("JSON")
    }

    /// Waits for the end of the connection.
    async fn ends(&mut self) {
        self.driver.join_next().await;
    }
}

fn review(uid: &str) -> String {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let request = json!({"uid": uid, "operation": "CREATE", "kind": kind, "object": {"metadata": {}, "spec": {"containers": []}}});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string()
}

#[tokio::test]
async fn a_review_is_answered_with_its_uid_again_and_again_on_one_connection() {
    let webhook = Webhook::new().await;
    let mut peer = webhook.peer().await;
    for uid in ["a", "b", "c"] {
        let answer = peer.review(uid).await;
        assert_eq!((&answer["response"]["uid"], &answer["response"]["allowed"]), (&json!(uid), &json!(true)));
    }
}

#[tokio::test]
async fn what_is_no_review_is_refused_with_a_sentence_and_the_end() {
    let webhook = Webhook::new().await;
    for (method, path, body, status, sentence) in [
        ("POST", "/inject/pod", "hello", 400, "this is no AdmissionReview: expected value at line 1 column 1\n"),
        (
            "POST",
            "/inject/namespace",
            "",
            400,
            "this is no AdmissionReview: EOF while parsing a value at line 1 column 0\n",
        ),
        ("GET", "/inject/pod", "", 405, "only POST is answered here\n"),
        ("POST", "/", "", 404, "there are /inject/pod and /inject/namespace\n"),
    ] {
        let mut peer = webhook.peer().await;
        let said = peer.send(method, path, body).await;
        assert_eq!((said.0.as_u16(), said.1.as_str(), said.2), (status, sentence, true));
        peer.ends().await;
    }
}

#[tokio::test]
async fn a_review_of_three_mebibytes_is_read_and_one_without_end_is_not() {
    let webhook = Webhook::new().await;
    let large = review("a").replace("\"metadata\":{}", &format!("\"metadata\":{{\"x\":\"{}\"}}", "x".repeat(3 << 20)));
    assert!(large.len() > 3 << 20);
    let (status, ..) = webhook.peer().await.send("POST", "/inject/pod", large).await;
    assert_eq!(status, StatusCode::OK);
    let mut stream = webhook.dial_trusting(&webhook.bundle).await.expect("it is trusted");
    let head = format!("POST /inject/pod HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 1_u64 << 40);
    stream.write_all(head.as_bytes()).await.expect("it listens");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("text");
    assert!(said.starts_with("HTTP/1.1 413 ") && said.contains("a review has at most 4194304 bytes"), "{said}");
}

#[tokio::test]
async fn a_chunked_review_is_bounded_too() {
    let webhook = Webhook::new().await;
    let mut stream = webhook.dial_trusting(&webhook.bundle).await.expect("it is trusted");
    stream
        .write_all(b"POST /inject/pod HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .expect("sent");
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    for _ in 0..4 {
        stream.write_all(&chunk).await.expect("so much is taken");
    }
    stream.write_all(b"1\r\n \r\n").await.expect("this is one too many");
    let mut said = vec![0; 12];
    stream.read_exact(&mut said).await.expect("an answer");
    assert_eq!(String::from_utf8_lossy(&said), "HTTP/1.1 413");
}

#[tokio::test]
async fn the_next_connection_gets_the_newest_certificate_and_no_running_one_is_cut() {
    let webhook = Webhook::new().await;
    let mut before = webhook.peer().await;
    let bundle = serve_another(&webhook.current);
    assert!(webhook.dial_trusting(&webhook.bundle).await.is_err(), "the old authority does not know it");
    webhook.dial_trusting(&bundle).await.expect("the new one does");
    assert_eq!(before.review("still").await["response"]["uid"], "still");
}

#[tokio::test]
async fn who_says_nothing_does_not_keep_a_place() {
    let webhook = Webhook::new().await;
    let mut silent = webhook.dial().await;
    let mut speechless = webhook.dial_trusting(&webhook.bundle).await.expect("it is trusted");
    let mut slow = webhook.dial_trusting(&webhook.bundle).await.expect("it is trusted");
    let mut stuck = webhook.dial_trusting(&webhook.bundle).await.expect("it is trusted");
    slow.write_all(b"POST /inject/pod HTTP/1.1\r\nhost: ").await.expect("it listens");
    stuck.write_all(&[STUCK, b"{"].concat()).await.expect("it listens");
    tokio::time::pause();
    let begun = Instant::now();
    // How they are ended does not matter; a connection without a farewell is an error to TLS.
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    let _ = slow.read_to_end(&mut rest).await;
    let _ = stuck.read_to_end(&mut rest).await;
    assert!(begun.elapsed() <= HANDSHAKE.max(READ) + Duration::from_secs(1), "{:?}", begun.elapsed());
    let _ = speechless.read_to_end(&mut rest).await;
    assert!(begun.elapsed() <= IDLE + Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_flood_that_finishes_nothing_does_not_keep_an_api_server_out() {
    let webhook = Webhook::with(MOST).await;
    let mut before = webhook.peer().await;
    before.review("before").await;
    tokio::time::pause();
    let begun = Instant::now();
    let (mut silent, mut slow) = (Vec::new(), Vec::new());
    for number in 0..MOST {
        match number % 3 {
            0 => silent.push(webhook.dial_from(2).await),
            1 => slow.push(webhook.begin_from(2, b"POST /inject/pod HTTP/1.1\r\nhost: ").await),
            _ => slow.push(webhook.begin_from(2, &[STUCK, b"{"].concat()).await),
        }
    }
    for uid in ["a", "b", "c"] {
        assert_eq!(webhook.peer().await.review(uid).await["response"]["uid"], uid);
    }
    assert_eq!(before.review("after").await["response"]["uid"], "after", "who was there stays");
    assert!(begun.elapsed() < READ, "nobody waited until their time was over: {:?}", begun.elapsed());
    let left = open(&mut silent).await + open(&mut slow).await;
    assert!(left > MOST / 2, "{left} are still there, and did not have to end for it");
}

#[tokio::test]
async fn a_flood_from_the_api_servers_own_address_does_not_either() {
    let webhook = Webhook::with(MOST).await;
    tokio::time::pause();
    let begun = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..MOST + 4 {
        slow.push(webhook.begin_from(1, b"POST /inject/pod HTTP/1.1\r\nhost: ").await);
    }
    assert_eq!(webhook.peer().await.review("a").await["response"]["uid"], "a");
    assert!(begun.elapsed() < READ, "it did not wait until their time was over: {:?}", begun.elapsed());
    let left = open(&mut slow).await;
    assert!(left > MOST - 4, "{left} are still there, and did not have to end for it");
}

#[tokio::test]
async fn large_bodies_that_do_not_end_do_not_keep_a_review_from_being_read() {
    let webhook = Webhook::new().await;
    tokio::time::pause();
    let begun = Instant::now();
    let mut large = Vec::new();
    let head = b"POST /inject/pod HTTP/1.1\r\nhost: x\r\ncontent-length: 4194304\r\n\r\n".as_slice();
    for last in 2..8 {
        large.push(webhook.begin_from(last, &[head, &vec![b' '; (4 << 20) - 1]].concat()).await);
    }
    let padded = review("a").replace("\"metadata\":{}", &format!("\"metadata\":{{\"x\":\"{}\"}}", "x".repeat(1 << 20)));
    let mut peer = webhook.peer().await;
    let (status, ..) = peer.send("POST", "/inject/pod", padded).await;
    assert_eq!(status, StatusCode::OK);
    assert!(begun.elapsed() < READ, "it did not wait until their time was over: {:?}", begun.elapsed());
    assert!(open(&mut large).await > 0, "not all of them had to end for it");
}

#[tokio::test]
async fn what_is_announced_and_not_sent_takes_no_memory() {
    let webhook = Webhook::new().await;
    let mut announced = Vec::new();
    for _ in 0..10 {
        let head = b"POST /inject/pod HTTP/1.1\r\nhost: x\r\ncontent-length: 4194304\r\n\r\n ";
        announced.push(webhook.begin_from(2, head).await);
    }
    let (status, ..) = webhook.peer().await.send("POST", "/inject/pod", review("a")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(open(&mut announced).await, 10, "nobody had to end for it");
}

#[tokio::test]
async fn a_review_of_few_bytes_that_would_become_many_is_not_read() {
    let webhook = Webhook::new().await;
    for one in [r#"{"a":1}"#, "{}"] {
        let many = vec![one; 100_000].join(",");
        let dense = review("a").replace("\"containers\":[]", &format!("\"tolerations\":[{many}]"));
        assert!(dense.len() < 1 << 20);
        let (status, sentence, closes) = webhook.peer().await.send("POST", "/inject/pod", dense).await;
        assert_eq!((status, closes), (StatusCode::PAYLOAD_TOO_LARGE, true), "{sentence}");
    }
}

#[tokio::test]
async fn who_was_answered_once_has_no_more_time_for_the_next_request() {
    let webhook = Webhook::new().await;
    let mut stream = webhook.dial_trusting(&webhook.bundle).await.expect("it is trusted");
    let body = review("a");
    let whole = format!("POST /inject/pod HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(whole.as_bytes()).await.expect("it listens");
    let mut said = vec![0; 12];
    stream.read_exact(&mut said).await.expect("an answer");
    assert_eq!(String::from_utf8_lossy(&said), "HTTP/1.1 200");
    tokio::time::pause();
    sleep(Duration::from_mins(1)).await;
    stream.write_all(b"POST /inject/pod").await.expect("it still listens");
    let begun = Instant::now();
    let _ = stream.read_to_end(&mut said).await;
    assert!(begun.elapsed() <= READ + Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_idle_connection_outlives_an_api_servers_patience_and_no_more() {
    let webhook = Webhook::new().await;
    let mut peer = webhook.peer().await;
    // An API server dials one more where its others are busy, and may need it much later.
    let mut spare = webhook.peer().await;
    peer.review("a").await;
    tokio::time::pause();
    sleep(Duration::from_secs(100)).await;
    spare.review("spare").await;
    peer.review("b").await;
    let begun = Instant::now();
    peer.ends().await;
    assert!((IDLE..IDLE * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn hundreds_at_one_time_are_all_answered() {
    let webhook = Arc::new(Webhook::new().await);
    let mut peers = JoinSet::new();
    for number in 0..400 {
        let webhook = webhook.clone();
        peers.spawn(async move {
            let uid = number.to_string();
            assert_eq!(webhook.peer().await.review(&uid).await["response"]["uid"], uid);
        });
    }
    while let Some(peer) = peers.join_next().await {
        peer.expect("it was answered");
    }
}

#[tokio::test]
async fn a_replica_that_leaves_ends_each_connection_with_an_answer() {
    let webhook = Webhook::new().await;
    let mut peer = webhook.peer().await;
    webhook.stops.leaving.cancel();
    let (status, _, closes) = peer.send("POST", "/inject/pod", review("a")).await;
    assert_eq!((status, closes), (StatusCode::OK, true));
    peer.ends().await;
    webhook.peer().await.review("b").await;
}

#[tokio::test]
async fn at_the_end_what_is_under_way_is_finished_and_nothing_new_begins() {
    let mut webhook = Webhook::new().await;
    let mut idle = webhook.peer().await;
    idle.review("a").await;
    let mut under_way = webhook.dial_trusting(&webhook.bundle).await.expect("it is trusted");
    let body = review("last");
    let head = format!("POST /inject/pod HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    under_way.write_all(head.as_bytes()).await.expect("it listens");
    // The head has arrived when another whole exchange behind it has.
    idle.review("b").await;
    webhook.stops.closing.cancel();
    idle.ends().await;
    under_way.write_all(body.as_bytes()).await.expect("it still listens");
    let mut said = String::new();
    // A connection without a farewell is an error to TLS.
    let _ = under_way.read_to_string(&mut said).await;
    assert!(said.starts_with("HTTP/1.1 200 OK") && said.contains("\"uid\":\"last\""), "{said}");
    webhook.server.join_next().await.expect("a server").expect("it ends well");
    assert!(TcpStream::connect(webhook.address).await.is_err());
}

#[tokio::test]
async fn what_takes_too_long_does_not_hold_up_the_end() {
    let mut webhook = Webhook::new().await;
    let mut stuck = webhook.dial_trusting(&webhook.bundle).await.expect("it is trusted");
    stuck.write_all(b"POST /inject/pod HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{").await.expect("it listens");
    webhook.peer().await.review("a").await;
    tokio::time::pause();
    webhook.stops.closing.cancel();
    let begun = Instant::now();
    webhook.server.join_next().await.expect("a server").expect("it ends well");
    assert!(begun.elapsed() <= END + Duration::from_secs(1), "{:?}", begun.elapsed());
}
