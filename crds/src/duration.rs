//! Durations as Go and Kubernetes write them: `1m30s`, `500ms`, `1.5h`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A duration, written as in Go and Kubernetes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

/// What is wrong with a written duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// There is nothing.
    Empty,
    /// It is longer than [`Duration::MAX_LENGTH`].
    TooLong,
    /// There is a number, and no unit behind it.
    NoUnit(String),
    /// There is a unit that is none of ours.
    UnknownUnit(String),
    /// There is something that is not a number where one should be.
    NoNumber(String),
    /// It is longer than [`Duration::MAX`].
    Overflow,
}

/// Each unit in nanoseconds, the longest first.
const UNITS: [(&str, u64); 6] =
    [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000), ("ns", 1)];

// === impl Duration ===

impl Duration {
    /// What the API server accepts; [`Duration::from_str`] accepts the same.
    pub const PATTERN: &str = "^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$";

    /// Characters of a written duration, at most.
    pub const MAX_LENGTH: usize = 32;

    /// No time at all.
    pub const ZERO: Self = Self(std::time::Duration::ZERO);

    /// The longest duration, 292 years: what Go, and so the API server, can hold.
    pub const MAX: Self = Self(std::time::Duration::from_nanos(i64::MAX as u64));

    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// A duration of whole milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(std::time::Duration::from_millis(milliseconds))
    }

    /// The duration that the standard library, and with it tokio, understands.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    /// The same, where `0s` means that there is none.
    pub fn nonzero(self) -> Option<std::time::Duration> {
        Some(self.0).filter(|duration| !duration.is_zero())
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        if text.is_empty() {
            return Err(DurationError::Empty);
        }
        if text.len() > Self::MAX_LENGTH {
            return Err(DurationError::TooLong);
        }
        let (mut rest, mut total) = (text, 0u128);
        while !rest.is_empty() {
            let (number, behind) = split_where(rest, |c| c.is_ascii_digit() || c == '.');
            if number.is_empty() {
                return Err(DurationError::NoNumber(rest.into()));
            }
            let (unit, behind) = split_where(behind, |c| !c.is_ascii_digit() && c != '.');
            total = total.saturating_add(nanoseconds(number, unit)?);
            rest = behind;
        }
        let total = i64::try_from(total).map_err(|_| DurationError::Overflow)?;
        Ok(Self(std::time::Duration::from_nanos(total.unsigned_abs())))
    }
}

/// The longest start of `text` whose characters are all `wanted`, and the rest.
fn split_where(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !wanted(c)).unwrap_or(text.len()))
}

/// One number with its unit, in nanoseconds; what is finer is cut off.
fn nanoseconds(number: &str, unit: &str) -> Result<u128, DurationError> {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !fraction.is_none_or(is_number) {
        return Err(DurationError::NoNumber(format!("{number}{unit}")));
    }
    if unit.is_empty() {
        return Err(DurationError::NoUnit(number.into()));
    }
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    let (_, scale) = known.ok_or_else(|| DurationError::UnknownUnit(unit.into()))?;
    let scale = u128::from(*scale);

    // At most 32 digits: they fit into 128 bits, their product with the unit may not.
    let parse = |digits: &str| digits.parse::<u128>().map_err(|_| DurationError::Overflow);
    let whole = parse(whole)?.checked_mul(scale).ok_or(DurationError::Overflow)?;
    let fraction = fraction.unwrap_or("0");
    // Past 20 digits a fraction says less than a nanosecond, whatever the unit.
    let fraction = &fraction[..fraction.len().min(20)];
    let part = parse(fraction)? * scale / 10u128.pow(u32::try_from(fraction.len()).unwrap_or(20));
    Ok(whole.saturating_add(part))
}

