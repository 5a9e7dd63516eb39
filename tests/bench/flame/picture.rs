//! A flame graph: a box for each function, as wide as it was seen often, on the one that called it. Pure.

use super::stacks::{Frame, Owner, Stacks, share};
use crate::plot::svg::{DARK, DIM, Ink, Side, Svg};

const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 10.0;
const TITLE: f64 = 46.0;
const ROW: f64 = 17.0;
/// A narrower box is not drawn.
const LEAST_WIDTH: f64 = 0.8;
/// A box has its name where so much room is for it, and as many letters as fit.
const LEAST_NAMED: f64 = 36.0;
const LETTER: f64 = 6.3;

/// The whole file.
pub(super) fn draw(title: &str, stacks: &Stacks) -> String {
    let mut svg = Svg::default();
    let rows = depth(&stacks.root, WIDTH - 2.0 * MARGIN);
    let height = TITLE + ROW * f64::from(rows) + 2.0 * MARGIN;
    svg.text((MARGIN, 22.0), Side::Right, Ink(15, DARK), title);
    let legend = format!(
        "{} samples. A box is as wide as its function was seen often, with what it called above it. At work themselves: Postern \
         (orange) {:.0} %, libraries (pale) {:.0} %, the kernel (blue) {:.0} %.",
        stacks.samples(),
        100.0 * stacks.share_of(Owner::Postern),
        100.0 * stacks.share_of(Owner::Library),
        100.0 * stacks.share_of(Owner::Kernel),
    );
    svg.text((MARGIN, 40.0), Side::Right, Ink(11, DIM), &legend);
    rise(&mut svg, &stacks.root, (MARGIN, height - MARGIN - ROW), WIDTH - 2.0 * MARGIN);
    svg.finish((WIDTH, height))
}

/// How many rows are drawn above `frame`, which has so much room.
fn depth(frame: &Frame, width: f64) -> u32 {
    let wide = frame.callees.values().map(|callee| (callee, width * share(callee.samples, frame.samples)));
    wide.filter(|(_, width)| *width >= LEAST_WIDTH).map(|(callee, width)| 1 + depth(callee, width)).max().unwrap_or(0)
}

/// Draws what `frame` called, beside each other from this place on.
fn rise(svg: &mut Svg, frame: &Frame, (mut x, y): (f64, f64), width: f64) {
    for (name, callee) in &frame.callees {
        let width = width * share(callee.samples, frame.samples);
        if width >= LEAST_WIDTH {
            svg.rectangle((x, y), (width - 0.4, ROW - 1.0), color(name));
            if width >= LEAST_NAMED {
                svg.text((x + 3.0, y + 12.0), Side::Right, Ink(10, DARK), &cut(name, width));
            }
            rise(svg, callee, (x, y - ROW), width);
        }
        x += width;
    }
}

fn color(name: &str) -> &'static str {
    match Owner::of(name) {
        Owner::Postern => "#f59e0b",
        Owner::Library => "#fcd9a5",
        Owner::Kernel => "#9dc3e6",
    }
}

/// As much of a name as fits; its end says most.
fn cut(name: &str, width: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 200 letters fit")]
    let room = ((width - 6.0) / LETTER) as usize;
    let letters = name.chars().count();
    if letters <= room {
        return name.to_owned();
    }
    let end: String = name.chars().skip(letters - room.saturating_sub(1).min(letters)).collect();
    format!("\u{2026}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_that_was_seen_often_enough_has_its_box() {
        let seen = "gateway \n\t  2 <gateway::relay::Relay as Future>::poll\n\t  3 main\n\n".repeat(9_999);
        let stacks = Stacks::read(&(seen + "gateway \n\t  4 rare\n\t  3 main\n"));
        let svg = draw("all of it", &stacks);
        assert_eq!(svg.matches("<rect").count(), 3, "the background, main and the relay");
        assert!(svg.contains("10000 samples") && svg.contains("&lt;gateway::relay") && !svg.contains(">rare<"));
    }

    #[test]
    fn of_a_long_name_the_end_is_told() {
        assert_eq!(cut("gateway::relay::run", 60.0), "\u{2026}ay::run");
        assert_eq!(cut("run", 60.0), "run");
    }
}
