//! What comes before a session: versions, options, and requests for encryption.

use std::time::Duration;

use cast::frontend::{Message, V3_0, V3_2, gss_request, query, ssl_request, startup, transcript};
use cast::time::pause;
use cast::wire::Address;
use cast::{Frontend, Postgres};

use crate::modes::{self, ALL, MANAGED};

const WHO: [(&str, &str); 2] = [("user", "postgres"), ("database", "postgres")];

fn negotiations(welcome: &[Message]) -> Vec<&[u8]> {
    welcome.iter().filter(|message| message.tag == b'v').map(|message| &message.body[..]).collect()
}

#[test]
fn a_session_begins_as_without_us() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    let settings = [("options", "-c work_mem=2MB"), ("application_name", "app"), ("DateStyle", "German, DMY")];
    let long = format!("-c some.setting={}", "x".repeat(6_000));
    let long = [("options", long.as_str()), ("some.other", &long[..2_000])];
    for more in [&[][..], &settings[..], &long[..]] {
        let parameters = [&WHO[..], more].concat();
        let welcomed = |address: &Address| {
            let (mut peer, welcome) = Frontend::login_as(address, V3_0, &parameters);
            let shown = "show work_mem; show application_name; select date '2026-01-02', \
                         current_setting('some.setting', true), current_setting('some.other', true)";
            transcript(&welcome) + &peer.ask(shown)
        };
        let direct = welcomed(&postgres.address());
        for mode in ALL {
            assert_eq!(welcomed(&gateway.address_of(mode)), direct, "{mode}");
        }
    }
    gateway.ends_well();
}

#[test]
fn a_peer_need_not_wait_to_be_welcomed_before_it_asks() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    let long = format!("select length('{}')", "x".repeat(20_000));
    let said = [startup(V3_0, &WHO), query("select 'first'"), query(&long), query("begin; select 'last'; commit")];
    let whole = said.concat();
    // In one piece, cut within the startup packet, behind it, and within the first query.
    let begin = said[0].len();
    for cut in [whole.len(), 20, begin, begin + 3] {
        let heard = |address: &Address| {
            let mut peer = Frontend::dial(address);
            let (first, rest) = whole.split_at(cut);
            peer.send(first);
            pause(Duration::from_millis(if rest.is_empty() { 0 } else { 20 }));
            peer.send(rest);
            transcript(&peer.until_ready(4))
        };
        let direct = heard(&postgres.address());
        assert!(direct.contains("first") && direct.contains("20000") && direct.contains("last"), "{direct}");
        for mode in ALL {
            assert_eq!(heard(&gateway.address_of(mode)), direct, "{mode}, cut at {cut}");
        }
    }
    gateway.ends_well();
}

#[test]
fn a_newer_protocol_is_negotiated_exactly_once() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    let strange = [&WHO[..], &[("_pq_.strange", "1")]].concat();
    let unknown = [&V3_2.to_be_bytes()[..], &1_u32.to_be_bytes(), b"_pq_.strange\0"].concat();
    for mode in MANAGED {
        let address = gateway.address_of(mode);
        let (mut peer, welcome) = Frontend::login_as(&address, V3_2, &WHO);
        assert!(negotiations(&welcome).is_empty(), "{mode} speaks 3.2: {}", transcript(&welcome));
        assert!(peer.ask("select 'served'").contains("served"));
        for version in [V3_2, 0x3_270f] {
            let (mut peer, welcome) = Frontend::login_as(&address, version, &strange);
            assert_eq!(negotiations(&welcome), [&unknown[..]], "{mode}");
            assert!(peer.ask("select 'served'").contains("served"));
        }
    }
    // Without a login of ours the database itself negotiates.
    let asked = |address: &Address| transcript(&Frontend::login_as(address, 0x3_270f, &strange).1);
    assert_eq!(asked(&gateway.address_of("passthrough")), asked(&postgres.address()));
    gateway.ends_well();
}

#[test]
fn requests_for_encryption_are_refused_in_either_order_and_the_session_begins() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    for mode in ALL {
        for requests in [[ssl_request(), gss_request()], [gss_request(), ssl_request()]] {
            let mut peer = Frontend::dial(&gateway.address_of(mode));
            for request in requests {
                peer.send(&request);
                assert_eq!(peer.raw(1), b"N", "{mode}");
            }
            peer.send(&startup(V3_0, &WHO));
            let welcome = peer.until_ready(1);
            assert_eq!(welcome.last().map(|message| message.tag), Some(b'Z'), "{mode}: {}", transcript(&welcome));
        }
    }
    gateway.ends_well();
}

#[test]
fn bytes_behind_a_request_for_encryption_begin_no_session() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    for mode in ALL {
        let address = gateway.address_of(mode);
        let mut peer = Frontend::dial(&address);
        peer.send(&[ssl_request(), startup(V3_0, &WHO), query("select 'injected'")].concat());
        let answer = peer.raw(4096);
        assert!(answer.is_empty(), "{mode}: {}", answer.escape_ascii());
        assert!(Frontend::login(&address).ask("select 'served'").contains("served"));
    }
    gateway.ends_well();
}

#[test]
fn who_is_unknown_hears_why() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    let refused = |mode: &str, user: &str, database: &str| {
        let asked = [("user", user), ("database", database)];
        let (mut peer, said) = Frontend::login_as(&gateway.address_of(mode), V3_0, &asked);
        assert!(peer.message().is_none(), "{mode}: the connection ends");
        said.last().and_then(Message::sqlstate).unwrap_or_else(|| panic!("{mode}: {}", transcript(&said)))
    };
    for mode in ALL {
        assert_eq!(refused(mode, "postgres", "missing"), "3D000", "{mode}");
        assert_eq!(refused(mode, "somebody", "postgres"), "28000", "{mode}");
        for (name, value, code) in [("options", "wrong", "42601"), ("work_mem", "x", "22023"), ("port", "1", "55P02")] {
            let asked = [&WHO[..], &[(name, value)]].concat();
            let (_, said) = Frontend::login_as(&gateway.address_of(mode), V3_0, &asked);
            let heard = said.last().and_then(Message::sqlstate);
            assert_eq!(heard.as_deref(), Some(code), "{mode}, {name}: {}", transcript(&said));
        }
        assert!(Frontend::login(&gateway.address_of(mode)).ask("select 'served'").contains("served"));
    }
    gateway.ends_well();
}
