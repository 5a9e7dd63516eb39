//! What a console is asked: `PgBouncer`'s commands, read as it reads them. Pure.

use std::iter::Peekable;
use std::str::Chars;

use super::table::Show;
use crate::postgres::wire::ErrorResponse;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Tell something.
    Show(Show),
    /// Tell the value of a setting of the session, which drivers ask for.
    Setting(&'static str),
    /// Tell what there is.
    Help,
    /// Lend no client of these proxies any more.
    Pause(Proxies),
    /// Lend them again.
    Resume(Proxies),
    /// Replace the clients of these proxies.
    Reconnect(Proxies),
    /// Read the configuration again.
    Reload,
    /// End sessions.
    Kill(Victims, &'static str),
    /// What drivers say of themselves, and what has no effect here; with the words that answer it.
    Nothing(&'static str),
}

/// All proxies, or the one of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxies {
    /// Every one.
    All,
    /// One.
    Named(String),
}

/// Whose session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Victims {
    /// The session of this number.
    Session(u64),
    /// All that the proxy of this name has.
    Of(String),
}

/// A part of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A word or number; a name in double quotes is told as it is, all else in small letters.
    Word(String),
    /// A text in single quotes.
    Text(String),
    /// Anything else.
    Sign(char),
    /// `;`
    End,
}

/// What there is, for who asks for help and for who asks for something else.
pub(crate) const USAGE: &str = "\n\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION\
    \n\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS|LISTS|STATE|MEM\
    \n\tRELOAD\n\tPAUSE [<proxy>]\n\tRESUME [<proxy>]\n\tRECONNECT [<proxy>]\
    \n\tKILL <session>|<proxy>\n\tKILL_CLIENT <session>";

/// The settings that are the same in every session, as drivers ask for them.
pub(crate) const SETTINGS: [(&str, &str); 9] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("server_encoding", "UTF8"),
    ("server_version", concat!(env!("CARGO_PKG_VERSION"), "/postern")),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "UTC"),
];

/// What PgBouncer has and the gateway's configuration says, or nobody does.
const OTHERS: [(&str, &str); 5] = [
    ("suspend", "The gateway is not suspended: it takes a changed configuration over while it runs."),
    ("shutdown", "A sidecar ends with its pod; a process that was started by hand ends at SIGTERM."),
    ("wait_close", "RECONNECT replaces clients as they become free, and SHOW SERVERS tells which are left."),
    ("disable", "Remove the proxy from the configuration."),
    ("enable", "Add the proxy to the configuration."),
];

/// Reads the commands of `sql`, one after the other.
pub(crate) fn read(sql: &str) -> Result<Vec<Command>, ErrorResponse> {
    let mut tokens = Vec::new();
    let mut letters = sql.chars().peekable();
    while let Some(token) = next_token(&mut letters)? {
        tokens.push(token);
    }
    let commands = tokens.split(|token| *token == Token::End).filter(|tokens| !tokens.is_empty());
    commands.map(command).collect()
}

