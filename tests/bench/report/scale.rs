//! The tables of growth: a line for each target, a column for each size, and what each further one adds.

use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::table;
use crate::kind::Kind;
use crate::results::{Results, Spread};
use crate::scale::{Dimension, Point, slope};

type Figure = fn(&Point) -> Option<f64>;

/// What is told of each dimension: its name and unit, and with how many decimals.
const FIGURES: [(&str, Figure, usize); 3] = [
    ("resident memory, KiB", |point| Some(point.memory), 0),
    ("CPU of a query, µs", |point| Some(point.cost), 1),
    ("start until the first peer is let in, ms", |point| point.start, 0),
];

/// What is measured, in two sentences.
pub(super) const HEAD: &str = "In place of the database a program answers that does nothing else. What each one adds \
                               is the slope of a line through all looks, by least squares.";

/// All tables.
pub(super) fn scales(results: &Results) -> String {
    let mut text = String::new();
    for dimension in Dimension::value_variants() {
        let mut sizes: Vec<_> = points(results, *dimension).map(|point| point.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let mut titles: Vec<_> = sizes.iter().map(u32::to_string).collect();
        titles.push(format!("each {} adds", dimension.one()));
        for (name, figure, decimals) in FIGURES {
            table(&mut text, &format!("Many {}: {name}", dimension.name()), &titles, |kind, column| {
                let of_kind = points(results, *dimension).filter(|point| point.target == kind);
                let Some(size) = sizes.get(column) else {
                    return slope(&line(of_kind, figure)).map(|slope| format!("{slope:.3}"));
                };
                let figures = of_kind.filter(|point| point.size == *size).filter_map(figure);
                Spread::of(figures.collect()).map(|spread| spread.text(decimals))
            });
        }
    }
    text
}

fn points(results: &Results, dimension: Dimension) -> impl Iterator<Item = &Point> {
    results.points.iter().filter(move |point| point.dimension == dimension)
}

/// A figure over the size.
fn line<'a>(points: impl Iterator<Item = &'a Point>, figure: Figure) -> Vec<(f64, f64)> {
    points.filter_map(|point| Some((f64::from(point.size), figure(point)?))).collect()
}

/// One look, for programs.
pub(super) fn json(point: &Point) -> Value {
    let Point { round, dimension, target, size, memory, cost, start } = point;
    json!({
        "round": round + 1, "dimension": dimension.name(), "target": target.name(), "size": size, "kib": memory,
        "cpuMicroseconds": cost, "startMilliseconds": start,
    })
}

/// What each further one adds, for programs.
pub(super) fn slopes(results: &Results) -> Value {
    let pairs =
        Dimension::value_variants().iter().flat_map(|dimension| Kind::all().iter().map(move |kind| (dimension, kind)));
    let slopes = pairs.filter_map(|(dimension, kind)| {
        let of_kind = || points(results, *dimension).filter(|point| point.target == *kind);
        let [kib, cpu, start] = FIGURES.map(|(_, figure, _)| slope(&line(of_kind(), figure)));
        Some(json!({
            "dimension": dimension.name(), "target": kind.name(), "kib": kib?, "cpuMicroseconds": cpu,
            "startMilliseconds": start,
        }))
    });
    slopes.collect()
}
