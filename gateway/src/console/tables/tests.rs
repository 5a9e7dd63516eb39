//! Each table fits its columns, whatever there is; and says of a gateway what is so.

use super::*;
use crate::admin::{State, Status};
use crate::view::{DatabaseState, DatabaseView, PoolView, Totals};

const ALL: [Show; 14] = [
    Show::Clients,
    Show::Config,
    Show::Databases,
    Show::Lists,
    Show::Mem,
    Show::Pools,
    Show::Servers,
    Show::State,
    Show::Stats,
    Show::StatsAverages,
    Show::StatsTotals,
    Show::Totals,
    Show::Users,
    Show::Version,
];

fn session(id: u64, state: SessionState, client: Option<u64>) -> SessionView {
    SessionView {
        id,
        peer: "127.0.0.1:50412".into(),
        user: Some("app".into()),
        database: Some("orders".into()),
        application: Some("psql".into()),
        state,
        since_seconds: 60.0,
        state_since_seconds: 1.25,
        waits: state == SessionState::Waiting,
        client,
    }
}

fn proxy() -> ProxyView {
    let client = ClientView {
        id: 3,
        remote: "10.0.0.5:5432".into(),
        local: "[::1]:40312".into(),
        user: Some("app".into()),
        database: Some("orders".into()),
        state: ClientState::Lent,
        age_seconds: 60.0,
        backend_pid: Some(123),
    };
    ProxyView {
        name: "orders-ro".into(),
        protocol: "postgres",
        mode: "transaction",
        network: "tcp",
        address: "127.0.0.1:5432".into(),
        sessions: 3,
        max_peers: 1000,
        pool: PoolView {
            size: 10,
            min_idle: 1,
            idle: 2,
            lent: 3,
            resetting: 1,
            dialing: 4,
            waiting: 1,
            longest_wait_seconds: 2.5,
            paused: true,
        },
        database: DatabaseView {
            state: DatabaseState::Up,
            since_seconds: 1.0,
            addresses: vec!["db-0.db:5432".into(), "db-1.db:5432".into()],
            current: Some("db-1.db:5432".into()),
            current_seconds: 0.0,
            cause: None,
            last_error: None,
            retry: None,
        },
        totals: Totals::default(),
        sessions_listed: 3,
        clients_listed: 1,
        session_list: vec![
            session(1, SessionState::Active, Some(3)),
            session(2, SessionState::Waiting, None),
            session(4, SessionState::Idle, None),
        ],
        client_list: vec![client],
    }
}

fn facts(proxies: Vec<ProxyView>) -> Facts {
    let total = Usage { assignments: 7, transactions: 5, queries: 9, received: 100, sent: 200, ..Usage::default() };
    let more = ProxyFacts {
        user: Some("app".into()),
        database: Some("orders".into()),
        max_age: Some(Duration::from_hours(1)),
        total,
        lately: (Usage { queries: 60, query_seconds: 0.6, ..Usage::default() }, Duration::from_mins(1)),
    };
    let status = Status {
        version: "0.1.0",
        name: "orders".into(),
        hash: String::new(),
        generation: 1,
        state: State::Applied,
        refused: None,
        proxies: Vec::new(),
        restart_required: Vec::new(),
    };
    let setting = Setting { key: "workers".into(), value: "1".into(), default: Some("1".into()), is_live: false };
    Facts {
        proxies: vec![more; proxies.len()],
        view: View {
            version: "0.1.0",
            name: "orders".into(),
            uptime_seconds: 1.0,
            draining: false,
            workers: 1,
            silent_workers: 0,
            config: status,
            proxies,
            events: Vec::new(),
        },
        settings: vec![setting],
        resident: Some(4096),
        now: Duration::from_hours(482_136),
    }
}

/// A row as psql writes it without alignment.
fn told(row: &Row) -> String {
    let cell = |cell: &Cell| match cell {
        Cell::Null => "-".to_owned(),
        Cell::Text(text) => text.clone(),
        Cell::Number(number) => number.to_string(),
    };
    row.iter().map(cell).collect::<Vec<_>>().join("|")
}

