//! A real Prometheus scrapes the pods of a real cluster, and its alerts fire when something is broken, and clear when it is
//! whole again. A minute of the rules is three seconds here.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

#[path = "../operator/stage.rs"]
#[allow(dead_code, reason = "other journeys need all of the stage")]
mod stage;
#[path = "../monitoring/rules.rs"]
#[allow(dead_code, reason = "another journey records what they look at")]
mod rules;
mod watch;
mod database;
