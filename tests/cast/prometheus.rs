//! A real Prometheus: what it scrapes, by which rules it alerts, and what it answers to queries.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Node;
use crate::folder::Folder;
use crate::http::{self, Response};
use crate::install::program;
use crate::loopback::free_address;
use crate::namespace::enter_network;
use crate::process::{Process, owned};
use crate::time::eventually;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
    /// The network in which it is, where that is not this machine's.
    network: Option<PathBuf>,
    _folder: Folder,
}

/// What it scrapes, and how often.
#[derive(Clone, Debug)]
pub struct Scrapes {
    /// The list `scrape_configs` of its configuration.
    pub configs: Value,
    /// How often it scrapes, and how often it looks at its rules; such as `1s`.
    pub interval: &'static str,
}

/// A series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels; its name is the one called `__name__`.
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970, and the values.
    pub points: Vec<(f64, f64)>,
}

/// An alert that is pending or fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its labels; its name is the one called `alertname`.
    pub labels: BTreeMap<String, String>,
    /// Its words.
    pub annotations: BTreeMap<String, String>,
    /// Whether it fires.
    pub fires: bool,
}

// === impl Prometheus ===

impl Prometheus {
    /// One that scrapes and alerts by these rules, from now on.
    #[track_caller]
    pub fn start(scrapes: &Scrapes, rules: &str) -> Self {
        Self::launch(scrapes, rules, free_address(), &[], None)
    }

    /// The same on the machine of a cluster, from where it reaches the pods.
    #[track_caller]
    pub fn start_on(node: &Node, scrapes: &Scrapes, rules: &str) -> Self {
        let address = node.within(|| free_port_of(node.address()));
        Self::launch(scrapes, rules, address, &node.entering(), Some(node.network()))
    }

    #[track_caller]
    fn launch(
        scrapes: &Scrapes,
        rules: &str,
        address: SocketAddr,
        entering: &[String],
        network: Option<PathBuf>,
    ) -> Self {
        let folder = Folder::new("prometheus");
        let interval = scrapes.interval;
        let config = json!({
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": ["rules.yaml"],
            "scrape_configs": scrapes.configs,
        });
        fs::write(folder.join("rules.yaml"), rules).expect("our folder is writable");
        fs::write(folder.join("prometheus.yaml"), format!("{config:#}")).expect("our folder is writable");
        let words = [entering, &[program("prometheus").display().to_string()]].concat();
        let mut command = owned(&words[0]);
        command
            .args(&words[1..])
            .arg(format!("--config.file={}", folder.join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn");
        let process = Process::start("Prometheus", &mut command);
        let mut prometheus = Self { process, address, network, _folder: folder };
        eventually("Prometheus is ready", || {
            if let Some(status) = prometheus.process.ended() {
                panic!("Prometheus ended with {status}:\n{}", prometheus.process.tail());
            }
            prometheus.try_get("/-/ready").is_ok_and(|response| response.status == 200)
        });
        prometheus
    }

    fn try_get(&self, path: &str) -> io::Result<Response> {
        match &self.network {
            Some(network) => enter_network(network, || http::get(self.address, path, PATIENCE)),
            None => http::get(self.address, path, PATIENCE),
        }
    }

    /// Asks its API and returns the data of the answer.
    #[track_caller]
    fn ask(&self, endpoint: &str, parameters: &[(&str, &str)]) -> Value {
        let pairs: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let path = format!("/api/v1/{endpoint}?{}", pairs.join("&"));
        let response = self.try_get(&path).unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.process.tail()));
        let mut answer: Value = serde_json::from_str(&response.body).expect("Prometheus answers in JSON");
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        answer["data"].take()
    }

    /// The answer to a query now; each series has one point, or those of the range that the query selects.
    #[track_caller]
    pub fn query(&self, query: &str) -> Vec<Series> {
        Series::all(&self.ask("query", &[("query", query)])["result"])
    }

