//! `protocol: postgres` against the real database: whoever speaks to it through us cannot tell, in any mode.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod modes;
mod fake;
mod programs;
mod startup;
mod scripts;
mod sharing;
mod editions;
mod replication;
mod cancels;
mod halves;
mod refused;
mod malformed;
mod nonsense;
mod crosstalk;
