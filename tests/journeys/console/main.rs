//! The console, as PostgreSQL's people and PgBouncer's tools use it: a real psql, a real exporter, a real database.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod stage;
mod shows;
mod orders;
mod pauses;
mod entry;
mod exporter;
