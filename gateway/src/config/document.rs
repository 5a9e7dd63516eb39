//! From bytes to a document: YAML, its keys and types, and the rules that a file shares with the cluster.
//!
//! Everything that is wrong is said at once, with the line on which it stands. Whatever the bytes are, reading them ends
//! soon, and in bounded memory.

use std::fmt;
use std::net::SocketAddr;

use crds::{API_VERSION, GatewayConfig, GatewayConfigSpec, KIND, Problem, shape, validate};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::belief::unservable;
use super::tree;

/// A longer document is refused unread; a thousand proxies would fit.
pub const MAX_DOCUMENT: usize = 1024 * 1024;

/// Of more problems than this only the number is said.
const MAX_PROBLEMS: usize = 50;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Everything that is wrong with a document; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

/// A document that was understood, and what exactly was written in it.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) config: GatewayConfig,
    pub(super) spec: Value,
}

// === impl Problems ===

impl Problems {
    /// The problems, or nothing if there are none; in the order of the document, as far as lines are known.
    pub(super) fn from_list(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort_by_key(|problem| problem.line);
        if problems.len() > MAX_PROBLEMS {
            let more = problems.len() - MAX_PROBLEMS;
            problems.truncate(MAX_PROBLEMS);
            problems.push(Problem::new("", format!("there are {more} more problems; correct these first")));
        }
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// The single problem of a document as a whole.
    fn of_document(message: impl Into<String>) -> Self {
        Problem::new("", message).into()
    }

    /// The same, as a sidecar says it: a configuration that is newer than itself may use what it does not know.
    #[must_use]
    pub fn of_a_sidecar(mut self) -> Self {
        for problem in &mut self.0 {
            if problem.message.starts_with("unknown key") {
                let path = std::mem::take(&mut problem.path);
                problem.message = format!(
                    "this sidecar ({VERSION}) does not know {path}; restart the pod to get a newer one, or remove it"
                );
            } else if problem.message.contains(" is none of ") || problem.message.contains(" is not served by ") {
                let said = &problem.message;
                problem.message = format!(
                    "{said}; if this sidecar ({VERSION}) is too old for it, restart the pod to get a newer one"
                );
            }
        }
        self
    }

    /// One after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(out, "{separator}{problem}")?;
        }
        Ok(())
    }
}

// === impl Document ===

impl Document {
    /// Reads a document.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Problems> {
        let text = text_of(bytes)?;
        let mut whole = tree::parse(text).map_err(Problems::from)?;
        let mut problems = check_envelope(&whole);
        let mut spec = whole.get_mut("spec").map(Value::take).unwrap_or_default();
        let has_spec = !spec.is_null();
        if has_spec {
            problems.extend(shape::check(&mut spec));
        } else {
            problems.push(Problem::new("spec", "it is missing; write the proxies below it"));
        }
        let name = whole["metadata"]["name"].as_str().unwrap_or("default");
        let parsed = GatewayConfigSpec::deserialize(&spec);
        match &parsed {
            Ok(parsed) if has_spec => add_rules(parsed, &mut problems),
            Err(error) if problems.is_empty() => problems.push(Problem::new("spec", error.to_string())),
            _ => {}
        }
        for problem in problems.iter_mut().take(MAX_PROBLEMS) {
            problem.line = tree::line_of(text, &problem.path);
        }
        match (Problems::from_list(problems), parsed) {
            (Some(problems), _) => Err(problems),
            (None, Ok(parsed)) => Ok(Self { config: GatewayConfig::new(name, parsed), spec }),
            (None, Err(error)) => Err(Problems::of_document(error.to_string())),
        }
    }
}

/// Adds what the rules say, but for proxies and settings that are known to be broken: they would be blamed for what
/// was left out of them.
fn add_rules(spec: &GatewayConfigSpec, problems: &mut Vec<Problem>) {
    let broken: Vec<String> = problems
        .iter()
        .filter(|problem| !problem.message.starts_with("unknown key") || problem.message.contains("did you mean"))
        .map(|problem| section_of(&problem.path).to_owned())
        .collect();
    let is_broken = |problem: &Problem| broken.iter().any(|path| problem.path.starts_with(path.as_str()));
    let found = validate(spec).into_iter().chain(unservable(spec));
    problems.extend(found.filter(|problem| !is_broken(problem)).collect::<Vec<_>>());
}

