//! What watches: the rules, the tests of them that real faults have left, the dashboard, and what is scraped.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cast::install::program;
use cast::process::attempt;
use serde_json::Value;

use crate::render::Chart;

/// What alerts begin with.
const BEGIN: &str = "Postern";

#[test]
fn promtool_finds_no_fault_with_the_rules() {
    let (ok, said) =
        attempt(Command::new(program("promtool")).args(["check", "rules", "--lint-fatal"]).arg(file("rules.yaml")));
    assert!(ok, "{said}");
}

#[test]
fn the_rules_do_what_they_should_on_what_was_scraped_amid_real_faults() {
    let cases = cases();
    assert!(cases.len() > 10, "{cases:?}");
    let (ok, said) = attempt(Command::new(program("promtool")).args(["test", "rules"]).args(&cases));
    assert!(ok, "{said}");
}

#[test]
fn every_alert_fires_in_a_recording_and_is_explained() {
    let recordings: Vec<_> = cases().iter().map(|case| fs::read_to_string(case).expect("a case can be read")).collect();
    let page = text("MONITORING.md");
    for alert in alerts() {
        let name = word(&alert, "alert");
        let fires = format!("'{{alertname=\"{name}\"}}', value: 1");
        assert!(recordings.iter().any(|recording| recording.contains(&fires)), "{name} fires in no recording");
        let (heading, anchor) = (format!("\n### {name}\n"), format!("MONITORING.md#{}", name.to_lowercase()));
        assert!(page.contains(&heading), "MONITORING.md has no section {name}");
        assert!(word(&alert["annotations"], "runbook_url").ends_with(&anchor), "{name} leads elsewhere");
        let severity = word(&alert["labels"], "severity");
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        for said in ["summary", "description"] {
            let sentence = word(&alert["annotations"], said);
            assert!(sentence.ends_with('.'), "{name}: its {said} is no sentence: {sentence:?}");
        }
    }
    for section in page.lines().filter_map(|line| line.strip_prefix("### ").filter(|title| title.starts_with(BEGIN))) {
        assert!(alerts().iter().any(|alert| word(alert, "alert") == section), "there is no alert {section}");
    }
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_are_documented() {
    let documents = ["README.md", "operator/OPERATIONS.md"].map(|document| {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document)).expect("it is there")
    });
    let dashboard: Value = serde_json::from_str(&text("files/dashboard.json")).expect("the dashboard is JSON");
    let mut expressions = rules().iter().map(|rule| word(rule, "expr").to_owned()).collect::<Vec<_>>();
    strings(&dashboard, &mut |key, value| {
        if ["expr", "query", "definition"].contains(&key) {
            expressions.push(value.to_owned());
        }
    });
    let mut named = BTreeSet::new();
    for expression in &expressions {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && !"_:".contains(c));
        named.extend(words.filter(|word| word.starts_with("postern_")));
    }
    assert!(named.len() > 40, "{named:?}");
    for metric in named {
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| metric.strip_suffix(end)).unwrap_or(metric);
        let row = format!("| `{family}` |");
        assert!(documents.iter().any(|document| document.contains(&row)), "nobody documents {metric}");
    }
}

#[test]
fn the_chart_delivers_rules_and_dashboard_as_they_are() {
    let objects = Chart::with_everything().render();
    let delivered = &objects.the("PrometheusRule", "postern")["spec"];
    let rules: Value = serde_yaml::from_str(&text("files/rules.yaml")).expect("rules are YAML");
    assert_eq!(*delivered, rules);
    let dashboard = objects.the("ConfigMap", "postern-dashboard");
    let delivered = dashboard["data"]["postern.json"].as_str().expect("a text");
    assert_eq!(delivered.trim(), text("files/dashboard.json").trim());
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
}

