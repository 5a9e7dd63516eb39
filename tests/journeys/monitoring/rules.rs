//! The rules that the chart delivers, as they are or in a hurry.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use cast::workspace;
use serde_yaml::Value;

/// Seconds that stand for a minute in a hurry: from one scrape to the next.
pub(crate) const MINUTE: u64 = 3;

/// The least and the longest that is waited in a hurry: a window needs several samples.
const WAIT: (u64, u64) = (6, 20);
const WINDOW: (u64, u64) = (15, 45);

/// Where they are.
fn file() -> PathBuf {
    workspace::root().join("charts/postern/files/rules.yaml")
}

/// The rules as they are.
pub(crate) fn text() -> String {
    fs::read_to_string(file()).expect("the chart has rules")
}

/// The names of all metrics that they look at.
pub(crate) fn metrics() -> Vec<String> {
    let mut rules: Value = serde_yaml::from_str(&text()).expect("rules are YAML");
    let mut names = vec!["up".to_owned()];
    for_each_rule(&mut rules, |rule| {
        let expression = rule["expr"].as_str().expect("a rule has an expression");
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        let begins = ["postern_", "process_", "kube_", "apiserver_"];
        names.extend(words.filter(|word| begins.iter().any(|begin| word.starts_with(begin))).map(str::to_owned));
    });
    names.sort();
    names.dedup();
    names
}

/// The same rules with seconds for minutes.
pub(crate) fn hastened(text: &str) -> String {
    let mut rules: Value = serde_yaml::from_str(text).expect("rules are YAML");
    for_each_rule(&mut rules, |rule| {
        if let Some(wait) = rule.get("for").and_then(Value::as_str) {
            rule["for"] = shortened(wait, WAIT).into();
        }
        let expression = rule["expr"].as_str().expect("a rule has an expression");
        let mut parts = expression.split('[');
        let mut short = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (window, rest) = part.split_once(']').expect("a window ends");
            write!(short, "[{}]{rest}", shortened(window, WINDOW)).expect("a string grows");
        }
        rule["expr"] = short.into();
    });
    serde_yaml::to_string(&rules).expect("what was read can be written")
}

fn for_each_rule(rules: &mut Value, mut change: impl FnMut(&mut Value)) {
    let groups = rules["groups"].as_sequence_mut().into_iter().flatten();
    for rule in groups.filter_map(|group| group["rules"].as_sequence_mut()).flatten() {
        change(rule);
    }
}

/// `5m` as so many seconds, between the least and the longest.
fn shortened(duration: &str, (least, longest): (u64, u64)) -> String {
    let (number, unit) = duration.split_at(duration.len() - 1);
    let minutes = match unit {
        "m" => 1,
        "h" => 60,
        "d" => 24 * 60,
        _ => panic!("{duration} has no unit that the rules use"),
    };
    let minutes: u64 = minutes * number.parse::<u64>().expect("a duration begins with a number");
    format!("{}s", (minutes * MINUTE).clamp(least, longest))
}

#[test]
fn in_a_hurry_a_rule_is_the_same_with_seconds_for_minutes() {
    let rules =
        "groups:\n- name: a\n  rules:\n  - alert: B\n    expr: sum(increase(c:rate5m[5m])) - d[1m] > 0\n    for: 1d\n";
    let hastened: Value = serde_yaml::from_str(&hastened(rules)).unwrap();
    let rule = &hastened["groups"][0]["rules"][0];
    assert_eq!(rule["expr"], "sum(increase(c:rate5m[15s])) - d[15s] > 0");
    assert_eq!(rule["for"], "20s");
}
