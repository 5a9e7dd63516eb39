//! What the operator and the API server have used: memory and processor time, questions and pokes.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use cast::cluster::Cluster;
use cast::metrics::Metrics;
use cast::time::pause;

const NAMESPACE: [&str; 2] = ["--namespace", "postern-system"];
/// Where the operator tells of its metrics.
const PORT: u16 = 9187;
/// Written into a process's `clear_refs`, this makes the kernel forget how much memory it had at most.
const FORGET_HIGHEST: &str = "5";

/// The operator's replica that leads.
#[derive(Debug)]
pub(crate) struct Leader {
    pod: String,
    process: String,
}

/// What was counted until now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) pokes: f64,
    pub(crate) asks: f64,
    pub(crate) statuses: f64,
    /// Calls that the API server has turned away because it had too many.
    pub(crate) rejected: f64,
    pub(crate) operator: Duration,
    pub(crate) api_server: Duration,
}

/// Of the webhook's calls, as the API server measures them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calls {
    pub(crate) all: f64,
    pub(crate) within_5: f64,
    pub(crate) within_25: f64,
}

/// Which part of the machine's processors is busy, over the next seconds.
pub(crate) fn busy() -> Result<f64> {
    let before = processors()?;
    pause(Duration::from_secs(3));
    let after = processors()?;
    let [all, idle] = [0, 1].map(|at| after[at] - before[at]);
    Ok(if all > 0.0 { 1.0 - idle / all } else { 0.0 })
}

/// All time of the processors since the start, and of that the time in which they had nothing to do.
fn processors() -> Result<[f64; 2]> {
    let text = fs::read_to_string("/proc/stat").context("the kernel does not say how busy it is")?;
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let times: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    // What guests use is in the first two already.
    Ok([times.iter().take(8).sum(), times.iter().skip(3).take(2).sum()])
}

// === impl Leader ===

impl Leader {
    pub(crate) fn find(cluster: &Cluster) -> Result<Self> {
        let path = "--output=jsonpath={.spec.holderIdentity}";
        let pod = cluster.kubectl([&["get", "lease", "postern-operator", path][..], &NAMESPACE].concat());
        let uid =
            cluster.kubectl([&["get", "pod", &pod, "--output=jsonpath={.metadata.uid}"][..], &NAMESPACE].concat());
        let is_its_own = |process: &String| {
            let read = |file| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
            read("comm").trim() == "operator" && read("cgroup").replace('_', "-").contains(&uid)
        };
        let all = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let process = all.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).find(is_its_own);
        Ok(Self { process: process.with_context(|| format!("{pod} has no process here"))?, pod })
    }

    /// The memory that it has resident now, and that it had at most since [`Leader::forget_highest`], in MiB.
    pub(crate) fn memory(&self) -> Result<[f64; 2]> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process)).context("the leader has ended")?;
        let field = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kib| kib / 1024.0)
        };
        Ok([field("VmRSS:").context("it has no memory")?, field("VmHWM:").context("it has no memory")?])
    }

    /// What was at most resident is counted anew.
    pub(crate) fn forget_highest(&self) -> Result<()> {
        let file = format!("/proc/{}/clear_refs", self.process);
        fs::write(&file, FORGET_HIGHEST).with_context(|| format!("cannot write {file}"))
    }

    /// What was counted until now, here and on the API server.
    pub(crate) fn counts(&self, cluster: &Cluster) -> Counts {
        let path = format!("/api/v1/namespaces/postern-system/pods/{}:{PORT}/proxy/metrics", self.pod);
        let own = Metrics::parse(&cluster.kubectl(["get", "--raw", &path]));
        let api = api_server(cluster, &["process_cpu", "apiserver_request_total", "apiserver_flowcontrol_rejected"]);
        let seconds = |metrics: &Metrics| {
            Duration::from_secs_f64(metrics.get("process_cpu_seconds_total", &[]).unwrap_or_default())
        };
        let statuses = [("resource", "gatewayconfigs"), ("subresource", "status")];
        Counts {
            pokes: own.get("postern_operator_pokes_total", &[]).unwrap_or_default(),
            asks: own.get("postern_operator_asks_total", &[]).unwrap_or_default(),
            statuses: api.get("apiserver_request_total", &statuses).unwrap_or_default(),
            rejected: api.get("apiserver_flowcontrol_rejected_requests_total", &[]).unwrap_or_default(),
            operator: seconds(&own),
            api_server: seconds(&api),
        }
    }
}

// === impl Counts ===

impl Counts {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            pokes: self.pokes - before.pokes,
            asks: self.asks - before.asks,
            statuses: self.statuses - before.statuses,
            rejected: self.rejected - before.rejected,
            operator: self.operator.saturating_sub(before.operator),
            api_server: self.api_server.saturating_sub(before.api_server),
        }
    }
}

// === impl Calls ===

impl Calls {
    /// Until now.
    pub(crate) fn count(cluster: &Cluster) -> Self {
        const NAME: &str = "apiserver_admission_webhook_admission_duration_seconds";
        let api = api_server(cluster, &[NAME]);
        let webhook = ("name", "pod.inject.postern.dev");
        let within = |limit| api.get(&format!("{NAME}_bucket"), &[webhook, ("le", limit)]).unwrap_or_default();
        let all = api.get(&format!("{NAME}_count"), &[webhook]).unwrap_or_default();
        Self { all, within_5: within("0.005"), within_25: within("0.025") }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            all: self.all - before.all,
            within_5: self.within_5 - before.within_5,
            within_25: self.within_25 - before.within_25,
        }
    }
}

/// The API server's own metrics, as far as their names begin like this.
fn api_server(cluster: &Cluster, names: &[&str]) -> Metrics {
    let text = cluster.kubectl(["get", "--raw", "/metrics"]);
    let wanted = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    Metrics::parse(&wanted.collect::<Vec<_>>().join("\n"))
}
