//! `kubectl postern` on a real Kubernetes: whatever people get wrong is named in one sentence that contains what mends it.
//! One cluster serves those mistakes that hurt one namespace only; those that hurt the operator have one of their own.

#[path = "../operator/stage.rs"]
#[allow(dead_code, reason = "the other journeys of the operator use all of it")]
mod stage;
mod told;
mod wall;
mod injection;
mod secrets;
mod databases;
mod pools;
mod edits;
mod installation;
mod commands;
