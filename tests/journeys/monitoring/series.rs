//! What Prometheus has scraped, as tests for `promtool`: each rule is tried on what happened, as it will be in production.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cast::process::run;
use cast::prometheus::Series;
use cast::{Prometheus, workspace};

use crate::rules;

/// What is to be written.
pub(crate) struct Recording<'a> {
    /// The name of the file.
    pub(crate) name: &'a str,
    /// What was done.
    pub(crate) done: &'a str,
    /// Which series, as a selector has it between its braces; all if it is empty.
    pub(crate) of: String,
    /// When it begins, in Prometheus' time: seconds since 1970.
    pub(crate) start: f64,
    /// Seconds between two samples, and what they count as: in a hurry a few seconds stand for a minute.
    pub(crate) step: f64,
    pub(crate) counts_as: &'static str,
    /// Which alerts are looked at, as a selector has it behind a label.
    pub(crate) among: &'a str,
    /// What fires when, in the order of the times; the last ends the recording.
    pub(crate) looks: &'a [Look<'a>],
    /// So many more samples are as the last one, before the last look: for what takes a day.
    pub(crate) held: u32,
}

/// A time, and the alerts that fire then.
pub(crate) type Look<'a> = (f64, &'a [&'a str]);

/// Set, what is scraped is written.
const WRITE: &str = "POSTERN_WRITE_SERIES";

/// Whether recordings shall be written.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os(WRITE).is_some()
}

/// Whether they shall take their real time.
pub(crate) fn is_wanted_slowly() -> bool {
    std::env::var_os(WRITE).is_some_and(|value| value == "slowly")
}

/// Where they are.
fn folder() -> PathBuf {
    workspace::root().join("tests/cases/alerts")
}

/// Writes what was scraped during the story.
#[track_caller]
pub(crate) fn write(prometheus: &Prometheus, recording: &Recording<'_>) {
    let names: Vec<_> = rules::metrics().into_iter().filter(|name| !name.contains(':')).collect();
    let selector = format!("{{__name__=~\"{}\",{}}}", names.join("|"), recording.of);
    let window = (prometheus.now() - recording.start).ceil();
    let series = prometheus.query(&format!("{selector}[{window}s]"));
    assert!(!series.is_empty(), "nothing was scraped of {selector}");
    let file = folder().join(format!("{}.yaml", recording.name));
    fs::create_dir_all(folder()).expect("our own folder can be made");
    fs::write(file, text(recording, &series)).expect("our own folder can be written");
}

fn text(recording: &Recording<'_>, series: &[Series]) -> String {
    let Recording { name, done, start, step, counts_as, among, .. } = recording;
    let day = run(Command::new("date").args(["--utc", "+%F", "--date", &format!("@{start}")]));
    let mut text = format!(
        "# Recorded on {} by a real Prometheus, every {step} s, of which each counts as {counts_as}: {done}.\n\
         # POSTERN_WRITE_SERIES=1 has the journey `monitoring` record it anew.\n\
         rule_files: [../../../charts/postern/files/rules.yaml]\nevaluation_interval: {counts_as}\ntests:\n\
         - name: {name}\n  interval: {counts_as}\n  input_series:\n",
        day.trim(),
    );
    let firsts = first_scrapes(series, *start);
    let mut lines: Vec<_> = series.iter().filter_map(|series| line(series, &firsts, recording)).collect();
    lines.sort();
    text.extend(lines);
    text += "  promql_expr_test:\n";
    let (unit, seconds) =
        (counts_as.trim_start_matches(char::is_numeric), counts_as.trim_end_matches(char::is_alphabetic));
    let each: f64 = seconds.parse().expect("what a sample counts as begins with a number");
    for (number, (time, alerts)) in recording.looks.iter().enumerate() {
        // Two before: a scrape that began then, and hung, may have seen what came next.
        let mut samples = ((time - start) / step).floor() - 2.0;
        if number + 1 == recording.looks.len() {
            samples += f64::from(recording.held);
        }
        let at = samples * each;
        write!(
            text,
            "  - expr: 'group by (alertname) (ALERTS{{alertstate=\"firing\"{among}}})'\n    eval_time: {at}{unit}\n    exp_samples:",
        )
        .expect("a string grows");
        text += if alerts.is_empty() { " []\n" } else { "\n" };
        for alert in *alerts {
            writeln!(text, "    - {{labels: '{{alertname=\"{alert}\"}}', value: 1}}").expect("a string grows");
        }
    }
    text
}

