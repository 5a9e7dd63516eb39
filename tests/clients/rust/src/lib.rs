//! What the programs in Rust share: each prints one line for each behaviour, its name, a tab, and what came of it.

use std::future::Future;

pub const LOOK: &str = "select current_setting('application_name') || ' ' || current_setting('work_mem')";
pub const SLEEPERS: &str =
    "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(600)%'";
pub const ROWS: &str = "select n, repeat('x', 100) from generate_series(0, 19999) n";
pub const TEXT: &str = "O'Grüße \"€\" \\ 😀 %s $1";
pub const TYPES: &str =
    "select $1::int, $2::text, $3::int, $4::timestamptz, $5::bytea, $6::jsonb, $7::int[], $8::text[]";

/// The URL of the database.
pub fn url() -> String {
    std::env::args().nth(1).unwrap_or_default()
}

/// A mebibyte with every byte in it.
pub fn bytes() -> Vec<u8> {
    (0..=255).cycle().take(1 << 20).collect()
}

/// A document with text, null and nesting.
pub fn document() -> serde_json::Value {
    serde_json::json!({"a": [1, null, "ü"], "b": {"c": true}})
}

/// Runs a behaviour; an error is an outcome as well.
pub async fn behaviour(name: &str, outcome: impl Future<Output = anyhow::Result<String>>) {
    let outcome = outcome.await.unwrap_or_else(|error| format!("{error:?}").replace('\n', " "));
    println!("{name}\t{outcome}");
}

/// "8 values the same", or the first place where they are not.
pub fn same(equal: &[bool]) -> String {
    match equal.iter().position(|equal| !equal) {
        Some(place) => format!("value {place} came back as another"),
        None => format!("{} values the same", equal.len()),
    }
}
