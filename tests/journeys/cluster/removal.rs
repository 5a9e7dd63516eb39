//! Nothing is left of a cluster, whatever became of its owner.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cast::process::{Process, is_root, run};
use cast::{Cluster, images, within};
use rustix::process::Signal;

use crate::stage::{alone, cluster, pod};

/// All that the clusters of some processes could leave on this machine; others may come and go meanwhile.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    mounts: Vec<String>,
    cgroups: Vec<PathBuf>,
    networks: Vec<String>,
    folders: Vec<PathBuf>,
    sysctls: Vec<String>,
}

impl Traces {
    fn look(owners: &[u32]) -> Self {
        // It is there before and after.
        cluster();
        let is_theirs = |path: &PathBuf| {
            let name = name(path);
            let owner = name.strip_prefix("postern-cluster-").and_then(|rest| rest.split('-').next()?.parse().ok());
            owner.is_some_and(|owner: u32| owners.contains(&owner))
        };
        let clusters = |folder: &Path| entries(folder).into_iter().filter(is_theirs);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let hierarchies: Vec<_> = mounts
            .lines()
            .filter(|line| line.starts_with("cgroup"))
            .map(|line| PathBuf::from(line.split(' ').nth(1).unwrap()))
            .collect();
        let cgroups = hierarchies.iter().flat_map(|hierarchy| clusters(hierarchy)).collect();
        let sysctls = ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"];
        let files = ["/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/run/containerd"];
        let folders = clusters(&std::env::temp_dir());
        Self {
            mounts: mounts.lines().map(str::to_owned).collect(),
            cgroups,
            networks: entries(Path::new("/run/netns")).iter().map(|path| name(path)).collect(),
            folders: folders.chain(files.iter().flat_map(|folder| entries(Path::new(folder)))).collect(),
            sysctls: sysctls.map(|sysctl| fs::read_to_string(Path::new("/proc/sys").join(sysctl)).unwrap()).to_vec(),
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where the processes of a cluster are.
struct Home {
    /// That of the node; pods have their own.
    network: PathBuf,
    /// What the names of the pods' cgroups begin with.
    cgroup: String,
}

impl Home {
    fn of(folder: &Path) -> Self {
        let pid = fs::read_to_string(folder.join("pid")).unwrap();
        Self {
            network: fs::read_link(format!("/proc/{}/ns/net", pid.trim())).unwrap(),
            cgroup: format!(":/{}/", name(folder)),
        }
    }

    fn inhabitants(&self) -> Vec<PathBuf> {
        let lives_there = |process: &PathBuf| {
            fs::read_link(process.join("ns/net")).is_ok_and(|link| link == self.network)
                || fs::read_to_string(process.join("cgroup")).is_ok_and(|groups| groups.contains(&self.cgroup))
        };
        entries(Path::new("/proc")).into_iter().filter(lives_there).collect()
    }
}

#[test]
fn nothing_is_left_of_a_cluster_that_was_dropped() {
    let _alone = alone();
    let us = std::process::id();
    let before = Traces::look(&[us]);
    let cluster = Cluster::fresh();
    cluster.load(images::toolbox());
    let tenant = cluster.tenant("gone");
    let stubborn = "trap '' TERM; while true; do sleep 1; done";
    tenant.apply(&pod("stubborn", stubborn).replace("metadata: {", "metadata: {finalizers: [example.com/never], "));
    tenant.wait_for("pod/stubborn", "condition=Ready");
    let home = Home::of(cluster.kubeconfig().parent().unwrap());
    // Eight components, their process 1, and what is in the pod and around it.
    assert!(home.inhabitants().len() >= 12, "{:?}", home.inhabitants());
    assert!(Traces::look(&[us]) != before);
    drop(cluster);
    std::mem::forget(tenant);
    assert_eq!(home.inhabitants(), Vec::<PathBuf>::new());
    assert_eq!(Traces::look(&[us]), before);
}

/// A cluster that another process owns, its folder, and where its processes are.
fn owned_by_another() -> (Process, PathBuf, Home) {
    assert!(is_root(), "only root can make a cluster");
    let owner = Process::start("the owner", &mut Command::new(env!("CARGO_BIN_EXE_cluster")));
    let kubeconfig = |line: &String| line.strip_prefix("export KUBECONFIG=").map(PathBuf::from);
    let mut folder = None;
    within(Duration::from_mins(2), "the cluster of another process is there", || {
        folder = owner.lines().iter().find_map(kubeconfig);
        folder.is_some()
    });
    let folder = folder.unwrap().parent().unwrap().to_owned();
    let home = Home::of(&folder);
    (owner, folder, home)
}

#[test]
fn nothing_is_left_of_a_cluster_whose_owner_was_killed_or_interrupted() {
    let _alone = alone();
    let us = std::process::id();
    let before = Traces::look(&[us]);
    for signal in [Signal::KILL, Signal::INT] {
        let (mut owner, folder, home) = owned_by_another();
        owner.signal(signal);
        owner.wait(Duration::from_mins(1));
        within(Duration::from_mins(1), "the cluster is gone", || !folder.exists());
        assert_eq!(home.inhabitants(), Vec::<PathBuf>::new());
        assert_eq!(Traces::look(&[us, owner.pid()]), before, "{signal:?}");
    }
}

#[test]
fn what_a_killed_keeper_leaves_is_swept_up_by_the_next_cluster() {
    let _alone = alone();
    let us = std::process::id();
    let before = Traces::look(&[us]);
    let (owner, folder, home) = owned_by_another();
    let node = fs::read_to_string(folder.join("pid")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", node.trim())).unwrap();
    let keeper = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    run(Command::new("kill").args(["-KILL", keeper.trim()]));
    within(Duration::from_mins(1), "every process has ended", || home.inhabitants().is_empty());
    assert!(folder.exists());
    let owners = [us, owner.pid()];
    drop(owner);
    drop(Cluster::fresh());
    assert_eq!(Traces::look(&owners), before);
}
