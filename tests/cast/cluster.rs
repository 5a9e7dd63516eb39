//! A real Kubernetes for journeys: etcd, API server, controllers, scheduler, kubelet, kube-proxy, DNS and containerd on one
//! node, in namespaces of its own.
//!
//! ```no_run
//! # use cast::{Cluster, images};
//! let cluster = Cluster::shared();
//! cluster.load(images::toolbox());
//! let shop = cluster.tenant("shop");                       // a namespace of Kubernetes for this journey alone
//! shop.apply("{apiVersion: v1, kind: Pod, metadata: {name: app}, spec: {...}}");
//! shop.wait_for("pod/app", "condition=Ready");
//! assert_eq!(shop.exec("app", "main", ["psql", "-c", "select 1"]).succeeded(), "1");
//! assert!(shop.try_apply("{...}").refused().contains("must be"));
//! ```
//!
//! [`Cluster`] and [`Tenant`] are both a [`Kubectl`]; a tenant's is for its own namespace. [`Cluster::node`] is the machine:
//! its network, which pods are in, and its components, which can be stopped.
//!
//! Nothing of a cluster is left when its owner has gone, however that went: no process, mount, cgroup, network or file.
//! `POSTERN_TEST_KUBERNETES=1.30` brings up the lowest Kubernetes that the chart takes instead of the newest that builds.
//! `POSTERN_TEST_KUBECONFIG` names an existing cluster to be used instead, and `POSTERN_TEST_LOAD` the command that
//! brings an image there: `kind load image-archive`, or one with `$1` for the archive and `$2` for the image's name.

use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::images::{self, Image};
use crate::install::{self, program};
use crate::process::{is_root, run};
use crate::workspace::target;

mod release;
mod programs;
mod keeper;
mod outcome;
mod kubectl;
mod tenant;
mod plugin;
mod node;

pub use kubectl::{Event, Kubectl};
pub use node::{Component, Frozen, Node};
pub use outcome::Outcome;
pub use plugin::plugin;
pub use programs::find_or_build;
pub use release::{RELEASE, Release};
pub use tenant::Tenant;

pub(crate) use release::newest_programs;

use keeper::Keeper;

/// Hears of what takes a while.
pub type Tell<'a> = &'a dyn Fn(&str);

/// Names an existing cluster.
const KUBECONFIG: &str = "POSTERN_TEST_KUBECONFIG";
/// Names the command that brings images there.
const LOAD: &str = "POSTERN_TEST_LOAD";
/// Names the folder of a cluster that another process of the cast keeps, for several test programs to share.
const FOLDER: &str = "POSTERN_TEST_CLUSTER";

/// A Kubernetes.
#[derive(Debug)]
pub struct Cluster {
    kubectl: Kubectl,
    node: Option<Node>,
    /// Where it is noted down what was done once.
    once: PathBuf,
    _origin: Origin,
}

