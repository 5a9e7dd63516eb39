//! `gateway check`: what a document means. Either everything that is wrong with it, or every setting with the value that
//! it will have, and the schedule by which a database that is away is dialed.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_yaml::Value;

use super::document::{Document, Problems};
use super::{Config, RetryConfig};
use crate::client::backoff::Backoff;

/// Attempts that are listed; a schedule without caps can have any number.
const MAX_ATTEMPTS: usize = 20;

/// What a document means.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether the gateway would serve it.
    pub valid: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problems: Option<Problems>,
    /// The resource's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The settings of the whole gateway.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// Its proxies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proxies: Vec<ProxyExplanation>,
}

/// What a document means for one proxy.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyExplanation {
    /// The proxy's name.
    pub name: String,
    /// Where peers dial.
    pub listens: String,
    /// Where the database is.
    pub database: Vec<String>,
    /// Its settings, in the order of a connection's journey.
    pub settings: Vec<Setting>,
    /// How a database that is away is dialed; none for UDP, where dialing proves nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// One setting, and the value that it will have.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// Where it stands, below the proxy or below `spec`.
    pub path: String,
    /// The value.
    pub value: Value,
    /// Whether somebody wrote it.
    pub origin: Origin,
    /// What the value becomes, where it is not what holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// It was not written.
    Default,
    /// It was written.
    Written,
}

/// How a database that is away is dialed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// The attempts of one round, the first of them at once.
    pub attempts: Vec<Attempt>,
    /// Attempts that are not listed.
    pub further_attempts: u32,
    /// Each wait may be shorter by this fraction.
    pub jitter: f64,
    /// A dial that gets no answer takes this long, and what follows starts as much later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dial_timeout: Option<crds::Duration>,
    /// After the last attempt the database counts as down and is dialed about this often.
    pub afterwards_every: crds::Duration,
    /// While a peer waits it is dialed about this often besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_every: Option<crds::Duration>,
}

/// One dial of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// When it starts, if every dial before it failed at once.
    pub starts_at: crds::Duration,
    /// How long was waited for it.
    pub after_waiting: crds::Duration,
}

/// Explains a document.
pub fn check(bytes: &[u8]) -> Explanation {
    let understood =
        Document::read(bytes).and_then(|document| Config::try_from(&document.config).map(|config| (document, config)));
    match understood {
        Ok((document, config)) => Explanation::of(&document, &config),
        Err(problems) => {
            let problems = Some(problems);
            Explanation { valid: false, problems, name: None, settings: Vec::new(), proxies: Vec::new() }
        }
    }
}

// === impl Explanation ===

impl Explanation {
    fn of(document: &Document, config: &Config) -> Self {
        let mut resolved = crds::resolve(&document.config.spec);
        let proxies = std::mem::take(&mut resolved.proxies);
        let proxies = proxies.iter().zip(&config.proxies).enumerate().map(|(index, (proxy, believed))| {
            let written = &document.spec["proxies"][index];
            let mut settings = settings_of(proxy, written);
            note_caps(&mut settings, proxy);
            ProxyExplanation {
                name: proxy.name.clone(),
                listens: format!("{} {}", proxy.server_network(), believed.server.listen),
                database: proxy.client.addresses.clone(),
                settings,
                schedule: (proxy.client.network != crds::Network::Udp)
                    .then(|| Schedule::of(proxy, &believed.client.retry)),
            }
        });
        let proxies = proxies.collect();
        let mut settings = settings_of(&resolved, &document.spec);
        settings.retain(|setting| setting.path != "proxies");
        Self { valid: true, problems: None, name: Some(config.name.clone()), settings, proxies }
    }
}

/// Every setting of `section`, in the order in which it declares them.
fn settings_of(section: &impl Serialize, written: &serde_json::Value) -> Vec<Setting> {
    let mut settings = Vec::new();
    // What cannot be serialised has nothing to show.
    collect("", serde_yaml::to_value(section).unwrap_or_default(), Some(written), &mut settings);
    settings
}

fn collect(path: &str, value: Value, written: Option<&serde_json::Value>, settings: &mut Vec<Setting>) {
    let inside = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Mapping(map) if path.is_empty() || !map.is_empty() => {
            for (name, value) in map {
                let name = name.as_str().unwrap_or_default();
                collect(&inside(name), value, written.and_then(|written| written.get(name)), settings);
            }
        }
        Value::Sequence(list) if list.iter().any(Value::is_mapping) => {
            for (index, value) in list.into_iter().enumerate() {
                collect(&format!("{path}[{index}]"), value, written.and_then(|written| written.get(index)), settings);
            }
        }
        value => {
            let origin = if written.is_some() { Origin::Written } else { Origin::Default };
            settings.push(Setting { path: path.into(), value, origin, note: None });
        }
    }
}

