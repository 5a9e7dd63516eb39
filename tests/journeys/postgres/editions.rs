//! What an application cannot do without, on the oldest and on the newest PostgreSQL, whichever version the other journeys
//! run on.

use cast::editions::{NEWEST, OLDEST};
use cast::frontend::{Message, V3_0, V3_2, bind, cancel_request, execute, parse, query, sync, transcript};
use cast::postgres::psql;
use cast::process::attempt;
use cast::wire::Address;
use cast::{Edition, Folder, Frontend, Gateway, Postgres, eventually};

use crate::modes::{self, ALL, MANAGED};
use crate::scripts;

/// A database of one version, which asks everybody but `guest` for SCRAM, behind a gateway with one client in each pool.
struct Stage {
    edition: Edition,
    gateway: Gateway,
    _secrets: Folder,
    postgres: Postgres,
}

// === impl Stage ===

impl Stage {
    #[track_caller]
    fn of(edition: Edition) -> Self {
        let postgres = Postgres::of(edition, &[]);
        assert_eq!(
            postgres.query("select current_setting('server_version_num')::int / 10000"),
            edition.major().to_string()
        );
        postgres.query("alter role postgres password 'correct'; create role guest login");
        postgres.admit(&["host all guest all trust", "host all all all scram-sha-256"]);
        let secrets = modes::secrets();
        let gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.size", 1));
        Self { edition, gateway, _secrets: secrets, postgres }
    }

    /// A session, and what was said to it; in passthrough that of `guest`, who needs no password.
    #[track_caller]
    fn login(&self, mode: &str, version: u32) -> (Frontend, Vec<Message>) {
        let user = if mode == "passthrough" { "guest" } else { "postgres" };
        let who = [("user", user), ("database", "postgres")];
        let (peer, welcome) = Frontend::login_as(&self.gateway.address_of(mode), version, &who);
        assert_eq!(welcome.last().map(|message| message.tag), Some(b'Z'), "{mode}: {}", transcript(&welcome));
        (peer, welcome)
    }

    /// Whether a key for cancelling is of protocol 3.2, where the peer asks for that.
    fn gives_long_keys(&self, mode: &str) -> bool {
        // Where the peer logs in itself it is the database that gives the key.
        mode != "passthrough" || self.edition == NEWEST
    }
}

#[track_caller]
fn on_both(journey: impl Fn(&Stage)) {
    for edition in [OLDEST, NEWEST] {
        eprintln!("PostgreSQL {}", edition.major());
        let stage = Stage::of(edition);
        journey(&stage);
        for mode in ALL {
            stage.gateway.expect_quiet(mode);
        }
        stage.gateway.ends_well();
    }
}

#[test]
fn the_oldest_and_the_newest_answer_as_without_us() {
    for edition in [OLDEST, NEWEST] {
        eprintln!("PostgreSQL {}", edition.major());
        scripts::are_all_the_same_at(&Postgres::of(edition, &[]));
    }
}

#[test]
fn the_oldest_and_the_newest_let_us_and_through_us_in_by_scram() {
    on_both(|stage| {
        let ask = |address: &Address, password: &str| {
            let mut command = psql(address);
            command
                .args(["-U", "postgres", "-d", "postgres", "-w", "-c", "select 'let in'"])
                .env("PGPASSWORD", password);
            attempt(&mut command)
        };
        let (ok, said) = ask(&stage.postgres.address(), "");
        assert!(!ok && said.contains("no password supplied"), "the database asks for a password: {said}");
        let (ok, said) = ask(&stage.gateway.address_of("passthrough"), "wrong");
        assert!(!ok && said.contains("password authentication failed"), "{said}");
        assert_eq!(ask(&stage.gateway.address_of("passthrough"), "correct"), (true, "let in\n".to_owned()));
        for mode in MANAGED {
            assert_eq!(
                ask(&stage.gateway.address_of(mode), "never asked for"),
                (true, "let in\n".to_owned()),
                "{mode}"
            );
        }
    });
}

