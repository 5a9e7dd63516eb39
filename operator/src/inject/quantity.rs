//! Amounts as Kubernetes writes them, so that two can be compared.

/// Bytes of a written amount, at most.
const MAX_LENGTH: usize = 32;

/// The amount in billionths, rounded up; nothing if it is not written as Kubernetes writes amounts, or negative.
pub(super) fn parse(text: &str) -> Option<u128> {
    if text.is_empty() || text.len() > MAX_LENGTH {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let shift = i32::try_from(fraction.len()).ok()?;
    match suffix {
        "Ki" => binary(digits, 1, shift),
        "Mi" => binary(digits, 2, shift),
        "Gi" => binary(digits, 3, shift),
        "Ti" => binary(digits, 4, shift),
        "Pi" => binary(digits, 5, shift),
        "Ei" => binary(digits, 6, shift),
        suffix => decimal(digits, exponent(suffix)? - shift + 9),
    }
}

/// The power of ten that a suffix stands for.
fn exponent(suffix: &str) -> Option<i32> {
    Some(match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        suffix => {
            let power = suffix.strip_prefix(['e', 'E'])?;
            power.parse::<i32>().ok().filter(|power| (-30..=30).contains(power))?
        }
    })
}

fn decimal(digits: u128, exponent: i32) -> Option<u128> {
    let power = 10u128.checked_pow(exponent.unsigned_abs())?;
    if exponent < 0 { Some(digits.div_ceil(power)) } else { digits.checked_mul(power) }
}

fn binary(digits: u128, thousands: u32, shift: i32) -> Option<u128> {
    let units = digits.checked_mul(1024u128.pow(thousands))?;
    decimal(units, 9 - shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        let one = 1_000_000_000;
        for (text, amount) in [
            ("0", 0),
            ("1", one),
            ("+1", one),
            ("100m", one / 10),
            ("0.1", one / 10),
            (".5", one / 2),
            ("5.", 5 * one),
            ("1k", 1000 * one),
            ("1e3", 1000 * one),
            ("1E3", 1000 * one),
            ("5E", 5 * 1_000_000_000_000_000_000 * one),
            ("1Ki", 1024 * one),
            ("1.5Gi", 1_610_612_736 * one),
            ("0.5n", 1),
        ] {
            assert_eq!(parse(text), Some(amount), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in
            ["", "m", "-1", "1 Gi", "1.2.3", "1gi", "1K", "e3", "1e", "1e99", "abc", "1Mii", "٣", "1e-2147483648"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"9".repeat(40)), None);
    }
}
