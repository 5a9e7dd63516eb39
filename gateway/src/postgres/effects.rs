//! What a statement may leave behind in its session, told by its words. Pure.
//!
//! It errs on the side of "it may leave something". What functions do inside the database it cannot see.

use super::encoding;
use super::words::{Word, Words};

/// What a statement leaves behind in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// Nothing.
    Nothing,
    /// At most settings that follow the peer.
    Settings,
    /// What keeps the client with its peer.
    Kept(Pin),
}

/// Why a client stays with a peer. The words are labels of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// A setting that the database does not report, so that it cannot follow the peer.
    Set,
    /// `PREPARE`.
    Prepare,
    /// `LISTEN`.
    Listen,
    /// An advisory lock that outlasts its transaction.
    AdvisoryLock,
    /// A temporary table, view or sequence.
    Temporary,
    /// A cursor that outlasts its transaction.
    HoldCursor,
    /// `LOAD`.
    Load,
    /// More text than is looked at.
    Long,
}

/// Settings that the database reports and anybody may set: they follow their peer to the next client. Not among them are
/// `standard_conforming_strings`: what it says decides how statements are read here; and `default_transaction_read_only`:
/// a primary that steps down says it of itself, and its peers must be able to write to the next one.
pub const FOLLOWING: [&str; 6] =
    ["application_name", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "search_path"];

/// The one of them that the database reports from PostgreSQL 18 on only. Where a peer begins with it, only a client that
/// began with it as well is sure to have it.
pub const REPORTED_OF_LATE: &str = "search_path";

/// The functions that take a lock for the session.
const LOCKS: [&str; 4] =
    ["pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared"];

/// Which bytes begin a [trace](has_traces).
const BEGINNINGS: [bool; 256] = {
    let (mut begins, letters, mut at) = ([false; 256], b"splthaduSPLTHADU", 0);
    while at < letters.len() {
        begins[letters[at] as usize] = true;
        at += 1;
    }
    begins
};

/// What `sql` leaves behind. `is_reported` says whether the database reports a setting, so that it follows the peer.
pub fn leaves(sql: &[u8], is_reported: impl Fn(&str) -> bool) -> Leaves {
    match () {
        () if !has_traces(sql) => Leaves::Nothing,
        () => pin(sql, is_reported).map_or(Leaves::Settings, Leaves::Kept),
    }
}

/// Why `sql` keeps its client with its peer, read word by word: the first reason found.
pub fn pin(sql: &[u8], is_reported: impl Fn(&str) -> bool) -> Option<Pin> {
    let mut words = Words::new(sql);
    while let Some(first) = words.begin_statement() {
        if let Some(pin) = statement(&mut words, first, &is_reported) {
            return Some(pin);
        }
    }
    None
}

/// Whether `sql` has to be read, word by word, to know what it leaves behind: each word that leaves something contains one of
/// a few traces, and most statements contain none. Those leave nothing, however their literals are read.
pub fn has_traces(sql: &[u8]) -> bool {
    let mut rest = sql;
    while let [first, after @ ..] = rest {
        if BEGINNINGS[usize::from(*first)] && begins_with_a_trace(*first, rest) {
            return true;
        }
        rest = after;
    }
    false
}

fn begins_with_a_trace(first: u8, rest: &[u8]) -> bool {
    let second = rest.get(1).copied().unwrap_or_default();
    let trace: &[u8] = match (first | 0x20, second | 0x20) {
        (b's', b'e') => b"set",
        (b'p', b'r') => b"prepare",
        (b'l', b'i') => b"listen",
        (b'l', b'o') => b"load",
        (b't', b'e') => b"temp",
        (b'h', b'o') => b"hold",
        (b'a', b'd') => b"advisory",
        (b'd', b'i') => b"discard",
        (b'u', b'&') => b"u&\"",
        _ => return false,
    };
    rest.get(..trace.len()).is_some_and(|part| part.eq_ignore_ascii_case(trace))
}