/// When each target was scraped first.
fn first_scrapes(series: &[Series], start: f64) -> BTreeMap<&str, f64> {
    let mut firsts = BTreeMap::new();
    for series in series {
        let Some(first) = series.points.iter().map(|point| point.0).find(|time| *time >= start) else { continue };
        let known = firsts.entry(series.label("instance")).or_insert(first);
        *known = first.min(*known);
    }
    firsts
}

/// One series; a time in it is counted from the beginning of the story, as `promtool` counts.
fn line(series: &Series, firsts: &BTreeMap<&str, f64>, recording: &Recording<'_>) -> Option<String> {
    let (start, step) = (recording.start, recording.step);
    let first = *firsts.get(series.label("instance"))?;
    let is_time = series.label("__name__").ends_with("_timestamp_seconds");
    let mut values = BTreeMap::new();
    for (time, value) in series.points.iter().filter(|point| point.0 >= first) {
        let value = if is_time { (value - start).round() } else { *value };
        values.insert(slot(*time - first, first - start, step), value.to_string());
    }
    let over = recording.looks.last()?.0;
    let end = slot(over - first, first - start, step);
    let mut samples = Vec::new();
    for number in 0..=end {
        let sample = match values.get(&number) {
            Some(value) => value.as_str(),
            // What a target does not say any more is over at once, also when the target is gone.
            None if samples.last().is_some_and(|last| *last != "_" && *last != "stale") => "stale",
            None => "_",
        };
        samples.push(sample);
    }
    let last = samples.last().copied().filter(|last| *last != "stale").unwrap_or("_");
    samples.extend((0..recording.held).map(|_| last));
    let labels = series.labels.iter().filter(|(name, _)| *name != "__name__" && *name != "instance");
    let labels: Vec<_> = labels.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let name = series.label("__name__");
    Some(format!("  - {{series: '{name}{{{}}}', values: '{}'}}\n", labels.join(","), shortened(&samples)))
}

/// Which sample it is that came so long after its target's first, which came `late` after the beginning.
#[expect(clippy::cast_possible_truncation, reason = "a story has some hundred samples")]
fn slot(after: f64, late: f64, step: f64) -> i64 {
    (late / step).floor() as i64 + (after / step).round() as i64
}

/// The samples in `promtool`'s notation, in which `1x3` is a 1 and three more, and `_x3` three that are missing.
fn shortened(samples: &[&str]) -> String {
    let same = samples.chunk_by(|one, other| one == other);
    let words = same.map(|run| match (run[0], run.len()) {
        (value, 1) => value.to_owned(),
        ("_", count) => format!("_x{count}"),
        (value, count) => format!("{value}x{}", count - 1),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_was_scraped_is_told_in_promtools_notation() {
    assert_eq!(shortened(&["_", "_", "1", "1", "1", "2", "stale", "_"]), "_x2 1x2 2 stale _");
    let labels = [("__name__", "up"), ("instance", "a"), ("pod", "b")];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let series = Series { labels, points: vec![(101.0, 1.0), (116.1, 1.0), (146.0, 0.0)] };
    let recording = Recording {
        name: "a",
        done: "b",
        of: String::new(),
        start: 100.0,
        step: 15.0,
        counts_as: "1m",
        among: "",
        looks: &[(131.0, &[]), (161.0, &["C"])],
        held: 0,
    };
    let firsts = first_scrapes(std::slice::from_ref(&series), 100.0);
    let line = line(&series, &firsts, &recording).unwrap();
    assert_eq!(line, "  - {series: 'up{pod=\"b\"}', values: '1x1 stale 0 stale'}\n");
    let text = text(&recording, std::slice::from_ref(&series));
    assert!(text.contains("eval_time: 0m\n    exp_samples: []\n") && text.contains("eval_time: 2m\n"), "{text}");
}
