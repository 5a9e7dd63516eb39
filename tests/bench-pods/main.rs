//! `cargo bench-pods`: what a sidecar adds to the start, the end and the Jobs of pods, on a real one-node Kubernetes.
//!
//! Pods without a sidecar, with ours, and with a native sidecar that does nothing take turns, so that a drift of the
//! machine meets all alike; figures are medians. The idle sidecar shows what Kubernetes itself takes for any of them: no
//! probe, no volume, no hook, and it ends at once.
#![allow(clippy::print_stdout, reason = "the report is what this program is for")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cast::cluster::Cluster;
use cast::time::{comes_true, pause};
use cast::{Stopwatch, images, install};
use serde_json::{Value, json};

/// How often each thing is measured with each kind of pod.
const ROUNDS: usize = 10;

/// How long the slowest of them may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Between two looks at the API server.
const GLANCE: Duration = Duration::from_millis(20);

/// Waits for SIGTERM, and ends at once then.
const WAIT: &str = "trap 'exit 0' TERM; sleep 600 & wait";

/// The configuration of the sidecars; nothing answers at that address, which is what the start must not depend on.
const CONFIG: &str = "
apiVersion: postern.dev/v1alpha1
kind: GatewayConfig
metadata: {name: orders}
spec: {proxies: [{name: orders, client: {addresses: ['127.0.0.1:1'], retries: 0}, server: {address: '127.0.0.1:5432'}}]}
";

/// What is beside the application.
#[derive(Clone, Copy, Debug)]
enum Beside {
    /// Nothing.
    Nothing,
    /// A native sidecar that does nothing.
    Idle,
    /// Ours.
    Gateway,
}

const ALL: [Beside; 3] = [Beside::Nothing, Beside::Idle, Beside::Gateway];

/// One thing that is measured.
struct Measure {
    what: &'static str,
    goal: Duration,
    take: fn(&Cluster, &Trial) -> Result<Duration>,
}

/// One time that it is measured.
struct Trial {
    round: usize,
    name: String,
    beside: Beside,
}

const MEASURES: [Measure; 4] = [
    Measure { what: "start of the application", goal: Duration::from_millis(500), take: start },
    Measure { what: "end of the pod", goal: Duration::from_secs(2), take: end },
    Measure { what: "completion of a Job, its work apart", goal: Duration::from_millis(2500), take: job },
    Measure { what: "completion of a Job without work", goal: Duration::from_millis(2500), take: instant_job },
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
        "| {ROUNDS} times, in turns; medians | without | an idle sidecar | ours | the idle one adds | ours adds | goal | |\n\
         |---|---:|---:|---:|---:|---:|---:|---|"
    );
    for measure in &MEASURES {
        report(measure, take(&cluster, measure)?);
    }
    Ok(())
}

/// The medians of a measure, in the order of [`ALL`].
fn take(cluster: &Cluster, measure: &Measure) -> Result<[Duration; 3]> {
    let mut taken = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for turn in 0..ALL.len() {
            // Each of them comes first, second and third in turns.
            let index = (round + turn) % ALL.len();
            let trial = Trial { round, name: format!("pod-{round}-{index}"), beside: ALL[index] };
            taken[index].push((measure.take)(cluster, &trial).with_context(|| measure.what)?);
            cluster.delete(&format!("job,pod {} --grace-period=0 --force", trial.name));
        }
    }
    Ok(taken.map(median))
}

fn report(measure: &Measure, [without, idle, ours]: [Duration; 3]) {
    let (idle_adds, ours_adds) = (idle.saturating_sub(without), ours.saturating_sub(without));
    let verdict = if ours_adds <= measure.goal { "holds" } else { "**missed**" };
    println!(
        "| {} | {without:.2?} | {idle:.2?} | {ours:.2?} | {idle_adds:.2?} | {ours_adds:.2?} | at most {:.1?} | {verdict} |",
        measure.what, measure.goal
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// From the creation of a pod to the first instruction of its application, which writes down what time it is.
fn start(cluster: &Cluster, Trial { name, beside, .. }: &Trial) -> Result<Duration> {
    let begin = uptime(&std::fs::read_to_string("/proc/uptime")?).context("the kernel counts")?;
    cluster.apply(&pod(name, *beside));
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
fn end(cluster: &Cluster, Trial { name, beside, .. }: &Trial) -> Result<Duration> {
    cluster.apply(&pod(name, *beside));
    cluster.wait_for(&format!("pod/{name}"), "condition=Ready");
    // A pod that was started just now waits for its kubelet's next look at it.
    pause(Duration::from_secs(2));
    let watch = Stopwatch::start();
    let deleted = cluster.try_kubectl(["delete", "pod", name]);
    ensure!(deleted.ok, "{name} cannot be deleted: {}", deleted.err);
    Ok(watch.elapsed())
}

/// From the creation of a Job to its completion, without the time of its work. The kubelet looks at containers once a
/// second; work of different lengths ends at different moments between two looks, as it does in life.
fn job(cluster: &Cluster, trial: &Trial) -> Result<Duration> {
    let parts = u32::try_from(ROUNDS).context("the rounds can be counted")?;
    let part = u32::try_from(trial.round).context("the rounds can be counted")?;
    let work = Duration::from_secs(2) + Duration::from_secs(1) * part / parts;
    Ok(complete(cluster, trial, &format!("sleep {}", work.as_secs_f32()))?.saturating_sub(work))
}

/// From the creation of a Job that has nothing to do to its completion. It ends just after the look by which it was
/// started when there is a sidecar, and somewhere between two looks when there is none.
fn instant_job(cluster: &Cluster, trial: &Trial) -> Result<Duration> {
    complete(cluster, trial, "true")
}

/// From the creation of a Job that runs this script to its completion.
fn complete(cluster: &Cluster, Trial { name, beside, .. }: &Trial, script: &str) -> Result<Duration> {
    let mut template = template(*beside, script);
    template["spec"]["restartPolicy"] = "Never".into();
    let spec = json!({"backoffLimit": 0, "template": template});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}).to_string();
    let watch = Stopwatch::start();
    cluster.apply(&job);
    let path = "{.status.conditions[?(@.type=='Complete')].status}";
    while cluster.field(&format!("job {name}"), path) != "True" {
        ensure!(watch.elapsed() < PATIENCE, "{name} does not complete");
        pause(GLANCE);
    }
    Ok(watch.elapsed())
}

fn pod(name: &str, beside: Beside) -> String {
    let mut pod = template(beside, &format!("cut -d' ' -f1 /proc/uptime; {WAIT}"));
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = name.into();
    pod.to_string()
}

/// An application that runs this script, and what is beside it.
fn template(beside: Beside, script: &str) -> Value {
    let mut template = json!({"metadata": {"annotations": {}}, "spec": {"containers": [container("app", script)]}});
    match beside {
        Beside::Nothing => {}
        Beside::Idle => {
            let mut idle = container("idle", WAIT);
            idle["restartPolicy"] = "Always".into();
            template["spec"]["initContainers"] = json!([idle]);
        }
        Beside::Gateway => template["metadata"]["annotations"]["postern.dev/inject"] = "orders".into(),
    }
    template
}

fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": images::toolbox().name(), "command": ["/bin/sh", "-c", script]})
}