/// Whether `sql` is nothing but `DISCARD ALL` or `DEALLOCATE [PREPARE] ALL`, which end all prepared statements.
pub fn forgets(sql: &[u8]) -> bool {
    if !matches!(sql.trim_ascii_start().first(), Some(b'd' | b'D')) {
        return false;
    }
    let mut words = Words::new(sql);
    let Some(first) = words.next().filter(|word| word.is("discard") || word.is("deallocate")) else { return false };
    let second = words.next().filter(|word| !word.is_keyword("prepare") || !first.is("deallocate"));
    second.or_else(|| words.next()).is_some_and(|word| word.is_keyword("all")) && is_over(&mut words)
}

/// The name in `DEALLOCATE [PREPARE] name`, where `sql` is nothing else; `ALL` is no name.
pub fn deallocated(sql: &[u8]) -> Option<Vec<u8>> {
    let mut words = Words::new(sql);
    words.next().filter(|word| word.is("deallocate"))?;
    let mut name = words.next()?;
    if name.is_keyword("prepare") {
        name = words.next()?;
    }
    if name.is_keyword("all") {
        return None;
    }
    let name = name.name()?;
    is_over(&mut words).then_some(name)
}

/// Whether nothing but marks of an end follows.
fn is_over(words: &mut Words<'_>) -> bool {
    while let Some(word) = words.next() {
        if !matches!(word, Word::Mark(b';')) {
            return false;
        }
    }
    true
}

fn statement(words: &mut Words<'_>, first: Word<'_>, is_reported: &impl Fn(&str) -> bool) -> Option<Pin> {
    let pin = match () {
        () if first.is("set") => set(words, is_reported),
        () if first.is("prepare") => (!is_two_phase(words)?).then_some(Pin::Prepare),
        () if first.is("listen") => Some(Pin::Listen),
        () if first.is("load") => Some(Pin::Load),
        () => None,
    };
    pin.or_else(|| rest(words, first, is_reported))
}

/// Whether a `PREPARE` is `PREPARE TRANSACTION 'name'`, and not one of a statement that is called so.
fn is_two_phase(words: &mut Words<'_>) -> Option<bool> {
    Some(words.next()?.is_keyword("transaction") && words.peek() == Some(Word::Literal))
}

/// `SET [SESSION | LOCAL] name`: what ends with the transaction leaves nothing, and what is reported follows the peer. Each
/// of these keywords may begin the name of a setting as well.
fn set(words: &mut Words<'_>, is_reported: &impl Fn(&str) -> bool) -> Option<Pin> {
    let mut name = words.next()?;
    if !is_qualified(words) {
        if ["local", "constraints", "transaction"].iter().any(|keyword| name.is_keyword(keyword)) {
            return None;
        }
        if name.is_keyword("session") {
            name = words.next()?;
        }
    }
    let name = match name {
        Word::Plain(b"") | Word::Escaped | Word::Mark(_) | Word::Literal => return Some(Pin::Set),
        _ if is_qualified(words) => return Some(Pin::Set),
        word if word.is_keyword("time") => "timezone".to_owned(),
        word if word.is_keyword("names") => "client_encoding".to_owned(),
        word => String::from_utf8_lossy(&word.name()?).into_owned(),
    };
    let is_following = follows(&name, is_reported) && (!is_encoding(&name) || sets_plain_encoding(words));
    (!is_following).then_some(Pin::Set)
}

/// Whether `[TO | =] value` follows, an encoding in which each word can be seen.
fn sets_plain_encoding(words: &Words<'_>) -> bool {
    let mut ahead = words.clone();
    if ahead.peek().is_some_and(|word| word == Word::Mark(b'=') || word.is_keyword("to")) {
        ahead.next();
    }
    match ahead.peek() {
        Some(Word::Plain(name)) => encoding::is_plain(name),
        _ => ahead.plain_literal().is_some_and(encoding::is_plain),
    }
}

fn is_encoding(setting: &str) -> bool {
    setting.eq_ignore_ascii_case("client_encoding")
}

/// Whether what was read last is the first part of a longer name.
fn is_qualified(words: &Words<'_>) -> bool {
    words.peek() == Some(Word::Mark(b'.'))
}

