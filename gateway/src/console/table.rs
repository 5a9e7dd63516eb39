//! What a console shows: tables with PgBouncer's columns (those of 1.24, in its order and with its types), and how a row is
//! sent. Pure.

use bytes::BufMut;

use crate::postgres::wire::{message, tag, text};

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    Clients,
    Config,
    Databases,
    Lists,
    Mem,
    Pools,
    Servers,
    State,
    Stats,
    StatsAverages,
    StatsTotals,
    Totals,
    Users,
    Version,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Int4,
    Numeric,
}

/// A column's name and type.
pub(crate) type Column = (&'static str, Type);

/// One value; numbers are never negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Text(String),
    Number(u64),
}

/// One row.
pub(crate) type Row = Vec<Cell>;

/// How a column's values are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Binary,
}

mod columns;

const NAMES: [(&str, Show); 14] = [
    ("clients", Show::Clients),
    ("config", Show::Config),
    ("databases", Show::Databases),
    ("lists", Show::Lists),
    ("mem", Show::Mem),
    ("pools", Show::Pools),
    ("servers", Show::Servers),
    ("state", Show::State),
    ("stats", Show::Stats),
    ("stats_averages", Show::StatsAverages),
    ("stats_totals", Show::StatsTotals),
    ("totals", Show::Totals),
    ("users", Show::Users),
    ("version", Show::Version),
];

// === impl Show ===

impl Show {
    /// The one of this name, in small letters.
    pub(crate) fn named(name: &str) -> Option<Show> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, show)| *show)
    }

    /// The columns of its rows.
    pub(crate) fn columns(self) -> &'static [Column] {
        match self {
            Show::Clients | Show::Servers => &columns::SOCKETS,
            Show::Config => &columns::CONFIG,
            Show::Databases => &columns::DATABASES,
            Show::Lists => &[("list", Type::Text), ("items", Type::Int4)],
            Show::Mem => &columns::MEM,
            Show::Pools => &columns::POOLS,
            Show::State => &[("key", Type::Text), ("value", Type::Text)],
            Show::Stats => &columns::STATS,
            Show::StatsAverages => &columns::STATS_AVERAGES,
            Show::StatsTotals => &columns::STATS_TOTALS,
            Show::Totals => &[("name", Type::Text), ("value", Type::Numeric)],
            Show::Users => &columns::USERS,
            Show::Version => &[("version", Type::Text)],
        }
    }
}

// === impl Type ===

impl Type {
    /// The number by which PostgreSQL knows it, and the size of its values; -1: they have none.
    fn oid_and_size(self) -> (u32, i16) {
        match self {
            Type::Text => (25, -1),
            Type::Int4 => (23, 4),
            Type::Numeric => (1700, -1),
        }
    }
}

// === impl Format ===

impl Format {
    fn code(self) -> u16 {
        match self {
            Format::Text => 0,
            Format::Binary => 1,
        }
    }
}

// === impl Cell ===

impl Cell {
    /// A text, or nothing.
    pub(crate) fn maybe(text: Option<impl Into<String>>) -> Cell {
        text.map_or(Cell::Null, |text| Cell::Text(text.into()))
    }

    /// How many.
    pub(crate) fn count(count: usize) -> Cell {
        Cell::Number(count as u64)
    }

    fn write(&self, kind: Type, format: Format, out: &mut Vec<u8>) {
        match (self, format) {
            (Cell::Null, _) => out.put_i32(-1),
            (Cell::Text(text), _) => value(out, text.as_bytes()),
            (Cell::Number(number), Format::Binary) => match kind {
                Type::Int4 => value(out, &i32::try_from(*number).unwrap_or(i32::MAX).to_be_bytes()),
                Type::Numeric => value(out, &numeric(*number)),
                Type::Text => value(out, number.to_string().as_bytes()),
            },
            (Cell::Number(number), Format::Text) => value(out, number.to_string().as_bytes()),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Cell {
        Cell::Number(number)
    }
}

/// Appends a RowDescription of `columns`, each in its format.
pub(crate) fn describe(columns: &[Column], format: impl Fn(usize) -> Format, out: &mut Vec<u8>) {
    message(out, tag::ROW_DESCRIPTION, |out| {
        out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for (place, (name, kind)) in columns.iter().enumerate() {
            text(out, name);
            let (oid, size) = kind.oid_and_size();
            // Of no table.
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(oid);
            out.put_i16(size);
            out.put_i32(-1);
            out.put_u16(format(place).code());
        }
    });
}

/// Appends a DataRow.
pub(crate) fn row(columns: &[Column], row: &Row, format: impl Fn(usize) -> Format, out: &mut Vec<u8>) {
    message(out, tag::DATA_ROW, |out| {
        out.put_u16(u16::try_from(row.len()).unwrap_or(u16::MAX));
        for (place, (cell, (_, kind))) in row.iter().zip(columns).enumerate() {
            cell.write(*kind, format(place), out);
        }
    });
}

fn value(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.extend_from_slice(bytes);
}

/// A whole number as PostgreSQL sends a `numeric`: its digits to the base of 10,000, the first of which says how many follow.
fn numeric(number: u64) -> Vec<u8> {
    const BASE: u64 = 10_000;
    let mut digits = Vec::new();
    let mut left = number;
    while left > 0 {
        digits.push(u16::try_from(left % BASE).unwrap_or_default());
        left /= BASE;
    }
    let count = u16::try_from(digits.len()).unwrap_or_default();
    let mut out = Vec::new();
    out.put_u16(count);
    // The weight of the first, a sign, and no digits behind the point.
    out.put_u16(count.saturating_sub(1));
    out.put_u16(0);
    out.put_u16(0);
    digits.iter().rev().for_each(|digit| out.put_u16(*digit));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sent_as_postgresql_sends_them() {
        // What `select numeric_send(...)` says.
        assert_eq!(numeric(0), [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(numeric(1), [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(numeric(12_345_678), [0, 2, 0, 1, 0, 0, 0, 0, 0x04, 0xd2, 0x16, 0x2e]);
        assert_eq!(numeric(u64::MAX).len(), 8 + 10);
        let mut out = Vec::new();
        let cells = vec![Cell::Number(7), Cell::Null, Cell::Text("a".into())];
        row(&[("a", Type::Int4), ("b", Type::Numeric), ("c", Type::Text)], &cells, |_| Format::Binary, &mut out);
        assert_eq!(out, b"D\0\0\0\x17\0\x03\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff\0\0\0\x01a");
    }

    #[test]
    fn every_table_has_a_name_and_columns() {
        for (name, show) in NAMES {
            assert_eq!(Show::named(name), Some(show));
            let columns = show.columns();
            assert!(!columns.is_empty(), "{name}");
            let mut out = Vec::new();
            describe(columns, |_| Format::Text, &mut out);
            assert_eq!(usize::from(u16::from_be_bytes([out[5], out[6]])), columns.len());
        }
    }
}
