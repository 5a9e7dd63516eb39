//! The test suites that drivers bring along, directly and through every mode: what passes directly passes through us, but
//! for the tests that are named here with the reason. The rest of what drivers do is in `clients`.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "with `--nocapture` it says how each suite ended")]

use std::collections::BTreeMap;

use cast::postgres::psql;
use cast::process::run;
use cast::wire::Address;
use cast::{Manifest, Postgres};

#[path = "../postgres/modes.rs"]
#[expect(dead_code, reason = "the other journeys need all of it")]
mod modes;
#[path = "../clients/workshop.rs"]
#[expect(dead_code, reason = "the programs of our own need all of it")]
mod workshop;
mod library;

use library::{Chosen, Tests};
use modes::ALL;

/// One driver's tests, and which of them end otherwise through us.
struct Suite {
    tests: fn() -> Tests,
    /// Whom the database lets in, as the lines of `pg_hba.conf` say; everybody where there are none.
    admit: &'static [&'static str],
    /// What they need of a database, as statements.
    prepare: &'static [&'static str],
    /// So many pass directly, at least: the suite was there and ran.
    least: usize,
    /// Tests that are run nowhere, by their names or those of their files, each with the reason.
    nowhere: &'static [(&'static str, Reason)],
    /// Tests that fail where the gateway logs in itself.
    managed: &'static [(&'static str, Reason)],
    /// Those that fail in transaction pooling only.
    transaction: &'static [(&'static str, Reason)],
}

/// Why a test is left out.
#[derive(Clone, Copy, Debug)]
enum Reason {
    /// It ends a backend that it takes for its own, or tells another peer by it: the process that a peer is told of is the
    /// gateway's.
    ProcessId,
    /// It drops a database of which the gateway keeps a connection.
    KeptConnection,
    /// It expects of the server's version what the gateway does for every version.
    Version,
    /// It looks for its statements in `pg_prepared_statements`, where they have the gateway's names.
    StatementNames,
    /// It ends its backend, and expects to have lost its connection: the peer has no backend of its own.
    Shared,
    /// It logs in as another user than the one that the gateway logs in as.
    OtherUser,
    /// It looks for a notice to its login, about a setting that the gateway makes on a connection that is there already.
    LoginNotice,
    /// Whether it passes is a matter of luck, directly as well: it gives up after 100 ms, or depends on who sees first that a
    /// backend has ended.
    Luck,
}

/// No test at all.
const NONE: &[(&str, Reason)] = &[];
/// How often what fails through us is tried again: many of these tests allow some milliseconds for what they do.
const REPETITIONS: usize = 3;
/// Connections to the database for each mode: as many as the suites open.
const SIZE: u32 = 30;

#[test]
fn lib_pqs_own_tests_pass_through_us() {
    check(&Suite {
        tests: || library::go("github.com/lib/pq", &["."]),
        admit: &[],
        prepare: &[],
        least: 90,
        nowhere: &[
            ("pq:TestListenerListen", Reason::Luck),
            ("pq:TestListenerUnlisten", Reason::Luck),
            ("pq:TestListenerUnlistenAll", Reason::Luck),
            ("pq:TestListenerFailedQuery", Reason::Luck),
            ("pq:TestListenerReconnect", Reason::Luck),
            ("pq:TestListenerClose", Reason::Luck),
            ("pq:TestListenerPing", Reason::Luck),
        ],
        managed: NONE,
        // It expects a connection to be lost of which it has ended the backend.
        transaction: &[("pq:TestPing", Reason::Shared)],
    });
}

#[test]
fn pgxs_own_tests_pass_through_us() {
    check(&Suite {
        tests: || library::go("github.com/jackc/pgx/v5", &[".", "pgconn", "pgtype", "pgxpool", "stdlib"]),
        admit: &[],
        prepare: &[
            "create extension hstore",
            "create extension ltree",
            "create domain uint64 as numeric(20,0)",
            "drop role if exists \" tricky, ' } \"\" \\ test user \"",
            "create role \" tricky, ' } \"\" \\ test user \" superuser",
        ],
        least: 800,
        nowhere: NONE,
        managed: &[
            ("pgconn:TestConnCheckConn", Reason::ProcessId),
            ("pgconn:TestConnCopyFromConnectionTerminated", Reason::ProcessId),
            ("pgconn:TestConnPing", Reason::ProcessId),
            ("pgconn:TestConnectProtocolVersion32", Reason::Version),
            ("pgx:TestFatalRxError", Reason::ProcessId),
            ("pgx:TestFatalTxError", Reason::ProcessId),
            ("pgxpool:TestPoolAcquireChecksIdleConns", Reason::ProcessId),
            ("stdlib:TestCheckIdleConn", Reason::ProcessId),
        ],
        transaction: &[
            ("pgx:TestPrepareHandlesTimeoutBetweenParseAndDescribe", Reason::StatementNames),
            ("pgx:TestPrepareWithDigestedNameHandlesTimeoutBetweenParseAndDescribe", Reason::StatementNames),
            ("stdlib:TestConnMultiplePrepareAndDeallocate", Reason::StatementNames),
        ],
    });
}

