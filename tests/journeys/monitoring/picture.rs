//! A picture of the dashboard, drawn from what its queries were answered: Grafana itself is not asked.

use std::fs;
use std::process::Command;

use cast::process::run;
use cast::{Prometheus, install, workspace};

use crate::dashboard;

#[path = "../../bench/plot/svg.rs"]
#[allow(dead_code, reason = "charts need more of it")]
mod svg;
#[path = "../../bench/plot/axis.rs"]
#[allow(dead_code, reason = "charts need more of it")]
mod axis;

use axis::{Axis, number};
use svg::{DARK, DIM, Ink, PALE, Side, Spot, Svg};

/// Set, the picture is drawn anew.
const WRITE: &str = "POSTERN_WRITE_PICTURE";

/// Which panels are in it.
const SHOWN: [&str; 8] = [
    "Away for",
    "Gateways that miss it",
    "Connections to the database",
    "Peers that wait",
    "Turned away",
    "Waits",
    "Queries and transactions",
    "Query latency",
];

/// The row of single numbers, whose titles others have, too.
const FLEET: &str = "Fleet";

/// The whole of a panel, the picture in it, and where that begins.
const WIDE: f64 = 440.0;
const HIGH: f64 = 270.0;
const INNER: (f64, f64) = (350.0, 130.0);
const CORNER: Spot = (64.0, 40.0);
/// Panels beside each other, and the room for the title above all of them.
const ACROSS: u32 = 2;
const HEAD: f64 = 64.0;
/// Names below a panel; of more lines the highest are named.
const NAMES: usize = 4;
const LINE: f64 = 15.0;

const COLORS: [&str; 8] = ["#2563eb", "#d97706", "#0d9488", "#be185d", "#7c3aed", "#65a30d", "#0891b2", "#6b7280"];

/// A line: what it is called, and its points.
type Line = (String, Vec<(f64, f64)>);

/// Draws what the dashboard shows from a time on, if it is asked for.
pub(crate) fn draw(prometheus: &Prometheus, from: f64) {
    if std::env::var_os(WRITE).is_none() {
        return;
    }
    let until = prometheus.now();
    let panels = dashboard::panels();
    let mut svg = Svg::default();
    svg.text(
        (24.0, 30.0),
        Side::Right,
        Ink(17, DARK),
        "Postern: the dashboard's queries, as a real Prometheus answered them",
    );
    let faults = "While faults were set on eighteen gateways at one time, by the journey \"monitoring\"; not a screenshot of Grafana.";
    svg.text((24.0, 50.0), Side::Right, Ink(11, DIM), faults);
    for (place, title) in (0_u32..).zip(SHOWN) {
        let panel = panels
            .iter()
            .find(|panel| panel.title == title && panel.row != FLEET)
            .expect("the dashboard has this panel");
        let corner = (f64::from(place % ACROSS) * WIDE, HEAD + f64::from(place / ACROSS) * HIGH);
        let lines = panel.lines(prometheus, from, 15.0);
        draw_panel(&mut svg, corner, &format!("{title} ({})", unit(&panel.unit)), &lines, (from, until));
    }
    let rows = u32::try_from(SHOWN.len()).expect("they are few").div_ceil(ACROSS);
    let file = workspace::root().join("tests/bench/plots/dashboard.svg");
    fs::write(&file, svg.finish((WIDE * f64::from(ACROSS), HEAD + f64::from(rows) * HIGH)))
        .expect("the workspace is writable");
    install::ensure_installed(install::FOR_PICTURES).expect("pictures can be converted");
    run(Command::new(install::program("rsvg-convert"))
        .args(["--zoom", "1.5", "--output"])
        .arg(file.with_extension("png"))
        .arg(&file));
}

/// What a unit of Grafana is called.
fn unit(name: &str) -> &str {
    match name {
        "s" => "seconds",
        "percentunit" => "part of all",
        "ops" | "qps" => "a second",
        _ => "number",
    }
}

fn draw_panel(svg: &mut Svg, (left, top): Spot, title: &str, lines: &[Line], (from, until): (f64, f64)) {
    svg.text((left + 24.0, top + 22.0), Side::Right, Ink(13, DARK), title);
    let values: Vec<_> =
        lines.iter().flat_map(|line| &line.1).map(|point| point.1).filter(|value| value.is_finite()).collect();
    let axis = Axis::from_zero(&values);
    let (x0, y0) = (left + CORNER.0, top + CORNER.1);
    let place = |(time, value): (f64, f64)| {
        (x0 + (time - from) / (until - from) * INNER.0, y0 + (1.0 - axis.place(value)) * INNER.1)
    };
    for tick in axis.ticks() {
        let y = place((from, tick)).1;
        svg.line((x0, y), (x0 + INNER.0, y), PALE);
        svg.text((x0 - 6.0, y + 4.0), Side::Left, Ink(10, DIM), &number(tick));
    }
    for (time, words) in [(from, "0"), (until, &*format!("{:.0} s", until - from))] {
        svg.text((place((time, 0.0)).0, y0 + INNER.1 + 14.0), Side::Middle, Ink(10, DIM), words);
    }
    let highest =
        |line: &Line| line.1.iter().map(|point| point.1).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let mut order: Vec<_> = lines.iter().collect();
    order.sort_by(|one, other| highest(other).total_cmp(&highest(one)));
    for (line, color) in order.iter().zip(COLORS.iter().cycle()) {
        let spots: Vec<_> = line.1.iter().filter(|point| point.1.is_finite()).map(|point| place(*point)).collect();
        svg.path(&spots, color);
    }
    let mut y = y0 + INNER.1 + 32.0;
    for (line, color) in order.iter().zip(COLORS).take(NAMES) {
        svg.rectangle((x0, y - 8.0), (9.0, 9.0), color);
        svg.text((x0 + 15.0, y), Side::Right, Ink(10, DARK), &format!("{}, at most {}", line.0, number(highest(line))));
        y += LINE;
    }
    if order.len() > NAMES {
        svg.text((x0 + 15.0, y), Side::Right, Ink(10, DIM), &format!("and {} more", order.len() - NAMES));
    }
}