fn command(tokens: &[Token]) -> Result<Command, ErrorResponse> {
    let words: Vec<&str> = tokens.iter().map(Token::as_str).collect();
    match words[..] {
        ["show", what] => show(what),
        ["help"] => Ok(Command::Help),
        ["pause"] => Ok(Command::Pause(Proxies::All)),
        ["pause", name] => Ok(Command::Pause(Proxies::Named(name.to_owned()))),
        ["resume"] => Ok(Command::Resume(Proxies::All)),
        ["resume", name] => Ok(Command::Resume(Proxies::Named(name.to_owned()))),
        ["reconnect"] => Ok(Command::Reconnect(Proxies::All)),
        ["reconnect", name] => Ok(Command::Reconnect(Proxies::Named(name.to_owned()))),
        ["reload"] => Ok(Command::Reload),
        ["kill", whom] => Ok(match whom.parse() {
            Ok(number) => Command::Kill(Victims::Session(number), "KILL"),
            Err(_) => Command::Kill(Victims::Of(whom.to_owned()), "KILL"),
        }),
        ["kill_client", number] => {
            let number = number.parse().map_err(|_| no_such("KILL_CLIENT takes the number of a session"))?;
            Ok(Command::Kill(Victims::Session(number), "KILL_CLIENT"))
        }
        ["set", ..] => Ok(Command::Nothing("SET")),
        ["reset", ..] => Ok(Command::Nothing("RESET")),
        ["begin", ..] | ["start", "transaction", ..] => Ok(Command::Nothing("BEGIN")),
        ["commit", ..] | ["end"] => Ok(Command::Nothing("COMMIT")),
        ["rollback", ..] | ["abort"] => Ok(Command::Nothing("ROLLBACK")),
        ["discard", ..] => Ok(Command::Nothing("DISCARD ALL")),
        ["deallocate", ..] => Ok(Command::Nothing("DEALLOCATE")),
        _ => Err(refusal(&words)),
    }
}

fn show(what: &str) -> Result<Command, ErrorResponse> {
    if what == "help" {
        return Ok(Command::Help);
    }
    let setting = SETTINGS.iter().find(|(name, _)| name.eq_ignore_ascii_case(what));
    match (Show::named(what), setting, what) {
        (Some(show), ..) => Ok(Command::Show(show)),
        (None, Some((name, _)), _) => Ok(Command::Setting(name)),
        // How libpq asks a server of before version 14 whether it takes writes.
        (None, None, "transaction_read_only") => Ok(Command::Setting("default_transaction_read_only")),
        _ => Err(no_such(&format!("there is no SHOW {}", what.to_ascii_uppercase()))),
    }
}

fn refusal(words: &[&str]) -> ErrorResponse {
    let first = words.first().copied().unwrap_or_default();
    if let Some((name, instead)) = OTHERS.iter().find(|(name, _)| *name == first) {
        let sentence = format!("{} is not for this console", name.to_ascii_uppercase());
        return ErrorResponse::error("0A000", sentence).hint(*instead);
    }
    let said: String = words.join(" ").chars().take(MOST_REPEATED).collect();
    no_such(&format!("{said:?} is no command of this console; it answers no SQL"))
}

/// Of what is no command so much is repeated.
const MOST_REPEATED: usize = 60;

fn no_such(sentence: &str) -> ErrorResponse {
    ErrorResponse::error("42601", sentence).hint(format!("There are:{USAGE}"))
}

// === impl Proxies ===

impl Proxies {
    /// Whether the proxy called `name` is meant.
    pub(crate) fn are(&self, name: &str) -> bool {
        match self {
            Proxies::All => true,
            Proxies::Named(wanted) => wanted == name,
        }
    }
}

// === impl Token ===

impl Token {
    fn as_str(&self) -> &str {
        match self {
            Token::Word(word) | Token::Text(word) => word,
            Token::Sign(_) | Token::End => "",
        }
    }
}

fn next_token(letters: &mut Peekable<Chars<'_>>) -> Result<Option<Token>, ErrorResponse> {
    loop {
        let Some(letter) = letters.next() else { return Ok(None) };
        let token = match letter {
            ' ' | '\t' | '\n' | '\r' | '\x0c' | '\x0b' => continue,
            '-' if letters.peek() == Some(&'-') => {
                letters.find(|letter| *letter == '\n');
                continue;
            }
            '/' if letters.peek() == Some(&'*') => {
                letters.next();
                let mut before = ' ';
                letters.find(|letter| std::mem::replace(&mut before, *letter) == '*' && *letter == '/');
                continue;
            }
            ';' => Token::End,
            '"' => Token::Word(quoted(letters, '"')?),
            '\'' => Token::Text(quoted(letters, '\'')?),
            letter if is_of_a_word(letter) => {
                let mut word = String::from(letter.to_ascii_lowercase());
                while let Some(letter) = letters.next_if(|letter| is_of_a_word(*letter)) {
                    word.push(letter.to_ascii_lowercase());
                }
                Token::Word(word)
            }
            letter => Token::Sign(letter),
        };
        return Ok(Some(token));
    }
}

