//! Links lead to pages and headings that are there.

use std::collections::BTreeSet;
use std::path::Path;

use cast::{Page, pages, workspace};

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages::all() {
        for target in targets(&page) {
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let folder = page.path.parent().unwrap_or(Path::new(""));
            let path = if path.is_empty() { page.path.clone() } else { folder.join(path) };
            if !workspace::root().join(&path).exists() {
                broken.push(format!("{}: {target} is not there", page.path.display()));
            } else if !anchor.is_empty() && !anchors(&Page::read(&path)).contains(anchor) {
                broken.push(format!("{}: {target} has no such heading", page.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What the links outside of blocks lead to, unless it is elsewhere in the world.
fn targets(page: &Page) -> Vec<String> {
    let prose = prose(page);
    let behind = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    behind.map(|(target, _)| target.to_owned()).filter(|target| !target.contains("://")).collect()
}

fn prose(page: &Page) -> String {
    let mut is_fenced = false;
    let prose = page.text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        !is_fenced && !is_fence
    });
    prose.collect::<Vec<_>>().join("\n")
}

/// The names of a page's headings, as GitHub makes them.
fn anchors(page: &Page) -> BTreeSet<String> {
    let prose = prose(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|one| one.is_alphanumeric() || matches!(one, ' ' | '-' | '_'));
    kept.collect::<String>().replace(' ', "-")
}
