//! What an edit changes, setting by setting, and whether running pods follow it.

use std::collections::{BTreeMap, BTreeSet};

use crds::table::{Effect, settings};
use crds::{GatewayConfigSpec, resolve};
use serde::Serialize;
use serde_json::Value;

/// One setting that has another value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Where it stands; proxies and hooks by their names: `proxies[orders].pool.size`.
    pub path: String,
    /// What it was; nothing where it was not there.
    pub before: Value,
    /// What it will be; nothing where it will not be there.
    pub after: Value,
    /// Whether running pods follow, or only new ones have it.
    pub effect: Reach,
}

/// Whom a change reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    /// Running pods follow within seconds.
    Live,
    /// Running pods go on as they were; new ones have it.
    RestartRequired,
}

/// Of a pod these are written into it when it is created, though a gateway run by hand could follow them.
const PINNED: [&str; 2] = ["server.address", "server.network"];

/// What `after` changes of `before`, defaults included.
pub fn changes(before: &GatewayConfigSpec, after: &GatewayConfigSpec) -> Vec<Change> {
    let (before, after) = (leaves(before), leaves(after));
    let effects: BTreeMap<String, Effect> =
        settings().into_iter().map(|setting| (setting.path, setting.effect)).collect();
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let there = |leaves: &BTreeMap<String, Value>, entry: &str| leaves.keys().any(|path| path.starts_with(entry));
    let mut changes = Vec::new();
    let mut whole = BTreeSet::new();
    for path in paths {
        let (old, new) = (before.get(path), after.get(path));
        if old == new {
            continue;
        }
        // A proxy that comes or goes is one change, not one for each of its settings.
        if let Some(end) = path.find(']') {
            let entry = &path[..=end];
            let (was, is) = (there(&before, entry), there(&after, entry));
            if was != is {
                if whole.insert(entry.to_owned()) {
                    changes.push(Change {
                        path: entry.to_owned(),
                        before: if was { "there".into() } else { Value::Null },
                        after: if is { "there".into() } else { Value::Null },
                        effect: if is || !entry.starts_with("proxies") { Reach::Live } else { Reach::RestartRequired },
                    });
                }
                continue;
            }
        }
        let effect = reach(path, &effects);
        let value = |value: Option<&Value>| value.cloned().unwrap_or_default();
        changes.push(Change { path: path.clone(), before: value(old), after: value(new), effect });
    }
    changes
}

fn reach(path: &str, effects: &BTreeMap<String, Effect>) -> Reach {
    let general = match (path.find('['), path.find(']')) {
        (Some(begin), Some(end)) => format!("{}[]{}", &path[..begin], &path[end + 1..]),
        _ => path.to_owned(),
    };
    // What is below a setting, as an amount below `limits` is, has its effect.
    let effect =
        effects.iter().find(|(setting, _)| general == **setting || general.starts_with(&format!("{setting}.")));
    let is_pinned = PINNED.iter().any(|pinned| general == format!("proxies[].{pinned}"));
    match effect {
        Some((_, Effect::Live)) if !is_pinned => Reach::Live,
        _ => Reach::RestartRequired,
    }
}

/// Every setting with its value, proxies and hooks by their names.
fn leaves(spec: &GatewayConfigSpec) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    collect("", &serde_json::to_value(resolve(spec)).unwrap_or_default(), &mut leaves);
    leaves
}

fn collect(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| collect(&below(key), value, leaves)),
        Value::Array(list) if list.iter().any(|entry| entry["name"].is_string()) => {
            for entry in list {
                let name = entry["name"].as_str().unwrap_or_default();
                collect(&format!("{path}[{name}]"), entry, leaves);
            }
        }
        Value::Null => {}
        value => {
            leaves.insert(path.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    fn between(before: Value, after: Value) -> Vec<(String, Value, Value, Reach)> {
        let spec = |value: Value| GatewayConfigSpec::deserialize(value).expect("a spec");
        let found = changes(&spec(before), &spec(after));
        found.into_iter().map(|change| (change.path, change.before, change.after, change.effect)).collect()
    }

    fn with(proxy: &Value) -> Value {
        json!({ "proxies": [proxy] })
    }

    #[test]
    fn a_change_says_from_what_to_what_and_whom_it_reaches() {
        let client = json!({ "addresses": ["db:5432"] });
        let before = with(&json!({ "name": "a", "client": client }));
        assert_eq!(between(before.clone(), before.clone()), []);
        let bigger = with(&json!({ "name": "a", "client": client, "pool": { "size": 20 } }));
        let size = ("proxies[a].pool.size".to_owned(), json!(100), json!(20), Reach::Live);
        assert_eq!(between(before.clone(), bigger), [size]);
        let mut workers = before.clone();
        workers["workers"] = json!(2);
        assert_eq!(
            between(before.clone(), workers),
            [("workers".to_owned(), json!(1), json!(2), Reach::RestartRequired)]
        );
        let moved = with(&json!({ "name": "a", "client": client, "server": { "address": "127.0.0.1:1" } }));
        assert_eq!(between(before, moved)[0].3, Reach::RestartRequired);
    }

    #[test]
    fn a_proxy_that_comes_or_goes_is_one_change() {
        let proxy = |name: &str, port: u16| json!({ "name": name, "client": { "addresses": [format!("db:{port}")] } });
        let one = json!({ "proxies": [proxy("a", 1)] });
        let two = json!({ "proxies": [proxy("a", 1), proxy("b", 2)] });
        let comes = between(one.clone(), two.clone());
        assert_eq!(comes, [("proxies[b]".to_owned(), Value::Null, json!("there"), Reach::Live)]);
        let goes = between(two, one);
        assert_eq!(goes, [("proxies[b]".to_owned(), json!("there"), Value::Null, Reach::RestartRequired)]);
    }
}