/// Whether a setting goes with its peer to the next client.
fn follows(name: &str, is_reported: &impl Fn(&str) -> bool) -> bool {
    FOLLOWING.iter().any(|known| known.eq_ignore_ascii_case(name)) && is_reported(name)
}

/// The rest of a statement, up to its semicolon.
fn rest(words: &mut Words<'_>, first: Word<'_>, is_reported: &impl Fn(&str) -> bool) -> Option<Pin> {
    let (declares, mut before) = (first.is("declare"), first);
    let is_hold = |before: Word<'_>, word: Word<'_>| before.is("with") && word.is("hold");
    loop {
        let word = words.next()?;
        if matches!(word, Word::Mark(b';')) {
            return None;
        }
        if !may_matter(word) {
            before = word;
            continue;
        }
        if word == Word::Escaped {
            // It may be any of those below.
            return Some(Pin::Set);
        }
        let makes = || ["create", "replace", "local", "global", "into"].iter().any(|maker| before.is(maker));
        if (word.is("temp") || word.is("temporary")) && makes() || word.is("pg_temp") {
            return Some(Pin::Temporary);
        }
        if declares && is_hold(before, word) {
            return Some(Pin::HoldCursor);
        }
        if LOCKS.iter().any(|lock| word.is(lock)) {
            return Some(Pin::AdvisoryLock);
        }
        if word.is("set_config") && !is_local_setting(words) && !is_following_setting(words, is_reported) {
            return Some(Pin::Set);
        }
        before = word;
    }
}

/// Whether it can be one of the words within a statement that leave something behind, by its first letter.
fn may_matter(word: Word<'_>) -> bool {
    let (Word::Plain(word) | Word::Quoted(word)) = word else { return word == Word::Escaped };
    matches!(word.first().map(u8::to_ascii_lowercase), Some(b't' | b'p' | b'h' | b's'))
}

/// Whether `set_config(name, value, is_local)` says that it ends with the transaction, in so many words.
fn is_local_setting(words: &Words<'_>) -> bool {
    let (mut ahead, mut depth, mut commas) = (words.clone(), 0_usize, 0_usize);
    let mut last = None;
    while let Some(word) = ahead.next() {
        match word {
            Word::Mark(b'(') => depth += 1,
            Word::Mark(b')') if depth <= 1 => return commas == 2 && last == Some(true),
            Word::Mark(b')') => depth -= 1,
            Word::Mark(b',') if depth == 1 => {
                commas += 1;
                last = None;
            }
            Word::Escaped => return false,
            // Whoever looks ahead of each of many would read the rest of the statement for each.
            word if word.is("set_config") => return false,
            word if commas == 2 && depth == 1 => last = Some(last.is_none() && word.is_keyword("true")),
            _ => {}
        }
    }
    false
}

/// Whether `set_config(name, ...)` names, by a plain literal, a setting that goes with its peer.
fn is_following_setting(words: &Words<'_>, is_reported: &impl Fn(&str) -> bool) -> bool {
    let mut ahead = words.clone();
    if ahead.next() != Some(Word::Mark(b'(')) {
        return false;
    }
    let Some(name) = ahead.plain_literal() else { return false };
    let Ok(name) = std::str::from_utf8(name) else { return false };
    ahead.next() == Some(Word::Mark(b','))
        && follows(name, is_reported)
        && (!is_encoding(name) || ahead.plain_literal().is_some_and(encoding::is_plain))
}

// === impl Pin ===