#[test]
fn asyncpgs_own_tests_pass_through_us() {
    check(&Suite {
        tests: || library::python("asyncpg", "asyncpg"),
        admit: &[],
        prepare: &[],
        least: 290,
        nowhere: NONE,
        managed: &[
            ("tests/test_introspection.py", Reason::KeptConnection),
            (
                "tests/test_cache_invalidation.py::TestCacheInvalidation::test_type_cache_invalidation_in_pool",
                Reason::KeptConnection,
            ),
            ("tests/test_listeners.py::TestListeners::test_listen_02", Reason::ProcessId),
            ("tests/test_listeners.py::TestListeners::test_listen_notletters", Reason::ProcessId),
            ("tests/test_pool.py::TestPool::test_pool_min_size_restored_after_idle_connection_loss", Reason::ProcessId),
        ],
        transaction: &[
            ("tests/test_pool.py::TestPool::test_pool_remote_close", Reason::Shared),
            ("tests/test_prepare.py::TestPrepare::test_prepare_explicitly_named", Reason::StatementNames),
        ],
    });
}

#[test]
fn psycopg2s_own_tests_pass_through_us() {
    check(&Suite {
        tests: || library::python("psycopg2", "psycopg2-binary"),
        admit: &[],
        prepare: &["create extension hstore"],
        least: 650,
        nowhere: NONE,
        managed: &[
            ("tests/test_async.py::AsyncTests::test_notify", Reason::ProcessId),
            ("tests/test_connection.py::TestConnectionInfo::test_backend_pid", Reason::ProcessId),
            ("tests/test_notify.py", Reason::ProcessId),
        ],
        transaction: &[("tests/test_cursor.py::CursorTests::test_external_close_async", Reason::Shared)],
    });
}

#[test]
fn pg8000s_own_tests_pass_through_us() {
    check(&Suite {
        tests: || library::python("pg8000", "pg8000"),
        admit: &[],
        prepare: &["drop role if exists boltzmann"],
        least: 500,
        nowhere: &[
            ("test/dbapi/test_connection.py::test_broken_pipe_flush", Reason::Luck),
            ("test/dbapi/test_connection.py::test_broken_pipe_read", Reason::Luck),
            ("test/legacy/test_connection.py::test_broken_pipe_flush", Reason::Luck),
            ("test/legacy/test_connection.py::test_broken_pipe_read", Reason::Luck),
            ("test/native/test_connection.py::test_broken_pipe_flush", Reason::Luck),
            ("test/native/test_connection.py::test_broken_pipe_read", Reason::Luck),
        ],
        managed: &[
            ("test/dbapi/test_connection.py::test_notify", Reason::ProcessId),
            ("test/dbapi/test_connection.py::test_notify_with_payload", Reason::ProcessId),
            ("test/dbapi/test_connection.py::test_password_bytes", Reason::OtherUser),
            ("test/legacy/test_connection.py::testBytesPassword", Reason::OtherUser),
            ("test/legacy/test_connection.py::test_notify", Reason::ProcessId),
            ("test/legacy/test_connection.py::test_notify_with_payload", Reason::ProcessId),
            ("test/native/test_connection.py::test_bytes_password", Reason::OtherUser),
            ("test/native/test_connection.py::test_notify", Reason::ProcessId),
            ("test/native/test_connection.py::test_notify_with_payload", Reason::ProcessId),
        ],
        transaction: &[
            ("test/legacy/test_query.py::test_close_prepared_statement", Reason::StatementNames),
            ("test/native/test_query.py::test_close_prepared_statement", Reason::StatementNames),
        ],
    });
}

