//! `gateway/RECIPES.md`: its configurations and its code, taken from the page, do what the page says. What is exchanged is where
//! things are here.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

#[path = "../clients/workshop.rs"]
#[expect(dead_code, reason = "the drivers' own programs are run by `clients`")]
mod workshop;
#[path = "../tls/stage.rs"]
#[expect(dead_code, reason = "the journeys of TLS need all of it")]
mod authority;

mod page;
mod program;
mod application;

mod applications;
mod others;
mod providers;