/// The proxy or hook in which `path` lies, else the path itself.
fn section_of(path: &str) -> &str {
    path.find(']').map_or(path, |end| &path[..=end])
}

/// Where a document wants the admin endpoints, whatever else may be wrong with it; the default where it does not say.
/// The probes of a pod know no other address, and ask there even when the document is refused.
pub fn admin_of(bytes: &[u8]) -> SocketAddr {
    let tree = text_of(bytes).ok().and_then(|text| tree::parse(text).ok()).unwrap_or_default();
    let written = tree["spec"]["admin"]["address"].as_str().and_then(|address| address.parse().ok());
    written.unwrap_or_else(default_admin)
}

fn default_admin() -> SocketAddr {
    crds::Admin::default().address.parse().expect("a default is valid, and tested")
}

fn text_of(bytes: &[u8]) -> Result<&str, Problems> {
    if bytes.len() > MAX_DOCUMENT {
        let length = bytes.len();
        let message = format!("the document has {length} bytes, and at most {MAX_DOCUMENT} are read; shorten it");
        return Err(Problems::of_document(message));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let position = error.valid_up_to();
        Problems::of_document(format!(
            "the document is not text in UTF-8, as byte {position} shows; is it the right file?"
        ))
    })?;
    let is_strange = |c: char| c.is_control() && !['\t', '\r', '\n'].contains(&c);
    match text.find(is_strange) {
        Some(position) => {
            let line = Some(text[..position].lines().count().max(1));
            let message = "a control character stands here; remove it";
            Err(Problem { line, ..Problem::new("", message) }.into())
        }
        None => Ok(text),
    }
}

