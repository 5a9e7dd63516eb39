//! The cluster of the cast itself: what journeys rely on when they run on it.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cast::cluster::{Component, Tenant};
use cast::process::{Process, is_root, run};
use cast::wire::Address;
use cast::{Cluster, eventually, images, within};
use rustix::process::Signal;

/// A pod of the toolbox that runs a shell script.
fn pod(name: &str, script: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 2
  restartPolicy: Never
  containers:
  - name: main
    image: {image}
    command: [/bin/sh, -c, {script:?}]
    securityContext:
      allowPrivilegeEscalation: false
      runAsNonRoot: true
      capabilities: {{drop: [ALL]}}
      seccompProfile: {{type: RuntimeDefault}}
"#,
        image = images::toolbox().name()
    )
}

/// Held by who makes clusters of its own: there is not the memory for many, and some look what others have left.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn service(name: &str, port: u16) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{selector: {{app: {name}}}, ports: [{{port: {port}}}]}}}}"
    )
}

fn cluster() -> &'static Cluster {
    let cluster = Cluster::shared();
    cluster.load(images::toolbox());
    cluster
}

/// Waits until a pod that runs to its end has succeeded, and returns what it wrote.
fn output_of(tenant: &Tenant, name: &str) -> String {
    tenant.wait_for(&format!("pod/{name}"), "jsonpath={.status.phase}=Succeeded");
    tenant.logs(name, "main")
}

fn tcp(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(address) => *address,
        Address::Unix(_) => panic!("a database on the node has a TCP address"),
    }
}

#[test]
fn a_pod_runs_and_says_so_in_its_log() {
    let tenant = cluster().tenant("hello");
    tenant.apply(&pod("hello", "echo hello from $(id -u)"));
    assert_eq!(output_of(&tenant, "hello"), "hello from 65532");
}

#[test]
fn a_service_is_resolved_and_leads_to_its_pod() {
    let tenant = cluster().tenant("web");
    let serve = "mkdir /tmp/www && echo found > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www";
    tenant.apply(&pod("web", serve));
    tenant.apply(&service("web", 8080));
    tenant.wait_for("pod/web", "condition=Ready");
    tenant.apply(&pod("visitor", "until timeout 2 wget -q -O - http://web:8080/; do sleep 0.1; done"));
    assert_eq!(output_of(&tenant, "visitor"), "found");
    assert_eq!(tenant.http_get("web", "8080", "/index.html").succeeded(), "found");
    // Its own Service leads a pod back to itself.
    eventually("a pod reaches itself", || tenant.exec("web", "main", ["wget", "-qO-", "http://web:8080/"]).ok);
}

#[test]
fn a_database_in_a_pod_serves_an_application_in_another() {
    let tenant = cluster().tenant("db");
    tenant.apply(&pod("db", "exec serve-postgres max_connections=20"));
    tenant.apply(&service("db", 5432));
    let ask = "until pg_isready -q -h db; do sleep 0.1; done; psql -h db -U postgres -Atc 'show max_connections'";
    tenant.apply(&pod("app", ask));
    assert_eq!(output_of(&tenant, "app"), "20");
    // It ends when it is told to, as at the end of its pod.
    tenant.exec("db", "main", ["kill", "1"]).succeeded();
    tenant.wait_for("pod/db", "jsonpath={.status.phase}=Succeeded");
}

#[test]
fn a_pod_reaches_a_database_on_the_node_by_the_name_of_a_service() {
    let cluster = cluster();
    let tenant = cluster.tenant("outside");
    let postgres = cluster.node().postgres(&[]);
    tenant.publish("orders-db", 5432, tcp(&postgres.address()));
    tenant.apply(&pod("app", "until psql -h orders-db -U postgres -Atc 'select 6*7' 2>/dev/null; do sleep 0.2; done"));
    assert_eq!(output_of(&tenant, "app"), "42");
}

#[test]
fn what_the_api_server_refuses_is_told_in_its_own_words() {
    let tenant = cluster().tenant("refused");
    let refusal = tenant.try_apply("{apiVersion: v1, kind: Pod, metadata: {name: empty}, spec: {}}").refused();
    assert!(refusal.contains("spec.containers: Required value"), "{refusal}");
    let account = format!("system:serviceaccount:{}:default", tenant.name());
    let refusal = tenant.acting_as(&account).try_kubectl(["get", "secrets"]).refused();
    assert!(refusal.contains("cannot list resource \"secrets\""), "{refusal}");
}

#[test]
fn a_restricted_namespace_refuses_a_privileged_pod_and_takes_the_toolbox() {
    let restricted = "labels: {pod-security.kubernetes.io/enforce: restricted}";
    let tenant = cluster().tenant_with("strict", restricted);
    let privileged = pod("app", "true").replace("allowPrivilegeEscalation: false", "privileged: true");
    assert!(tenant.try_apply(&privileged).refused().contains("violates PodSecurity"));
    tenant.apply(&pod("app", "echo allowed"));
    assert_eq!(output_of(&tenant, "app"), "allowed");
}

#[test]
fn something_that_is_done_once_is_done_once() {
    let times = std::sync::atomic::AtomicU32::new(0);
    let count = |_: &Cluster| {
        times.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    };
    let name = format!("counted-{}", std::process::id());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| cluster().once(&name, count));
        }
    });
    assert_eq!(times.into_inner(), 1);
}

#[test]
fn a_killed_container_is_started_again() {
    let cluster = cluster();
    let tenant = cluster.tenant("crash");
    tenant.apply(&pod("app", "exec sleep 3600").replace("restartPolicy: Never", "restartPolicy: Always"));
    tenant.wait_for("pod/app", "condition=Ready");
    cluster.node().end_container(&tenant, "app", "main");
    tenant.wait_for("pod/app", "jsonpath={.status.containerStatuses[0].restartCount}=1");
    tenant.wait_for("pod/app", "condition=Ready");
}