/// Who takes it down.
#[derive(Debug)]
enum Origin {
    /// We do.
    Ours(#[expect(dead_code, reason = "it is there to be dropped")] Keeper),
    /// Another process of the cast.
    Shared,
    /// Nobody of ours.
    Existing,
}

// === impl Cluster ===

impl Cluster {
    /// The cluster of all journeys of this run but the destructive ones; the first who asks brings it up.
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let folder = std::env::var_os(FOLDER);
            let cluster = folder.map_or_else(|| Self::bring_up(&tell_person), |folder| Self::join(Path::new(&folder)));
            cluster.unwrap_or_else(|error| panic!("{error:#}"))
        })
    }

    /// One of its own for a journey that destroys something.
    #[track_caller]
    pub fn fresh() -> Self {
        assert!(
            std::env::var_os(KUBECONFIG).is_none(),
            "this journey destroys its cluster, so it does not take the one of {KUBECONFIG}"
        );
        Self::bring_up(&tell_person).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// A cluster, or the sentence that says what is missing; installs what it may, and tells how far it is.
    pub fn bring_up(tell: Tell<'_>) -> Result<Self> {
        Self::bring_up_release(&Release::wanted()?, tell)
    }

    /// The same of this release of Kubernetes, unless an existing cluster is named.
    pub fn bring_up_release(release: &Release, tell: Tell<'_>) -> Result<Self> {
        if let Some(kubeconfig) = std::env::var_os(KUBECONFIG) {
            return Self::existing(Path::new(&kubeconfig));
        }
        ensure!(
            is_root(),
            "a cluster needs root: run this again with `sudo --preserve-env=PATH`, or name an existing cluster in {KUBECONFIG}"
        );
        install::ensure_installed(install::FOR_THE_CLUSTER)?;
        let programs = programs::find_or_build(release, tell)?;
        let pause = images::pause(&programs)?;
        let keeper = Keeper::start(&programs, &[pause.archive()], tell)?;
        let (folder, node) = (keeper.folder().to_owned(), Node::in_folder(keeper.folder())?);
        Ok(Self::of_our_own(&folder, &programs, node, Origin::Ours(keeper)))
    }

    fn join(folder: &Path) -> Result<Self> {
        let node = Node::in_folder(folder).with_context(|| format!("{FOLDER} names no cluster"))?;
        Ok(Self::of_our_own(folder, Release::wanted()?.programs(), node, Origin::Shared))
    }

    fn of_our_own(folder: &Path, programs: &Path, node: Node, origin: Origin) -> Self {
        let kubectl = Kubectl {
            program: programs.join("kubectl"),
            helm: programs.join("helm"),
            kubeconfig: folder.join("kubeconfig"),
            cache: folder.join("tmp"),
            namespace: None,
            user: None,
        };
        Self { kubectl, node: Some(node), once: folder.join("once"), _origin: origin }
    }

    fn existing(kubeconfig: &Path) -> Result<Self> {
        ensure!(kubeconfig.is_file(), "{KUBECONFIG}={} is no file", kubeconfig.display());
        let folder = notes()?;
        let kubectl = Kubectl {
            program: install::find("kubectl").context("kubectl is not installed")?,
            helm: install::find("helm").context("helm is not installed")?,
            kubeconfig: fs::canonicalize(kubeconfig)?,
            cache: folder.clone(),
            namespace: None,
            user: None,
        };
        Ok(Self { kubectl, node: None, once: folder, _origin: Origin::Existing })
    }

    /// Lets other programs of this run share it: give them this variable.
    pub fn for_others(&self) -> (&'static str, PathBuf) {
        let folder = self.once.parent().filter(|_| self.node.is_some());
        folder.map_or_else(|| (KUBECONFIG, self.kubeconfig().to_owned()), |folder| (FOLDER, folder.to_owned()))
    }

    /// The machine that it runs on; fails the test on an existing cluster, whose machines are not ours.
    #[track_caller]
    pub fn node(&self) -> &Node {
        self.node.as_ref().expect("this journey needs a cluster of the cast's own, not an existing one")
    }

    /// A namespace of its own for a journey, whose name begins with `purpose`.
    #[track_caller]
    pub fn tenant(&self, purpose: &str) -> Tenant {
        Tenant::new(&self.kubectl, purpose, "")
    }

    /// The same with more metadata, as YAML in one line: `labels: {postern.dev/inject: enabled}`.
    #[track_caller]
    pub fn tenant_with(&self, purpose: &str, metadata: &str) -> Tenant {
        Tenant::new(&self.kubectl, purpose, metadata)
    }

    /// Makes an image known to it, unless it is already.
    #[track_caller]
    pub fn load(&self, image: &Image) {
        self.once(&format!("image-{}", image.digest()), |cluster| match &cluster.node {
            Some(node) => node.load(image.archive()),
            None => load_elsewhere(image),
        });
    }

    /// Does something once in the life of this cluster, such as installing the chart: who comes later, in whatever process,
    /// waits until it is done. What has panicked is done again by the next.
    #[track_caller]
    pub fn once(&self, name: &str, work: impl FnOnce(&Self)) {
        let mark = self.once.join(name);
        let lock = File::create(self.once.join(format!("{name}.lock"))).expect("the cluster's folder is writable");
        lock.lock().expect("a file can be locked");
        if mark.exists() {
            return;
        }
        work(self);
        fs::write(mark, "").expect("the cluster's folder is writable");
    }
}

impl Deref for Cluster {
    type Target = Kubectl;

    fn deref(&self) -> &Kubectl {
        &self.kubectl
    }
}

/// A folder for what this process notes down of an existing cluster; those of processes that have ended are removed.
fn notes() -> Result<PathBuf> {
    let all = target().join("cluster").join("existing");
    for entry in fs::read_dir(&all).into_iter().flatten().flatten() {
        if !Path::new("/proc").join(entry.file_name()).exists() {
            // Somebody else may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let own = all.join(std::process::id().to_string());
    fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
    Ok(own)
}

/// Brings an image to an existing cluster by the command that its owner has named.
#[track_caller]
fn load_elsewhere(image: &Image) {
    // Without it the images are there already, from a registry.
    let Ok(hook) = std::env::var(LOAD) else { return };
    let hook = if hook.contains("$1") { hook } else { format!("{hook} \"$1\"") };
    run(Command::new(program("sh")).args(["-c", &hook, LOAD]).arg(image.archive()).arg(image.name()));
}

/// Straight to the terminal: a test that passes shows nothing of what it prints, and a person waits here for minutes.
fn tell_person(line: &str) {
    use std::io::Write;
    // Progress that cannot be shown is no reason to stop.
    let _ = writeln!(std::io::stderr(), "      {line}");
}