#[test]
fn an_alert_can_be_left_out_by_its_name() {
    let chart = Chart::with_everything().set("prometheusRule.without=[\"PosternRestartRequired\"]");
    let rule = chart.render().the("PrometheusRule", "postern").to_string();
    assert!(!rule.contains("\"PosternRestartRequired\"") && rule.contains("\"PosternGatewaysUnseen\""));
    let refusal = Chart::with_everything().set("prometheusRule.without=[\"PosternRestart\"]").refusal();
    assert!(refusal.contains("names PosternRestart, and there is no such alert"), "{refusal}");
}

#[test]
fn what_a_plain_prometheus_scrapes_is_what_the_pod_monitors_say() {
    let scrapes: Value = serde_yaml::from_str(&text("files/scrape.yaml")).expect("it is YAML");
    let objects = Chart::with_everything().render();
    for job in scrapes["scrape_configs"].as_array().expect("it has jobs") {
        let monitor = objects.the("PodMonitor", word(job, "job_name"));
        let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
        let relabels = job["relabel_configs"].as_array().expect("a job relabels");
        let keeps: Vec<_> = relabels.iter().filter(|relabel| relabel["action"] == "keep").collect();
        let selected = monitor["spec"]["selector"]["matchLabels"].as_object().expect("it selects by labels");
        let kept = |label: &str, value: &str| {
            let source = format!("__meta_kubernetes_pod_label_{}", label.replace(['.', '/', '-'], "_"));
            keeps.iter().any(|keep| {
                let sources = keep["source_labels"].as_array().into_iter().flatten();
                let values = word(keep, "regex").split(';');
                sources.zip(values).any(|(label, kept)| *label == source && kept == value)
            })
        };
        for (label, value) in selected {
            assert!(kept(label, value.as_str().expect("a label is text")), "{label} of {}", job["job_name"]);
        }
        assert!(keeps.iter().any(|keep| keep["regex"] == endpoint["port"]), "the port of {}", job["job_name"]);
        for relabeling in endpoint["relabelings"].as_array().into_iter().flatten() {
            let is_same = |relabel: &&Value| {
                relabel["source_labels"] == relabeling["sourceLabels"]
                    && relabel["target_label"] == relabeling["targetLabel"]
            };
            assert!(relabels.iter().any(|relabel| is_same(&relabel)), "{relabeling} of {}", job["job_name"]);
        }
    }
}

#[test]
fn each_panel_has_its_place_a_title_and_words() {
    let dashboard: Value = serde_json::from_str(&text("files/dashboard.json")).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let title = word(panel, "title");
        assert!(
            panels.iter().filter(|other| other["id"] == panel["id"]).count() == 1,
            "{title}: its id is another's, too"
        );
        let side = |name: &str| panel["gridPos"][name].as_u64().expect("a place is a number");
        for place in
            (side("x")..side("x") + side("w")).flat_map(|x| (side("y")..side("y") + side("h")).map(move |y| (x, y)))
        {
            assert!(place.0 < 24 && taken.insert(place), "{title} lies over another panel");
        }
        if panel["type"] != "row" {
            assert!(word(panel, "description").ends_with('.'), "{title} says nothing of itself");
            assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{title} shows nothing");
        }
    }
}

/// A file of the chart.
fn text(name: &str) -> String {
    fs::read_to_string(Chart::bare().folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn file(name: &str) -> PathBuf {
    Chart::bare().folder().join("files").join(name)
}

/// The tests of the rules.
fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/alerts");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a folder can be read").path()).collect()
}

fn rules() -> Vec<Value> {
    let rules: Value = serde_yaml::from_str(&text("files/rules.yaml")).expect("rules are YAML");
    let groups = rules["groups"].as_array().expect("it has groups");
    groups.iter().flat_map(|group| group["rules"].as_array().expect("a group has rules").clone()).collect()
}

fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

fn word<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_else(|| panic!("there is no {key} in {object}"))
}

/// Shows every text of a document with the key that it is behind.
fn strings(value: &Value, show: &mut dyn FnMut(&str, &str)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if let Some(text) = value.as_str() {
                    show(key, text);
                }
                strings(value, show);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| strings(value, show)),
        _ => {}
    }
}
