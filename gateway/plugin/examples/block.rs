//! Refuses statements that somebody regrets afterwards: `DROP`, and `DELETE` without `WHERE`. The peer gets an error with
//! SQLSTATE 42501 and its session goes on, as if the database itself had refused.
//!
//! It guards against mistakes. Who wants to get round it can, in a function or a `DO` block, so against people there are
//! still only the database's own grants.
//!
//! ```yaml
//! config:
//!   commands: [DROP, TRUNCATE]      # statements that begin with it; default: DROP
//!   unbounded: [DELETE, UPDATE]     # and those without WHERE; default: DELETE
//!   hint: "Ask the owners of the database."
//! ```

use postern_plugin::sql::{Token, statements};
use postern_plugin::{Chunk, ErrorResponse, Interests, Plugin, StatementVerdict, host};
use serde::Deserialize;

/// `insufficient_privilege`
const CODE: &str = "42501";
/// Words before `UPDATE` that make it no statement: `FOR UPDATE`, `ON CONFLICT DO UPDATE`, `ON UPDATE CASCADE`.
const NO_UPDATE: [&str; 5] = ["FOR", "DO", "ON", "KEY", "OR"];

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Block {
    commands: Vec<String>,
    unbounded: Vec<Unbounded>,
    hint: Option<String>,
}

/// A statement that may forget its `WHERE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Unbounded {
    Delete,
    Update,
}

impl Default for Block {
    fn default() -> Self {
        Self { commands: vec!["DROP".into()], unbounded: vec![Unbounded::Delete], hint: None }
    }
}

impl Block {
    /// What of `text` is refused, if anything.
    fn refused(&self, text: &str) -> Option<String> {
        let statements = statements(text);
        let command = |statement: &Vec<Token<'_>>| {
            let command = self.commands.iter().find(|command| statement[0].is(command))?;
            Some(command.to_uppercase())
        };
        let unbounded = |statement: &Vec<Token<'_>>| {
            let kind = self.unbounded.iter().find(|kind| kind.is_in(statement))?;
            Some(format!("{} without WHERE", kind.word()))
        };
        statements.iter().find_map(|statement| command(statement).or_else(|| unbounded(statement)))
    }

    fn judge(&self, statement: &dyn Chunk) -> StatementVerdict {
        let Some(what) = self.refused(&statement.text()) else { return StatementVerdict::Pass };
        host::counter("refused", 1);
        let mut error = ErrorResponse::new(CODE, format!("{what} is refused here"));
        error.hint.clone_from(&self.hint);
        error.into()
    }
}

impl Unbounded {
    fn word(self) -> &'static str {
        match self {
            Unbounded::Delete => "DELETE",
            Unbounded::Update => "UPDATE",
        }
    }

    /// Whether `statement` has one without `WHERE`, also below others, as in a `WITH`.
    fn is_in(self, statement: &[Token<'_>]) -> bool {
        let begins = |at: &usize| match (self, &statement[*at..]) {
            (Unbounded::Delete, [delete, from, ..]) => delete.is("DELETE") && from.is("FROM"),
            (Unbounded::Update, [update, rest @ ..]) => {
                let is_other = *at > 0 && NO_UPDATE.iter().any(|word| statement[at - 1].is(word));
                update.is("UPDATE") && !is_other && has(rest, "SET")
            }
            _ => false,
        };
        (0..statement.len()).filter(begins).any(|at| !has(&statement[at + 1..], "WHERE"))
    }
}

/// Whether `tokens` have `word`, before the parenthesis in which they stand ends, and not in one of their own.
fn has(tokens: &[Token<'_>], word: &str) -> bool {
    let mut depth = 0_i32;
    for token in tokens {
        match token {
            Token::Mark('(') => depth += 1,
            Token::Mark(')') => depth -= 1,
            token if depth == 0 && token.is(word) => return true,
            _ => {}
        }
        if depth < 0 {
            return false;
        }
    }
    false
}

impl Plugin for Block {
    fn configure(&mut self, config: &str) -> Result<Interests, String> {
        *self = serde_json::from_str(config).map_err(|error| error.to_string())?;
        Ok(Interests::QUERY | Interests::PARSE)
    }

    fn query(&mut self, statement: &dyn Chunk) -> StatementVerdict {
        self.judge(statement)
    }

    fn parse(&mut self, _name: &str, statement: &dyn Chunk) -> StatementVerdict {
        self.judge(statement)
    }
}

fn main() {
    postern_plugin::run(Block::default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_regrets_is_refused() {
        let block = Block::default();
        for (text, what) in [
            ("drop table orders", "DROP"),
            ("select 1; /* all of it */ DROP schema public cascade", "DROP"),
            ("delete from orders", "DELETE without WHERE"),
            ("with gone as (delete from orders returning *) select * from gone where true", "DELETE without WHERE"),
            ("delete from a using (select * from b where b.x) b", "DELETE without WHERE"),
            ("explain analyze delete from orders", "DELETE without WHERE"),
        ] {
            assert_eq!(block.refused(text).as_deref(), Some(what), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_passes() {
        let block = Block { unbounded: vec![Unbounded::Delete, Unbounded::Update], ..Block::default() };
        for text in [
            "select 'drop table orders'",
            "alter table orders drop column note",
            "delete from orders where id = 1",
            "create table a (b int references c on delete cascade on update set null)",
            "select * from orders for update",
            "insert into a values (1) on conflict (b) do update set b = 2",
            "update orders set paid = true where id = $1",
            "with gone as (delete from a where b returning *) select * from gone",
            "",
        ] {
            assert_eq!(block.refused(text), None, "{text}");
        }
    }

    #[test]
    fn the_settings_say_what_is_refused() {
        let mut block = Block::default();
        let config = "{\"commands\": [\"truncate\"], \"unbounded\": [\"UPDATE\"], \"hint\": \"ask\"}";
        block.configure(config).expect("it is valid");
        assert_eq!(block.refused("TRUNCATE orders").as_deref(), Some("TRUNCATE"));
        assert_eq!(block.refused("update orders set paid = true").as_deref(), Some("UPDATE without WHERE"));
        assert_eq!(block.refused("drop table orders; delete from orders"), None);
        assert!(block.configure("{\"unbounded\": [\"SELECT\"]}").is_err());
    }
}