#[test]
fn tokio_postgres_own_tests_pass_through_us() {
    check(&Suite {
        tests: || library::rust("tokio-postgres"),
        admit: &[
            "host all pass_user all password",
            "host all md5_user all md5",
            "host all scram_user all scram-sha-256",
            "host all postgres all trust",
        ],
        prepare: &[
            "create extension citext",
            "create extension hstore",
            "create extension ltree",
            "drop role if exists pass_user, md5_user, scram_user",
            "create role pass_user login password 'password'",
            "set password_encryption = 'md5'; create role md5_user login password 'password'",
            "create role scram_user login password 'password'",
        ],
        least: 160,
        nowhere: NONE,
        managed: &[
            ("md5_password_ok", Reason::OtherUser),
            ("md5_password_wrong", Reason::OtherUser),
            ("notices", Reason::LoginNotice),
            ("plain_password_ok", Reason::OtherUser),
            ("plain_password_wrong", Reason::OtherUser),
            ("runtime::host_only_ok", Reason::OtherUser),
            ("runtime::hostaddr_and_host_ok", Reason::OtherUser),
            ("runtime::hostaddr_only_ok", Reason::OtherUser),
            ("scram_password_ok", Reason::OtherUser),
            ("scram_password_wrong", Reason::OtherUser),
        ],
        transaction: NONE,
    });
}

#[test]
fn sqlalchemys_own_tests_pass_through_us() {
    check(&Suite {
        tests: || library::sqlalchemy(&["psycopg", "psycopg2"]),
        admit: &[],
        prepare: &[
            "create schema test_schema",
            "create schema test_schema_2",
            "create extension citext",
            "create extension hstore",
            "create collation \"en_US\" (locale = 'C')",
            "alter database suite set default_text_search_config = 'pg_catalog.english'",
        ],
        least: 2400,
        nowhere: NONE,
        managed: NONE,
        transaction: NONE,
    });
}

#[test]
fn djangos_own_tests_pass_through_us() {
    check(&Suite {
        tests: || library::django(&["backends", "postgres_tests", "transactions"]),
        admit: &[],
        prepare: &["drop database if exists suite_other with (force)", "create database suite_other"],
        least: 900,
        nowhere: NONE,
        managed: NONE,
        transaction: NONE,
    });
}

/// Runs a suite directly and through every mode.
#[track_caller]
fn check(suite: &Suite) {
    let tests = (suite.tests)();
    let postgres = Postgres::of_the_system(&[("max_connections", "300"), ("max_prepared_transactions", "10")]);
    if !suite.admit.is_empty() {
        postgres.admit(suite.admit);
    }
    let secrets = modes::secrets();
    let gateway = modes::start(
        Manifest::of(ALL.map(|mode| modes::proxy(mode, &postgres.address()).set("pool.size", SIZE))),
        &secrets,
    );
    let outcomes = |address: &Address, chosen: Chosen<'_>| {
        // Nothing is left of the run before.
        postgres.query("drop database if exists suite with (force)");
        postgres.query("create database suite");
        for statement in suite.prepare {
            run(psql(&postgres.address()).args(["-U", "postgres", "-d", "suite", "-c", statement]));
        }
        library::outcomes(&tests, address, chosen)
    };
    let nowhere: Vec<_> = suite.nowhere.iter().map(|(name, _)| *name).collect();
    let direct = outcomes(&postgres.address(), Chosen::But(&nowhere));
    let passed = direct.values().filter(|passes| **passes).count();
    assert!(passed >= suite.least, "only {passed} pass directly; these fail: {}", failing(&direct).join(", "));
    for mode in ALL {
        let expected: &[&[_]] = match mode {
            "passthrough" => &[suite.nowhere],
            "session" => &[suite.nowhere, suite.managed],
            _ => &[suite.nowhere, suite.managed, suite.transaction],
        };
        let expected: Vec<_> = expected.iter().copied().flatten().collect();
        let names: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
        let is_known = |name: &str| {
            names
                .iter()
                .any(|known| name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
        };
        let mut left: Vec<_> = direct.iter().filter(|(name, passes)| **passes && !is_known(name)).collect();
        let mut through = outcomes(&gateway.address_of(mode), Chosen::But(&names));
        left.retain(|(name, _)| through.get(*name) != Some(&true));
        for _ in 0..REPETITIONS {
            if left.is_empty() {
                break;
            }
            let again: Vec<_> = left.iter().map(|(name, _)| &***name).collect();
            through = outcomes(&gateway.address_of(mode), Chosen::Only(&again));
            left.retain(|(name, _)| through.get(*name) != Some(&true));
        }
        let left: Vec<_> = left.iter().map(|(name, _)| &***name).collect();
        assert!(left.is_empty(), "{mode}: these pass directly only: {}", left.join(", "));
        let known = direct.iter().filter(|(name, passes)| **passes && is_known(name)).count();
        println!("{mode}: {} of {passed} that pass directly pass, {known} are left out: {expected:?}", passed - known);
    }
    gateway.ends_well();
}

/// The tests that fail.
fn failing(outcomes: &BTreeMap<String, bool>) -> Vec<&str> {
    outcomes.iter().filter(|(_, passes)| !**passes).map(|(name, _)| &**name).collect()
}
