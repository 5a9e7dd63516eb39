//! Lines over a size, each with its name and a remark beside the picture.

use super::axis::{Axis, number};
use super::chart::{Line, MARGIN, WIDTH, color};
use super::svg::{DARK, DIM, Ink, PALE, Side, Spot, Svg};

/// The height of the picture, the room for numbers on its left, and for names on its right.
const HEIGHT: f64 = 320.0;
const NUMBERS: f64 = 70.0;
const NAMES: f64 = 250.0;

/// From these ratios of the greatest to the least on, sizes and values are drawn by powers of ten.
const WIDE_SIZES: f64 = 1000.0;
const WIDE_VALUES: f64 = 10.0;

/// The room below for the numbers and the name of the size.
const BELOW: f64 = 44.0;

/// Draws them from `top`, and says where they end.
pub(super) fn draw(svg: &mut Svg, top: f64, size: &str, lines: &[Line]) -> f64 {
    let (sizes, values): (Vec<_>, Vec<_>) = lines.iter().flat_map(|line| &line.points).copied().unzip();
    let (across, up) = (Axis::around(&sizes, WIDE_SIZES), Axis::around(&values, WIDE_VALUES));
    let (left, right) = (MARGIN + NUMBERS, WIDTH - MARGIN - NAMES);
    let x = |value: f64| left + across.place(value) * (right - left);
    let y = |value: f64| top + HEIGHT - up.place(value) * HEIGHT;
    for tick in up.ticks() {
        svg.line((left, y(tick)), (right, y(tick)), PALE);
        svg.text((left - 8.0, y(tick) + 4.0), Side::Left, Ink(11, DIM), &number(tick));
    }
    for tick in across.ticks() {
        svg.line((x(tick), top), (x(tick), top + HEIGHT), PALE);
        svg.text((x(tick), top + HEIGHT + 18.0), Side::Middle, Ink(11, DIM), &number(tick));
    }
    svg.text((f64::midpoint(left, right), top + HEIGHT + 38.0), Side::Middle, Ink(12, DARK), size);
    for (number, line) in lines.iter().enumerate() {
        let spots: Vec<_> = line.points.iter().map(|point| (x(point.0), y(point.1))).collect();
        svg.path(&spots, color(&line.target));
        for spot in spots {
            svg.dot(spot, color(&line.target));
        }
        let row = u32::try_from(number).map_or(0.0, f64::from);
        name(svg, (right + 20.0, top + 14.0 + 44.0 * row), line);
    }
    top + HEIGHT + BELOW
}

fn name(svg: &mut Svg, (x, y): Spot, line: &Line) {
    svg.rectangle((x, y - 10.0), (12.0, 12.0), color(&line.target));
    svg.text((x + 20.0, y), Side::Right, Ink(12, DARK), &line.target);
    svg.text((x + 20.0, y + 16.0), Side::Right, Ink(11, DIM), &line.remark);
}
