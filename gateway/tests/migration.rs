//! The page for people who come from PgBouncer names only what there is.

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../operator/MIGRATION.md");
const README: &str = include_str!("../../README.md");
/// With one of these a setting of ours begins; those of a proxy are written without `proxies[].`.
const SECTIONS: [&str; 6] = ["server.", "pool.", "client.", "log.", "admin.", "sidecar."];

/// Those outside a section.
const ALONE: [&str; 2] = ["workers", "drainTimeout"];

/// What stands in backticks in the page's text, outside its blocks of code.
fn quoted() -> impl Iterator<Item = &'static str> {
    let text = PAGE.split("\n```").step_by(2);
    text.flat_map(|text| text.split('`').skip(1).step_by(2))
}

#[test]
fn every_setting_of_ours_that_the_page_names_is_in_the_schema() {
    let settings: Vec<_> = crds::table::settings().into_iter().map(|setting| setting.path).collect();
    let is_known = |name: &str| {
        let names_a_setting_or_a_section = |path: &String| {
            let path = path.strip_prefix("proxies[].").unwrap_or(path);
            path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        settings.iter().any(names_a_setting_or_a_section)
    };
    let names: BTreeSet<_> = quoted()
        .map(|quoted| quoted.split_once(':').map_or(quoted, |(name, _)| name))
        .filter(|name| ALONE.contains(name) || SECTIONS.iter().any(|section| name.starts_with(section)))
        .collect();
    for name in &names {
        assert!(is_known(name), "operator/MIGRATION.md names {name}, and there is no such setting");
    }
    for needed in ["pool.mode", "pool.size", "client.auth.secretName", "client.addresses", "server.maxPeers"] {
        assert!(names.contains(needed), "operator/MIGRATION.md should name {needed}");
    }
    assert!(!is_known("pool.sizes") && !is_known("pool.siz"), "a wrong name should be found");
}

#[test]
fn every_metric_that_the_page_names_is_documented() {
    let metrics: BTreeSet<_> = quoted().filter(|quoted| quoted.starts_with("postern_")).collect();
    assert!(metrics.contains("postern_pool_waiting"), "the page should say where SHOW POOLS is: {metrics:?}");
    for metric in metrics {
        assert!(README.contains(&format!("| `{metric}` |")), "nobody documents {metric}");
    }
}

#[test]
fn every_row_of_the_page_says_what_becomes_of_what_it_names() {
    let rows: Vec<_> = PAGE.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() > 100, "PgBouncer has more settings than {}", rows.len());
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 2 && cells.iter().all(|cell| !cell.is_empty()), "a row needs two cells: {row}");
    }
}
