//! Applications that were told the database's own address, and so go round the gateway.

use crds::{GatewayConfigSpec, HostPort, Network, SidecarEnv};

use super::hosts;

/// The databases that an application should not dial itself.
pub(super) struct Databases(Vec<HostPort>);

/// Bytes of a value that are looked at.
const MOST_READ: usize = 4096;

/// What may stand before an address in a text.
const BEFORE: [char; 10] = ['/', '@', '=', ',', ' ', '\t', '\n', '"', '\'', '('];
/// What may stand behind one.
const BEHIND: [char; 12] = [':', '/', '?', ',', ';', '&', ' ', '\t', '\n', '"', '\'', ')'];
/// What stands before a host that is written as a key's value.
const KEYS: [&str; 5] = ["host=", "hostaddr=", "server=", "addr=", "data source="];

// === impl Databases ===

impl Databases {
    /// Those of `spec` to which an application finds no way through the gateway by their own address.
    pub(super) fn of(spec: &GatewayConfigSpec) -> Self {
        let dialed = spec.proxies.iter().filter(|proxy| proxy.client.network != Network::Unix);
        let databases = dialed.flat_map(|proxy| &proxy.client.addresses).filter_map(|address| address.parse().ok());
        let is_bypass = |database: &HostPort| spec.sidecar.env != SidecarEnv::Hosts || !hosts::is_named(database);
        Self(databases.filter(is_bypass).collect())
    }

    /// The one that `value` names. It may hold a password, so it is never repeated.
    pub(super) fn named_in(&self, value: &str) -> Option<&HostPort> {
        let end = value.floor_char_boundary(MOST_READ);
        let value = value[..end].to_ascii_lowercase();
        self.0.iter().find(|database| names(&value, database))
    }
}

/// Whether `value`, in lower case, names `database`: as `host:port`, or as a host where a host is meant.
fn names(value: &str, database: &HostPort) -> bool {
    let shown = HostPort { host: database.host.to_ascii_lowercase(), port: database.port }.to_string();
    let (host, port) = shown.rsplit_once(':').unwrap_or((&shown, ""));
    if value.trim() == host {
        return true;
    }
    value.match_indices(host).any(|(start, _)| {
        let (before, behind) = (&value[..start], &value[start + host.len()..]);
        if let Some(rest) = behind.strip_prefix(':')
            && rest.starts_with(|c: char| c.is_ascii_digit())
        {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            return &rest[..end] == port && (before.is_empty() || before.ends_with(BEFORE));
        }
        let is_host = before.ends_with('@') || before.ends_with("//") || KEYS.iter().any(|key| before.ends_with(key));
        is_host && (behind.is_empty() || behind.starts_with(BEHIND))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_named(address: &str, value: &str) -> bool {
        Databases(vec![address.parse().expect("an address")]).named_in(value).is_some()
    }

    #[test]
    fn an_address_is_found_wherever_people_write_it() {
        for value in [
            "db",
            "DB:5432",
            "db:5432",
            "postgres://app:secret@db:5432/orders",
            "postgres://app:secret@db/orders?sslmode=disable",
            "postgresql://db",
            "jdbc:postgresql://db:5432/orders",
            "host=db port=5432 dbname=orders",
            "dbname=orders host=db",
            "Server=db;Port=5432",
            "other:1,db:5432",
            "[\"db:5432\"]",
        ] {
            assert!(is_named("db:5432", value), "{value}");
        }
        assert!(is_named("10.0.0.7:5432", "tcp://10.0.0.7:5432"));
        assert!(is_named("[fd00::7]:5432", "postgres://[fd00::7]:5432/x"));
    }

    #[test]
    fn what_only_looks_like_an_address_is_none() {
        for value in [
            "postgres://127.0.0.1:5432/db",
            "db:5433",
            "db:54321",
            "mydb:5432",
            "my-db:5432",
            "x.db:5432",
            "db.example:5432",
            "postgres://u@db.example/db",
            "dbname=db",
            "/var/lib/db",
            "db/migrations",
            "",
        ] {
            assert!(!is_named("db:5432", value), "{value}");
        }
    }
}
