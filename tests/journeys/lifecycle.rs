//! A connection's whole lifecycle, with the databases' own programs over every pair of networks.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use cast::process::run;
use cast::wire::Address;
use cast::{Folder, Gateway, Manifest, MariaDb, Postgres, Proxy, Redis};

/// The four ways through a gateway to a database: TCP and Unix sockets, in and out.
fn ways(tcp: &Address, unix: &Address, folder: &Folder, socket: &str) -> Vec<(&'static str, Proxy)> {
    let at = |name: &str| {
        let sub = folder.join(name);
        std::fs::create_dir_all(&sub).unwrap();
        Address::Unix(sub.join(socket))
    };
    vec![
        ("tcp-tcp", Proxy::to(tcp)),
        ("tcp-unix", Proxy::to(unix)),
        ("unix-tcp", Proxy::to(tcp).listening_on(&at("out"))),
        ("unix-unix", Proxy::to(unix).listening_on(&at("in"))),
    ]
}

/// A gateway with all four, and the name and address of each.
fn four_ways(tcp: &Address, unix: &Address, folder: &Folder, socket: &str) -> (Gateway, Vec<(&'static str, Address)>) {
    let ways = ways(tcp, unix, folder, socket);
    let names: Vec<_> = ways.iter().map(|(name, _)| *name).collect();
    let gateway = Gateway::start(Manifest::of(ways.into_iter().map(|(name, proxy)| proxy.named(name))));
    let addresses = names.into_iter().map(|name| (name, gateway.address_of(name))).collect();
    (gateway, addresses)
}

#[test]
fn psql_gets_the_same_answers_as_without_us_over_every_pair_of_networks() {
    let postgres = Postgres::start();
    let folder = Folder::new("ways");
    let (gateway, ways) = four_ways(&postgres.address(), &postgres.socket(), &folder, ".s.PGSQL.5432");
    let script = "create temp table t as select n, repeat('x', n % 3000) s from generate_series(1, 20000) n; \
                  select md5(string_agg(n || s, ',' order by n)) from t; select repeat('y', 8192 * 3 - 20); \
                  copy t to stdout; select 'Grüße';";
    let direct = run(postgres.psql_at(&postgres.address()).args(["-c", script]));
    assert!(direct.len() > 20_000_000, "the answer is long enough to say something");
    for (name, address) in ways {
        let through = run(postgres.psql_at(&address).args(["-c", script]));
        assert!(through == direct, "{name}: {} bytes differ from the direct answer", through.len());
        gateway.expect_metric("postern_sessions_total", &[("proxy", name)], 1.0);
        gateway.expect_quiet(name);
    }
    gateway.ends_well();
}

#[test]
fn pgbench_runs_through_us_simple_extended_prepared_and_connecting_for_each_transaction() {
    let postgres = Postgres::start();
    let folder = Folder::new("ways");
    let (gateway, ways) = four_ways(&postgres.address(), &postgres.socket(), &folder, ".s.PGSQL.5432");
    run(postgres.pgbench_at(&ways[0].1).args(["-i", "-q", "-s", "1"]));
    for (name, address) in &ways {
        for protocol in ["simple", "extended", "prepared"] {
            let report =
                run(postgres.pgbench_at(address).args(["-c", "8", "-j", "2", "-n", "-t", "100", "-M", protocol]));
            assert!(report.contains("actually processed: 800/800"), "{name}: {report}");
        }
        let report = run(postgres.pgbench_at(address).args(["-n", "-S", "-C", "-c", "4", "-t", "25"]));
        assert!(report.contains("actually processed: 100/100"), "{name}: {report}");
        gateway.expect_quiet(name);
    }
    assert_eq!(
        postgres.query("select sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts"),
        "t"
    );
    gateway.ends_well();
}

#[test]
fn mariadb_and_mariadb_slap_work_through_us_over_every_pair_of_networks() {
    let mariadb = MariaDb::start();
    let folder = Folder::new("ways");
    let (gateway, ways) = four_ways(&mariadb.address(), &mariadb.socket(), &folder, "mariadb.sock");
    let script = "select md5(group_concat(seq)) from test.n; select repeat('x', 3000000); select version()";
    mariadb.query("create database if not exists test; use test; create table n (seq int); insert into n select seq from seq_1_to_1000");
    let direct = run(MariaDb::app_at(&mariadb.address()).args(["-e", script]));
    for (name, address) in ways {
        assert!(run(MariaDb::app_at(&address).args(["-e", script])) == direct, "{name}");
        let mut slap = std::process::Command::new(cast::install::program("mariadb-slap"));
        slap.args([
            "--no-defaults",
            "--skip-ssl",
            "--user=app",
            "--auto-generate-sql",
            "--concurrency=8",
            "--number-of-queries=400",
        ]);
        slap.arg(format!("--create-schema=slap_{}", name.replace('-', "_"))).args(MariaDb::reaching(&address));
        run(&mut slap);
        gateway.expect_quiet(name);
    }
    gateway.ends_well();
}

#[test]
fn redis_cli_and_redis_benchmark_work_through_us_over_every_pair_of_networks() {
    let redis = Redis::start();
    let folder = Folder::new("ways");
    let (gateway, ways) = four_ways(&redis.address(), &redis.socket(), &folder, "redis.sock");
    for (name, address) in ways {
        let value = "v".repeat(100_000);
        assert_eq!(run(Redis::cli(&address).args(["set", name, &value])).trim(), "OK");
        assert_eq!(run(Redis::cli(&address).args(["get", name])).trim(), value);
        let report = run(Redis::benchmark(&address).args([
            "-t",
            "set,get,lrange_600",
            "-n",
            "5000",
            "-c",
            "20",
            "-P",
            "8",
            "-q",
        ]));
        assert!(report.contains("LRANGE_600") && !report.contains("rror"), "{name}: {report}");
        gateway.expect_quiet(name);
    }
    gateway.ends_well();
}

#[test]
fn several_workers_serve_one_listener() {
    let postgres = Postgres::start();
    let gateway = Gateway::start(Manifest::of([Proxy::to(&postgres.address())]).set("workers", 2));
    run(postgres.pgbench_at(&gateway.address()).args(["-i", "-q", "-s", "1"]));
    let report = run(postgres.pgbench_at(&gateway.address()).args(["-c", "8", "-j", "2", "-t", "200"]));
    assert!(report.contains("actually processed: 1600/1600"), "{report}");
    gateway.expect_quiet("db");
    assert_eq!(gateway.get("/livez").status, 200);
    gateway.ends_well();
}

#[test]
fn a_client_serves_one_session_and_is_then_replaced() {
    let redis = Redis::start();
    let gateway = Gateway::start(Proxy::to(&redis.address()).set("pool.size", 2).set("pool.minIdle", 2));
    let ids: std::collections::BTreeSet<_> =
        (0..10).map(|_| run(Redis::cli(&gateway.address()).args(["client", "id"]))).collect();
    assert_eq!(ids.len(), 10, "each session has a connection that nobody had before");
    gateway.expect_quiet("db");
    gateway.expect_metric("postern_pool_clients", &[("proxy", "db"), ("state", "idle")], 2.0);
    gateway.ends_well();
}

#[test]
fn more_peers_than_clients_wait_their_turn_instead_of_being_thrown_out() {
    let redis = Redis::start();
    let gateway = Gateway::start(Proxy::to(&redis.address()).set("pool.size", 2));
    let report =
        run(Redis::benchmark(&gateway.address()).args(["-t", "ping_mbulk", "-n", "300", "-c", "20", "-k", "0", "-q"]));
    assert!(!report.contains("rror"), "{report}");
    gateway.expect_quiet("db");
    assert!((gateway.metric("postern_sessions_refused_total", &[]) - 0.0).abs() < f64::EPSILON);
    gateway.ends_well();
}
