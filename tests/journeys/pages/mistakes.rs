//! `operator/KUBECTL.md` lists what people get wrong: each of its mistakes is planted on a real Kubernetes.

use std::fs;

use cast::{Page, workspace};

/// Where they are planted.
const JOURNEY: &str = "tests/journeys/explain";

#[test]
fn every_mistake_of_the_page_is_planted() {
    let page = Page::read("operator/KUBECTL.md");
    let table = page.text.lines().skip_while(|line| !line.starts_with("| mistake |")).skip(2);
    let mistakes: Vec<&str> = table.take_while(|line| line.starts_with('|')).collect();
    assert!(mistakes.len() >= 20, "only {} mistakes", mistakes.len());
    let files = fs::read_dir(workspace::root().join(JOURNEY)).unwrap();
    let planted: String = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    for mistake in mistakes {
        // What is between backquotes in the second column.
        let reasons: Vec<&str> = mistake.split('|').nth(2).unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!reasons.is_empty(), "{mistake} has no reason");
        let missing: Vec<_> = reasons.iter().filter(|reason| !planted.contains(&format!("\"{reason}\""))).collect();
        assert!(missing.is_empty(), "no journey plants {missing:?}: {mistake}");
    }
}
