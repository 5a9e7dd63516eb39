//! From nothing to a pod with its gateway, as somebody new goes: the README's own commands, on a cluster that has never heard
//! of Postern. What is seen is recorded, and `charts/postern/first-steps.cast` is such a recording.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod recording;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use cast::cluster::{Cluster, Tenant};
use cast::wire::Address;
use cast::{Folder, Page, Postgres, eventually, images, workspace};

use recording::Recording;

/// What the README has of them, in this order; images are built beforehand.
const STEPS: [&str; 6] = [
    "ctr -n k8s.io images import target/images/gateway.tar",
    "ctr -n k8s.io images import target/images/operator.tar",
    "helm install postern charts/postern",
    "kubectl apply -f crds/samples/minimal.yaml",
    "kubectl patch deployment orders --patch",
    "kubectl get pods,gatewayconfigs",
];

/// Where the recording is, seen from the top of the repository.
const CAST: &str = "charts/postern/first-steps.cast";
/// Stores it.
const WRITE: &str = "POSTERN_WRITE_CAST";

/// What somebody has before: an application and its database.
struct Shop {
    tenant: Tenant,
    _database: Postgres,
}

#[test]
fn six_commands_lead_from_nothing_to_an_injected_pod() {
    let cluster = Cluster::fresh();
    let shop = Shop::opened(&cluster);
    let desk = desk();
    let mut recording = Recording::default();
    for (command, step) in commands().iter().zip(STEPS) {
        assert!(command.starts_with(step), "the README has {command:?}, where {step:?} was");
        if step.starts_with("kubectl get") {
            eventually("the new pod runs, and the status tells of it", || shop.has_gateway());
        }
        recording.type_in(command, &mut in_shell(&cluster, &shop.tenant, &desk, command));
    }
    let pod = shop.tenant.field("pods -l app=orders", "{.items[0].metadata.name}");
    let heard = shop.tenant.exec(&pod, "app", ["psql", "-XAtq", "-U", "postgres", "-c", "select 'served'"]);
    assert_eq!(heard.succeeded().trim(), "served");
    let file = workspace::root().join(CAST);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&file, recording.written()).unwrap();
    }
    let stored = Recording::read(&fs::read_to_string(&file).unwrap());
    assert_eq!(stored.shape(), recording.shape(), "{CAST} is not what is seen now; {WRITE}=1 stores that");
}

/// The README's commands below "In a cluster" that the steps are the beginnings of; of `the same` it says so in a comment.
fn commands() -> Vec<String> {
    let page = Page::read("README.md");
    let blocks = page.blocks();
    let text: Vec<String> =
        blocks.iter().filter(|block| block.heading == "In a cluster").map(|block| block.text.clone()).collect();
    let lines = text.join("\n").replace("\\\n", " ");
    let said = |step: &str| {
        let line = lines.lines().find(|line| line.trim().starts_with(step));
        line.map(|line| line.split("  #").next().unwrap_or(line).split_whitespace().collect::<Vec<_>>().join(" "))
    };
    STEPS
        .iter()
        .map(|step| {
            let other = step.replace("operator.tar", "gateway.tar");
            let line = said(step).or_else(|| Some(said(&other)?.replace("gateway.tar", "operator.tar")));
            line.unwrap_or_else(|| panic!("the README does not say {step:?}"))
        })
        .collect()
}

/// A folder as a clone is, after `cargo images`, with one's own database's address in the sample.
fn desk() -> Folder {
    let desk = Folder::new("desk");
    for folder in ["target/images", "crds/samples"] {
        fs::create_dir_all(desk.join(folder)).unwrap();
    }
    for (name, image) in [("gateway", images::gateway()), ("operator", images::operator())] {
        symlink(image.archive(), desk.join(format!("target/images/{name}.tar"))).unwrap();
    }
    symlink(workspace::root().join("charts"), desk.join("charts")).unwrap();
    let sample = fs::read_to_string(workspace::root().join("crds/samples/minimal.yaml")).unwrap();
    assert!(sample.contains("db.example:5432"), "{sample}");
    fs::write(desk.join("crds/samples/minimal.yaml"), sample.replace("db.example", "db")).unwrap();
    desk
}

/// A command line in a shell that has the cluster's own tools.
fn in_shell(cluster: &Cluster, tenant: &Tenant, desk: &Folder, line: &str) -> Command {
    let mut command = Command::new("sh");
    // Installing into the namespace that the line names, and all else into that of the application.
    let tools = ["kubectl", "helm"].map(|tool| {
        let tool = if tool == "helm" { cluster.command(tool) } else { tenant.command(tool) };
        for (name, value) in tool.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            command.env(name, value);
        }
        let words = std::iter::once(tool.get_program()).chain(tool.get_args());
        words.map(|word| format!("'{}'", word.display())).collect::<Vec<_>>().join(" ")
    });
    let [kubectl, helm] = tools;
    let shell = format!("kubectl() {{ {kubectl} \"$@\"; }}\nhelm() {{ {helm} \"$@\"; }}\n{line}");
    command.args(["-c", &shell]).current_dir(&**desk).env("CONTAINERD_ADDRESS", cluster.node().containerd());
    command
}

// === impl Shop ===

impl Shop {
    fn opened(cluster: &Cluster) -> Self {
        let tenant = cluster.tenant("shop");
        cluster.load(images::toolbox());
        let database = cluster.node().postgres(&[]);
        let Address::Tcp(address) = database.address() else { unreachable!("it listens on the node's address") };
        tenant.publish("db", 5432, address);
        let image = images::toolbox().name();
        tenant.apply(&format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: orders}}, spec: {{\
             selector: {{matchLabels: {{app: orders}}}}, template: {{metadata: {{labels: {{app: orders}}}}, \
             spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: app, image: '{image}', \
             command: [sleep, '3600']}}]}}}}}}}}"
        ));
        tenant.wait_for("deployment/orders", "condition=Available");
        Self { tenant, _database: database }
    }

    /// Whether the application's only pod has a gateway, and the resource says that it serves the newest configuration.
    fn has_gateway(&self) -> bool {
        let names = self.tenant.field("pods -l app=orders", "{.items[*].spec.initContainers[*].name}");
        let ready = self.tenant.field("pods -l app=orders", "{.items[*].status.containerStatuses[*].ready}");
        let up_to_date = self.tenant.field("gatewayconfig orders", "{.status.pods.upToDate}");
        (&*names, &*ready, &*up_to_date) == ("postern-gateway", "true", "1")
    }
}
