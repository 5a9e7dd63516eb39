//! YAML as a tree, with limits: aliases may not multiply into more than a configuration can need.

use std::cell::Cell;
use std::fmt;

use crds::Problem;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::document::MAX_DOCUMENT;

/// Values of a document after its aliases are followed, at most; the longest sensible one has a tenth of it.
const MAX_VALUES: usize = 20_000;

/// Brackets that are open at one time, at most; the parser's time grows with their square.
const MAX_BRACKETS: usize = 64;

/// Marks of a list, a key or an entry, at most; the parser's memory grows with them, before the first value is seen.
const MAX_MARKS: usize = 4 * MAX_VALUES;

/// Reads the one document of `text`, which is a mapping.
pub(super) fn parse(text: &str) -> Result<Value, Problem> {
    check_marks(text)?;
    let budget = Budget { values: Cell::new(MAX_VALUES), bytes: Cell::new(MAX_DOCUMENT) };
    let mut found = Value::Null;
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Tree(&budget).deserialize(document).map_err(|error| problem_of(text, &error))?;
        if !found.is_null() && !value.is_null() {
            return Err(Problem::new("", "there is a second document behind ---; a file holds one GatewayConfig"));
        }
        if found.is_null() {
            found = value;
        }
    }
    match found {
        Value::Object(_) => Ok(found),
        Value::Null => Err(Problem::new("", "the document is empty; write a GatewayConfig")),
        _ => Err(Problem::new("", "the document is not a mapping of keys to values; write a GatewayConfig")),
    }
}

/// Refuses what would cost the parser too much. Quotes and comments are not known here, but nobody needs that many
/// marks there either.
fn check_marks(text: &str) -> Result<(), Problem> {
    let (mut open, mut marks) = (0_usize, 0_usize);
    let followers = text.bytes().skip(1).chain([b'\n']);
    for (byte, follower) in text.bytes().zip(followers) {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            b',' => {}
            b'-' | b'?' | b':' if follower.is_ascii_whitespace() => {}
            _ => continue,
        }
        marks += 1;
        if open > MAX_BRACKETS {
            return Err(Problem::new(
                "",
                format!("more than {MAX_BRACKETS} brackets are open at one time; close them"),
            ));
        }
        if marks > MAX_MARKS {
            let message = format!("the document has more than {MAX_MARKS} keys and list entries; write fewer");
            return Err(Problem::new("", message));
        }
    }
    Ok(())
}

/// What the parser says, taken apart: `PATH: MESSAGE at line L column C`.
fn problem_of(text: &str, error: &serde_yaml::Error) -> Problem {
    let said = error.to_string();
    let line = error.location().map(|location| location.line());
    let place = error.location().map(|at| format!(" at line {} column {}", at.line(), at.column()));
    let said = place.map_or(said.clone(), |place| said.replacen(&place, "", 1));
    let (path, message) = match said.split_once(": ") {
        Some((path, message)) if path.starts_with("spec") && !path.contains(' ') => (path, message),
        _ => ("", said.as_str()),
    };
    let message = match message {
        "unknown anchor" => "an alias, such as *this, has no anchor &this above it; correct its name",
        "recursion limit exceeded" => "it is nested too deep; a GatewayConfig needs ten levels",
        message => message,
    };
    let has_tab = line
        .and_then(|line| text.lines().nth(line - 1))
        .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'));
    let hint = if has_tab { "; YAML is indented with spaces, and here stands a tab" } else { "" };
    Problem { line, ..Problem::new(path, format!("{message}{hint}")) }
}

/// What may still be read.
struct Budget {
    values: Cell<usize>,
    bytes: Cell<usize>,
}

impl Budget {
    fn take<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let left = (self.values.get().checked_sub(1), self.bytes.get().checked_sub(bytes));
        let (Some(values), Some(bytes)) = left else {
            return Err(E::custom(format!(
                "the document grows beyond {MAX_VALUES} keys and values, or {MAX_DOCUMENT} bytes; use fewer aliases and entries"
            )));
        };
        self.values.set(values);
        self.bytes.set(bytes);
        Ok(())
    }
}

/// Reads any value within a budget.
#[derive(Clone, Copy)]
struct Tree<'a>(&'a Budget);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.0.take(0).map(|()| Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
        self.0.take(0).map(|()| truth.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        self.0.take(0).map(|()| number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        self.0.take(0).map(|()| number.into())
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Value, E> {
        Err(E::custom(format!("{number} is out of every range; write a smaller number")))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Value, E> {
        Err(E::custom(format!("{number} is out of every range; write a smaller number")))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        self.0.take(0)?;
        let finite = serde_json::Number::from_f64(number);
        finite.map(Value::Number).ok_or_else(|| E::custom("this is not a finite number; write one such as 2"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.0.take(text.len()).map(|()| text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.0.take(0)?;
        let mut list = Vec::new();
        while let Some(value) = entries.next_element_seed(self)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.0.take(0)?;
        let mut map = Map::new();
        let mut merged = Value::Null;
        while let Some(key) = entries.next_key_seed(self)? {
            let key = match key {
                Value::String(key) => key,
                other => other.to_string(),
            };
            let value = entries.next_value_seed(self)?;
            if key == "<<" {
                merged = value;
            } else if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands here twice; remove one of the two")));
            } else {
                map.insert(key, value);
            }
        }
        if let Value::Object(merged) = merged {
            for (key, value) in merged {
                map.entry(key).or_insert(value);
            }
        }
        Ok(Value::Object(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(A::Error::custom("a tag, such as !important, has no meaning here; remove it"))
    }
}

/// The line on which the setting at `path`, or the last part of it that is there, stands in `text`.
pub(super) fn line_of(text: &str, path: &str) -> Option<usize> {
    let steps: Vec<&str> = path.split(['.', '[']).map(|step| step.trim_end_matches(']')).collect();
    let document = serde_yaml::Deserializer::from_str(text).next()?;
    let error = Seek(&steps).deserialize(document).err()?;
    error.location().map(|location| location.line())
}

/// Follows a path and fails where it ends: only errors know on which line they are.
#[derive(Clone, Copy)]
struct Seek<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the end of the path")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let found = A::Error::custom("found");
        let Some((index, rest)) = self.0.split_first() else { return Err(found) };
        for _ in 0..index.parse().unwrap_or(0) {
            entries.next_element::<IgnoredAny>()?;
        }
        entries.next_element_seed(Seek(rest))?;
        Err(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let found = A::Error::custom("found");
        let Some((wanted, rest)) = self.0.split_first() else { return Err(found) };
        while let Some(is_wanted) = entries.next_key_seed(Key { wanted, is_last: rest.is_empty() })? {
            if is_wanted {
                entries.next_value_seed(Seek(rest))?;
                return Err(found);
            }
            entries.next_value::<IgnoredAny>()?;
        }
        Err(found)
    }
}

/// Recognises one key; as the last of the path, it fails there.
struct Key<'a> {
    wanted: &'a str,
    is_last: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        if key == self.wanted && self.is_last { Err(E::custom("found")) } else { Ok(key == self.wanted) }
    }
}
