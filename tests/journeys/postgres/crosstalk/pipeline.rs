//! What one peer asks in one go: exchanges of every kind, each with tokens that must come back where they belong.

use cast::Random;
use cast::frontend::{bind, close, copy_data, copy_done, describe, execute, parse, query, sync};

/// Statements that all peers prepare, so that they share them.
pub(super) const STATEMENTS: usize = 8;
/// What tokens begin with; as many hexadecimal digits as `DIGITS` says follow.
pub(super) const MARK: &[u8] = b"token-";
pub(super) const DIGITS: usize = 16;

/// Messages, and what must be answered.
#[derive(Default)]
pub(super) struct Pipeline {
    pub(super) bytes: Vec<u8>,
    pub(super) answers: Vec<Answer>,
}

/// What comes up to one ReadyForQuery.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// Tokens that must be in it, unless it is an error.
    pub(super) tokens: Vec<String>,
    /// Tokens that may be.
    pub(super) others: Vec<String>,
    /// The SQLSTATE that it must have.
    pub(super) error: Option<&'static str>,
    /// The statement that is prepared for it.
    pub(super) prepares: Option<usize>,
    /// Whether an exchange ends with it.
    pub(super) is_last: bool,
}

/// What the peer has left in its session.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The statements that it has prepared.
    pub(super) statements: [bool; STATEMENTS],
    /// Its values of `application_name`, the last one now.
    pub(super) names: Vec<String>,
}

pub(super) fn token(random: &mut Random) -> String {
    format!("token-{:0DIGITS$x}", random.next_word())
}

// === impl Pipeline ===

impl Pipeline {
    /// So many exchanges.
    pub(super) fn of(count: u64, random: &mut Random, left: &mut Left) -> Pipeline {
        let mut pipeline = Pipeline::default();
        for _ in 0..count {
            pipeline.one_more(random, left);
            pipeline.answers.last_mut().expect("each exchange has an answer").is_last = true;
        }
        pipeline
    }

    fn one_more(&mut self, random: &mut Random, left: &mut Left) {
        let (token, other) = (token(random), token(random));
        let selects = format!("select '{token}'");
        match random.below(64) {
            0 => self.too_slow(&token),
            1 => self.asks(&format!("{selects}, repeat('y', 500) from generate_series(1, 20)"), &[&token]),
            2..10 => self.asks(&selects, &[&token]),
            10..20 => self.answered(&[unnamed(&token), sync()], &[&token]),
            20..40 => self.prepared(&token, random, left),
            40..44 => {
                self.asks("begin", &[]);
                self.asks(&selects, &[&token]);
                self.asks("commit", &[]);
            }
            44..47 => {
                self.asks("select 1/0", &[]);
                self.answers.last_mut().expect("it was just asked").error = Some("22012");
                self.answered(&[unnamed(&token), sync()], &[&token]);
            }
            47..51 => self.answered(&[unnamed(&token), unnamed(&other), sync()], &[&token, &other]),
            51..54 => self.asks(&format!("copy ({selects}) to stdout"), &[&token]),
            54..56 => {
                let row = copy_data(&format!("{token}\t{token}\n"));
                self.answered(&[query("copy crosstalk from stdin"), row, copy_done()], &[]);
                // An error names the row at which it came.
                self.answers.last_mut().expect("it was just asked").others = vec![token];
            }
            56..60 => {
                let rows = parse("", "select $1::text || '.' || n from generate_series(1, 5) n");
                let asked =
                    [rows, bind("p", "", &[&token]), describe(b'P', "p"), execute("p", 2), execute("p", 0), sync()];
                self.answered(&asked, &[&token]);
            }
            60 => {
                left.names.push(token.clone());
                self.asks(&format!("set application_name = '{token}'"), &[]);
                self.knows(left);
            }
            _ => {
                let name: Vec<_> = left.names.last().map(String::as_str).into_iter().collect();
                self.asks("show application_name", &name);
                self.knows(left);
            }
        }
    }

    fn asks(&mut self, sql: &str, tokens: &[&str]) {
        self.answered(&[query(sql)], tokens);
    }

    fn answered(&mut self, asked: &[Vec<u8>], tokens: &[&str]) {
        self.bytes.extend(asked.concat());
        let tokens = tokens.iter().map(|&token| token.to_owned()).collect();
        self.answers.push(Answer { tokens, ..Answer::default() });
    }

    /// The last answer may name the peer's session.
    fn knows(&mut self, left: &Left) {
        let answer = self.answers.last_mut().expect("it was just asked");
        answer.others.clone_from(&left.names);
    }

    fn prepared(&mut self, token: &str, random: &mut Random, left: &mut Left) {
        let number = usize::try_from(random.below(STATEMENTS as u64)).expect("it is small");
        let name = format!("s{number}");
        let is_new = !std::mem::replace(&mut left.statements[number], true);
        let prepare = [close(b'S', &name), parse(&name, &format!("select $1::text as s{number}"))].concat();
        let prepare = if is_new { prepare } else { Vec::new() };
        self.answered(&[prepare, bind("", &name, &[token]), execute("", 0), sync()], &[token]);
        self.answers.last_mut().expect("it was just asked").prepares = is_new.then_some(number);
    }

    /// A query that the database ends itself.
    fn too_slow(&mut self, token: &str) {
        self.asks("begin", &[]);
        self.asks("set local statement_timeout = '5ms'", &[]);
        self.asks(&format!("select '{token}', pg_sleep(0.1)"), &[]);
        let answer = self.answers.last_mut().expect("it was just asked");
        // Without its limit, which a cancel may have hit, it ends well.
        (answer.error, answer.others) = (Some("57014"), vec![token.to_owned()]);
        self.asks("rollback", &[]);
    }
}

fn unnamed(token: &str) -> Vec<u8> {
    [parse("", "select $1::text"), bind("", "", &[token]), execute("", 0)].concat()
}
