//! What a statement leaves behind: nothing that is noticed word by word goes unnoticed at the first look, and what stands before
//! it changes nothing. One that is [repeated](repeated()) until it is long is read once.

use gateway::postgres::effects::{deallocated, forgets, has_traces, pin};

/// A statement that is repeated gets as long as this; one of a peer may have 1 MiB.
const LONG: usize = 128 * 1024;

/// A statement that is repeated. libFuzzer tells when that takes long.
pub fn repeated(sql: &[u8]) {
    if !sql.is_empty() {
        let long = sql.repeat(LONG / sql.len());
        pin(&long, |_| true);
        deallocated(&long);
        forgets(&long);
    }
}

/// A statement.
pub fn run(sql: &[u8]) {
    let (strict, lenient) = (pin(sql, |_| false), pin(sql, |_| true));
    assert!(strict.is_some() || lenient.is_none(), "a setting that is reported pins, and one that is not does not");
    assert!(strict.is_none() || has_traces(sql), "{strict:?} without a trace");
    for before in ["select 1;", " /* a /* b */ */", "-- a\n", ";", "select 'it''s', $a$ ' $a$, \"a\"\"b\";"] {
        let sql = [before.as_bytes(), sql].concat();
        assert_eq!(pin(&sql, |_| false), strict, "behind {before}");
    }
    if let Some(name) = deallocated(sql) {
        assert!(!forgets(sql), "one and all");
        let quoted = name.iter().flat_map(|byte| std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
        let again = [b"deallocate \"".to_vec(), quoted.collect(), b"\";".to_vec()].concat();
        assert_eq!(deallocated(&again), Some(name));
    }
}