/// Names of proxies have these, so that they need no quotes.
fn is_of_a_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.')
}

/// What lies between two quotes, in which two of them are one.
fn quoted(letters: &mut Peekable<Chars<'_>>, quote: char) -> Result<String, ErrorResponse> {
    let mut word = String::new();
    loop {
        match letters.next() {
            Some(letter) if letter != quote => word.push(letter),
            Some(_) if letters.peek() == Some(&quote) => word.extend(letters.next()),
            Some(_) => return Ok(word),
            None => return Err(no_such("a quote is not closed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(sql: &str) -> Command {
        let [command] = <[_; 1]>::try_from(read(sql).expect("a command")).expect("one command");
        command
    }

    fn code(sql: &str) -> (String, String) {
        let refused = read(sql).expect_err("it is refused");
        (refused.code.into(), refused.hint.unwrap_or_default().into())
    }

    #[test]
    fn commands_are_read_as_pgbouncer_reads_them() {
        for sql in ["SHOW POOLS", " show pools ;", "/* who */ Show -- what\n Pools;;", "show \"pools\""] {
            assert_eq!(one(sql), Command::Show(Show::Pools), "{sql}");
        }
        let orders = || Proxies::Named("orders-ro".to_owned());
        assert_eq!(one("PAUSE"), Command::Pause(Proxies::All));
        assert_eq!(one("pause Orders-RO;"), Command::Pause(orders()));
        assert_eq!(one("RESUME \"orders-ro\""), Command::Resume(orders()));
        assert_eq!(one("RECONNECT 'orders-ro'"), Command::Reconnect(orders()));
        assert_eq!(one("KILL 17"), Command::Kill(Victims::Session(17), "KILL"));
        assert_eq!(one("KILL_CLIENT 17"), Command::Kill(Victims::Session(17), "KILL_CLIENT"));
        assert_eq!(one("kill orders"), Command::Kill(Victims::Of("orders".to_owned()), "KILL"));
        assert_eq!(one("show help"), Command::Help);
    }

    #[test]
    fn what_drivers_say_of_themselves_does_no_harm() {
        for (sql, tag) in [
            ("SET extra_float_digits = 3", "SET"),
            ("SET application_name = 'a;b'", "SET"),
            ("BEGIN READ ONLY", "BEGIN"),
            ("ROLLBACK", "ROLLBACK"),
            ("DISCARD ALL", "DISCARD ALL"),
        ] {
            assert_eq!(one(sql), Command::Nothing(tag), "{sql}");
        }
        assert_eq!(one("SHOW datestyle"), Command::Setting("DateStyle"));
        assert_eq!(one("SHOW transaction_read_only"), Command::Setting("default_transaction_read_only"));
        assert_eq!(read(" ; ;; -- nothing"), Ok(Vec::new()));
        assert_eq!(read("show stats; show pools").map(|commands| commands.len()), Ok(2));
    }

    #[test]
    fn whatever_else_is_said_is_answered_with_what_there_is() {
        for sql in
            ["select 1", "SHOW", "SHOW nothing", "SHOW POOLS now", "KILL", "KILL_CLIENT orders", "pause a b", "'", "="]
        {
            let (code, hint) = code(sql);
            assert_eq!(code, "42601", "{sql}");
            assert!(hint.contains("SHOW HELP|CONFIG") && hint.contains("PAUSE"), "{hint}");
        }
        assert_eq!(code("SHUTDOWN").0, "0A000");
        let long = format!("select {}", "x".repeat(100_000));
        assert!(read(&long).expect_err("no command").message.len() < 200);
    }
}
