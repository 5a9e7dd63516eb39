//! Logs a client in to the database.

use std::io;

use thiserror::Error;

use super::exchange::Memory;
use super::wire::{self, CancelKey, ErrorResponse, Version};

/// What is known of a backend that we have logged in to.
#[derive(Debug)]
pub struct Backend {
    /// What it reports, and what is prepared on it.
    pub memory: Memory,
    /// What cancelling asks for.
    pub key: Option<CancelKey>,
    /// The protocol's version.
    pub version: Version,
}

/// Why a login failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The database refused.
    #[error("{0}")]
    Refused(ErrorResponse),
    /// The database asks for what we cannot do.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The database does not speak the protocol.
    #[error(transparent)]
    Protocol(#[from] wire::Error),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
