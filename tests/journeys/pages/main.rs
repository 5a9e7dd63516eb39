//! What the pages of the documentation say, held against the programs.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod shell;
mod programs;

mod by_hand;
mod commands;
mod configurations;
mod console;
mod heard;
mod lines;
mod links;
mod mistakes;
mod sentences;
mod settings;