#[test]
fn on_the_oldest_and_the_newest_the_right_key_cancels_a_query_whether_it_is_short_or_long() {
    on_both(|stage| {
        let sleeps = || {
            let sleeping =
                "select count(*) from pg_stat_activity where state = 'active' and query ~ '^select pg_sleep'";
            stage.postgres.query(sleeping) == "1"
        };
        for (mode, version) in ALL.iter().flat_map(|mode| [(mode, V3_0), (mode, V3_2)]) {
            let (mut peer, welcome) = stage.login(mode, version);
            let key = welcome.iter().find(|message| message.tag == b'K').expect("there is a key").body.clone();
            let length = if version == V3_2 && stage.gives_long_keys(mode) { 32 } else { 4 };
            assert_eq!(key.len(), 4 + length, "{mode}: a process id and the secret");
            peer.send(&query("select pg_sleep(600)"));
            eventually("it sleeps", sleeps);
            let mut guessed = key.clone();
            *guessed.last_mut().expect("it is not empty") ^= 1;
            let ask = |key: &[u8]| {
                let mut asking = Frontend::dial(&stage.gateway.address_of(mode));
                asking.send(&cancel_request(key));
                assert!(asking.until_end().is_empty(), "{mode}: a CancelRequest has no answer");
            };
            ask(&guessed);
            assert!(sleeps(), "{mode}: a guessed key cancels nothing");
            ask(&key);
            let said = peer.until_ready(1);
            assert_eq!(
                said.iter().find_map(Message::sqlstate).as_deref(),
                Some("57014"),
                "{mode}: {}",
                transcript(&said)
            );
            assert!(peer.ask("select 'still here'").contains("still here"), "{mode}");
        }
    });
}

#[test]
fn on_the_oldest_and_the_newest_settings_that_are_reported_follow_their_peer() {
    on_both(|stage| {
        let (mut one, mut two) = (stage.login("transaction", V3_0).0, stage.login("transaction", V3_0).0);
        let said = one.ask("set timezone = 'Asia/Tokyo'");
        assert!(said.contains("S TimeZone\\x00Asia/Tokyo\\x00"), "{said}");
        two.ask("set application_name = 'two'");
        let mut look =
            "select current_setting('timezone'), '<' || current_setting('application_name') || '>'".to_owned();
        // Older ones do not say what it is, so that it keeps its client.
        let path = if stage.edition == NEWEST { "<only_one>" } else { "" };
        if stage.edition == NEWEST {
            one.ask("set search_path = only_one");
            look += ", '<' || current_setting('search_path') || '>'";
        }
        for _ in 0..3 {
            let seen = one.ask(&look);
            assert!(seen.contains("Asia/Tokyo") && seen.contains("<>") && seen.contains(path), "{seen}");
            let seen = two.ask(&look);
            assert!(!seen.contains("Asia/Tokyo") && seen.contains("<two>") && !seen.contains("<only_one>"), "{seen}");
        }
    });
}

#[test]
fn on_the_oldest_and_the_newest_peers_share_prepared_statements_and_a_stale_plan_fails_once() {
    on_both(|stage| {
        stage.postgres.query("create table t (n int); insert into t values (7)");
        let (mut one, mut two) = (stage.login("transaction", V3_0).0, stage.login("transaction", V3_2).0);
        let ask = |peer: &mut Frontend, more: Vec<u8>, name: &str| {
            peer.send(&[more, bind("", name, &[]), execute("", 0), sync()].concat());
            transcript(&peer.until_ready(1))
        };
        let prepared = |name: &str| parse(name, "select * from t");
        assert!(ask(&mut one, prepared("a"), "a").contains('7'));
        assert!(ask(&mut two, prepared("b"), "b").contains('7'));
        let count = "select 'prepared: ' || count(*) from pg_prepared_statements where statement = 'select * from t'";
        for _ in 0..3 {
            assert!(ask(&mut one, Vec::new(), "a").contains('7'));
            assert!(ask(&mut two, Vec::new(), "b").contains('7'));
        }
        let seen = two.ask(count);
        assert!(seen.contains("prepared: 1"), "they share it: {seen}");
        stage.postgres.query("alter table t add column more text default 'new'");
        let said = ask(&mut one, Vec::new(), "a");
        assert!(said.contains("cached plan must not change result type"), "{said}");
        for _ in 0..2 {
            for (peer, name) in [(&mut one, "a"), (&mut two, "b")] {
                let said = ask(peer, Vec::new(), name);
                assert!(said.contains("new"), "{said}");
            }
        }
    });
}
