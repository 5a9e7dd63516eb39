//! A picture in SVG, put together from lines, boxes, dots and words.

use std::fmt::Write as _;

/// A picture that is being drawn.
#[derive(Debug, Default)]
pub(crate) struct Svg(String);

/// On which side of its place a word stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    /// It begins there.
    Right,
    /// It ends there.
    Left,
    /// It is there in its middle.
    Middle,
}

/// How large words are, and in which colour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ink(pub(crate) u32, pub(crate) &'static str);

/// A place in the picture: to the right, and down.
pub(crate) type Spot = (f64, f64);

/// The colour of words and that of what lies behind.
pub(crate) const DARK: &str = "#1f2937";
pub(crate) const DIM: &str = "#6b7280";
pub(crate) const PALE: &str = "#e5e7eb";

// === impl Svg ===

impl Svg {
    /// A line.
    pub(crate) fn line(&mut self, from: Spot, to: Spot, color: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.0,
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{color}" stroke-width="1"/>"#
        );
    }

    /// A line through several places.
    pub(crate) fn path(&mut self, spots: &[Spot], color: &str) {
        let spots: Vec<_> = spots.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.0,
            r#"<polyline points="{}" fill="none" stroke="{color}" stroke-width="2"/>"#,
            spots.join(" ")
        );
    }

    /// A box from its upper left corner.
    pub(crate) fn rectangle(&mut self, (x, y): Spot, (width, height): (f64, f64), color: &str) {
        let _ =
            writeln!(self.0, r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{color}"/>"#);
    }

    /// A dot.
    pub(crate) fn dot(&mut self, (x, y): Spot, color: &str) {
        let _ = writeln!(self.0, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{color}"/>"#);
    }

    /// Words.
    pub(crate) fn text(&mut self, (x, y): Spot, side: Side, Ink(height, color): Ink, words: &str) {
        let anchor = match side {
            Side::Right => "start",
            Side::Left => "end",
            Side::Middle => "middle",
        };
        let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(
            self.0,
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{height}" fill="{color}" text-anchor="{anchor}">{words}</text>"#
        );
    }

    /// The whole file.
    pub(crate) fn finish(self, (width, height): (f64, f64)) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" font-family=\"DejaVu Sans, Verdana, sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_end_the_picture() {
        let mut svg = Svg::default();
        svg.text((1.0, 2.0), Side::Right, Ink(12, DARK), "a < b & </svg>");
        let text = svg.finish((10.0, 20.0));
        assert!(text.contains("a &lt; b &amp; &lt;/svg&gt;") && text.matches("</svg>").count() == 1, "{text}");
    }
}
