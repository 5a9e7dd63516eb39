//! Whoever has a connection when the database goes is told the true cause at once, and nothing that was sent is sent again.

use cast::frontend::{bind, execute, parse, query, sync};
use cast::time::eventually;
use cast::{Frontend, Gateway, Manifest, Postgres};

use crate::modes::{self, MANAGED};

/// What becomes of the database, and what a peer may be told of it then.
type Blow<'a> = (&'a dyn Fn(&mut Postgres), &'a [&'a str]);

/// Commits its first half, and then takes its time.
const HALVES: &str = "create table halves (half int);\n\
    create procedure halves() language plpgsql as $$ begin \
    insert into halves values (1); commit; perform pg_sleep(600); insert into halves values (2); end $$";

/// A gateway with the modes in which a connection is shared, one connection each.
#[track_caller]
fn gateway_to(postgres: &Postgres, secrets: &cast::Folder) -> Gateway {
    let proxies = MANAGED.map(|mode| modes::proxy(mode, &postgres.address()).set("pool.size", 1));
    modes::start(Manifest::of(proxies), secrets)
}

/// The SQLSTATE of what a peer is told last.
#[track_caller]
fn last_word(peer: &mut Frontend) -> String {
    let said = peer.until_end();
    said.iter().rev().find_map(cast::frontend::Message::sqlstate).unwrap_or_else(|| format!("no error: {said:?}"))
}

#[test]
fn a_peer_in_a_transaction_is_told_the_true_cause_before_the_database_is_back() {
    let mut postgres = Postgres::start();
    postgres.query("create table notes (note text)");
    let secrets = modes::secrets();
    let gateway = gateway_to(&postgres, &secrets);
    // Whatever ends without tidying up finds the time for a last word, or does not.
    let blows: [Blow<'_>; 3] = [
        (&Postgres::stop, &["57P01"]),
        (&Postgres::stop_immediately, &["57P01", "08006"]),
        (&Postgres::kill_all, &["57P01", "08006"]),
    ];
    for (blow, causes) in blows {
        let mut peers = MANAGED.map(|mode| Frontend::login(&gateway.address_of(mode)));
        for peer in &mut peers {
            peer.ask("begin");
            peer.ask("insert into notes values ('never committed')");
        }
        blow(&mut postgres);
        for (peer, mode) in peers.iter_mut().zip(MANAGED) {
            let cause = last_word(peer);
            assert!(causes.contains(&&*cause), "{mode}: {cause}, not {causes:?}");
        }
        postgres.start_again();
        assert_eq!(postgres.query("select count(*) from notes"), "0");
    }
    for mode in MANAGED {
        gateway.expect_quiet(mode);
    }
    gateway.ends_well();
}

#[test]
fn a_procedure_that_has_committed_its_first_half_is_executed_exactly_once() {
    let mut postgres = Postgres::start();
    postgres.query(HALVES);
    let secrets = modes::secrets();
    let gateway = gateway_to(&postgres, &secrets);
    let simple = query("call halves()");
    let extended = [parse("", "call halves()"), bind("", "", &[]), execute("", 0), sync()].concat();
    let terminates = |postgres: &mut Postgres| {
        let sleeps = "query like '%halves%' and client_addr is not null and wait_event = 'PgSleep'";
        postgres.query(&format!("select pg_terminate_backend(pid) from pg_stat_activity where {sleeps}"));
    };
    let dies = |postgres: &mut Postgres| {
        postgres.kill_all();
        postgres.start_again();
    };
    let blows: [Blow<'_>; 2] = [(&terminates, &["57P01"]), (&dies, &["57P01", "08006"])];
    for mode in MANAGED {
        for asked in [&simple, &extended] {
            for (blow, causes) in blows {
                postgres.query("truncate halves");
                // It is the first that this session asks.
                let mut peer = Frontend::login(&gateway.address_of(mode));
                peer.send(asked);
                let sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
                eventually("the first half is committed", || {
                    postgres.query("select count(*) from halves") == "1" && postgres.query(sleeping) == "1"
                });
                blow(&mut postgres);
                let cause = last_word(&mut peer);
                assert!(causes.contains(&&*cause), "{mode}: {cause}, not {causes:?}");
                // The connection that the next peer gets was dialed after all that.
                Frontend::login(&gateway.address_of(mode)).ask("select 1");
                gateway.expect_quiet(mode);
                assert_eq!(postgres.query("select string_agg(half::text, ',') from halves"), "1", "{mode}: {cause}");
                assert_eq!(postgres.query(sleeping), "0", "{mode}: {cause}");
            }
        }
    }
    gateway.ends_well();
}

#[test]
fn a_terminated_transaction_takes_nobody_elses_place_and_nothing_of_it_is_repeated() {
    let postgres = Postgres::start();
    postgres.query("create sequence tries");
    let secrets = modes::secrets();
    let gateway = gateway_to(&postgres, &secrets);
    for mode in MANAGED {
        postgres.query("select setval('tries', 1, false)");
        let mut peer = Frontend::login(&gateway.address_of(mode));
        // A sequence counts what was tried, whether it was committed or not.
        peer.send(&query("select nextval('tries'), pg_terminate_backend(pg_backend_pid())"));
        assert_eq!(last_word(&mut peer), "57P01", "{mode}");
        Frontend::login(&gateway.address_of(mode)).ask("select 1");
        gateway.expect_quiet(mode);
        assert_eq!(postgres.query("select last_value || ' ' || is_called from tries"), "1 true", "{mode}");
    }
    gateway.ends_well();
}
