//! Masks columns of results by their names, so that who may read a table sees less than all of it.
//!
//! A name is the result's: `SELECT email AS contact` has a column `contact`. So it hides data from tools and screens, and
//! from who does not try; against people there are views and column privileges.
//!
//! ```yaml
//! config:
//!   columns: [email, card_number]
//!   keep: 4              # characters at the end that stay; default: 0
//! ```

use postern_plugin::{Cell, Column, Interests, Plugin, Row};
use serde::Deserialize;

/// The types whose values are text, in either form: char, name, text, char(n) and varchar.
const TEXTS: [u32; 5] = [18, 19, 25, 1042, 1043];
/// What stands for whatever was there, so that not even its length can be read.
const MASK: &str = "*****";

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mask {
    columns: Vec<String>,
    keep: usize,
    /// Of the result that is under way: the columns to mask, and what becomes of their values.
    #[serde(skip)]
    masked: Vec<(u32, How)>,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Asterisks, and its end.
    Asterisks,
    /// NULL: who expects a number cannot read asterisks.
    Null,
}

impl Mask {
    fn mask(&self, value: &[u8], how: How) -> Option<Vec<u8>> {
        let text = match how {
            How::Asterisks => String::from_utf8_lossy(value),
            How::Null => return None,
        };
        let count = text.chars().count();
        // What is no longer than what stays would stay whole.
        let kept = if count > self.keep { self.keep } else { 0 };
        let end: String = text.chars().skip(count - kept).collect();
        Some(format!("{MASK}{end}").into_bytes())
    }
}

impl Plugin for Mask {
    fn configure(&mut self, config: &str) -> Result<Interests, String> {
        *self = serde_json::from_str(config).map_err(|error| error.to_string())?;
        if self.columns.is_empty() {
            return Err("columns names no column; write such as columns: [email]".into());
        }
        Ok(Interests::ROWS)
    }

    fn on_columns(&mut self, columns: &[Column]) -> Vec<u32> {
        let is_masked = |column: &Column| self.columns.iter().any(|name| name.eq_ignore_ascii_case(&column.name));
        let how = |column: &Column| if TEXTS.contains(&column.type_id) { How::Asterisks } else { How::Null };
        let numbered = (0..).zip(columns).filter(|(_, column)| is_masked(column));
        self.masked = numbered.map(|(number, column)| (number, how(column))).collect();
        self.masked.iter().map(|(number, _)| *number).collect()
    }

    fn on_row(&mut self, row: &dyn Row) -> Vec<Cell> {
        let there = self.masked.iter().filter_map(|(column, how)| Some((*column, *how, row.value(*column)?)));
        there.map(|(column, how, value)| Cell { column, value: self.mask(&value, how) }).collect()
    }
}

fn main() {
    postern_plugin::run(Mask::default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, type_id: u32) -> Column {
        Column { name: name.into(), table: 0, type_id, is_binary: false }
    }

    #[test]
    fn what_is_named_is_masked_and_the_rest_is_not_even_looked_at() {
        let mut mask = Mask::default();
        mask.configure("{\"columns\": [\"email\", \"age\"], \"keep\": 4}").expect("it is valid");
        let wanted =
            mask.on_columns(&[column("id", 23), column("Email", 25), column("age", 23), column("email", 1043)]);
        assert_eq!(wanted, [1, 2, 3]);
        let row = vec![Some("1"), Some("jo@example.org"), Some("42"), None];
        let cells: Vec<_> = mask.on_row(&row).into_iter().map(|cell| (cell.column, cell.value)).collect();
        assert_eq!(cells, [(1, Some(b"*****.org".to_vec())), (2, None)]);
        assert_eq!(mask.on_columns(&[column("id", 23)]), [0; 0]);
    }

    #[test]
    fn what_is_too_short_to_keep_an_end_keeps_none() {
        let mask = Mask { keep: 4, ..Mask::default() };
        assert_eq!(mask.mask(b"1234", How::Asterisks), Some(MASK.into()));
        assert_eq!(mask.mask("12345é".as_bytes(), How::Asterisks), Some("*****345é".into()));
        assert!(Mask::default().configure("{}").is_err());
    }
}
