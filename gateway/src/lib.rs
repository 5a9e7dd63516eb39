//! The gateway: a connection's journey, in the order in which it happens.
//!
//! A [`server`] accepts a peer and hands it to its [`proxy`], which gets a [`client`] for it from its [`pool`] and relays
//! bytes until either side leaves; then the client is closed and replaced. [`hooks`] see it all.

pub mod config;
pub mod server;
pub mod proxy;
pub mod pool;
pub mod client;
pub mod hooks;
pub mod net;
pub mod random;
pub mod metrics;
pub mod shutdown;
