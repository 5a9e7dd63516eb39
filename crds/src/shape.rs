//! Whether a document has the shape that the schema asks for: its keys, types and limits.
//!
//! The API server refuses the same, but only the first of it and in its own words; a file is refused with everything
//! that is wrong in it, and with a guess at what was meant.

use crate::{Duration, Problem};
use serde_json::{Map, Value};

/// The schema of `spec`, without its words.
const SCHEMA: &str = include_str!("../shape.json");

/// Compares `spec` with the schema and takes out what does not fit, so that the rest can be looked at further.
pub fn check(spec: &mut Value) -> Vec<Problem> {
    let schema = schema();
    let mut shape = Shape { root: &schema, problems: Vec::new() };
    if !shape.fits(spec, &schema, "spec") {
        *spec = Value::Object(Map::new());
    }
    shape.problems
}

fn schema() -> Value {
    serde_json::from_str(SCHEMA).expect("it is generated, committed and tested")
}

/// The schema as a whole, and what was found so far.
struct Shape<'a> {
    root: &'a Value,
    problems: Vec<Problem>,
}

impl Shape<'_> {
    fn add(&mut self, path: &str, message: String) {
        self.problems.push(Problem::new(path, message));
    }

    /// Whether `value` can stay; what is wrong inside it has been taken out of it.
    fn fits(&mut self, value: &mut Value, schema: &Value, path: &str) -> bool {
        let problem = match (schema["type"].as_str(), &mut *value) {
            (Some("object"), Value::Object(map)) => return self.object_fits(map, schema, path),
            (Some("array"), Value::Array(list)) => return self.list_fits(list, schema, path),
            (Some("string"), Value::String(text)) => text_problem(text, schema),
            (Some("integer"), Value::Number(number)) if number.is_f64() => {
                Some(format!("{number} is not a whole number; {}", range(schema)))
            }
            (Some("integer" | "number"), Value::Number(number)) => number_problem(number.as_f64(), schema),
            (Some("boolean"), Value::Bool(_)) | (None, Value::String(_) | Value::Number(_)) => None,
            (expected, found) => Some(type_problem(expected, found, schema)),
        };
        let fits = problem.is_none();
        if let Some(message) = problem {
            self.add(path, message);
        }
        fits
    }

    fn object_fits(&mut self, map: &mut Map<String, Value>, schema: &Value, path: &str) -> bool {
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            return true;
        }
        if let Some(most) = limit(schema, "maxProperties").filter(|most| map.len() > *most) {
            self.add(path, format!("it has {} keys, and at most {most} are allowed; remove some", map.len()));
            return false;
        }
        // As for the API server: a key without a value is a key that is not there.
        map.retain(|_, value| !value.is_null());
        let mut meant = Vec::new();
        map.retain(|key, value| {
            let inner = format!("{path}.{key}");
            if let Some(schema) = schema["properties"].get(key).or_else(|| schema.get("additionalProperties")) {
                return self.fits(value, schema, &inner);
            }
            meant.extend(self.unknown_key(key, schema, &inner));
            false
        });
        self.check_required(map, schema, path, &meant);
        true
    }

    /// Complains of a key that the schema does not have; returns the one that was probably meant.
    fn unknown_key(&mut self, key: &str, schema: &Value, path: &str) -> Option<String> {
        let known: Vec<&str> = keys(schema).collect();
        let home = home_of(key, self.root, "spec");
        let meant = nearest(key, &known).filter(|meant| home.is_none() || distance(key, meant) <= 2).map(str::to_owned);
        let hint = match (&meant, home) {
            (Some(meant), _) => format!("did you mean `{meant}`?"),
            (None, Some(home)) => format!("it belongs to {home}"),
            (None, None) if known.len() <= 10 => format!("known here are {}", known.join(", ")),
            (None, None) => "remove it".into(),
        };
        self.add(path, format!("unknown key `{key}`; {hint}"));
        meant
    }

    fn check_required(&mut self, map: &Map<String, Value>, schema: &Value, path: &str, meant: &[String]) {
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !map.contains_key(*name)) {
            let inner = format!("{path}.{name}");
            let complained = self.problems.iter().any(|problem| problem.path.starts_with(&inner));
            if !complained && !meant.iter().any(|meant| meant == name) {
                self.add(&inner, "it is missing, and it is required; add it".into());
            }
        }
    }

    fn list_fits(&mut self, list: &mut [Value], schema: &Value, path: &str) -> bool {
        if let Some(most) = limit(schema, "maxItems").filter(|most| list.len() > *most) {
            self.add(path, format!("it has {} entries, and at most {most} are allowed; remove some", list.len()));
            return false;
        }
        if let Some(least) = limit(schema, "minItems").filter(|least| list.len() < *least) {
            self.add(path, format!("it has {} entries, and at least {least} is needed; add one", list.len()));
            return false;
        }
        let mut fits = true;
        for (index, value) in list.iter_mut().enumerate() {
            // What does not fit stays in its place, so that the indexes in later sentences are those of the document.
            if !self.fits(value, &schema["items"], &format!("{path}[{index}]")) {
                fits = false;
            }
        }
        fits
    }
}

