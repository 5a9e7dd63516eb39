//! The pages of the documentation, as far as a journey acts them out: what is written in their blocks.

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::root;

/// A page in Markdown.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it is, seen from the top of the repository.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// What stands apart from the prose: between fences, or indented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What stands behind the opening fence, such as `yaml`; empty for what is indented only.
    pub info: String,
    /// Its lines, without their common indentation.
    pub text: String,
    /// The heading above it.
    pub heading: String,
    /// The number of its first line.
    pub line: usize,
}

/// Folders in which pages are ours.
const FOLDERS: [&str; 6] = [".github", "charts", "crds", "gateway", "operator", "tests"];
/// Folders of what others wrote, below those.
const OTHERS: [&str; 2] = ["node_modules", "target"];
/// By so much a block is indented, at least; what is less belongs to an entry of a list.
const INDENT: usize = 4;

/// Every page of the repository.
#[track_caller]
pub fn all() -> Vec<Page> {
    let mut paths = vec![PathBuf::from("README.md")];
    for folder in FOLDERS {
        collect(Path::new(folder), &mut paths);
    }
    paths.sort();
    paths.into_iter().map(Page::read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).into_iter().flatten().flatten() {
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            if !OTHERS.iter().any(|other| path.ends_with(other)) {
                collect(&path, paths);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
}

// === impl Page ===

impl Page {
    /// The page at a path of the repository.
    #[track_caller]
    pub fn read(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let text = fs::read_to_string(root().join(&path));
        let text = text.unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        Self { path, text }
    }

    /// All blocks, in their order.
    pub fn blocks(&self) -> Vec<Block> {
        let lines: Vec<&str> = self.text.lines().collect();
        let (mut blocks, mut heading, mut at) = (Vec::new(), String::new(), 0);
        while let Some(line) = lines.get(at) {
            if let Some(title) = line.strip_prefix('#') {
                title.trim_start_matches('#').trim().clone_into(&mut heading);
            }
            let is_apart = at == 0 || lines[at - 1].trim().is_empty();
            let (info, first, end) = if let Some(info) = line.trim_start().strip_prefix("```") {
                let length = lines[at + 1..].iter().take_while(|line| line.trim() != "```").count();
                (info.trim(), at + 1, at + 1 + length)
            } else if is_apart && is_code(line) {
                let length = lines[at..].iter().take_while(|line| is_code(line)).count();
                ("", at, at + length)
            } else {
                at += 1;
                continue;
            };
            let text = without_indent(&lines[first..end]);
            blocks.push(Block { info: info.to_owned(), text, heading: heading.clone(), line: first + 1 });
            // Of what is indented nothing closes it.
            at = if first > at { end + 1 } else { end };
        }
        blocks
    }

    /// The one block between fences that is marked like this.
    #[track_caller]
    pub fn block(&self, info: &str) -> String {
        let mut found = self.blocks().into_iter().filter(|block| block.info == info);
        let block = found.next().unwrap_or_else(|| panic!("{} has no block {info:?}", self.path.display()));
        assert!(found.next().is_none(), "{} has two blocks {info:?}", self.path.display());
        block.text
    }

    /// The configurations that are to be valid.
    pub fn configurations(&self) -> Vec<Block> {
        let is_one = |block: &Block| block.info == "yaml" && block.text.contains("kind: GatewayConfig");
        self.blocks().into_iter().filter(is_one).collect()
    }

    /// Where a block is, for whoever has to mend it.
    pub fn place(&self, block: &Block) -> String {
        format!("{}:{}", self.path.display(), block.line)
    }
}

fn is_code(line: &str) -> bool {
    line.len() > INDENT && line.starts_with(&" ".repeat(INDENT)) && !line.trim().is_empty()
}

fn without_indent(lines: &[&str]) -> String {
    let written = lines.iter().filter(|line| !line.trim().is_empty());
    let indent = written.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    lines.iter().flat_map(|line| [line.get(indent..).unwrap_or_default(), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_what_is_fenced_or_indented() {
        let text = "# One\n\nSay:\n\n    a   # first\n      b\n\n## Two\n\n1. A list\n   goes on.\n\n       c\n\n```yaml\nd:\n  \
                    - e\n```\n\n  ```js name\n  f\n  ```\n";
        let page = Page { path: "page.md".into(), text: text.to_owned() };
        let blocks = page.blocks();
        let seen: Vec<_> = blocks.iter().map(|it| (&*it.heading, &*it.info, &*it.text, it.line)).collect();
        assert_eq!(
            seen,
            [
                ("One", "", "a   # first\n  b\n", 5),
                ("Two", "", "c\n", 13),
                ("Two", "yaml", "d:\n  - e\n", 16),
                ("Two", "js name", "f\n", 21),
            ]
        );
        assert_eq!(page.block("js name"), "f\n");
    }

    #[test]
    fn every_page_is_found() {
        let paths: Vec<_> = all().into_iter().map(|page| page.path).collect();
        for known in ["README.md", "operator/OPERATIONS.md", "gateway/RECIPES.md"] {
            assert!(paths.contains(&PathBuf::from(known)), "{known} is not among {paths:?}");
        }
    }
}