/// Says where a cap makes another value of what was written.
fn note_caps(settings: &mut [Setting], proxy: &crds::Proxy) {
    let client = &proxy.client;
    if client.disable_backoff_caps {
        return;
    }
    let capped = [
        ("client.retries", client.retries > crds::MAX_RETRIES, crds::MAX_RETRIES.to_string()),
        (
            "client.backoffMultiplier",
            client.backoff_multiplier > crds::MAX_BACKOFF_MULTIPLIER,
            crds::MAX_BACKOFF_MULTIPLIER.to_string(),
        ),
    ];
    for (path, _, cap) in capped.into_iter().filter(|(_, is_capped, _)| *is_capped) {
        if let Some(setting) = settings.iter_mut().find(|setting| setting.path == path) {
            setting.note = Some(format!("counts as {cap}; disableBackoffCaps lifts the cap"));
        }
    }
}

// === impl Schedule ===

impl Schedule {
    fn of(proxy: &crds::Proxy, retry: &RetryConfig) -> Self {
        let backoff = Backoff::new(retry);
        let mut starts_at = Duration::ZERO;
        let first = Attempt { starts_at: starts_at.into(), after_waiting: crds::Duration::ZERO };
        let retries = backoff.clone().take(MAX_ATTEMPTS - 1).map(|wait| {
            starts_at = starts_at.saturating_add(wait);
            Attempt { starts_at: starts_at.into(), after_waiting: wait.into() }
        });
        let attempts: Vec<Attempt> = std::iter::once(first).chain(retries).collect();
        let listed = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
        Self {
            further_attempts: (retry.retries.saturating_add(1)).saturating_sub(listed),
            attempts,
            jitter: retry.jitter,
            dial_timeout: proxy.client.dial_timeout.nonzero().map(crds::Duration::from),
            afterwards_every: backoff.clamped_last().into(),
            probe_every: proxy.client.probe.nonzero().map(crds::Duration::from),
        }
    }
}

// === the text ===

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(problems) = &self.problems {
            let count = problems.iter().count();
            let noun = if count == 1 { "problem" } else { "problems" };
            writeln!(out, "This document is refused, for {count} {noun}:")?;
            return problems.iter().try_for_each(|problem| writeln!(out, "  {problem}"));
        }
        let name = self.name.as_deref().unwrap_or_default();
        writeln!(out, "GatewayConfig {name} is valid.\n\ngateway")?;
        write_settings(out, &self.settings)?;
        self.proxies.iter().try_for_each(|proxy| write!(out, "\n{proxy}"))
    }
}

impl fmt::Display for ProxyExplanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "proxy {}: {} -> {}", self.name, self.listens, self.database.join(", "))?;
        write_settings(out, &self.settings)?;
        match &self.schedule {
            Some(schedule) => write!(out, "\n{schedule}"),
            None => writeln!(out, "\n  Over udp a dial proves nothing: none fails, and none is tried again."),
        }
    }
}

fn write_settings(out: &mut fmt::Formatter<'_>, settings: &[Setting]) -> fmt::Result {
    let rows: Vec<(&Setting, String)> = settings.iter().map(|setting| (setting, shown(&setting.value))).collect();
    let width = |width: usize, text: &str| width.max(text.chars().count());
    let path = rows.iter().fold(0, |most, (setting, _)| width(most, &setting.path));
    let value = rows.iter().fold(0, |most, (_, value)| width(most, value));
    for (setting, text) in &rows {
        let origin = match setting.origin {
            Origin::Default => "default",
            Origin::Written => "written",
        };
        let note = setting.note.as_deref().map(|note| format!(", {note}")).unwrap_or_default();
        writeln!(out, "  {:path$}  {text:value$}  {origin}{note}", setting.path)?;
    }
    Ok(())
}

