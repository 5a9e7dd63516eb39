//! Sizes as Kubernetes writes them: `65536`, `512Ki`, `16Mi`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A number of bytes, written as Kubernetes writes memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// What is wrong with a written size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// It is not a number, or its unit is none of ours.
    NotASize(String),
    /// It is more than fits into 64 bits.
    Overflow,
}

/// Each unit in bytes, the largest first.
const UNITS: [(&str, u64); 3] = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

// === impl Size ===

impl Size {
    /// What the API server accepts; [`Size::from_str`] accepts the same.
    pub const PATTERN: &str = "^[0-9]{1,18}(Ki|Mi|Gi)?$";

    /// A size of whole mebibytes.
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let unit = UNITS.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)));
        let (number, scale) = unit.unwrap_or((text, 1));
        let is_number = (1..=18).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        if !is_number {
            return Err(SizeError::NotASize(text.chars().take(32).collect()));
        }
        let number: u64 = number.parse().map_err(|_| SizeError::Overflow)?;
        number.checked_mul(scale).map(Self).ok_or(SizeError::Overflow)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, scale)| self.0 > 0 && self.0.is_multiple_of(*scale)) {
            Some((unit, scale)) => write!(out, "{}{unit}", self.0 / scale),
            None => write!(out, "{}", self.0),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 20, "pattern": Self::PATTERN })
    }
}

// === impl SizeError ===

impl std::error::Error for SizeError {}

impl fmt::Display for SizeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASize(text) => write!(out, "{text:?} is not a size; write one such as 16Mi"),
            Self::Overflow => out.write_str("the size does not fit into 64 bits; write one such as 16Mi"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_writes_is_understood_and_written_the_same() {
        for (text, bytes) in [("0", 0), ("65537", 65_537), ("512Ki", 512 << 10), ("16Mi", 16 << 20), ("3Gi", 3 << 30)] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string()), (bytes, text.into()));
        }
        assert_eq!("1024Ki".parse::<Size>().unwrap().to_string(), "1Mi");
    }

    #[test]
    fn what_is_wrong_is_said_precisely() {
        for (text, sentence) in [
            ("", "\"\" is not a size; write one such as 16Mi"),
            ("16M", "\"16M\" is not a size; write one such as 16Mi"),
            ("1.5Gi", "\"1.5Gi\" is not a size; write one such as 16Mi"),
            ("-1", "\"-1\" is not a size; write one such as 16Mi"),
            ("Mi", "\"Mi\" is not a size; write one such as 16Mi"),
            ("999999999999999999Gi", "the size does not fit into 64 bits; write one such as 16Mi"),
        ] {
            assert_eq!(text.parse::<Size>().map_err(|error| error.to_string()), Err(sentence.into()), "{text:?}");
        }
    }
}
