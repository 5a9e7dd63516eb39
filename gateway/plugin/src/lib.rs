//! What a plugin of the gateway is written with.
//!
//! A plugin is a program whose `main` hands a [`Plugin`] to [`run`]. The gateway starts it once for each session, asks by
//! [`configure`](Plugin::configure) what it wants to see, and then calls it for that, in the order in which things happen.
//! It sees the [session](Session), [bytes](Chunk) and, where the gateway understands PostgreSQL, statements, errors and
//! [rows](Row); it answers with what shall become of them, and has a log, counters and clocks in [`host`]. There is nothing
//! else: no files, no network, no environment, and no other session.
//!
//! ```
//! use postern_plugin::{Chunk, Interests, Plugin, StatementVerdict, host};
//!
//! struct Hello;
//!
//! impl Plugin for Hello {
//!     fn configure(&mut self, _config: &str) -> Result<Interests, String> {
//!         Ok(Interests::QUERY)
//!     }
//!
//!     fn query(&mut self, statement: &dyn Chunk) -> StatementVerdict {
//!         host::log(host::Level::Info, &format!("somebody asks: {}", statement.text()));
//!         StatementVerdict::Pass
//!     }
//! }
//!
//! fn main() {
//!     postern_plugin::run(Hello);
//! }
//! ```
//!
//! `cargo plugin` makes a component of it. What of a plugin decides is plain Rust, and tried by plain tests: bytes are a
//! [`Chunk`] and a list of values is a [`Row`] there.

mod plugin;
mod bindings;
mod refusal;
pub mod sql;

pub use bindings::postern::plugin::types::{
    Cell, Column, ErrorResponse, Interests, Introduction, Protocol, Session, StartupVerdict, StatementVerdict, Verdict,
};
pub use plugin::{Chunk, Plugin, Row, run};

/// What the gateway offers to a plugin; outside of a gateway, in tests, it is not there.
pub mod host {
    pub use crate::bindings::postern::plugin::host::{Level, counter, histogram, log, monotonic_clock, wall_clock};
}
