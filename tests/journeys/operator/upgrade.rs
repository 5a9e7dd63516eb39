//! The chart is upgraded, and uninstalled.

use cast::cluster::Cluster;
use cast::images::{REGISTRY, VERSION};

use crate::stage::{App, Stage, chart, install};

#[test]
fn an_upgrade_changes_no_running_pod_and_an_uninstall_blocks_nothing() {
    let cluster = Cluster::fresh();
    install(&cluster);
    let stage = Stage::on(&cluster, "upgrade");
    stage.configure("");
    stage.apply(&App::waiting("app").deployment(1));
    stage.wait_for("deployment/app", "condition=Available");
    let pod = stage.pod_of("app");
    let mut session = stage.session(&pod);
    let backend = session.ask("select pg_backend_pid()");
    cluster.helm(["test", "postern", "--namespace", "postern-system"]);

    // The images stay; the version that the chart tells is another one.
    let folder = cast::Folder::new("chart");
    cast::process::run(std::process::Command::new("cp").args(["-r", chart()]).arg(&*folder));
    let copy = folder.join("postern");
    let file = copy.join("Chart.yaml");
    let text = std::fs::read_to_string(&file).expect("the chart has one");
    let newer = text.replace(&format!("appVersion: {VERSION}"), "appVersion: 9.9.9");
    assert_ne!(newer, text, "the chart has the version of the images");
    std::fs::write(&file, newer).expect("our folder is writable");
    let images = format!(
        "image.registry={REGISTRY},image.operator={REGISTRY}/operator:{VERSION},image.gateway={REGISTRY}/gateway:{VERSION}"
    );
    let copy = copy.to_str().expect("our folder's name is text");
    cluster.helm([
        "upgrade",
        "postern",
        copy,
        "--namespace",
        "postern-system",
        "--wait",
        "--timeout",
        "2m",
        "--set",
        &images,
    ]);
    assert_eq!(stage.pod_of("app"), pod);
    assert_eq!(session.ask("select pg_backend_pid()"), backend);

    cluster.helm(["uninstall", "postern", "--namespace", "postern-system", "--wait"]);
    stage.apply(&App::waiting("after").pod());
    stage.wait_for("pod/after", "condition=Ready");
    assert_eq!(stage.field("pod after", "{.spec.initContainers}"), "", "it has no sidecar");
    stage.kubectl(["get", "gatewayconfig", "orders"]);
    assert_eq!(session.ask("select pg_backend_pid()"), backend, "running pods go on");
}