    /// The answer over a time, from seconds since 1970 until such, a point each `step` seconds.
    #[track_caller]
    pub fn query_over(&self, query: &str, (from, until): (f64, f64), step: f64) -> Vec<Series> {
        let (from, until, step) = (from.to_string(), until.to_string(), step.to_string());
        let parameters = [("query", query), ("start", &from), ("end", &until), ("step", &step)];
        Series::all(&self.ask("query_range", &parameters)["result"])
    }

    /// What time it is there, in seconds since 1970.
    #[track_caller]
    pub fn now(&self) -> f64 {
        let now = &self.ask("query", &[("query", "time()")])["result"];
        now[0].as_f64().expect("a time is a number")
    }

    /// All alerts that are pending or fire.
    #[track_caller]
    pub fn alerts(&self) -> Vec<Alert> {
        let alerts = self.ask("alerts", &[]);
        alerts["alerts"].as_array().into_iter().flatten().map(Alert::from).collect()
    }

    /// What is wrong with its rules, of those that it could not look at.
    #[track_caller]
    pub fn failing_rules(&self) -> Vec<String> {
        let groups = self.ask("rules", &[]);
        let rules = groups["groups"].as_array().into_iter().flatten().filter_map(|group| group["rules"].as_array());
        let failing = rules.flatten().filter(|rule| rule["health"] == "err");
        failing.map(|rule| format!("{}: {}", rule["name"], rule["lastError"])).collect()
    }

    /// How many targets of a job it reaches.
    #[track_caller]
    pub fn reaches(&self, job: &str) -> usize {
        self.query(&format!("up{{job=\"{job}\"}} == 1")).len()
    }
}

// === impl Series ===

impl Series {
    fn all(result: &Value) -> Vec<Self> {
        result.as_array().into_iter().flatten().map(Self::from).collect()
    }

    /// The value of a label, or nothing.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Its newest value.
    pub fn last(&self) -> f64 {
        self.points.last().map_or(f64::NAN, |point| point.1)
    }
}

impl From<&Value> for Series {
    fn from(series: &Value) -> Self {
        let point = |point: &Value| Some((point[0].as_f64()?, point[1].as_str()?.parse().ok()?));
        let many = series["values"].as_array().into_iter().flatten();
        let points = many.chain(series.get("value")).filter_map(point).collect();
        Self { labels: texts(&series["metric"]), points }
    }
}

// === impl Alert ===

impl Alert {
    /// Its name.
    pub fn name(&self) -> &str {
        self.labels.get("alertname").map_or("", String::as_str)
    }
}

impl From<&Value> for Alert {
    fn from(alert: &Value) -> Self {
        let (labels, annotations) = (texts(&alert["labels"]), texts(&alert["annotations"]));
        Self { labels, annotations, fires: alert["state"] == "firing" }
    }
}

fn texts(object: &Value) -> BTreeMap<String, String> {
    let fields = object.as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// A port of this address, in the network of the thread, that was free a moment ago.
fn free_port_of(address: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("our own address can be bound");
    listener.local_addr().expect("a bound socket has an address")
}

/// A text as a URL has it behind its question mark.
fn encoded(text: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes()
        .map(|byte| if is_plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_its_url() {
        assert_eq!(encoded("sum(a{b=\"ä\"}) > 1"), "sum%28a%7Bb%3D%22%C3%A4%22%7D%29%20%3E%201");
    }

    #[test]
    fn an_answer_is_read_whether_it_has_one_point_or_many() {
        let answer = json!([
            {"metric": {"__name__": "up", "job": "a"}, "value": [1.5, "1"]},
            {"metric": {}, "values": [[1, "0.25"], [2, "NaN"]]},
        ]);
        let series = Series::all(&answer);
        assert_eq!((series[0].label("job"), &series[0].points[..]), ("a", &[(1.5, 1.0)][..]));
        assert_eq!(series[1].points[0], (1.0, 0.25));
        assert!(series[1].last().is_nan() && series[1].label("job").is_empty());
    }
}
