//! The operator as it is seen from outside: its replicas, what they count, and the certificates that they serve.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::world::World;

/// Its container in its pods.
pub(crate) const CONTAINER: &str = "operator";

/// Where the webhook listens, and the name by which the API server calls it.
const WEBHOOK: (u16, &str) = (10250, "postern-webhook.postern-system.svc");

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A pod of the operator.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) restarts: i64,
    pub(crate) ready: bool,
}

/// All pods of the operator that are not about to end, as far as the API server answers.
pub(crate) fn replicas(world: &World<'_>) -> Vec<Replica> {
    let pods = list(
        &world.system.try_kubectl(["get", "pods", "-o", "json", "-l", "app.kubernetes.io/component=operator"]).out,
    );
    let is_there = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    pods.iter().filter(is_there).filter_map(Replica::of).collect()
}

/// What a list of kubectl holds; nothing where the API server did not answer.
pub(crate) fn list(json: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(json).unwrap_or_default();
    list["items"].as_array().cloned().unwrap_or_default()
}

/// A replica that runs: the leader, or any.
pub(crate) fn choose(world: &mut World<'_>, leader: bool) -> Option<Replica> {
    let holder = holder(world);
    let mut all = replicas(world);
    all.retain(|replica| replica.ready && (!leader || replica.name == holder));
    if all.is_empty() {
        world.say("    there is none");
        return None;
    }
    let index = world.random.below(all.len() as u64);
    all.into_iter().nth(usize::try_from(index).expect("there are not so many"))
}

/// Who holds the lease.
pub(crate) fn holder(world: &World<'_>) -> String {
    let words = ["get", "lease", "postern-operator", "-o", "jsonpath={.spec.holderIdentity}"];
    world.system.try_kubectl(words).out
}

/// What a replica counts under this name, over all labels that begin so; nothing where it does not answer.
pub(crate) fn count(metrics: &str, name: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// All metrics of a replica.
pub(crate) fn metrics(world: &World<'_>, replica: &Replica) -> String {
    world.system.http_get(&replica.name, "9187", "/metrics").out
}

/// The certificate that a replica serves, if it is believed by who trusts `bundle`; else why not.
pub(crate) fn served(world: &World<'_>, replica: &Replica, bundle: &str) -> Result<CertificateDer<'static>, String> {
    let address = SocketAddr::new(replica.address.ok_or("it has no address")?, WEBHOOK.0);
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(bundle.as_bytes()).filter_map(Result::ok);
    roots.add_parsable_certificates(certificates);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(WEBHOOK.1).map_err(|error| error.to_string())?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    world.cluster.node().within(|| shake_hands(address, session)).map_err(|error| error.to_string())
}

fn shake_hands(address: SocketAddr, session: ClientConnection) -> std::io::Result<CertificateDer<'static>> {
    let stream = TcpStream::connect_timeout(&address, HANDSHAKE)?;
    stream.set_read_timeout(Some(HANDSHAKE))?;
    stream.set_write_timeout(Some(HANDSHAKE))?;
    let mut stream = StreamOwned::new(session, stream);
    // The first byte that is written waits for the handshake.
    stream.write_all(b"GET / HTTP/1.1\r\nHost: webhook\r\nConnection: close\r\n\r\n")?;
    let chain = stream.conn.peer_certificates().unwrap_or_default();
    chain.first().cloned().map(CertificateDer::into_owned).ok_or_else(|| std::io::Error::other("it shows none"))
}

// === impl Replica ===

impl Replica {
    fn of(pod: &Value) -> Option<Self> {
        let status = &pod["status"]["containerStatuses"][0];
        Some(Self {
            name: pod["metadata"]["name"].as_str()?.to_owned(),
            address: pod["status"]["podIP"].as_str().and_then(|address| address.parse().ok()),
            restarts: status["restartCount"].as_i64().unwrap_or_default(),
            ready: status["ready"] == true,
        })
    }
}
