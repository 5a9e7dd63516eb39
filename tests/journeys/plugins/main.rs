//! Plugins in a real gateway between real peers and a real PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod examples;
mod javascript;