impl fmt::Display for Duration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HOUR: u128 = 3_600_000_000_000;
        const MINUTE: u128 = 60_000_000_000;
        let total = self.0.as_nanos();
        let (hours, minutes, rest) = (total / HOUR, total % HOUR / MINUTE, total % MINUTE);
        if hours > 0 {
            write!(out, "{hours}h")?;
        }
        if minutes > 0 {
            write!(out, "{minutes}m")?;
        }
        // Below a second the largest unit that leaves a whole part, as in Go: 1.5ms, not 0.0015s.
        let (unit, scale) = match rest {
            0 if total > 0 => return Ok(()),
            0 => ("s", 1_000_000_000),
            _ if total >= 1_000_000_000 || rest >= 1_000_000_000 => ("s", 1_000_000_000),
            _ if rest >= 1_000_000 => ("ms", 1_000_000),
            _ if rest >= 1000 => ("us", 1000),
            _ => ("ns", 1),
        };
        write!(out, "{}", rest / scale)?;
        if rest % scale > 0 {
            let width = scale.ilog10() as usize;
            let digits = format!("{:0width$}", rest % scale);
            write!(out, ".{}", digits.trim_end_matches('0'))?;
        }
        out.write_str(unit)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": Self::MAX_LENGTH, "pattern": Self::PATTERN })
    }
}

// === impl DurationError ===

impl std::error::Error for DurationError {}

impl fmt::Display for DurationError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(out, "there is no duration; write one such as 30s or 1m30s"),
            Self::TooLong => write!(out, "a duration has at most {} characters", Duration::MAX_LENGTH),
            Self::NoUnit(number) => write!(out, "{number} has no unit; write {number}s for seconds"),
            Self::UnknownUnit(unit) => write!(out, "the unit {unit:?} is none of h, m, s, ms, us and ns"),
            Self::NoNumber(text) => write!(out, "{text:?} is not a number with a unit; write one such as 30s or 1m30s"),
            Self::Overflow => write!(out, "a duration is at most 292 years ({})", Duration::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<std::time::Duration, DurationError> {
        text.parse::<Duration>().map(Duration::get)
    }

    #[test]
    fn what_go_writes_is_understood() {
        use std::time::Duration as Std;
        for (text, expected) in [
            ("0s", Std::ZERO),
            ("1m30s", Std::from_secs(90)),
            ("500ms", Std::from_millis(500)),
            ("1.5h", Std::from_mins(90)),
            ("1us", Std::from_micros(1)),
            ("1h0m0s", Std::from_hours(1)),
            ("0.0000000019s", Std::from_nanos(1)),
            ("30s1m", Std::from_secs(90)),
            ("2562047h47m16.854775807s", Std::from_nanos(i64::MAX as u64)),
        ] {
            assert_eq!(parsed(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_precisely() {
        for (text, sentence) in [
            ("", "there is no duration; write one such as 30s or 1m30s"),
            ("10", "10 has no unit; write 10s for seconds"),
            ("1m30", "30 has no unit; write 30s for seconds"),
            ("1d", "the unit \"d\" is none of h, m, s, ms, us and ns"),
            ("1µs", "the unit \"µs\" is none of h, m, s, ms, us and ns"),
            ("5S", "the unit \"S\" is none of h, m, s, ms, us and ns"),
            ("-1s", "\"-1s\" is not a number with a unit; write one such as 30s or 1m30s"),
            ("+5s", "\"+5s\" is not a number with a unit; write one such as 30s or 1m30s"),
            (".5s", "\".5s\" is not a number with a unit; write one such as 30s or 1m30s"),
            ("1.s", "\"1.s\" is not a number with a unit; write one such as 30s or 1m30s"),
            ("1.2.3s", "\"1.2.3s\" is not a number with a unit; write one such as 30s or 1m30s"),
            ("soon", "\"soon\" is not a number with a unit; write one such as 30s or 1m30s"),
            ("1m 30s", "the unit \"m \" is none of h, m, s, ms, us and ns"),
            ("2562048h", "a duration is at most 292 years (2562047h47m16.854775807s)"),
            ("99999999999999999999999999999h", "a duration is at most 292 years (2562047h47m16.854775807s)"),
            ("000000000000000000000000000000001s", "a duration has at most 32 characters"),
        ] {
            assert_eq!(parsed(text).map_err(|error| error.to_string()), Err(sentence.into()), "{text:?}");
        }
    }

    #[test]
    fn a_written_duration_is_short_and_means_the_same() {
        for (text, shown) in [
            ("60s", "1m"),
            ("90s", "1m30s"),
            ("3600s", "1h"),
            ("1h0m5s", "1h5s"),
            ("0ms", "0s"),
            ("1500ms", "1.5s"),
            ("1500us", "1.5ms"),
            ("60.25s", "1m0.25s"),
            ("1m1ms", "1m0.001s"),
            ("999ns", "999ns"),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration.to_string(), shown);
            assert_eq!(shown.parse(), Ok(duration), "{text}");
        }
    }
}
