//! The stage: a cluster with Postern on it as its README says, a namespace for fake pods and one for real ones.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cast::cluster::{Cluster, Tenant};
use cast::{images, process};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::edits::Editor;
use crate::pods::{self, NODE, Pods};
use crate::say;
use crate::sidecars::{PORT, RANGE, Sidecars};
use crate::statuses::Statuses;

/// Threads that play and measure.
const THREADS: usize = 2;
/// Decides how long which sync of a played kubelet takes.
const SEED: u64 = 4;

/// Everything that is there; what is made on it goes with it.
pub(crate) struct Stage {
    /// All that goes on beside what is measured.
    _tasks: JoinSet<()>,
    pub(crate) runtime: Runtime,
    pub(crate) fake: Place,
    pub(crate) real: Place,
    pub(crate) pods: Pods,
    pub(crate) sidecars: Sidecars,
    pub(crate) cluster: Cluster,
}

/// A namespace of the cluster, and who edits configurations there.
pub(crate) struct Place {
    pub(crate) editor: Editor,
    pub(crate) tenant: Tenant,
}

// === impl Stage ===

impl Stage {
    pub(crate) fn set() -> Result<Self> {
        ensure!(
            std::env::var_os("POSTERN_TEST_KUBECONFIG").is_none(),
            "a fleet of fake pods needs a cluster of its own, not the existing one of POSTERN_TEST_KUBECONFIG"
        );
        let cluster = Cluster::bring_up(&|line: &str| say(line))?;
        install(&cluster);
        // After the operator, which would be scheduled there otherwise.
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
        let client = runtime.block_on(connect(cluster.kubeconfig()))?;
        let (fake, real) = (cluster.tenant("fleet"), cluster.tenant("real"));
        let (mut tasks, sidecars) = (JoinSet::new(), Sidecars::new(SEED));
        process::run(cluster.node().command("ip").args(["route", "add", "local", RANGE, "dev", "lo"]));
        let listener = cluster.node().within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)));
        let listener = listener.context("the sidecars' address is not free")?;
        let (fake, real) = runtime.block_on(async {
            pods::make_node(&client, &mut tasks).await?;
            sidecars.play((&client, fake.name(), NODE), listener, &mut tasks)?;
            anyhow::Ok((Place::new(&client, fake, &mut tasks), Place::new(&client, real, &mut tasks)))
        })?;
        let pods = Pods::new(&client, fake.tenant.name(), sidecars.clone());
        Ok(Self { _tasks: tasks, runtime, fake, real, pods, sidecars, cluster })
    }
}

// === impl Place ===

impl Place {
    fn new(client: &Client, tenant: Tenant, tasks: &mut JoinSet<()>) -> Self {
        let statuses = Statuses::follow(client, tenant.name(), tasks);
        Self { editor: Editor::new(client, tenant.name(), statuses), tenant }
    }
}

fn install(cluster: &Cluster) {
    for image in [images::gateway(), images::operator(), images::toolbox()] {
        cluster.load(image);
    }
    let chart = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/postern")).display().to_string();
    let words = ["install", "postern", &chart, "--namespace", "postern-system", "--create-namespace", "--wait"];
    cluster.helm([&words[..], &["--set", "image.registry=localhost/postern"]].concat());
}

async fn connect(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
