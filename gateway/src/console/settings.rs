//! The settings in force, for `SHOW CONFIG`. Secrets are in it by their names only, as in the document.

use std::fs;

use serde_yaml::Value;

use super::tables::Setting;
use crate::config::check::{self, check};

/// A hook's own settings are its own business.
const NOT_SHOWN: &str = "hooks";

/// Every setting of `document` with the value that it has.
pub(super) fn settings(document: &[u8]) -> Vec<Setting> {
    let (explanation, known) = (check(document), crds::table::settings());
    let told = |prefix: &str, section: &str, setting: &check::Setting| {
        let known = known.iter().find(|known| known.path == format!("{section}{}", setting.path));
        Setting {
            key: format!("{prefix}{}", setting.path),
            value: text(&setting.value),
            default: known.map(|known| known.default.trim_matches('`').to_owned()),
            is_live: known.is_some_and(|known| known.effect == crds::table::Effect::Live),
        }
    };
    let general = explanation.settings.iter().filter(|setting| !setting.path.starts_with(NOT_SHOWN));
    let mut settings: Vec<_> = general.map(|setting| told("", "", setting)).collect();
    for proxy in &explanation.proxies {
        let prefix = format!("proxies[{}].", proxy.name);
        settings.extend(proxy.settings.iter().map(|setting| told(&prefix, "proxies[].", setting)));
    }
    settings
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        // What cannot be written is not shown.
        value => serde_json::to_string(value).unwrap_or_default(),
    }
}

/// What the process holds in memory, in bytes.
pub(super) fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_told_with_its_default_and_whether_a_change_needs_a_restart() {
        let document =
            b"{apiVersion: postern.dev/v1alpha1, kind: GatewayConfig, spec: {workers: 2, hooks: [{name: log, \
                         config: {sample: 0.5}}], proxies: [{name: db, server: {address: '127.0.0.1:0'}, \
                         pool: {size: 7}, client: {addresses: ['127.0.0.1:9']}}]}}";
        let settings = settings(document);
        let of = |key: &str| settings.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("no {key}"));
        assert_eq!((of("proxies[db].pool.size").value.as_str(), of("proxies[db].pool.size").is_live), ("7", true));
        assert_eq!((of("workers").value.as_str(), of("workers").default.as_deref()), ("2", Some("1")));
        assert!(!of("workers").is_live);
        assert_eq!(of("proxies[db].client.addresses").value, "[\"127.0.0.1:9\"]");
        assert!(settings.iter().all(|setting| !setting.key.starts_with("hooks")), "{settings:?}");
    }

    #[test]
    fn a_process_holds_some_memory() {
        assert!(resident().is_some_and(|bytes| bytes > 100_000), "{:?}", resident());
    }
}
