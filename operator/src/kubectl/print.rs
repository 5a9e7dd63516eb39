//! How things are shown: tables and sentences for people, in colour where a person looks; JSON and YAML for programs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use super::advice::Advice;
use super::explanation::Explanation;

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// How something is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It is as it should be.
    Good,
    /// Something is wrong.
    Bad,
    /// Somebody may want to know.
    Odd,
    /// A heading.
    Head,
    /// Nothing in particular.
    Plain,
}

/// Whether tones are shown as colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(bool);

// === impl Paint ===

impl Paint {
    /// Colours where a person looks, unless `NO_COLOR` says otherwise.
    pub fn of_terminal() -> Self {
        let refuses = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(io::stdout().is_terminal() && !refuses)
    }

    /// No colours.
    pub const fn none() -> Self {
        Self(false)
    }

    /// The text in its tone's colour.
    pub fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Odd => "33",
            Tone::Head => "1",
        };
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

// === impl Cell ===

impl Cell {
    /// A text with this meaning.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: plain(&text.into()), tone }
    }

    /// A text.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// What came from elsewhere must not command the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Rows below their headings, each column as wide as it must be.
pub fn table(headings: &[&str], rows: &[Vec<Cell>], paint: Paint) -> String {
    let wide = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..headings.len()).map(wide).collect();
    let headings: Vec<Cell> = headings.iter().map(|heading| Cell::new(*heading, Tone::Head)).collect();
    let mut text = String::new();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if index + 1 == row.len() { 0 } else { width + 2 - cell.text.chars().count() };
            line += &paint.paint(&cell.text, cell.tone);
            line += &" ".repeat(gap);
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// What somebody should do, one sentence a line.
pub fn advice(all: &[Advice], paint: Paint) -> String {
    let mut text = String::new();
    for one in all {
        let (mark, tone) = if one.is_problem() { ("!", Tone::Bad) } else { ("-", Tone::Odd) };
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "{} {}: {}", paint.paint(mark, tone), paint.paint(&one.reason, tone), plain(&one.sentence));
    }
    text
}

/// An explanation for people.
pub fn explanation(explanation: &Explanation, paint: Paint) -> String {
    let Explanation { kind, namespace, name, told, advice: all } = explanation;
    let title = format!("{kind} {name} in namespace {namespace}");
    let mut text = format!("{}\n", paint.paint(&plain(&title), Tone::Head));
    let width = told.iter().map(|told| told.about.chars().count()).max().unwrap_or_default();
    for told in told {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:width$}  {}", plain(&told.about), plain(&told.sentence));
    }
    text.push('\n');
    if explanation.has_problem() {
        text += &advice(all, paint);
    } else {
        text += &advice(all, paint);
        let _ = writeln!(text, "{}", paint.paint("Nothing is wrong.", Tone::Good));
    }
    text
}

/// Prints `value` for programs, or what `text` makes of it for people.
pub fn show<T: Serialize>(value: &T, output: Output, text: impl FnOnce() -> String) -> io::Result<()> {
    let shown = match output {
        Output::Text => text(),
        Output::Json => serde_json::to_string_pretty(value).map_err(io::Error::other)? + "\n",
        Output::Yaml => serde_yaml::to_string(value).map_err(io::Error::other)?,
    };
    say(&shown)
}

/// Prints a text. Who has closed the other end has seen enough.
pub fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        said => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_also_in_colour() {
        let rows = [vec![Cell::new("orders", Tone::Good), Cell::plain("1")], vec![Cell::plain("a"), Cell::plain("22")]];
        assert_eq!(table(&["NAME", "PODS"], &rows, Paint::none()), "NAME    PODS\norders  1\na       22\n");
        let coloured = table(&["NAME", "PODS"], &rows, Paint(true));
        assert!(coloured.contains("\u{1b}[32morders\u{1b}[0m  1\n"), "{coloured:?}");
    }

    #[test]
    fn what_came_from_elsewhere_does_not_command_the_terminal() {
        let rows = [vec![Cell::plain("a\u{1b}[2Jb\nc")]];
        assert_eq!(table(&["X"], &rows, Paint::none()), "X\na [2Jb c\n");
    }
}
