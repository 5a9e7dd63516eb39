//! Where a number lies on an axis, and which numbers are written beside it.

/// An axis from 0, or a logarithmic one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

/// About how many numbers stand beside an axis.
const TICKS: f64 = 5.0;

// === impl Axis ===

impl Axis {
    /// One that has room for all of these: from 0, or logarithmic where the greatest is at least `wide` times the least.
    pub(super) fn around(values: &[f64], wide: f64) -> Self {
        let high = values.iter().copied().fold(0.0, f64::max);
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        if least > 0.0 && high / least >= wide {
            let (low, high) = (10_f64.powf(least.log10().floor()), 10_f64.powf(high.log10().ceil()));
            return Self { low, high, is_logarithmic: true };
        }
        Self::from_zero(values)
    }

    /// One from 0 to the greatest of these.
    pub(super) fn from_zero(values: &[f64]) -> Self {
        let high = values.iter().copied().fold(0.0, f64::max);
        let high = if high > 0.0 { high } else { 1.0 };
        let step = step(high);
        Self { low: 0.0, high: (high / step).ceil() * step, is_logarithmic: false }
    }

    /// Where a value lies: 0 is the beginning of the axis, 1 its end.
    pub(super) fn place(self, value: f64) -> f64 {
        let Self { low, high, is_logarithmic } = self;
        let place = if is_logarithmic {
            (value.max(low) / low).log10() / (high / low).log10()
        } else {
            (value - low) / (high - low)
        };
        place.clamp(0.0, 1.0)
    }

    /// The numbers beside it.
    pub(super) fn ticks(self) -> Vec<f64> {
        let step = step(self.high);
        let next = |tick: &f64| Some(if self.is_logarithmic { tick * 10.0 } else { tick + step });
        // Sums of fractions are not exact.
        std::iter::successors(Some(self.low), next).take_while(|tick| *tick <= self.high * 1.0001).collect()
    }
}

/// The distance of round numbers.
fn step(high: f64) -> f64 {
    let power = 10_f64.powf((high / TICKS).log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| high / step <= TICKS).unwrap_or(power * 10.0)
}

/// A number as people write it.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    let decimals = if size >= 100.0 || (value - value.round()).abs() < 1e-9 {
        0
    } else if size >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    let (sign, rest) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, fraction) =
        rest.split_once('.').map_or((rest, String::new()), |(whole, part)| (whole, format!(".{part}")));
    let groups: Vec<_> = whole.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    format!("{sign}{}{fraction}", groups.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn an_axis_begins_at_zero_and_ends_at_a_round_number() {
        let axis = Axis::around(&[3.0, 14.2], 10.0);
        assert_eq!(axis.ticks(), [0.0, 5.0, 10.0, 15.0]);
        assert!(near(axis.place(7.5), 0.5) && near(axis.place(15.0), 1.0));
    }

    #[test]
    fn what_grows_by_powers_of_ten_has_them_at_equal_distances() {
        let axis = Axis::around(&[1.0, 10.0, 9900.0], 10.0);
        assert_eq!(axis.ticks(), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
        assert!(near(axis.place(1.0), 0.0) && near(axis.place(100.0), 0.5));
    }

    #[test]
    fn what_lies_outside_is_drawn_at_the_end() {
        let axis = Axis::around(&[2.0], 10.0);
        assert!(near(axis.place(-1.0), 0.0) && near(axis.place(99.0), 1.0));
        // Nothing at all is no reason to fail.
        assert!(near(Axis::around(&[], 10.0).place(0.5), 0.5));
    }

    #[test]
    fn numbers_have_as_many_digits_as_tell_something() {
        let written = [0.0, 0.054, 12.04, 15_187.4, 1_000_000.0, -0.05].map(number);
        assert_eq!(written, ["0", "0.05", "12.0", "15,187", "1,000,000", "-0.05"]);
    }
}
