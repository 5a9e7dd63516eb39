//! What the console shows: PgBouncer's tables, of what is so.

use cast::frontend::{bind, describe, execute, message, parse, query, sync, transcript};

use crate::stage::{PASSWORD, Stage};

/// The columns of PgBouncer 1.24, and behind them ours.
const COLUMNS: [(&str, &str); 7] = [
    (
        "CLIENTS",
        "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us \
         close_needed ptr link remote_pid tls application_name prepared_statements id proxy",
    ),
    (
        "SERVERS",
        "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us \
         close_needed ptr link remote_pid tls application_name prepared_statements id proxy",
    ),
    (
        "POOLS",
        "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel \
         sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts",
    ),
    (
        "DATABASES",
        "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode \
         load_balance_hosts max_connections current_connections max_client_connections current_client_connections \
         paused disabled reserve_pool",
    ),
    ("CONFIG", "key value default changeable"),
    ("LISTS", "list items"),
    (
        "USERS",
        "name pool_size reserve_pool_size pool_mode max_user_connections current_connections \
         max_user_client_connections current_client_connections",
    ),
];

#[test]
fn every_table_of_pgbouncer_is_there_and_tells_what_is_so() {
    let stage = Stage::of("transaction", |proxy| proxy.set("pool.size", 7));
    let mut peer = stage.peer();
    peer.ask("begin");
    let backend = peer.ask("select 'pid ' || pg_backend_pid()");
    for (show, columns) in COLUMNS {
        let rows = stage.rows(show);
        assert_eq!(rows[0].names(), columns.split_whitespace().collect::<Vec<_>>(), "{show}");
    }
    let pools = stage.rows("POOLS");
    let [pool] = &pools[..] else { panic!("{pools:?}") };
    assert_eq!((pool.get("database"), pool.get("user"), pool.get("pool_mode")), ("db", "postgres", "transaction"));
    assert_eq!((pool.get("sv_active"), pool.get("cl_waiting"), pool.get("maxwait")), ("1", "0", "0"));
    let databases = stage.rows("DATABASES");
    assert_eq!((databases[0].get("port"), databases[0].get("pool_size")), (&*stage.postgres.port().to_string(), "7"));
    let clients = stage.rows("CLIENTS");
    let active = clients.iter().find(|row| row.get("state") == "active").unwrap();
    let servers = stage.rows("SERVERS");
    let server = servers.iter().find(|row| row.get("id") == active.get("link")).unwrap();
    assert_eq!((server.get("state"), server.get("link")), ("active", active.get("id")));
    assert!(backend.contains(server.get("remote_pid")), "{backend}");
    assert!(clients.iter().any(|row| row.get("application_name") == "psql" && row.get("database") == "postern"));
    let config = stage.rows("CONFIG");
    let size = config.iter().find(|row| row.get("key") == "proxies[db].pool.size").unwrap();
    assert_eq!((size.get("value"), size.get("changeable")), ("7", "yes"));
    let users = stage.rows("USERS");
    assert_eq!(users[0].get("name"), "postgres");
    assert_eq!(stage.console("SHOW STATE"), "active|yes\npaused|no\nsuspended|no");
    assert_eq!(stage.console("SHOW VERSION"), format!("Postern {}", env!("CARGO_PKG_VERSION")));
    for show in ["CLIENTS", "CONFIG", "DATABASES", "MEM", "USERS", "STATS"] {
        assert!(!stage.console(&format!("SHOW {show}")).contains(PASSWORD), "{show}");
    }
}

#[test]
fn what_peers_asked_is_counted() {
    let stage = Stage::of("transaction", |proxy| proxy);
    let mut peer = stage.peer();
    (0..20).for_each(|_| drop(peer.ask("select pg_sleep(0.01)")));
    let stats = stage.rows("STATS");
    let [stats] = &stats[..] else { panic!("{stats:?}") };
    let number = |name: &str| stats.get(name).parse::<u64>().unwrap_or_else(|_| panic!("{name}: {stats:?}"));
    assert_eq!((stats.get("database"), number("total_query_count"), number("total_xact_count")), ("db", 20, 20));
    assert_eq!(stats.get("total_xact_time"), "-", "what is not measured is not told");
    assert!(number("total_query_time") >= 200_000 && number("total_received") > 400, "{stats:?}");
    assert!(number("avg_query_time") >= 10_000, "{stats:?}");
    let totals = stage.rows("STATS_TOTALS");
    assert_eq!((totals[0].get("query_count"), totals[0].get("bytes_received")), ("20", stats.get("total_received")));
    assert_eq!(stage.rows("STATS_AVERAGES")[0].get("avg_bind_count"), "-");
    let totals = stage.console("SHOW TOTALS");
    assert!(totals.contains("total_query_count|20") && totals.contains("avg_query_count|"), "{totals}");
}

#[test]
fn several_commands_in_one_query_and_help_are_answered() {
    let stage = Stage::of("session", |proxy| proxy);
    assert_eq!(stage.console("show state; show version").lines().count(), 4);
    let (mut talk, _) = stage.talk();
    talk.send(&query("SHOW HELP"));
    let help = talk.until_ready(1);
    let notice = help.iter().find(|message| message.tag == b'N').unwrap();
    assert!(notice.field(b'D').is_some_and(|usage| usage.contains("RECONNECT [<proxy>]")), "{}", transcript(&help));
    let refusal = stage.refusal("select 1");
    assert!(refusal.contains("42601") && refusal.contains("SHOW HELP|CONFIG"), "{refusal}");
    assert!(stage.refusal("SHUTDOWN").contains("0A000"));
}

#[test]
fn drivers_that_prepare_their_commands_are_answered() {
    let stage = Stage::of("session", |proxy| proxy);
    let (mut peer, _) = stage.talk();
    let asked = [parse("", "SHOW LISTS"), describe(b'S', ""), bind("", "", &[]), execute("", 0), sync()].concat();
    peer.send(&asked);
    let answer = peer.until_ready(1);
    let tags: Vec<u8> = answer.iter().map(|message| message.tag).collect();
    assert!(tags.starts_with(b"1tT2D") && tags.ends_with(b"CZ"), "{}", transcript(&answer));
    // In binary, two rows at a time.
    let binary = message(b'B', b"p\0s\0\0\0\0\0\0\x01\0\x01");
    let two = execute("p", 2);
    peer.send(&[parse("s", "SHOW LISTS"), binary, describe(b'P', "p"), two.clone(), two, sync()].concat());
    let answer = peer.until_ready(1);
    let tags: Vec<u8> = answer.iter().map(|message| message.tag).collect();
    assert_eq!(tags, b"12TDDsDDsZ", "{}", transcript(&answer));
    assert!(answer[3].body.ends_with(b"\0\0\0\x04\0\0\0\x01"), "one database: {:?}", answer[3].body);
    // After an error nothing is done before a Sync.
    peer.send(&[parse("", "select 1"), bind("", "", &[]), execute("", 0), sync(), parse("", "")].concat());
    let answer = transcript(&peer.until_ready(1));
    assert!(answer.contains("42601"), "{answer}");
    peer.send(&[bind("", "", &[]), describe(b'P', ""), execute("", 0), sync()].concat());
    let tags: Vec<u8> = peer.until_ready(1).iter().map(|message| message.tag).collect();
    assert_eq!(tags, b"12nIZ");
    assert!(peer.ask("SHOW VERSION").contains("Postern"), "and simple queries go on");
}
