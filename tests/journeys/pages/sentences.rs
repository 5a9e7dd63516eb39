//! `gateway/TROUBLESHOOTING.md` quotes what the programs say: each of its sentences is one of theirs.

use std::fs;
use std::path::Path;

use cast::{Page, workspace};

/// Where the programs' sentences are.
const SOURCES: [&str; 3] = ["gateway/src", "operator/src", "crds/src"];
/// What stands for a value.
const VALUE: &str = "...";

/// The code of all sources, each sentence on one line, with [`VALUE`] for what is filled in.
fn said() -> Vec<String> {
    let mut texts = Vec::new();
    for folder in SOURCES {
        collect(&workspace::root().join(folder), &mut texts);
    }
    texts
}

fn collect(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(as_said(&fs::read_to_string(path).unwrap()));
        }
    }
}

/// A source as its program would say it: without comments, a text that goes on in the next line in one.
fn as_said(source: &str) -> String {
    let mut code = String::new();
    for line in source.lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
        match line.strip_suffix('\\') {
            Some(begun) => code.push_str(begun),
            None => code.extend([line, "\n"]),
        }
    }
    with_values(&code.replace("\\\"", "\""))
}

/// `{0:?}` and the like are values; other braces are the code's own.
fn with_values(code: &str) -> String {
    let is_of_a_value = |one: char| one.is_alphanumeric() || "_.:?#".contains(one);
    let (mut out, mut rest) = (String::new(), code);
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        match after.split_once('}') {
            Some((inside, behind)) if inside.chars().all(is_of_a_value) => {
                out.push_str(VALUE);
                rest = behind;
            }
            _ => rest = after,
        }
    }
    (out + rest).replace("\"...\"", VALUE)
}

/// The page's quotations.
fn quoted(page: &Page) -> Vec<String> {
    page.text.lines().filter_map(|line| line.strip_prefix("> ")).map(|line| line.replace("\"...\"", VALUE)).collect()
}

#[test]
fn every_quoted_sentence_is_said() {
    let (page, said) = (Page::read("gateway/TROUBLESHOOTING.md"), said());
    let quoted = quoted(&page);
    assert!(quoted.len() >= 50, "only {} sentences are quoted", quoted.len());
    let unsaid: Vec<_> = quoted.iter().filter(|quotation| !said.iter().any(|text| text.contains(*quotation))).collect();
    assert!(unsaid.is_empty(), "nothing says this any more:\n{unsaid:#?}");
}

#[test]
fn sources_are_read_as_they_speak() {
    let source = "say(\"one {0:?} \\\n       two \\\"{}\\\"\"); {\n// three {four}\nsay(\"{why}\");";
    assert_eq!(as_said(source), "say(\"one ... two ...\"); \nsay(...);\n");
}

#[test]
fn every_symptom_says_more_than_its_sentence() {
    let page = Page::read("gateway/TROUBLESHOOTING.md");
    let symptoms: Vec<&str> = page.text.split("\n### ").skip(1).collect();
    assert!(symptoms.len() >= 25, "only {} symptoms", symptoms.len());
    for symptom in symptoms {
        let prose = symptom.lines().skip(1).filter(|line| !line.starts_with('>'));
        let words = prose.take_while(|line| !line.starts_with('#')).flat_map(str::split_whitespace).count();
        assert!(words >= 8, "{:?} says nothing but the sentence", symptom.lines().next());
    }
}