#[test]
fn components_can_be_stopped_frozen_and_killed_and_come_back() {
    let _alone = alone();
    let cluster = Cluster::fresh();
    cluster.load(images::toolbox());
    let tenant = cluster.tenant("hard");
    tenant.apply(&pod("app", "exec sleep 3600"));
    tenant.wait_for("pod/app", "condition=Ready");
    let node = cluster.node();
    for component in [Component::Kubelet, Component::Containerd, Component::Proxy, Component::Dns] {
        node.stop(component);
        node.start(component);
    }
    for component in [Component::ApiServer, Component::Etcd, Component::ControllerManager, Component::Scheduler] {
        node.kill(component);
        node.start(component);
    }
    node.freeze(Component::ApiServer);
    assert!(!tenant.try_kubectl(["get", "pods", "--request-timeout=1s"]).ok);
    node.thaw(Component::ApiServer);
    eventually("the API server answers", || tenant.try_kubectl(["get", "pods"]).ok);
    assert_eq!(tenant.field("pod app", "{.status.containerStatuses[0].restartCount}"), "0");
    assert!(!node.log(Component::Kubelet).is_empty());
}

#[test]
fn a_pod_comes_back_after_its_node_was_restarted() {
    let _alone = alone();
    let cluster = Cluster::fresh();
    cluster.load(images::toolbox());
    let tenant = cluster.tenant("reboot");
    let web = "mkdir -p /tmp/www && echo $((1 + $(cat /disk/starts || echo 0))) > /disk/starts; cp /disk/starts /tmp/www/; \
               exec httpd -f -p 8080 -h /tmp/www";
    let volume = "    volumeMounts: [{name: disk, mountPath: /disk}]\n  volumes: [{name: disk, emptyDir: {}}]\n";
    tenant.apply(&(pod("web", web).replace("restartPolicy: Never", "restartPolicy: Always") + volume));
    tenant.wait_for("pod/web", "condition=Ready");
    assert_eq!(tenant.http_get("web", "8080", "starts").succeeded(), "1");
    cluster.node().restart();
    within(Duration::from_mins(2), "the pod is back, with what it had on disk", || {
        tenant.http_get("web", "8080", "starts").out == "2"
    });
}

#[test]
fn two_clusters_do_not_disturb_each_other() {
    let _alone = alone();
    let (one, other) = (Cluster::fresh(), Cluster::fresh());
    for cluster in [&one, &other] {
        cluster.load(images::toolbox());
    }
    let (here, there) = (one.tenant("here"), other.tenant("there"));
    here.apply(&pod("web", "exec httpd -f -p 8080 -h /etc"));
    there.apply(&pod("web", "exec httpd -f -p 8080 -h /etc"));
    for tenant in [&here, &there] {
        tenant.wait_for("pod/web", "condition=Ready");
    }
    drop(one);
    assert!(there.http_get("web", "8080", "passwd").succeeded().contains("app:x:65532"));
    assert!(!here.try_kubectl(["get", "pods", "--request-timeout=2s"]).ok);
    std::mem::forget(here);
}

// === what is left ===

/// All that a cluster could leave on this machine.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    mounts: Vec<String>,
    cgroups: Vec<PathBuf>,
    networks: Vec<String>,
    folders: Vec<PathBuf>,
    sysctls: Vec<String>,
}

impl Traces {
    fn look() -> Self {
        // It is there before and after.
        cluster();
        let clusters =
            |folder: &Path| entries(folder).into_iter().filter(|path| name(path).starts_with("postern-cluster-"));
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
    let before = Traces::look();
    let cluster = Cluster::fresh();
    cluster.load(images::toolbox());
    let tenant = cluster.tenant("gone");
    let stubborn = "trap '' TERM; while true; do sleep 1; done";
    tenant.apply(&pod("stubborn", stubborn).replace("metadata: {", "metadata: {finalizers: [example.com/never], "));
    tenant.wait_for("pod/stubborn", "condition=Ready");
    let home = Home::of(cluster.kubeconfig().parent().unwrap());
    // Eight components, their process 1, and what is in the pod and around it.
    assert!(home.inhabitants().len() >= 12, "{:?}", home.inhabitants());
    assert!(Traces::look() != before);
    drop(cluster);
    std::mem::forget(tenant);
    assert_eq!(home.inhabitants(), Vec::<PathBuf>::new());
    assert_eq!(Traces::look(), before);
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
    let before = Traces::look();
    for signal in [Signal::KILL, Signal::INT] {
        let (mut owner, folder, home) = owned_by_another();
        owner.signal(signal);
        owner.wait(Duration::from_mins(1));
        within(Duration::from_mins(1), "the cluster is gone", || !folder.exists());
        assert_eq!(home.inhabitants(), Vec::<PathBuf>::new());
        assert_eq!(Traces::look(), before, "{signal:?}");
    }
}

#[test]
fn what_a_killed_keeper_leaves_is_swept_up_by_the_next_cluster() {
    let _alone = alone();
    let before = Traces::look();
    let (owner, folder, home) = owned_by_another();
    let node = fs::read_to_string(folder.join("pid")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", node.trim())).unwrap();
    let keeper = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    run(Command::new("kill").args(["-KILL", keeper.trim()]));
    within(Duration::from_mins(1), "every process has ended", || home.inhabitants().is_empty());
    assert!(folder.exists());
    drop(owner);
    drop(Cluster::fresh());
    assert_eq!(Traces::look(), before);
}
