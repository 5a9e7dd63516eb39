//! The real database goes away, comes back, or hands over to another: who holds no connection goes on as if nothing had
//! happened, and nothing is ever done twice.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

#[path = "../postgres/modes.rs"]
mod modes;
mod load;
mod restarts;
mod told;
mod waits;
mod switchover;
mod targets;