/// A limit of the schema that counts things.
fn limit(schema: &Value, name: &str) -> Option<usize> {
    schema[name].as_u64().and_then(|limit| usize::try_from(limit).ok())
}

fn keys(schema: &Value) -> impl Iterator<Item = &str> {
    schema["properties"].as_object().into_iter().flat_map(|properties| properties.keys().map(String::as_str))
}

fn text_problem(text: &str, schema: &Value) -> Option<String> {
    if let Some(allowed) = schema["enum"].as_array() {
        let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        let hint = nearest(text, &allowed).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        let shown = shorten(text);
        return (!allowed.contains(&text)).then(|| format!("{shown:?} is none of {}{hint}", allowed.join(", ")));
    }
    let length = text.chars().count();
    if let Some(most) = limit(schema, "maxLength").filter(|most| length > (*most).max(16)) {
        return Some(format!("it has {length} characters, and at most {most} are allowed; shorten it"));
    }
    if limit(schema, "minLength").is_some_and(|least| length < least && length == 0) {
        return Some("it is empty; write a value, or remove the key".into());
    }
    PATTERNS.iter().find(|pattern| schema["pattern"] == pattern.regex).and_then(|pattern| (pattern.check)(text).err())
}

fn number_problem(number: Option<f64>, schema: &Value) -> Option<String> {
    let number = number?;
    let too_small = schema["minimum"].as_f64().is_some_and(|least| number < least);
    let too_large = schema["maximum"].as_f64().is_some_and(|most| number > most);
    (too_small || too_large).then(|| format!("{number} is out of range; {}", range(schema)))
}

fn range(schema: &Value) -> String {
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(least), Some(most)) => format!("write one from {least} to {most}"),
        (Some(least), None) => format!("write one of {least} or more"),
        _ => "write a number".into(),
    }
}

