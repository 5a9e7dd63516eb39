//! Numbers and times as a person says them.

/// A span of time, in two units at most: `3.1 s`, `12 min`, `3 h 5 min`, `2 d 4 h`.
pub fn span(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    if seconds < 60.0 {
        let tenths = (seconds * 10.0).round() / 10.0;
        return if tenths >= 10.0 { format!("{} s", tenths.round()) } else { format!("{tenths} s") };
    }
    // What is too large for the type is as large as it can be.
    let minutes = std::time::Duration::try_from_secs_f64(seconds).map_or(u64::MAX, |span| span.as_secs()) / 60;
    let (hours, days) = (minutes / 60, minutes / 60 / 24);
    let two = |large: u64, unit: &str, small: u64, smaller: &str| {
        if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {smaller}") }
    };
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => two(hours, "h", minutes % 60, "min"),
        (days, hours) => two(days, "d", hours % 24, "h"),
    }
}

/// An amount of bytes: `12 B`, `3.4 KiB`.
pub fn bytes(number: f64) -> String {
    let mut number = if number.is_finite() { number.max(0.0) } else { 0.0 };
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if number < 1024.0 {
            break;
        }
        (number, unit) = (number / 1024.0, larger);
    }
    if unit == "B" { format!("{number:.0} B") } else { format!("{number:.1} {unit}") }
}

/// A number with what it counts.
pub fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// The first digits of a hash, which tell it from others.
pub fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_fits() {
        assert_eq!([bytes(0.0), bytes(1023.0), bytes(1536.0), bytes(5e9)], ["0 B", "1023 B", "1.5 KiB", "4.7 GiB"]);
    }

    #[test]
    fn a_span_has_two_units_at_most() {
        for (seconds, said) in [
            (0.04, "0 s"),
            (3.06, "3.1 s"),
            (12.6, "13 s"),
            (60.0, "1 min"),
            (3700.0, "1 h 1 min"),
            (7200.0, "2 h"),
            (100_000.0, "1 d 3 h"),
            (f64::NAN, "0 s"),
        ] {
            assert_eq!(span(seconds), said);
        }
    }
}
