//! `kubectl postern dashboard POD`: the gateway's own page, brought to this machine's loopback.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;
use kube::ResourceExt;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::forward::Gateway;
use super::look::Look;
use super::{Ending, Error, print};

/// Connections at one time; a browser makes six.
const MOST_CONNECTIONS: usize = 32;

/// The command line of `dashboard`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The pod.
    #[arg(value_name = "POD")]
    pub pod: String,
    /// The port on this machine; any free one by default.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
}

/// Serves the page of one gateway until a signal comes.
pub async fn run(look: &Look, namespace: &str, settings: &Settings) -> Result<Ending, Error> {
    let name = settings.pod.strip_prefix("pod/").unwrap_or(&settings.pod);
    let pod = look.pod(namespace, name).await?;
    let pod = pod.ok_or_else(|| Error::Failed(format!("there is no pod {name} in namespace {namespace}")))?;
    let view = look.glance(pod).await;
    let seen = view.seen.ok_or_else(|| Error::Failed(format!("pod {name} has no gateway")))?;
    let gateway = Gateway::of(look.client(), &seen).map_err(|why| Error::Failed(format!("pod {name}: {why}")))?;
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port))).await;
    let listener =
        listener.map_err(|error| Error::Failed(format!("cannot listen on port {}: {error}", settings.port)))?;
    let address = listener.local_addr()?;
    print::say(&format!("http://{address}/ shows the gateway of pod {}; Ctrl-C ends it.\n", view.pod.name_any()))?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        if connections.len() < MOST_CONNECTIONS {
            connections.spawn(pass(gateway.clone(), stream));
        }
    }
}

async fn pass(gateway: Gateway, mut stream: TcpStream) {
    match gateway.open().await {
        // Whichever side ends it, the browser asks again.
        Ok(mut open) => drop(copy_bidirectional(&mut stream, &mut open.stream).await),
        // Nobody is left to be told if that fails.
        Err(why) => drop(print::say(&format!("{why}\n"))),
    }
}