fn type_problem(expected: Option<&str>, found: &Value, schema: &Value) -> String {
    let found = match found {
        Value::Null => "nothing".into(),
        Value::Bool(truth) => format!("the truth value {truth}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {:?}", shorten(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a mapping".into(),
    };
    let is_duration = schema["pattern"] == Duration::PATTERN;
    let wanted = match expected {
        Some("object") => "a mapping of keys to values",
        Some("array") => "a list, each entry behind a dash",
        Some("string") if is_duration => "a duration with its unit, such as 30s",
        Some("string") => "a text; put it in quotes",
        Some("integer") => "a whole number",
        Some("number") => "a number",
        Some("boolean") => "true or false",
        _ => "a number or a text",
    };
    format!("it is {found}, and should be {wanted}")
}

/// The start of a text that may be very long.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 64 { text.into() } else { text.chars().take(60).chain("...".chars()).collect() }
}

/// A pattern of the schema, and the same in code, with a sentence for who breaks it.
struct Pattern {
    regex: &'static str,
    check: fn(&str) -> Result<(), String>,
}

/// Every pattern that the schema uses; a test sees to it.
const PATTERNS: [Pattern; 4] = [
    Pattern {
        regex: Duration::PATTERN,
        check: |text| text.parse::<Duration>().map(drop).map_err(|error| error.to_string()),
    },
    Pattern { regex: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", check: |text| check_name(text, "-", "hyphens") },
    Pattern { regex: "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", check: |text| check_name(text, "-.", "hyphens and dots") },
    Pattern { regex: "^0?[0-7]{3}$", check: check_mode },
];

fn check_name(text: &str, inner: &str, inner_words: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = text.starts_with(plain) && text.ends_with(plain) && text.chars().all(|c| plain(c) || inner.contains(c));
    let rule = "a name has lower-case letters, digits and, inside,";
    if fits { Ok(()) } else { Err(format!("{text:?} is not a name; {rule} {inner_words}")) }
}

fn check_mode(text: &str) -> Result<(), String> {
    let digits = if text.len() == 4 { text.strip_prefix('0').unwrap_or("") } else { text };
    let fits = digits.len() == 3 && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if fits { Ok(()) } else { Err(format!("{text:?} is not a mode in octal; write one such as \"0666\"")) }
}

/// The section that has `key`, so that a misplaced one can be told where it belongs.
fn home_of(key: &str, schema: &Value, path: &str) -> Option<String> {
    if schema["properties"].get(key).is_some() {
        return Some(path.into());
    }
    if schema["items"].is_object() {
        return home_of(key, &schema["items"], &format!("{path}[]"));
    }
    keys(schema).find_map(|name| home_of(key, &schema["properties"][name], &format!("{path}.{name}")))
}

/// The candidate that `word` is probably a misspelling, or a longer form, of.
fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let plain = |word: &str| word.to_ascii_lowercase().replace(['_', '-'], "");
    let word = plain(&shorten(word));
    let (edits, near) = candidates.iter().map(|candidate| (distance(&word, &plain(candidate)), *candidate)).min()?;
    let longer = |candidate: &&&str| candidate.len() > 2 && word.starts_with(&plain(candidate));
    if edits <= word.len().max(3) / 3 { Some(near) } else { candidates.iter().find(longer).copied() }
}

/// How many letters must be added, removed, changed or swapped with their neighbour to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let swap = (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]).then(|| rows[i - 2][j - 2] + 1);
            let edit = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            row.push(swap.map_or(edit, |swap| swap.min(edit)));
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sentences(mut spec: Value) -> Vec<String> {
        check(&mut spec).iter().map(ToString::to_string).collect()
    }

    /// A spec with one proxy, to which `rest` adds.
    fn proxy(rest: &Value) -> Value {
        let mut proxy = json!({ "name": "a", "client": { "addresses": ["db:5432"] } });
        for (key, value) in rest.as_object().into_iter().flatten() {
            proxy[key] = value.clone();
        }
        json!({ "proxies": [proxy] })
    }

    #[test]
    fn a_minimal_document_fits() {
        assert_eq!(sentences(proxy(&json!({}))), [""; 0]);
    }

    #[test]
    fn an_unknown_key_is_told_what_was_probably_meant() {
        let spec = proxy(&json!({ "pool": { "sise": 1, "min_idle": 1, "retries": 3, "colour": "blue" } }));
        assert_eq!(
            sentences(spec),
            [
                "spec.proxies[0].pool.colour: unknown key `colour`; known here are acquireTimeout, \
                 idleTransactionTimeout, maxAge, maxIdle, maxWaiting, minIdle, mode, size",
                "spec.proxies[0].pool.min_idle: unknown key `min_idle`; did you mean `minIdle`?",
                "spec.proxies[0].pool.retries: unknown key `retries`; it belongs to spec.proxies[].client",
                "spec.proxies[0].pool.sise: unknown key `sise`; did you mean `size`?",
            ]
        );
    }

    #[test]
    fn a_misspelt_required_key_is_one_problem_and_not_two() {
        let spec = json!({ "proxies": [{ "name": "a", "client": { "adresses": ["db:1"] } }] });
        assert_eq!(
            sentences(spec),
            ["spec.proxies[0].client.adresses: unknown key `adresses`; did you mean `addresses`?"]
        );
    }

    #[test]
    fn types_and_limits_are_told_apart() {
        for (pool, sentence) in [
            (json!({ "size": "ten" }), "pool.size: it is the text \"ten\", and should be a whole number"),
            (json!({ "size": 0 }), "pool.size: 0 is out of range; write one from 1 to 10000"),
            (json!({ "size": 1.5 }), "pool.size: 1.5 is not a whole number; write one from 1 to 10000"),
            (
                json!({ "maxAge": 10 }),
                "pool.maxAge: it is the number 10, and should be a duration with its unit, such as 30s",
            ),
            (json!({ "maxAge": "10" }), "pool.maxAge: 10 has no unit; write 10s for seconds"),
            (
                json!({ "mode": "sessoin" }),
                "pool.mode: \"sessoin\" is none of session, transaction; did you mean session?",
            ),
        ] {
            assert_eq!(sentences(proxy(&json!({ "pool": pool }))), [format!("spec.proxies[0].{sentence}")]);
        }
    }

    #[test]
    fn a_key_without_a_value_is_not_there() {
        let mut spec = proxy(&json!({ "pool": null }));
        assert_eq!(check(&mut spec), []);
        assert!(spec["proxies"][0].get("pool").is_none());
    }

    #[test]
    fn every_pattern_of_the_schema_has_its_check() {
        fn patterns(schema: &Value, found: &mut Vec<String>) {
            match schema {
                Value::Object(map) => {
                    found.extend(map.get("pattern").and_then(Value::as_str).map(str::to_owned));
                    map.values().for_each(|value| patterns(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| patterns(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        patterns(&crate::schema::spec(), &mut found);
        assert!(!found.is_empty());
        for pattern in found {
            assert!(PATTERNS.iter().any(|known| known.regex == pattern), "{pattern} has no check");
        }
    }
}
