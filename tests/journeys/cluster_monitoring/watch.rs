//! The Prometheus that watches a cluster, with what the chart says to scrape.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cast::cluster::{Cluster, Kubectl};
use cast::prometheus::{Alert, Scrapes};
use cast::time::{comes_true, pause};
use cast::{Folder, Prometheus, workspace};
use serde_json::{Value, json};

use crate::rules;

/// How long the slowest alert may take that a journey waits for.
const PATIENCE: Duration = Duration::from_mins(4);

/// A Prometheus on the machine of a cluster, and who tells it which pods there are.
pub(crate) struct Watch {
    prometheus: Prometheus,
    is_over: Arc<AtomicBool>,
    lister: Option<JoinHandle<()>>,
}

/// Pods are listed this often.
const LISTED: Duration = Duration::from_secs(2);

// === impl Watch ===

impl Watch {
    /// One that scrapes these jobs of `files/scrape.yaml`, and the API server.
    #[track_caller]
    pub(crate) fn begin(cluster: &Cluster, jobs: &[&str]) -> Self {
        let node = cluster.node();
        let file = workspace::root().join("charts/postern/files/scrape.yaml");
        let scrapes: Value = serde_yaml::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let all = scrapes["scrape_configs"].as_array().unwrap();
        let mut configs: Vec<_> =
            all.iter().filter(|job| jobs.iter().any(|wanted| job["job_name"] == *wanted)).cloned().collect();
        assert_eq!(configs.len(), jobs.len(), "{jobs:?}");
        // Debian's Prometheus is built without its discovery in Kubernetes, so pods are listed for it: with the labels that
        // discovery gives them, and the job's own relabelling.
        let folder = Folder::new("pods");
        let file = folder.join("pods.json");
        for job in configs.iter_mut().filter_map(Value::as_object_mut) {
            job.remove("kubernetes_sd_configs").expect("a job discovers pods");
            job.insert("file_sd_configs".to_owned(), json!([{"files": [file], "refresh_interval": "1s"}]));
        }
        let key = |name: &str| node.kubeconfig().with_file_name(name).display().to_string();
        configs.push(json!({
            "job_name": "apiserver",
            "scheme": "https",
            "tls_config": {"cert_file": key("admin.crt"), "key_file": key("admin.key"), "ca_file": key("ca.crt")},
            "static_configs": [{"targets": ["127.0.0.1:6443"]}],
            "metric_relabel_configs": [
                {"source_labels": ["__name__"], "regex": "apiserver_admission_webhook_rejection_count", "action": "keep"},
                {"source_labels": ["name"], "regex": ".*postern.*", "action": "keep"},
            ],
        }));
        let scrapes = Scrapes { configs: configs.into(), interval: "3s" };
        assert_eq!(scrapes.interval, format!("{}s", rules::MINUTE));
        list(cluster, &folder);
        let prometheus = Prometheus::start_on(node, &scrapes, &rules::hastened(&rules::text()));
        let (kubectl, is_over) = (Kubectl::clone(cluster), Arc::new(AtomicBool::new(false)));
        let is_over_there = is_over.clone();
        let lister = std::thread::spawn(move || {
            while !is_over_there.load(Ordering::SeqCst) {
                list(&kubectl, &folder);
                pause(LISTED);
            }
        });
        Self { prometheus, is_over, lister: Some(lister) }
    }

    /// Waits until a query has this answer.
    #[track_caller]
    pub(crate) fn says(&self, query: &str, value: f64) {
        let mut last = Vec::new();
        let answered = comes_true(PATIENCE, || {
            last = self.query(query);
            last.first().is_some_and(|series| (series.last() - value).abs() < f64::EPSILON)
        });
        assert!(answered, "{query} is not {value}: {last:?}");
    }

    /// Waits until of the alerts that are meant exactly these fire.
    #[track_caller]
    pub(crate) fn fires(&self, is_meant: impl Fn(&Alert) -> bool, wanted: &[&str]) {
        let wanted: BTreeSet<_> = wanted.iter().map(|&name| name.to_owned()).collect();
        let mut last = BTreeSet::new();
        let fires = comes_true(PATIENCE, || {
            let alerts = self.alerts();
            let firing = alerts.iter().filter(|alert| alert.fires && is_meant(alert));
            last = firing.map(|alert| alert.name().to_owned()).collect();
            last == wanted
        });
        assert!(fires, "{last:?} fire, not {wanted:?}: {:#?}", self.alerts());
        assert_eq!(self.failing_rules(), [""; 0]);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // It may have panicked, which is told already.
        let _ = self.lister.take().map(JoinHandle::join);
    }
}

/// Writes down each port of each container of each pod, as Prometheus' discovery would tell them.
fn list(kubectl: &Kubectl, folder: &Folder) {
    let listed = kubectl.try_kubectl(["get", "pods", "--all-namespaces", "--output=json"]);
    // While the API server is away what was known stays.
    let Ok(pods) = serde_json::from_str::<Value>(&listed.out) else { return };
    let mut targets = Vec::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let Some(ip) = pod["status"]["podIP"].as_str() else { continue };
        let mut labels = json!({
            "__meta_kubernetes_namespace": pod["metadata"]["namespace"],
            "__meta_kubernetes_pod_name": pod["metadata"]["name"],
            "__meta_kubernetes_pod_phase": pod["status"]["phase"],
        });
        for (name, value) in pod["metadata"]["labels"].as_object().into_iter().flatten() {
            labels[format!("__meta_kubernetes_pod_label_{}", name.replace(['.', '/', '-'], "_"))] = value.clone();
        }
        let containers = ["containers", "initContainers"].iter().filter_map(|list| pod["spec"][list].as_array());
        for port in containers.flatten().filter_map(|container| container["ports"].as_array()).flatten() {
            labels["__meta_kubernetes_pod_container_port_name"] = port["name"].as_str().unwrap_or_default().into();
            targets.push(json!({"targets": [format!("{ip}:{}", port["containerPort"])], "labels": labels}));
        }
    }
    // Prometheus must never see half of it.
    fs::write(folder.join("new"), Value::from(targets).to_string()).expect("our own folder can be written");
    fs::rename(folder.join("new"), folder.join("pods.json")).expect("our own folder can be written");
}

impl Deref for Watch {
    type Target = Prometheus;

    fn deref(&self) -> &Prometheus {
        &self.prometheus
    }
}