impl Pin {
    /// As a metric's label.
    pub fn reason(self) -> &'static str {
        match self {
            Pin::Set => "set",
            Pin::Prepare => "prepare",
            Pin::Listen => "listen",
            Pin::AdvisoryLock => "advisory_lock",
            Pin::Temporary => "temporary",
            Pin::HoldCursor => "hold_cursor",
            Pin::Load => "load",
            Pin::Long => "long",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pin(sql: &str) -> Option<Pin> {
        let reported = ["application_name", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings"];
        super::pin(sql.as_bytes(), |name| reported.iter().any(|known| known.eq_ignore_ascii_case(name)))
    }

    #[test]
    fn what_leaves_something_behind_pins() {
        for (sql, expected) in [
            ("set statement_timeout = 5", Pin::Set),
            ("begin; SET SESSION work_mem='1MB'; commit", Pin::Set),
            ("set my.timezone = 1", Pin::Set),
            ("set timezone.x = 1", Pin::Set),
            ("set local.x = 1", Pin::Set),
            ("set transaction.x = 1", Pin::Set),
            ("set constraints . x = 1", Pin::Set),
            ("set session.x = 1", Pin::Set),
            ("set session time.x = 1", Pin::Set),
            ("set time.x = 1", Pin::Set),
            ("set names.x = 1", Pin::Set),
            ("set \"local\".x = 1", Pin::Set),
            ("set \"names\" = 'utf8'", Pin::Set),
            ("set role bob", Pin::Set),
            ("set names 'SJIS'", Pin::Set),
            ("set names", Pin::Set),
            ("set client_encoding to default", Pin::Set),
            ("set client_encoding = 'Shift_JIS'", Pin::Set),
            ("select set_config('client_encoding', 'gbk', false)", Pin::Set),
            ("select set_config('client_encoding', $1, false)", Pin::Set),
            ("select set_config('client_encoding', utf8, false)", Pin::Set),
            ("set U&\"\\0077ork_mem\" = 1", Pin::Set),
            ("select U&\"\\0073et_config\"('a.b', 'c', false)", Pin::Set),
            ("select * from u&\"!0070g_temp\" uescape '!'", Pin::Set),
            ("set standard_conforming_strings = off", Pin::Set),
            ("set session authorization bob", Pin::Set),
            ("set session characteristics as transaction read only", Pin::Set),
            ("set search_path = x", Pin::Set),
            ("select set_config('a.b', 'c', false)", Pin::Set),
            ("select pg_catalog.set_config('a.b', $1, $2)", Pin::Set),
            ("select set_config('a.b', 'c', not true)", Pin::Set),
            ("select set_config('a.b', 'c', \"true\") from t", Pin::Set),
            ("select set_config('a.b', set_config('c.d', 'e', true), true)", Pin::Set),
            ("select set_config('search_path', 'x', false)", Pin::Set),
            ("select set_config('time' || 'zone', 'UTC', false)", Pin::Set),
            ("select set_config('TimeZone''x', 'UTC', false)", Pin::Set),
            ("select set_config($1, 'UTC', false)", Pin::Set),
            ("select set_config('TimeZone', set_config('a.b', 'UTC', false), false)", Pin::Set),
            ("prepare x as select 1", Pin::Prepare),
            ("prepare transaction as select 1", Pin::Prepare),
            ("prepare \"transaction\" as select 1", Pin::Prepare),
            ("/* a /* b */ c */ -- d\n listen x", Pin::Listen),
            ("select pg_advisory_lock(1)", Pin::AdvisoryLock),
            ("select \"pg_try_advisory_lock_shared\"(1, 2)", Pin::AdvisoryLock),
            ("create temp table t (i int)", Pin::Temporary),
            ("create or replace temporary view v as select 1", Pin::Temporary),
            ("select 1 into temp t", Pin::Temporary),
            ("select 1into temp t", Pin::Temporary),
            ("create table pg_temp.t (i int)", Pin::Temporary),
            ("declare c cursor with hold for select 1", Pin::HoldCursor),
            ("load 'auto_explain'", Pin::Load),
            ("select 'it''s'; listen x", Pin::Listen),
            ("select $a$ ; $b$ $a$; listen x", Pin::Listen),
            ("select E'\\'' ; listen x", Pin::Listen),
        ] {
            assert_eq!(pin(sql), Some(expected), "{sql}");
        }
    }

    #[test]
    fn what_ends_with_its_transaction_or_follows_its_peer_does_not_pin() {
        for sql in [
            "",
            " ; ; ",
            "select 1",
            "set application_name = 'x'",
            "set time zone 'UTC'",
            "SET NAMES 'utf8'",
            "set client_encoding to 'UTF8'",
            "set client_encoding = latin1",
            "SELECT set_config('client_encoding', 'ISO_8859-15', false)",
            "select u &\"temp\" from t",
            "select U&'\\0073et_config'",
            "set local work_mem = '1MB'",
            "set transaction isolation level serializable",
            "set constraints all deferred",
            "select set_config('a.b', 'c', true)",
            "SELECT set_config('TimeZone', 'UTC', false)",
            "select pg_catalog.set_config( 'datestyle' , $1, $2)",
            "select set_config('search_path', format('%s, x', $1), true), 2",
            "prepare transaction 'x'",
            "select 'listen x; set role bob'",
            "select 1 -- ; listen x",
            "select $$ ; listen x $$, $1",
            "select E'\\\\'' ; listen x'",
            "update t set temp = 1, listen = 2",
            "create table temp (temporary int)",
            "declare c cursor without hold for select 1",
            "select pg_advisory_xact_lock(1), pg_advisory_unlock(1)",
            "select \"SET\" from \"a\"\"b\"",
            "copy t from stdin",
        ] {
            assert_eq!(pin(sql), None, "{sql}");
        }
    }

    #[test]
    fn the_name_that_is_deallocated_is_found() {
        let name = |sql: &str| deallocated(sql.as_bytes()).map(|name| String::from_utf8(name).unwrap());
        assert_eq!(name("DEALLOCATE Abc;"), Some("abc".into()));
        assert_eq!(name("deallocate prepare \"A\"\"b\""), Some("A\"b".into()));
        assert_eq!(name("deallocate \"a\"\"\"\"b\""), Some("a\"\"b".into()));
        assert_eq!(name("deallocate \"all\""), Some("all".into()));
        assert_eq!(name("deallocate \"prepare\";"), Some("prepare".into()));
        for sql in ["deallocate all", "deallocate", "deallocate a; select 1", "select 1", ""] {
            assert_eq!(name(sql), None, "{sql}");
        }
    }

    #[test]
    fn the_end_of_all_statements_is_known_when_nothing_else_is_said() {
        for sql in ["discard all", " DEALLOCATE all;", "deallocate prepare ALL ; "] {
            assert!(forgets(sql.as_bytes()), "{sql}");
        }
        for sql in [
            "discard plans",
            "discard prepare all",
            "deallocate a",
            "deallocate all; select 1",
            "discard",
            "drop all",
            "deallocate \"all\"",
            "deallocate \"prepare\" all",
        ] {
            assert!(!forgets(sql.as_bytes()), "{sql}");
        }
    }

    #[test]
    fn a_statement_is_read_once_however_often_it_may_set_something() {
        for part in ["set_config ", "set_config(", "select set_config('TimeZone', ", "set_config, "] {
            let mut sql = part.repeat((1 << 20) / part.len());
            sql.push_str("('a', 'b', true)");
            // Read to its end for each of them, this would take minutes.
            pin(&sql);
        }
    }

    proptest! {
        #[test]
        fn no_word_that_matters_is_without_a_trace(
            before in "[a-z ;]{0,9}",
            word in prop::sample::select(vec![
                "set x = 1", "PREPARE x", "listen x", "Load 'x'", "create TEMP x", "create temporary x", "x pg_temp",
                "declare with hold", "x \"set_config\"(1)", "x Pg_Advisory_Lock", "x pg_advisory_lock_shared",
                "x pg_try_advisory_lock", "x pg_try_advisory_lock_shared", "x U&\"x\"",
            ]),
        ) {
            let sql = format!("{before};{word}");
            prop_assert!(has_traces(sql.as_bytes()));
            prop_assert!(super::pin(sql.as_bytes(), |_| false).is_some(), "{sql}");
        }

        #[test]
        fn any_text_is_looked_at_to_its_end(sql in "[a-z'\"$;/*\\- \\\\()\n,.]{0,80}") {
            super::pin(sql.as_bytes(), |_| true);
            deallocated(sql.as_bytes());
        }
    }
}
