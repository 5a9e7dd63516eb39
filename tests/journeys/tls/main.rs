//! `protocol: postgres` where peers prove passwords, and where one leg or both are encrypted.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod stage;
mod passwords;
mod legs;
mod binding;
mod rotation;
mod direct;
