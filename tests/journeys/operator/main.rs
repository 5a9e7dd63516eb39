//! The operator, the resource and the chart, on a real Kubernetes: the user's three moves, and everything that can get
//! between them. One cluster serves all of these journeys; those that break it have one of their own.

mod stage;
mod injector;
mod starts;
mod kinds;
mod edits;
mod secrets;
mod removal;
mod denials;
mod company;
mod converges;
mod account;
mod node;
mod outages;
mod upgrade;
