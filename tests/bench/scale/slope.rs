//! The slope of a line through some points, by least squares.

/// What each step to the right adds; none where all points are above each other.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count: f64 = points.iter().map(|_| 1.0).sum();
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let rise: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let run: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (run > 0.0).then(|| rise / run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_own_slope_wherever_it_begins() {
        let line: Vec<_> = [1.0, 10.0, 100.0, 1000.0].map(|x| (x, 4000.0 + 3.5 * x)).to_vec();
        assert!(slope(&line).is_some_and(|slope| (slope - 3.5).abs() < 1e-9));
    }

    #[test]
    fn noise_to_both_sides_cancels_out() {
        let points = [(0.0, 1.0), (0.0, -1.0), (2.0, 5.0), (2.0, 3.0)];
        assert!(slope(&points).is_some_and(|slope| (slope - 2.0).abs() < 1e-9));
    }

    #[test]
    fn one_size_alone_has_no_slope() {
        assert_eq!(slope(&[(7.0, 1.0), (7.0, 2.0)]), None);
        assert_eq!(slope(&[]), None);
    }
}
