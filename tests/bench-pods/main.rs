//! `cargo bench-pods`: what a sidecar adds to the start, the end and the Jobs of pods, on a real one-node Kubernetes.
//!
//! Pods with and without a sidecar take turns, so that a drift of the machine meets both alike; figures are medians.
#![allow(clippy::print_stdout, reason = "the report is what this program is for")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cast::cluster::Cluster;
use cast::time::{comes_true, pause};
use cast::{Stopwatch, images, install};

/// How often each thing is measured, with and without.
const ROUNDS: usize = 10;

/// How long the slowest of them may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Between two looks at the API server.
const GLANCE: Duration = Duration::from_millis(20);

/// The configuration of the sidecars; nothing answers at that address, which is what the start must not depend on.
const CONFIG: &str = "
apiVersion: postern.dev/v1alpha1
kind: GatewayConfig
metadata: {name: orders}
spec: {proxies: [{name: orders, client: {addresses: ['127.0.0.1:1'], retries: 0}, server: {address: '127.0.0.1:5432'}}]}
";

/// One thing that is measured.
struct Measure {
    what: &'static str,
    goal: Duration,
    take: fn(&Cluster, &str, bool) -> Result<Duration>,
}

const MEASURES: [Measure; 3] = [
    Measure { what: "start of the application", goal: Duration::from_millis(500), take: start },
    Measure { what: "end of the pod", goal: Duration::from_secs(2), take: end },
    Measure { what: "completion of a Job", goal: Duration::from_millis(2500), take: job },
];

fn main() -> Result<()> {
    install::ensure_installed(install::FOR_THE_CLUSTER)?;
    let cluster = Cluster::bring_up(&|line: &str| eprintln!("bench-pods: {line}"))?;
    for image in [images::gateway(), images::operator(), images::toolbox()] {
        cluster.load(image);
    }
    let chart = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/postern")).display().to_string();
    let words = ["install", "postern", &chart, "--namespace", "postern-system", "--create-namespace", "--wait"];
    cluster.helm([&words[..], &["--set", "image.registry=localhost/postern"]].concat());
    cluster.apply(CONFIG);
    let delivered = || cluster.try_kubectl(["get", "configmap", "orders-postern"]).ok;
    ensure!(comes_true(PATIENCE, delivered), "the configuration is not delivered");
    println!(
        "| {ROUNDS} times, interleaved; medians | without | with | more | goal | |\n|---|---:|---:|---:|---:|---|"
    );
    for measure in &MEASURES {
        let mut taken = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            for has_sidecar in [round % 2 == 0, round % 2 == 1] {
                let name = format!("pod-{round}-{has_sidecar}");
                let time = (measure.take)(&cluster, &name, has_sidecar).with_context(|| measure.what)?;
                taken[usize::from(has_sidecar)].push(time);
                cluster.delete(&format!("job,pod {name} --grace-period=0 --force"));
            }
        }
        let [without, with] = taken.map(median);
        let more = with.saturating_sub(without);
        let verdict = if more <= measure.goal { "holds" } else { "**missed**" };
        println!(
            "| {} | {without:.2?} | {with:.2?} | {more:.2?} | at most {:.1?} | {verdict} |",
            measure.what, measure.goal
        );
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// From the creation of a pod to the first instruction of its application, which writes down what time it is.
fn start(cluster: &Cluster, name: &str, has_sidecar: bool) -> Result<Duration> {
    let begin = uptime(&std::fs::read_to_string("/proc/uptime")?).context("the kernel counts")?;
    cluster.apply(&pod(name, has_sidecar));
    let mut written = None;
    let has_written = || {
        written = uptime(&cluster.try_kubectl(["logs", name, "--container", "app"]).out);
        written.is_some()
    };
    ensure!(comes_true(PATIENCE, has_written), "{name} does not start");
    Ok(written.context("it has written the time")?.saturating_sub(begin))
}

/// How long the machine has been up, as `/proc/uptime` says to everybody on it.
fn uptime(text: &str) -> Option<Duration> {
    text.split_whitespace().next()?.parse().ok().map(Duration::from_secs_f64)
}

/// From the deletion of a pod that runs to the moment in which it is gone.
fn end(cluster: &Cluster, name: &str, has_sidecar: bool) -> Result<Duration> {
    cluster.apply(&pod(name, has_sidecar));
    cluster.wait_for(&format!("pod/{name}"), "condition=Ready");
    // A pod that was started just now waits for its kubelet's next look at it.
    pause(Duration::from_secs(2));
    let watch = Stopwatch::start();
    let deleted = cluster.try_kubectl(["delete", "pod", name]);
    ensure!(deleted.ok, "{name} cannot be deleted: {}", deleted.err);
    Ok(watch.elapsed())
}

/// From the creation of a Job to its completion.
fn job(cluster: &Cluster, name: &str, has_sidecar: bool) -> Result<Duration> {
    let (annotations, image) = (annotations(has_sidecar), images::toolbox().name());
    let watch = Stopwatch::start();
    cluster.apply(&format!(
        "{{apiVersion: batch/v1, kind: Job, metadata: {{name: {name}}}, spec: {{backoffLimit: 0, template: {{metadata: \
         {{annotations: {annotations}}}, spec: {{restartPolicy: Never, containers: [{{name: app, image: '{image}', \
         command: [/bin/true]}}]}}}}}}}}"
    ));
    let path = "{.status.conditions[?(@.type=='Complete')].status}";
    while cluster.field(&format!("job {name}"), path) != "True" {
        ensure!(watch.elapsed() < PATIENCE, "{name} does not complete");
        pause(GLANCE);
    }
    Ok(watch.elapsed())
}

fn pod(name: &str, has_sidecar: bool) -> String {
    let (annotations, image) = (annotations(has_sidecar), images::toolbox().name());
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, annotations: {annotations}}}, spec: {{containers: \
         [{{name: app, image: '{image}', command: [/bin/sh, -c, \"trap 'exit 0' TERM; cut -d' ' -f1 /proc/uptime; sleep 600 & wait\"]}}]}}}}"
    )
}

fn annotations(has_sidecar: bool) -> &'static str {
    if has_sidecar { "{postern.dev/inject: orders}" } else { "{}" }
}