fn shown(show: Show) -> Vec<String> {
    rows(show, &facts(vec![proxy()])).iter().map(told).collect()
}

#[test]
fn every_row_has_a_value_for_each_column() {
    for facts in [facts(Vec::new()), facts(vec![proxy(), proxy()])] {
        for show in ALL {
            for row in rows(show, &facts) {
                assert_eq!(row.len(), show.columns().len(), "{show:?}: {}", told(&row));
            }
        }
    }
}

#[test]
fn a_pool_is_told_in_pgbouncers_words() {
    assert_eq!(shown(Show::Pools), ["orders-ro|app|2|1|-|-|2|-|-|2|0|1|4|2|500000|transaction|-"]);
    let database = "orders-ro|db-1.db|5432|orders|app|10|1|0|3600|transaction|-|10|5|1000|3|1|0|0";
    assert_eq!(shown(Show::Databases), [database]);
    assert_eq!(shown(Show::State), ["active|no", "paused|yes", "suspended|no"]);
    assert_eq!(rows(Show::State, &facts(Vec::new())).iter().map(told).next().as_deref(), Some("active|yes"));
}

#[test]
fn sessions_are_its_clients_and_clients_its_servers() {
    let begins = "C|app|orders|none";
    let at = "127.0.0.1|50412|127.0.0.1|5432|2024-12-31 23:59:00 UTC|2024-12-31 23:59:58 UTC";
    assert_eq!(
        shown(Show::Clients),
        [
            format!("{begins}|active|{at}|0|0|0|-|3|0|-|psql|-|1|orders-ro"),
            format!("{begins}|waiting|{at}|1|250000|0|-||0|-|psql|-|2|orders-ro"),
            format!("{begins}|idle|{at}|0|0|0|-||0|-|psql|-|4|orders-ro"),
        ]
    );
    let server =
        "S|app|orders|none|active|10.0.0.5|5432|::1|40312|2024-12-31 23:59:00 UTC|-|0|0|0|-|1|123|-|psql|-|3|orders-ro";
    assert_eq!(shown(Show::Servers), [server]);
}

#[test]
fn what_is_counted_is_told_all_in_all_and_lately() {
    let (total, lately) = ("7|5|9|100|200|-|0|0|-|-|-", "0|0|1|0|0|-|10000|0|-|-|-");
    assert_eq!(shown(Show::StatsTotals), [format!("orders-ro|{total}")]);
    assert_eq!(shown(Show::StatsAverages), [format!("orders-ro|{lately}")]);
    assert_eq!(shown(Show::Stats), [format!("orders-ro|{total}|{lately}|9")]);
    let totals = shown(Show::Totals);
    assert!(totals.contains(&"total_query_count|9".to_owned()), "{totals:?}");
    assert!(totals.contains(&"avg_query_time|10000".to_owned()), "{totals:?}");
}

#[test]
fn lists_and_users_are_counted_and_settings_told() {
    let lists = shown(Show::Lists);
    for line in ["databases|1", "users|1", "pools|1", "used_clients|3", "free_clients|997", "used_servers|5"] {
        assert!(lists.contains(&line.to_owned()), "{line}: {lists:?}");
    }
    assert_eq!(shown(Show::Users), ["app|||-|0|1|0|3"]);
    assert_eq!(shown(Show::Config), ["max_client_conn|1000|-|no", "max_user_connections|0|-|no", "workers|1|1|no"]);
    assert_eq!(
        (shown(Show::Version), shown(Show::Mem)),
        (vec!["Postern 0.1.0".to_owned()], vec!["resident|-|-|-|4096".to_owned()])
    );
}

#[test]
fn an_address_has_two_parts_where_it_has_a_port() {
    for (address, host, port) in [
        ("[::1]:80", "::1", 80),
        ("db.example:5432", "db.example", 5432),
        ("/run/.s.PGSQL.5432", "/run/.s.PGSQL.5432", 0),
        ("unix", "unix", 0),
    ] {
        let Place(read, cell) = place(address);
        assert_eq!((read.as_str(), cell), (host, Cell::Number(port)), "{address}");
    }
}
