//! The gateway: a connection's journey, in the order in which it happens.
//!
//! A [`server`] accepts a peer and hands it to its [`proxy`], which gets a [`client`] for it from its [`pool`] and relays
//! bytes until either side leaves; then the client is closed and replaced, or, where the gateway itself has logged in to a
//! [`postgres`], reset and lent again. [`hooks`] see it all. A [`worker`] is the
//! thread on which this happens, and the [`gateway`](mod@gateway) is all of them. A [`run`](mod@run) is the process around it, from the file
//! that it follows to its end.

pub mod run;
pub mod config;
pub mod gateway;
pub mod worker;
pub mod server;
pub mod proxy;
pub mod pool;
pub mod route;
mod roll;
pub mod client;
pub mod postgres;
pub mod hooks;
pub mod net;
pub mod tls;
pub mod secrets;
pub mod clock;
pub mod random;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod view;
pub mod admin;
pub mod console;
pub mod wait;
pub mod shutdown;
