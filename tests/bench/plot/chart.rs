//! A chart: its name, its words, and its shape.

use super::svg::{DARK, DIM, Ink, Side, Svg};
use super::{bars, lines};
use crate::results::Spread;

/// A chart with everything that it shows.
#[derive(Debug)]
pub(super) struct Chart {
    /// The name of its file.
    pub(super) name: String,
    /// What it shows, above it.
    pub(super) title: String,
    /// When and where that was measured, and how it is to be read, below it.
    pub(super) caption: [String; 2],
    /// How it is shown.
    pub(super) shape: Shape,
}

/// How something is shown.
#[derive(Debug)]
pub(super) enum Shape {
    /// Bars, in groups that have a scale of their own or share one.
    Bars { groups: Vec<Group>, share_a_scale: bool },
    /// Lines over a size.
    Lines { size: String, lines: Vec<Line> },
}

/// Bars that are compared with each other.
#[derive(Debug)]
pub(super) struct Group {
    /// What they show.
    pub(super) title: String,
    /// The bars: of which target, and what was measured of it.
    pub(super) bars: Vec<(String, Spread)>,
}

/// A line.
#[derive(Debug)]
pub(super) struct Line {
    /// Of which target.
    pub(super) target: String,
    /// What is said of it beside that.
    pub(super) remark: String,
    /// Sizes, and what was measured at each.
    pub(super) points: Vec<(f64, f64)>,
}

/// How wide all charts are.
pub(super) const WIDTH: f64 = 860.0;
/// What is left free on both sides.
pub(super) const MARGIN: f64 = 24.0;
/// The room for the title, and that for the caption.
const HEAD: f64 = 52.0;
const FOOT: f64 = 56.0;

/// The colours of the targets: the gateway's are blue.
const COLORS: [(&str, &str); 8] = [
    ("direct", "#6b7280"),
    ("relay", "#9ca3af"),
    ("gateway", "#1e3a8a"),
    ("passthrough", "#2563eb"),
    ("session", "#38bdf8"),
    ("transaction", "#0d9488"),
    ("pgbouncer", "#d97706"),
    ("haproxy", "#be185d"),
];

// === impl Chart ===

impl Chart {
    /// Whether anything was measured of it.
    pub(super) fn shows_something(&self) -> bool {
        match &self.shape {
            Shape::Bars { groups, .. } => groups.iter().any(|group| !group.bars.is_empty()),
            Shape::Lines { lines, .. } => !lines.is_empty(),
        }
    }

    /// The file.
    pub(super) fn svg(&self) -> String {
        let mut svg = Svg::default();
        svg.text((MARGIN, 32.0), Side::Right, Ink(17, DARK), &self.title);
        let bottom = match &self.shape {
            Shape::Bars { groups, share_a_scale } => bars::draw(&mut svg, HEAD, groups, *share_a_scale),
            Shape::Lines { size, lines } => lines::draw(&mut svg, HEAD, size, lines),
        };
        let [place, reading] = &self.caption;
        svg.text((MARGIN, bottom + FOOT - 32.0), Side::Right, Ink(11, DIM), place);
        svg.text((MARGIN, bottom + FOOT - 16.0), Side::Right, Ink(11, DIM), reading);
        svg.finish((WIDTH, bottom + FOOT))
    }
}

/// The colour of a target, or of what it is a variant of.
pub(super) fn color(target: &str) -> &'static str {
    COLORS.iter().find(|(name, _)| target.starts_with(name)).map_or(DIM, |(_, color)| color)
}