/// A value on one line, as one would write it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            number.as_u64().map_or_else(|| number.as_f64().unwrap_or_default().to_string(), |n| n.to_string())
        }
        Value::Sequence(list) => format!("[{}]", list.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "  While the database is away it is dialed")?;
        for (index, Attempt { starts_at, after_waiting }) in self.attempts.iter().enumerate() {
            let ordinal = index + 1;
            write!(out, "    attempt {ordinal:2}  at {:>10}", starts_at.to_string())?;
            if index > 0 {
                write!(out, "  after waiting {after_waiting}")?;
            }
            writeln!(out)?;
        }
        if self.further_attempts > 0 {
            writeln!(out, "    and {} times more", self.further_attempts)?;
        }
        if let Some(timeout) = self.dial_timeout {
            writeln!(out, "  if each dial fails at once; one without an answer takes up to {timeout}, dialTimeout.")?;
        }
        if self.jitter > 0.0 {
            writeln!(out, "  Each wait is shorter by up to {} %, at random.", (self.jitter * 100.0).round())?;
        }
        let probe = self.probe_every.map(|probe| format!(", and every {probe} while a peer waits")).unwrap_or_default();
        writeln!(
            out,
            "  Then it counts as down, and is dialed every {}{probe}, until it is back.",
            self.afterwards_every
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a document comes to whose client has these settings besides.
    fn explained(client: &str) -> Explanation {
        check(
            format!(
                "apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\nmetadata: {{name: orders}}\nspec:\n  proxies:\n  \
                 - name: orders\n    client: {{addresses: ['db:5432'], {client}}}\n"
            )
            .as_bytes(),
        )
    }

    fn schedule(client: &str) -> Schedule {
        explained(client).proxies[0].schedule.clone().expect("tcp is dialed by a schedule")
    }

    fn waits(client: &str) -> Vec<String> {
        schedule(client).attempts.iter().skip(1).map(|attempt| attempt.after_waiting.to_string()).collect()
    }

    #[test]
    fn the_default_schedule_starts_at_0_2_6_and_14_seconds() {
        let starts: Vec<String> = schedule("").attempts.iter().map(|attempt| attempt.starts_at.to_string()).collect();
        assert_eq!(starts, ["0s", "2s", "6s", "14s"]);
        assert_eq!(waits(""), ["2s", "4s", "8s"]);
    }

    #[test]
    fn the_capped_table_comes_out_value_for_value() {
        assert_eq!(waits("retries: 11"), ["2s", "4s", "8s", "16s", "32s", "1m", "1m", "1m", "1m", "1m"]);
    }

    #[test]
    fn the_uncapped_table_comes_out_value_for_value() {
        let waits = waits("retries: 11, disableBackoffCaps: true");
        assert_eq!(waits[..5], ["2s", "4s", "8s", "16s", "32s"]);
        assert_eq!(waits[5..], ["1m4s", "2m8s", "4m16s", "8m32s", "17m4s", "34m8s"]);
    }

    #[test]
    fn a_schedule_without_end_is_listed_in_part() {
        let schedule = schedule("retries: 2147483647, disableBackoffCaps: true");
        assert_eq!((schedule.attempts.len(), schedule.further_attempts), (MAX_ATTEMPTS, 2_147_483_628));
        assert_eq!(schedule.afterwards_every.to_string(), "30s");
    }

    #[test]
    fn a_setting_says_whether_it_was_written_and_when_it_is_capped() {
        let explanation = explained("retries: 11, backoff: 2s");
        let setting = |path: &str| explanation.proxies[0].settings.iter().find(|setting| setting.path == path).unwrap();
        assert_eq!(setting("client.backoff").origin, Origin::Written);
        assert_eq!(setting("client.jitter").origin, Origin::Default);
        assert_eq!(setting("pool.size").value, Value::from(100));
        let note = setting("client.retries").note.as_deref();
        assert_eq!(note, Some("counts as 10; disableBackoffCaps lifts the cap"));
    }

    #[test]
    fn every_setting_of_the_table_is_explained() {
        let explanation = check(include_bytes!("../../../crds/samples/full.yaml"));
        let paths: Vec<&str> = explanation.proxies[0].settings.iter().map(|setting| setting.path.as_str()).collect();
        let settings = crds::table::settings();
        let of_proxy = settings.iter().filter_map(|setting| setting.path.strip_prefix("proxies[]."));
        for path in of_proxy.filter(|path| !path.ends_with("secretName") && !path.starts_with("client.auth")) {
            assert!(path == "client.tls.serverName" || paths.contains(&path), "{path} is not explained");
        }
    }

    #[test]
    fn the_text_is_for_reading() {
        let text = explained("jitter: 0.2").to_string();
        for line in [
            "GatewayConfig orders is valid.",
            "proxy orders: tcp 127.0.0.1:5432 -> db:5432",
            "    attempt  4  at        14s  after waiting 8s",
            "  Each wait is shorter by up to 20 %, at random.",
            "  Then it counts as down, and is dialed every 8s, and every 500ms while a peer waits, until it is back.",
        ] {
            assert!(text.lines().any(|said| said == line), "{line:?} is missing in:\n{text}");
        }
        let refused = explained("retries: -1, backof: 1s").to_string();
        assert!(refused.starts_with("This document is refused, for 2 problems:\n  line 7: spec."), "{refused}");
    }
}
