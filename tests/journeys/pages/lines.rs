//! `gateway/LOG.md` has every line of the logs at level info or above, and none that nobody says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cast::{Page, workspace};

/// The macros that log what people shall read; debug is for who looks for an error in the gateway.
const LEVELS: [&str; 3] = ["error", "warn", "info"];

/// What a program says: at which level, and in which words; `...` stands for what is different each time.
type Line = (String, String);

#[test]
fn every_line_of_the_gateways_log_is_explained() {
    expect_explained("gateway", "## The gateway");
}

#[test]
fn every_line_of_the_operators_log_is_explained() {
    expect_explained("operator", "## The operator");
}

#[track_caller]
fn expect_explained(program: &str, heading: &str) {
    let said = said(&workspace::root().join(program).join("src"));
    let page = Page::read("gateway/LOG.md");
    let section = page.text.split_once(heading).map(|(_, rest)| rest.split("\n## ").next().unwrap_or_default());
    let explained: BTreeSet<Line> = section.unwrap().lines().filter_map(row).collect();
    let missing: Vec<&Line> = said.difference(&explained).collect();
    assert!(missing.is_empty(), "gateway/LOG.md does not explain {missing:#?}");
    let stale: Vec<&Line> = explained.difference(&said).collect();
    assert!(stale.is_empty(), "gateway/LOG.md explains what nobody says: {stale:#?}");
}

/// A row of a table that says something about a line.
fn row(line: &str) -> Option<Line> {
    let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.splitn(3, " | ");
    let (level, said, explained) = (cells.next()?, cells.next()?, cells.next()?);
    let said = said.strip_prefix('`')?.strip_suffix('`')?;
    assert!(explained.trim().len() > 20, "what is {said:?} about?");
    Some((level.to_owned(), said.to_owned()))
}

/// What the programs of this folder say.
fn said(folder: &Path) -> BTreeSet<Line> {
    let mut lines = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            lines.extend(said(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let source = fs::read_to_string(&path).unwrap();
            lines.extend(of_source(source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()));
        }
    }
    lines
}

fn of_source(source: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for level in LEVELS {
        for (at, call) in source.match_indices(&format!("{level}!(")) {
            if !source[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                lines.push((level.to_owned(), pattern(message(&source[at + call.len()..]))));
            }
        }
    }
    lines
}

/// The message among a macro's arguments: the only text at their top that stands for itself, after the fields.
fn message(arguments: &str) -> &str {
    let (mut depth, mut begun, mut is_escaped, mut last) = (0, None::<(usize, bool)>, false, None);
    let mut before = ' ';
    for (at, one) in arguments.char_indices() {
        match (begun, one) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some((from, is_field)), '"') => {
                last = if depth == 0 && !is_field { Some(&arguments[from..at]) } else { last };
                begun = None;
            }
            (None, '"') => begun = Some((at + 1, before == '=')),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') if depth == 0 => break,
            (None, ')' | ']' | '}') => depth -= 1,
            (Some(_) | None, _) => {}
        }
        before = if one.is_whitespace() { before } else { one };
    }
    last.unwrap_or_else(|| panic!("no message in {:?}", arguments.lines().next()))
}

/// The message with `...` for what is put into it, in one line.
fn pattern(message: &str) -> String {
    let joined = message.split("\\\n").map(str::trim_start).collect::<String>();
    let mut pieces = joined.split('{');
    let mut pattern = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        pattern += "...";
        pattern += piece.split_once('}').map_or(piece, |(_, rest)| rest);
    }
    // What is put in side by side looks like one.
    pattern.replace("......", "...")
}
