//! The operator: a pod's journey, in the order of events.
//!
//! A pod is created, and the API server asks the [`webhook`]; the [`review`] [chooses](choose) its configuration and
//! [injects](inject) the sidecar. Beside that the configuration travels: it is [rendered](render), [delivered](deliver)
//! as a `ConfigMap`, taken up by the running [`sidecars`], and what they answer becomes its [`status`]; [`reconcile`] is that
//! journey read top to bottom, on the replica that holds the [`lease`]. Who wants to know where on these journeys something
//! stands asks [`kubectl`], which decides by the same functions.

pub mod names;
pub mod settings;

pub mod certificates;
pub mod webhook;
pub mod review;
pub mod choose;
pub mod inject;
pub mod offline;
pub mod render;
pub mod deliver;
pub mod sidecars;
pub mod status;
pub mod reconcile;

pub mod run;
pub mod lease;
pub mod caches;
pub mod events;
pub mod metrics;
pub mod probes;
mod places;
pub mod api;
mod fetch;
pub mod log;
pub mod probe;
pub mod kubectl;

#[cfg(test)]
mod fake;