/// What stands around `spec`: lenient for `metadata`, blind for `status`.
fn check_envelope(whole: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match &whole[key] {
            Value::Null => problems.push(Problem::new(key, format!("it is missing; write {key}: {wanted}"))),
            found if found == wanted => {}
            found => problems.push(Problem::new(key, format!("it is {found}, and this gateway reads {wanted}"))),
        }
    }
    for key in whole.as_object().into_iter().flat_map(serde_json::Map::keys) {
        if !["apiVersion", "kind", "metadata", "spec", "status"].contains(&key.as_str()) {
            let hint = "known here are apiVersion, kind, metadata and spec";
            problems.push(Problem::new(key, format!("unknown key `{key}`; {hint}")));
        }
    }
    match &whole["metadata"]["name"] {
        Value::Null => {}
        Value::String(name) if name.len() <= 52 => {}
        Value::String(_) => problems.push(Problem::new("metadata.name", "it has at most 52 characters; shorten it")),
        _ => problems.push(Problem::new("metadata.name", "it should be a text; put it in quotes")),
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::path::Path;

    /// Each case begins with the sentences that it expects, one `# expect: ` a line, in order.
    #[test]
    fn every_malformed_manifest_is_refused_with_the_sentences_it_names() {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/manifests");
        let mut count = 0;
        for case in fs::read_dir(cases).unwrap() {
            let path = case.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let lines = String::from_utf8_lossy(&bytes);
            let expected: Vec<&str> = lines.lines().map_while(|line| line.strip_prefix("# expect: ")).collect();
            let problems = load(&bytes).expect_err(&format!("{} is accepted", path.display()));
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert_eq!(said, expected, "{}", path.display());
            count += 1;
        }
        assert!(count >= 30, "only {count} cases were found");
    }

    fn refusal(bytes: &[u8]) -> String {
        load(bytes).expect_err("the document is broken").to_string()
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert_eq!(refusal(b""), "the document is empty; write a GatewayConfig");
        assert_eq!(refusal(b"\xef\xbb\xbf\n"), "the document is empty; write a GatewayConfig");
    }

    #[test]
    fn a_file_of_2_mib_is_refused_unread() {
        let huge = vec![b'#'; 2 * 1024 * 1024];
        assert_eq!(refusal(&huge), "the document has 2097152 bytes, and at most 1048576 are read; shorten it");
    }

    #[test]
    fn a_mebibyte_of_anything_is_refused_soon() {
        let start = tokio::time::Instant::now();
        for piece in [
            "- ",
            "[",
            "{",
            "? ",
            "a: ",
            "[],",
            "&a ",
            "*a ",
            "a\n",
            "!!",
            "|\n",
            "'",
            "\"\\",
            "# ",
            "---\n",
            "a: &a [*a]\n",
        ] {
            let text = piece.repeat(MAX_DOCUMENT / piece.len());
            let said = refusal(text.as_bytes());
            assert!(said.len() < 10_000, "{piece:?}: {said}");
        }
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    }

    #[test]
    fn of_many_problems_the_first_are_said_and_the_rest_counted() {
        let keys: Vec<String> = (0..200).map(|key| format!("  key{key}: 1")).collect();
        let keys = keys.join("\n");
        let said = refusal(format!("apiVersion: {API_VERSION}\nkind: {KIND}\nspec:\n{keys}").as_bytes());
        assert_eq!(said.lines().count(), MAX_PROBLEMS + 1);
        assert!(said.contains("there are 151 more problems; correct these first"), "{said}");
    }

    #[test]
    fn line_endings_byte_order_marks_and_merge_keys_do_no_harm() {
        let sample = include_str!("../../../crds/samples/full.yaml");
        let plain = load(sample.as_bytes()).unwrap();
        assert_eq!(load(sample.replace('\n', "\r\n").as_bytes()).unwrap(), plain);
        assert_eq!(load(format!("\u{feff}{sample}").as_bytes()).unwrap(), plain);
        assert_eq!(load(format!("---\n{sample}---\n").as_bytes()).unwrap(), plain);

        let merged = "apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\nspec:\n  proxies:\n  - &a {name: a, client: \
                      {addresses: ['db:1']}}\n  - {<<: *a, name: b}\n";
        assert_eq!(load(merged.as_bytes()).unwrap().proxies[1].client.addresses.len(), 1);
    }

    #[test]
    fn a_sidecar_says_that_it_may_be_older_than_its_configuration() {
        let sample = include_str!("../../../crds/samples/minimal.yaml");
        let newer = sample.replace("    client:", "    pool: {colour: blue, mode: statement}\n    client:");
        let said = load(newer.as_bytes()).unwrap_err().of_a_sidecar().to_string();
        let line = newer.lines().position(|line| line.contains("colour")).unwrap() + 1;
        assert_eq!(
            said,
            format!(
                "line {line}: this sidecar ({VERSION}) does not know spec.proxies[0].pool.colour; restart the pod to get a \
                 newer one, or remove it\nline {line}: spec.proxies[0].pool.mode: \"statement\" is none of session, \
                 transaction; if this sidecar ({VERSION}) is too old for it, restart the pod to get a newer one"
            )
        );
    }

    #[test]
    fn the_admin_address_is_found_in_a_document_that_is_refused() {
        let admin = |text: &str| admin_of(text.as_bytes()).to_string();
        assert_eq!(admin("spec: {admin: {address: '127.0.0.1:9'}, colour: blue}"), "127.0.0.1:9");
        for text in ["", "{", "spec: 1", "spec: {admin: {address: nonsense}}", "spec: {admin: {}}"] {
            assert_eq!(admin(text), "[::]:19187", "{text}");
        }
    }

    #[test]
    fn metadata_is_lenient_and_status_ignored() {
        let sample = include_str!("../../../crds/samples/minimal.yaml");
        let more = "  labels: {a: b}\n  managedFields: [{manager: kubectl}]\nstatus: {anything: [goes]}\nspec:";
        let config = load(sample.replace("spec:", more).as_bytes()).unwrap();
        assert_eq!(config.name, "orders");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn whatever_happens_to_a_document_it_is_read_or_refused(
            cuts in proptest::collection::vec((0_usize..4000, 0_usize..8, "[ -~\\n\\t\u{e9}]{0,6}"), 1..6),
        ) {
            let mut text = include_str!("../../../crds/samples/full.yaml").to_owned();
            for (place, length, replacement) in cuts {
                let boundary = |wanted: usize| (wanted..=text.len()).find(|at| text.is_char_boundary(*at));
                let start = boundary(place % text.len().max(1)).unwrap_or(text.len());
                let end = boundary((start + length).min(text.len())).unwrap_or(text.len());
                text.replace_range(start..end, &replacement);
            }
            if let Err(problems) = load(text.as_bytes()) {
                prop_assert!(problems.iter().all(|problem| !problem.message.is_empty()));
            }
        }
    }
}
