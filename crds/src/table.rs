//! Every setting in one table, for the README and for whoever asks a program.

use crate::schema;
use serde_json::Value;
use std::fmt::Write;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it stands, such as `spec.proxies[].pool.size`.
    pub path: String,
    /// What holds where it is not written, as in the document or in words.
    pub default: String,
    /// When a change of it takes effect.
    pub effect: Effect,
    /// What it does.
    pub meaning: String,
}

/// When a change of a setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At once.
    Live,
    /// When the gateway, or its pod, is started again.
    Restart,
}

/// The sections in the order of a connection's journey; the schema knows only the alphabet's.
const SECTIONS: [&str; 12] = [
    "proxies[].name",
    "proxies[].protocol",
    "proxies[].server",
    "proxies[].pool",
    "proxies[].client",
    "hooks[]",
    "workers",
    "drainTimeout",
    "readiness",
    "log",
    "admin",
    "sidecar",
];

/// Every setting of the resource, by sections in the order of a connection's journey.
pub fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    collect(&schema::spec(), "", &mut settings);
    settings.sort_by_key(|setting| SECTIONS.iter().position(|section| setting.path.starts_with(section)));
    settings
}

/// The table in Markdown.
pub fn markdown() -> String {
    let mut table = String::from("| setting | default | change | meaning |\n|---|---|---|---|\n");
    for Setting { path, default, effect, meaning } in settings() {
        let effect = match effect {
            Effect::Live => "live",
            Effect::Restart => "restart",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| `{path}` | {default} | {effect} | {meaning} |");
    }
    table
}

/// A section is not a setting, unless its description says when a change of it takes effect.
fn collect(schema: &Value, path: &str, settings: &mut Vec<Setting>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|key| key == name));
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let description = property["description"].as_str().unwrap_or_default();
        let items = &property["items"];
        if items["properties"].is_object() {
            collect(items, &format!("{path}[]"), settings);
        } else if property["properties"].is_object() {
            collect(property, &path, settings);
        } else if let Some(setting) = read(path, description, &property["default"], required(name)) {
            settings.push(setting);
        }
    }
}

/// Takes a description apart: what it means, `Default: ...` in words, and its last word, when a change takes effect.
fn read(path: String, description: &str, default: &Value, required: bool) -> Option<Setting> {
    let (text, effect) = match description.strip_suffix("Live.") {
        Some(text) => (text.trim(), Effect::Live),
        None => (description.strip_suffix("Restart-required.")?.trim(), Effect::Restart),
    };
    let (meaning, in_words) = text.split_once(" Default: ").unwrap_or((text, ""));
    let default = match default {
        Value::Null if required => "required".into(),
        Value::Null => in_words.trim_end_matches('.').into(),
        Value::String(default) => format!("`{default}`"),
        Value::Number(default) => format!("`{}`", default.as_f64().unwrap_or_default()),
        other => format!("`{other}`"),
    };
    Some(Setting { path, default, effect, meaning: meaning.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(schema: &Value) -> usize {
        let inside = |schema: &Value| if schema["properties"].is_object() { leaves(schema) } else { 1 };
        let properties = schema["properties"].as_object().into_iter().flat_map(|properties| properties.values());
        properties
            .map(|one| if one["items"]["properties"].is_object() { leaves(&one["items"]) } else { inside(one) })
            .sum()
    }

    #[test]
    fn every_setting_says_its_default_and_when_a_change_takes_effect() {
        let settings = settings();
        assert_eq!(
            settings.len(),
            leaves(&schema::spec()),
            "a description lacks its last word, Live. or Restart-required."
        );
        for setting in settings {
            assert!(!setting.default.is_empty(), "{} has no default", setting.path);
            assert!(SECTIONS.iter().any(|section| setting.path.starts_with(section)), "{} has no place", setting.path);
            assert!(!setting.meaning.is_empty(), "{} has no meaning", setting.path);
            assert!(!setting.meaning.contains('|'), "{} breaks the table", setting.path);
        }
    }

    #[test]
    fn the_readme_holds_the_table() {
        let readme = include_str!("../../README.md");
        let (_, behind) = readme.split_once("<!-- settings:begin -->\n").expect("README.md marks where settings begin");
        let (table, _) = behind.split_once("<!-- settings:end -->").expect("README.md marks where settings end");
        assert!(table.trim() == markdown().trim(), "the settings in README.md are stale; run `cargo crdgen write`");
    }
}
