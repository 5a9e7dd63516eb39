//! The sidecars of all fake pods, played by one listener: it answers `/config` for every address of their range as the
//! gateway of that pod would, and the [`Kubelets`] say what that gateway has got.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Config, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};
use operator::names;
use operator::render::digest;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::kubelets::{Index, Kubelets};
use crate::say;

/// The addresses of fake pods, which are routed to whoever listens on the node.
pub(crate) const RANGE: &str = "10.99.0.0/16";
/// The first of them that a pod gets.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Where a gateway is asked.
pub(crate) const PORT: u16 = 19187;

/// Questions that are answered at one time.
const MAX_QUESTIONS: usize = 512;
/// How long one may take to be asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of it that are read.
const MAX_HEAD: usize = 4096;

/// The sidecars of all fake pods; cheap to clone.
#[derive(Clone)]
pub(crate) struct Sidecars(Arc<Inner>);

struct Inner {
    kubelets: Mutex<Kubelets>,
    touched: Notify,
}

// === impl Sidecars ===

impl Sidecars {
    /// None yet. Whatever `seed` decides is decided alike each time.
    pub(crate) fn new(seed: u64) -> Self {
        let kubelets = Mutex::new(Kubelets::new(seed, Instant::now()));
        Self(Arc::new(Inner { kubelets, touched: Notify::new() }))
    }

    /// Begins to play the pods of `node` in `namespace`, which are asked through `listener`.
    pub(crate) fn play(
        &self,
        (client, namespace, node): (&Client, &str, &str),
        listener: std::net::TcpListener,
        tasks: &mut JoinSet<()>,
    ) -> Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener).context("the runtime does not take the listener")?;
        let pods = Api::<PartialObjectMeta<Pod>>::namespaced(client.clone(), namespace);
        let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
        tasks.spawn(follow(watch(pods, Config::default().fields(&format!("spec.nodeName={node}"))), {
            let sidecars = self.clone();
            move |pod| sidecars.see(&pod)
        }));
        tasks.spawn(follow(watch(maps, Config::default().labels(&format!("{}=true", names::MANAGED))), {
            let sidecars = self.clone();
            move |map| sidecars.deliver(&map)
        }));
        tasks.spawn(self.clone().sync());
        tasks.spawn(self.clone().answer(listener));
        Ok(())
    }

    /// The pod `name` starts; returns its address.
    pub(crate) fn start(&self, name: &str, config: &str) -> Ipv4Addr {
        address(self.kubelets().start(name, config, Instant::now()))
    }

    /// All pods are gone.
    pub(crate) fn clear(&self) {
        self.kubelets().clear();
    }

    /// How many pods of `config` serve what has this hash, and since when the last of them does.
    pub(crate) fn up_to_date(&self, config: &str, hash: &str) -> (usize, Option<Instant>) {
        self.kubelets().up_to_date(config, hash)
    }

    fn see(&self, pod: &PartialObjectMeta<Pod>) {
        let annotation = pod.annotations().get(names::CONFIG_HASH);
        self.kubelets().see(&pod.name_any(), annotation.map(String::as_str), Instant::now());
        self.0.touched.notify_one();
    }

    fn deliver(&self, map: &ConfigMap) {
        let file = map.data.as_ref().and_then(|data| data.get(names::CONFIG_KEY));
        if let (Some(config), Some(file)) = (map.labels().get(names::CONFIG), file) {
            self.kubelets().deliver(config, &digest(file.as_bytes()));
        }
    }

    async fn sync(self) {
        loop {
            let next = self.kubelets().turn(Instant::now());
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.0.touched.notified() => {}
            }
        }
    }

    async fn answer(self, listener: TcpListener) {
        let mut questions = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if questions.len() < MAX_QUESTIONS => match accepted {
                    Ok((stream, _)) => {
                        let sidecars = self.clone();
                        // Who asks and hangs up has a reason that is seen elsewhere.
                        questions.spawn(async move { drop(timeout(PATIENCE, sidecars.converse(stream)).await) });
                    }
                    // There are no more file descriptors; some come back.
                    Err(_) => sleep(Duration::from_millis(10)).await,
                },
                Some(_) = questions.join_next() => {}
            }
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let said = match stream.local_addr()?.ip() {
            IpAddr::V4(ip) if head.starts_with(b"GET /config ") => self.config(ip),
            _ => None,
        };
        let (status, body) = said.map_or_else(|| ("404 Not Found", String::new()), |body| ("200 OK", body));
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }

    /// What the gateway at this address says of itself.
    fn config(&self, ip: Ipv4Addr) -> Option<String> {
        let kubelets = self.kubelets();
        let (name, hash) = kubelets.serves(index(ip)?)?;
        let status = json!({
            "version": env!("CARGO_PKG_VERSION"), "name": name, "hash": hash, "generation": 1, "state": "applied",
            "refused": null, "proxies": [], "restartRequired": [],
        });
        Some(status.to_string())
    }

    fn kubelets(&self) -> MutexGuard<'_, Kubelets> {
        self.0.kubelets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells of everything that a watch shows.
async fn follow<K: Send + 'static>(
    stream: impl futures::Stream<Item = watcher::Result<Event<K>>> + Send,
    tell: impl Fn(K) + Send,
) {
    let mut stream = std::pin::pin!(stream.default_backoff());
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => tell(object),
            Ok(Event::Delete(_) | Event::Init | Event::InitDone) => {}
            Err(error) => say(&format!("a watch broke, and begins anew: {error}")),
        }
    }
}

fn address(index: Index) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST.to_bits().saturating_add(u32::try_from(index).unwrap_or(u32::MAX)))
}

fn index(address: Ipv4Addr) -> Option<Index> {
    address.to_bits().checked_sub(FIRST.to_bits()).and_then(|index| Index::try_from(index).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pod_has_an_address_of_its_own() {
        assert_eq!(address(0).to_string(), "10.99.0.1");
        assert_eq!(address(5000).to_string(), "10.99.19.137");
        assert_eq!(index(address(5000)), Some(5000));
        assert_eq!(index(Ipv4Addr::LOCALHOST).map(|index| index > 20_000), Some(true));
    }
}
