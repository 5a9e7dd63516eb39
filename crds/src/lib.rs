//! The `GatewayConfig` resource: what people write, in files and in clusters alike.
//!
//! A document's journey: it is parsed, its [`shape`] is compared with the schema, it becomes a [`GatewayConfig`], the
//! rules that span several fields are [checked](validate()), and the defaults that depend on the mode are
//! [resolved](resolve()). Each section of the resource has a file of its own, named like the module that serves it.

#![allow(unreachable_pub, reason = "KubeSchema repeats each struct inside a function, where its `pub` reaches nobody")]

pub mod shape;
pub mod validate;
pub mod resolve;

mod spec;
mod server;
mod proxy;
mod pool;
mod client;
mod hook;
mod log;
mod admin;
mod sidecar;
mod status;

mod address;
mod duration;
mod problem;

pub mod schema;
pub mod table;

pub use address::{HostPort, Listen, check_socket_path};
pub use admin::Admin;
pub use client::{
    Client, ClientAuth, ClientTls, ClientTlsMode, MAX_BACKOFF, MAX_BACKOFF_MULTIPLIER, MAX_RETRIES, TargetSessionAttrs,
    TlsNegotiation,
};
pub use duration::{Duration, DurationError};
pub use hook::{BUILT_IN_HOOKS, Hook, OnError};
pub use log::{Log, LogFormat, LogLevel};
pub use pool::{Pool, PoolMode};
pub use problem::Problem;
pub use proxy::{Protocol, Proxy};
pub use resolve::resolve;
pub use server::{Network, Server, ServerAuth, ServerAuthMode, ServerTls, ServerTlsMode};
pub use sidecar::{Resources, Sidecar, SidecarEnv};
pub use spec::{GatewayConfig, GatewayConfigSpec, Readiness};
pub use status::{Connections, FailingPod, GatewayConfigStatus, Pods};
pub use validate::validate;

/// The API group and version of every document.
pub const API_VERSION: &str = "postern.dev/v1alpha1";

/// The kind of every document.
pub const KIND: &str = "GatewayConfig";
