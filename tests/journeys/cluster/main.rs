//! The cluster of the cast itself: what journeys rely on when they run on it.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod stage;
mod pods;
mod components;
mod removal;
