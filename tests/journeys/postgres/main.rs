//! `protocol: postgres` against the real database: whoever speaks to it through us cannot tell, in any mode.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod modes;
mod programs;
mod refused;
mod scripts;
mod sharing;
mod startup;
mod crosstalk;
