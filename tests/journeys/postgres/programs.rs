//! PostgreSQL's own programs through every mode.

use std::time::Duration;

use cast::postgres::psql;
use cast::process::{Process, attempt, owned, run};
use cast::wire::Address;
use cast::{Folder, Postgres, eventually};
use rustix::process::Signal;

use crate::modes::{self, ALL, MANAGED};

#[test]
fn psql_gets_the_same_answers_in_every_mode() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    let script = "create temp table t as select n, repeat('x', n % 3000) s from generate_series(1, 2000) n; \
                  select md5(string_agg(n || s, ',' order by n)) from t; copy t to stdout; select 'Grüße';";
    let direct = run(postgres.psql_at(&postgres.address()).args(["-c", script]));
    for mode in ALL {
        let through = run(postgres.psql_at(&gateway.address_of(mode)).args(["-c", script]));
        assert!(through == direct, "{mode}: {} bytes differ from the direct answer", through.len());
        gateway.expect_quiet(mode);
    }
    gateway.ends_well();
}

#[test]
fn pgbench_runs_in_every_mode_and_no_transaction_is_lost() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    run(postgres.pgbench_at(&gateway.address_of("session")).args(["-i", "-q", "-s", "1"]));
    for mode in ALL {
        let address = gateway.address_of(mode);
        for protocol in ["simple", "extended", "prepared"] {
            let report = run(postgres.pgbench_at(&address).args(["-n", "-c", "4", "-t", "25", "-M", protocol]));
            assert!(report.contains("actually processed: 100/100"), "{mode}, {protocol}: {report}");
            let report = run(postgres.pgbench_at(&address).args(["-n", "-S", "-c", "4", "-t", "50", "-M", protocol]));
            assert!(report.contains("actually processed: 200/200"), "{mode}, {protocol}: {report}");
        }
        let report = run(postgres.pgbench_at(&address).args(["-n", "-S", "-C", "-c", "4", "-t", "10"]));
        assert!(report.contains("actually processed: 40/40"), "{mode}: {report}");
        gateway.expect_quiet(mode);
    }
    let balance = "select sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts";
    assert_eq!(postgres.query(balance), "t");
    gateway.ends_well();
}

/// A `psql` that sleeps in the database under this name.
fn sleeping(postgres: &Postgres, address: &Address, name: &str) -> Process {
    let mut command = owned(cast::install::program("psql"));
    command.args(postgres.psql_at(address).get_args());
    command.args(["-c", &format!("select pg_sleep(600) /* {name} */")]);
    Process::start("psql", &mut command)
}

#[test]
fn psql_cancels_its_own_query_and_no_other() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    let count = |name: &str| {
        let active = "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()";
        postgres.query(&format!("{active} and query like '%pg_sleep%{name}%'"))
    };
    for mode in ALL {
        let address = gateway.address_of(mode);
        let mut one = sleeping(&postgres, &address, "one");
        let mut other = sleeping(&postgres, &address, "other");
        eventually("both sleep", || count("one") == "1" && count("other") == "1");
        one.signal(Signal::INT);
        assert!(!one.wait(Duration::from_secs(30)).success(), "{mode}");
        eventually("psql says why", || one.lines().concat().contains("canceling statement due to user request"));
        assert_eq!((count("one"), count("other")), ("0".to_owned(), "1".to_owned()), "{mode}");
        other.signal(Signal::INT);
        assert!(!other.wait(Duration::from_secs(30)).success(), "{mode}");
        gateway.expect_quiet(mode);
    }
    gateway.ends_well();
}

#[test]
fn a_password_is_asked_for_by_the_database_in_passthrough_and_known_to_us_otherwise() {
    let folder = Folder::new("hba");
    std::fs::write(folder.join("hba.conf"), "local all all trust\nhost all all all scram-sha-256\n").unwrap();
    let postgres = Postgres::with(&[("hba_file", &folder.join("hba.conf").display().to_string())]);
    postgres.query("alter role postgres password 'correct'");
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    let ask = |mode: &str, password: &str| {
        let mut command = psql(&gateway.address_of(mode));
        command.args(["-U", "postgres", "-d", "postgres", "-c", "select 'let in'"]).env("PGPASSWORD", password);
        attempt(&mut command)
    };
    let (ok, said) = ask("passthrough", "wrong");
    assert!(!ok && said.contains("password authentication failed"), "{said}");
    assert_eq!(ask("passthrough", "correct"), (true, "let in\n".to_owned()));
    for mode in MANAGED {
        assert_eq!(ask(mode, "never asked for"), (true, "let in\n".to_owned()), "{mode}");
    }
    gateway.ends_well();
}
