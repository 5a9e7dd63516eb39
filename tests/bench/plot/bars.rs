//! Bars from the left to the right, the median of each as its length and its spread as a thin line.

use super::axis::{Axis, number};
use super::chart::{Group, MARGIN, WIDTH, color};
use super::svg::{DARK, DIM, Ink, Side, Svg};

/// The room for the names on the left, and for the numbers on the right.
const NAMES: f64 = 190.0;
const NUMBERS: f64 = 130.0;

/// The height of a bar with the space around it, that of the bar alone, and that of a title.
const ROW: f64 = 22.0;
const BAR: f64 = 14.0;
const TITLE: f64 = 28.0;

/// Draws them from `top`, and says where they end.
pub(super) fn draw(svg: &mut Svg, top: f64, groups: &[Group], share_a_scale: bool) -> f64 {
    let highest = |group: &Group| group.bars.iter().map(|(_, spread)| spread.max).collect::<Vec<_>>();
    let shared: Vec<_> = groups.iter().flat_map(highest).collect();
    let mut y = top;
    for group in groups {
        svg.text((MARGIN, y + 18.0), Side::Right, Ink(13, DARK), &group.title);
        y += TITLE;
        let own = highest(group);
        let axis = Axis::from_zero(if share_a_scale { &shared } else { &own });
        for (target, spread) in &group.bars {
            let at = |value: f64| MARGIN + NAMES + axis.place(value) * (WIDTH - 2.0 * MARGIN - NAMES - NUMBERS);
            let middle = y + ROW / 2.0;
            svg.text((MARGIN + NAMES - 10.0, middle + 4.0), Side::Left, Ink(12, DARK), target);
            let length = (at(spread.median) - at(0.0)).max(1.0);
            svg.rectangle((at(0.0), middle - BAR / 2.0), (length, BAR), color(target));
            svg.line((at(spread.min), middle), (at(spread.max), middle), DARK);
            let words = number(spread.median);
            svg.text((at(spread.max.max(spread.median)) + 8.0, middle + 4.0), Side::Right, Ink(12, DIM), &words);
            y += ROW;
        }
        y += ROW / 2.0;
    }
    y
}
