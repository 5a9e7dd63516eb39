//! Bytes that are no message: an error, a closed session, and nobody else is disturbed.

use cast::frontend::{Message, claiming, message, query, transcript};
use cast::{Frontend, Postgres};

use crate::modes::{self, ALL};

/// What no peer may say within a session.
fn bad() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("length 0", claiming(b'Q', 0, b"")),
        ("length 3", claiming(b'Q', 3, b"")),
        ("length -1", claiming(b'Q', -1, b"")),
        ("the greatest length", claiming(b'Q', i32::MAX, b"")),
        ("a long Sync", claiming(b'S', 100_000, b"")),
        ("an unknown type", message(b'z', b"")),
        ("type 0", message(0, b"")),
        ("ReadyForQuery", message(b'Z', b"I")),
        ("DataRow-like rubbish", message(b'T', b"\0\0")),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ]
}

#[test]
fn what_is_no_message_ends_its_session_with_an_error_and_no_other() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    for mode in ALL {
        let address = gateway.address_of(mode);
        let mut other = Frontend::login(&address);
        for (name, bytes) in bad() {
            let mut peer = Frontend::login(&address);
            peer.send(&bytes);
            let said = peer.until_end();
            let said_why = said.last().and_then(Message::sqlstate).as_deref() == Some("08P01");
            // The database itself closes without a word where a length is impossible.
            let is_its_own = mode == "passthrough" && said.is_empty();
            assert!(said_why || is_its_own, "{mode}, {name}: {}", transcript(&said));
            assert!(other.ask("select 'undisturbed'").contains("undisturbed"), "{mode}, {name}");
        }
    }
    gateway.ends_well();
}

#[test]
fn what_is_no_message_within_an_answer_ends_its_session_only() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    for mode in ALL {
        let address = gateway.address_of(mode);
        for (name, bytes) in bad() {
            let mut peer = Frontend::login(&address);
            peer.send(&[query("select generate_series(1, 1000)"), bytes].concat());
            let said = peer.until_end();
            assert!(
                said.iter().all(|message| message.tag != b'E' || message.sqlstate().as_deref() == Some("08P01")),
                "{mode}, {name}: {}",
                transcript(&said)
            );
        }
        assert!(Frontend::login(&address).ask("select 'served'").contains("served"), "{mode}");
        gateway.expect_quiet(mode);
    }
    gateway.ends_well();
}
