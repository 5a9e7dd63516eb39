//! Why a dial led to no client, and what that says about the database.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::config::{HostPort, Target};
use crate::postgres::login;
use crate::postgres::wire::ErrorResponse;
use crate::{secrets, tls};

/// Why a dial led to no client; one for each address that was tried.
#[derive(Debug, Error)]
pub enum Error {
    /// The name has no address, or nobody answered for it.
    #[error("cannot resolve {0}: {1}")]
    Resolve(HostPort, #[source] io::Error),
    /// The address did not take the connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, #[source] io::Error),
    /// No address answered in time.
    #[error("no answer from {0} within {1:?}")]
    Timeout(String, Duration),
    /// There is no encrypted connection to the address.
    #[error("cannot encrypt the connection to {0}: {1}")]
    Tls(String, #[source] tls::Error),
    /// The database refused the login.
    #[error("{0} refused the login: {1}")]
    Refused(String, #[source] Box<ErrorResponse>),
    /// The server is not in the state that `targetSessionAttrs` asks for.
    #[error("{0} is no server that will do: {1:?} is asked for")]
    Unfit(String, Target),
    /// What the gateway logs in with cannot be had.
    #[error("cannot log in to {0}: {1}")]
    Secret(String, #[source] secrets::Error),
    /// The login failed before the database decided.
    #[error("cannot log in to {0}: {1}")]
    Login(String, #[source] Box<login::Error>),
    /// We ran out of something ourselves: it says nothing about the database.
    #[error("cannot open a connection to the database: {0}")]
    Local(#[source] io::Error),
}

/// What a failed dial says about the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is away, or takes no more: trying again heals it.
    Outage,
    /// It refused this login, or we cannot log in there; another route may do.
    OfTheRoute,
    /// Nothing: we ran out of something ourselves.
    Local,
}

/// `EMFILE` and `ENFILE`: the process, or the machine, has no file descriptor left.
const NO_DESCRIPTOR: [i32; 2] = [24, 23];

/// Whether `error` says that we ran out of file descriptors.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| NO_DESCRIPTOR.contains(&code))
}

/// Whether a refusal with this SQLSTATE is one of user, database or startup parameters: their names (class 42), values
/// (class 22), and those that only the server's own configuration sets. Whatever else the database says (too many clients,
/// starting up, shutting down) trying again heals.
fn is_of_the_route(code: &str) -> bool {
    let is_of_class = |class: &&str| code.starts_with(*class);
    ["28", "22", "42"].iter().any(is_of_class) || matches!(code, "3D000" | "0A000" | "08P01" | "55000" | "55P02")
}

// === impl Error ===

impl Error {
    pub(super) fn of(address: String, error: io::Error) -> Error {
        if is_out_of_descriptors(&error) || error.kind() == io::ErrorKind::AddrNotAvailable {
            return Error::Local(error);
        }
        Error::Connect(address, error)
    }

    /// What the failure says about the database.
    pub fn verdict(&self) -> Verdict {
        match self {
            Error::Local(_) => Verdict::Local,
            Error::Refused(_, said) if is_of_the_route(&said.code) => Verdict::OfTheRoute,
            Error::Login(_, error) if error.is_final() => Verdict::OfTheRoute,
            Error::Secret(..) => Verdict::OfTheRoute,
            _ => Verdict::Outage,
        }
    }

    /// Which of two failures is told, of which `self` came first: a refusal says what to mend, and a server that answered
    /// says more than one that did not.
    pub(super) fn or_more_telling(self, later: Error) -> Error {
        let rank = |error: &Error| match error {
            error if error.verdict() == Verdict::OfTheRoute => 2,
            Error::Refused(..) | Error::Unfit(..) => 1,
            _ => 0,
        };
        if rank(&self) > rank(&later) { self } else { later }
    }

    /// The failure as peers are told it: the database's own words, where it said any.
    pub fn response(&self) -> ErrorResponse {
        match self {
            Error::Refused(_, said) => ErrorResponse::clone(said),
            error => ErrorResponse::fatal("08006", error.to_string()),
        }
    }

    /// The failure as a metric's label.
    pub fn result(&self) -> &'static str {
        match self {
            Error::Resolve(..) => "unresolved",
            Error::Timeout(..) => "timeout",
            Error::Refused(..) => "refused_login",
            Error::Unfit(..) => "unfit",
            Error::Login(..) => "login",
            Error::Secret(..) => "secret",
            Error::Local(_) => "local",
            Error::Tls(..) => "tls",
            Error::Connect(_, error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "refused",
                io::ErrorKind::TimedOut => "timeout",
                io::ErrorKind::NotFound => "no_socket",
                io::ErrorKind::PermissionDenied => "denied",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
                _ => "error",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_peer_asks_for_wrongly_says_nothing_about_the_database() {
        let verdict = |code| Error::Refused("db:1".into(), Box::new(ErrorResponse::fatal(code, "no"))).verdict();
        // A user, a database, a name, a value, an option, a setting of the server's own.
        for code in ["28P01", "28000", "3D000", "42704", "42501", "42601", "42602", "22023", "22P02", "55P02", "55000"]
        {
            assert_eq!(verdict(code), Verdict::OfTheRoute, "{code}");
        }
        for code in ["57P03", "53300", "57P01", "08006", "XX000", ""] {
            assert_eq!(verdict(code), Verdict::Outage, "{code}");
        }
    }
}
