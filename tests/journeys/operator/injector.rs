//! Another injector, as a service mesh or an agent of the monitoring is one: a mutating webhook that gives every pod of a
//! namespace one more container.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cast::cluster::{Cluster, Kubectl};
use cast::time::pause;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::stage::{Stage, container};

/// The container that it adds.
pub(crate) const AGENT: &str = "agent";

/// The API server waits no longer either.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks for a connection.
const GLANCE: Duration = Duration::from_millis(10);

/// No review of a pod is longer.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// The webhook; dropped, it is taken out of the cluster and ends.
pub(crate) struct Injector {
    name: String,
    cluster: Kubectl,
    reviews: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

// === impl Injector ===

impl Injector {
    /// Serves the namespace of `stage`. Webhooks are called in the order of their configurations' names, of which this
    /// one begins with `prefix`.
    pub(crate) fn named(prefix: &str, cluster: &Cluster, stage: &Stage) -> Self {
        let node = cluster.node();
        let listener = node.within(|| TcpListener::bind((node.address(), 0)).expect("the node's address can be bound"));
        let address = listener.local_addr().expect("a bound socket has an address");
        let key = KeyPair::generate().expect("the system has randomness");
        let params = CertificateParams::new(vec![address.ip().to_string()]).expect("an address is a name");
        let certificate = params.self_signed(&key).expect("it can be signed by its own key");
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows them")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .expect("the key is the certificate's");
        let (reviews, stop) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
        let server = std::thread::spawn({
            let (reviews, stop) = (reviews.clone(), stop.clone());
            move || serve(&listener, &Arc::new(tls), &reviews, &stop)
        });
        let name = format!("{prefix}-{}", stage.name());
        let injector = Self { name, cluster: (**cluster).clone(), reviews, stop, server: Some(server) };
        injector.register(stage.name(), address, &certificate.pem());
        injector
    }

    fn register(&self, namespace: &str, address: SocketAddr, authority: &str) {
        let webhook = json!({
            "name": "agent.example.com",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": PATIENCE.as_secs(),
            "reinvocationPolicy": "IfNeeded",
            "clientConfig": {"url": format!("https://{address}/"), "caBundle": base64(authority.as_bytes())},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        });
        self.cluster.apply(
            &json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": self.name},
                "webhooks": [webhook],
            })
            .to_string(),
        );
    }

    /// How often it was asked.
    pub(crate) fn reviews(&self) -> u32 {
        self.reviews.load(Ordering::Acquire)
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        let gone = self.cluster.try_kubectl(["delete", "mutatingwebhookconfiguration", &self.name]);
        self.stop.store(true, Ordering::Release);
        let ended = self.server.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(gone.ok, "{}", gone.err);
            assert!(matches!(ended, Some(Ok(()))), "the injector has failed");
        }
    }
}

/// One connection and one review after the other.
fn serve(listener: &TcpListener, tls: &Arc<ServerConfig>, reviews: &AtomicU32, stop: &AtomicBool) {
    listener.set_nonblocking(true).expect("a socket can be asked without waiting");
    while !stop.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) => match converse(stream, tls.clone()) {
                Ok(()) => _ = reviews.fetch_add(1, Ordering::AcqRel),
                Err(error) => eprintln!("the injector's connection failed: {error}"),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => pause(GLANCE),
            Err(error) => eprintln!("the injector cannot accept: {error}"),
        }
    }
}

fn converse(stream: TcpStream, tls: Arc<ServerConfig>) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let session = ServerConnection::new(tls).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(session, stream));
    let (mut length, mut line) = (0, String::new());
    while stream.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        line.clear();
    }
    let mut body = vec![0; usize::min(length, MAX_BODY)];
    stream.read_exact(&mut body)?;
    let answer = review(&serde_json::from_slice(&body)?).to_string();
    let stream = stream.get_mut();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// What it makes of a pod: nothing more, where it has been before.
fn review(review: &Value) -> Value {
    let request = &review["request"];
    let containers = request["object"]["spec"]["containers"].as_array();
    let is_there = containers.is_some_and(|all| all.iter().any(|one| one["name"] == AGENT));
    let agent = container(AGENT, "trap 'exit 0' TERM; sleep 3600 & wait");
    let patch = if is_there { json!([]) } else { json!([{"op": "add", "path": "/spec/containers/-", "value": agent}]) };
    json!({
        "apiVersion": review["apiVersion"],
        "kind": review["kind"],
        "response": {
            "uid": request["uid"],
            "allowed": true,
            "patchType": "JSONPatch",
            "patch": base64(patch.to_string().as_bytes()),
        },
    })
}

/// As JSON carries bytes.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let number = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place > chunk.len() { '=' } else { letter.into() });
        }
    }
    text
}
