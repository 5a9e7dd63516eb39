//! HAProxy's file: one server as it is, or several of which it asks each whether it takes writes.

use std::fmt::Write as _;

use cast::frontend::{V3_0, message, query, startup};
use cast::wire::Address;

use crate::kind::Kind;

/// ReadyForQuery, outside of a transaction.
const READY: &str = "5a0000000549";

/// DataRow with the one value `f`: this server is not in recovery.
const PRIMARY: &str = "440000000b00010000000166";

/// How its servers are looked at: as the template of Patroni has it, and as fast as is reasonable.
const LOOKS: &str = "inter 3s fall 3 rise 2";
const FAST_LOOKS: &str = "inter 500ms fall 1 rise 1";

/// The file for the databases at these addresses.
pub(super) fn haproxy(kind: Kind, peers: u32, listen: &Address, databases: &[Address]) -> String {
    let mut text = format!(
        "global\n    maxconn {peers}\n\
         defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n\
         listen postgres\n    bind {listen}\n"
    );
    if databases.len() > 1 {
        let looks = if kind == Kind::HaproxyTuned { FAST_LOOKS } else { LOOKS };
        text.push_str(&primary_only(looks));
    }
    for (number, database) in databases.iter().enumerate() {
        let check = if databases.len() > 1 { " check" } else { "" };
        let _ = writeln!(text, "    server postgres{number} {database}{check}");
    }
    text
}

/// Only the primary is up: each server is asked in PostgreSQL's own words, and a server that is down loses its sessions.
fn primary_only(looks: &str) -> String {
    let hello = hex(&startup(V3_0, &[("user", "postgres"), ("database", "postgres")]));
    let question = hex(&query("select pg_is_in_recovery()"));
    let farewell = hex(&message(b'X', &[]));
    format!(
        "    option redispatch\n    timeout check 2s\n    option tcp-check\n    tcp-check connect\n    \
         tcp-check send-binary {hello}\n    tcp-check expect binary {READY}\n    \
         tcp-check send-binary {question}\n    tcp-check expect binary {PRIMARY}\n    \
         tcp-check send-binary {farewell}\n    default-server {looks} on-marked-down shutdown-sessions\n"
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_a_query_in_the_protocols_form() {
        assert_eq!(hex(&query("select")), "510000000b73656c65637400");
    }

    #[test]
    fn only_one_of_several_servers_is_looked_for() {
        let at = |port: u16| Address::Tcp(([127, 0, 0, 1], port).into());
        let alone = haproxy(Kind::Haproxy, 9, &at(1), &[at(2)]);
        assert!(!alone.contains("check"), "{alone}");
        let pair = haproxy(Kind::HaproxyTuned, 9, &at(1), &[at(2), at(3)]);
        assert!(pair.contains(FAST_LOOKS) && pair.contains("server postgres1 127.0.0.1:3 check\n"), "{pair}");
    }
}
