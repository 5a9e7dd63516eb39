//! The dashboard's panels, asked of a real Prometheus as Grafana would ask.

use std::fs;

use cast::prometheus::Series;
use cast::time::comes_true;
use cast::{Prometheus, workspace};
use serde_json::Value;
use std::time::Duration;

/// A panel: a title, and what is asked for it.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// The row that it is in.
    pub(crate) row: String,
    pub(crate) title: String,
    /// How its values are written: `s`, `percentunit` and such.
    pub(crate) unit: String,
    targets: Vec<Target>,
}

/// A query, and how its series are called.
#[derive(Clone, Debug)]
struct Target {
    query: String,
    legend: String,
}

/// The row whose panels need an operator.
pub(crate) const OPERATOR: &str = "Operator";

/// How long a series may take until it is there.
const PATIENCE: Duration = Duration::from_mins(2);

/// All panels, in their order.
pub(crate) fn panels() -> Vec<Panel> {
    let file = workspace::root().join("charts/postern/files/dashboard.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut row = String::new();
    let mut panels = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        if panel["type"] == "row" {
            row = text(&panel["title"]);
            continue;
        }
        let targets = panel["targets"].as_array().unwrap();
        let target = |target: &Value| Target { query: text(&target["expr"]), legend: text(&target["legendFormat"]) };
        panels.push(Panel {
            row: row.clone(),
            title: text(&panel["title"]),
            unit: text(&panel["fieldConfig"]["defaults"]["unit"]),
            targets: targets.iter().map(target).collect(),
        });
    }
    panels
}

/// Fails where a query of these panels finds nothing, amid a world in which all of it should be found.
#[track_caller]
pub(crate) fn expect_data<'a>(prometheus: &Prometheus, panels: impl Iterator<Item = &'a Panel>, from: f64) {
    let mut count = 0;
    for panel in panels {
        for target in &panel.targets {
            let found = || {
                target
                    .ask(prometheus, from, 15.0)
                    .iter()
                    .any(|series| series.points.iter().any(|point| !point.1.is_nan()))
            };
            assert!(comes_true(PATIENCE, found), "{}, {}: no data of {}", panel.row, panel.title, target.query);
            count += 1;
        }
    }
    assert!(count > 10, "{count} queries are no dashboard");
}

// === impl Panel ===

impl Panel {
    /// What it shows from a time on: each line with its name.
    pub(crate) fn lines(&self, prometheus: &Prometheus, from: f64, window: f64) -> Vec<(String, Vec<(f64, f64)>)> {
        let of_target = |target: &Target| {
            let series = target.ask(prometheus, from, window);
            series.into_iter().map(|series| (target.name(&series), series.points)).collect::<Vec<_>>()
        };
        self.targets.iter().flat_map(of_target).collect()
    }
}

// === impl Target ===

impl Target {
    /// Asks it from a time until now, with all of each variable.
    fn ask(&self, prometheus: &Prometheus, from: f64, window: f64) -> Vec<Series> {
        let mut query = self.query.replace("$__rate_interval", &format!("{window}s"));
        for variable in ["$namespace", "$gatewayconfig", "$proxy", "$pod"] {
            query = query.replace(variable, ".*");
        }
        assert!(!query.contains('$'), "a variable that nobody sets: {query}");
        prometheus.query_over(&query, (from, prometheus.now()), window / 5.0)
    }

    /// What Grafana would call a series.
    fn name(&self, series: &Series) -> String {
        let mut name = self.legend.clone();
        for (label, value) in &series.labels {
            name = name.replace(&format!("{{{{{label}}}}}"), value);
        }
        name
    }
}
