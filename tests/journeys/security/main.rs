//! What a hostile application in the pod, a hostile pod in the cluster and a hostile database try, and what becomes of it.
//!
//! README's section "Security" names these journeys. What such a peer or database says of the protocol is tried in
//! `postgres/malformed.rs`, `halves.rs` and `nonsense.rs`, and passwords in `tls/passwords.rs`.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod admin;
mod log;
mod secrets;
mod giants;
