//! The cast: everything that a journey needs on stage, as builders that read as English.
//!
//! A [`Gateway`] runs between a peer and a database. The databases are real ([`Postgres`], [`MariaDb`], [`Redis`],
//! [`Dns`]) or scripted ([`Scripted`], which moves bytes that can be checked one by one); the peers are the databases'
//! own programs or a [`Peer`]. A [`Namespace`] is a network of its own, in which packets get lost on purpose. A [`Cluster`]
//! is a real Kubernetes, in which gateways and databases run in pods. A [`Prometheus`] watches either.
//!
//! Whatever is started belongs to the value that started it: dropping it ends the process by its id and removes its
//! folder, also when a test panics, and the kernel does so when the test's own process dies.
#![allow(clippy::missing_panics_doc, reason = "the cast panics when the stage is broken; that is a failed test")]

pub mod workspace;
pub mod pages;
pub mod install;
pub mod time;
pub mod folder;
pub mod disk;
pub mod process;
pub mod loopback;
pub mod random;
pub mod wire;
pub mod http;
pub mod peer;
pub mod frontend;
pub mod backend;
pub mod scripted;
pub mod namespace;
pub mod editions;
pub mod postgres;
pub mod mariadb;
pub mod redis;
pub mod dns;
pub mod manifest;
pub mod metrics;
pub mod gateway;
pub mod browser;
pub mod pgbouncer;
pub mod supply;
pub mod images;
pub mod cluster;
pub mod prometheus;

pub use browser::Browser;
pub use cluster::Cluster;
pub use disk::Disk;
pub use dns::Dns;
pub use editions::Edition;
pub use folder::Folder;
pub use frontend::Frontend;
pub use gateway::Gateway;
pub use manifest::{Manifest, Proxy};
pub use mariadb::MariaDb;
pub use namespace::Namespace;
pub use pages::Page;
pub use peer::Peer;
pub use postgres::Postgres;
pub use process::Process;
pub use prometheus::Prometheus;
pub use random::Random;
pub use redis::Redis;
pub use scripted::Scripted;
pub use time::{Stopwatch, eventually, within};
