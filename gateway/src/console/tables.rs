//! What the tables of a console say, by what is known of the gateway at this moment. Pure.
//!
//! Where PgBouncer has a column for what the gateway does not measure, or does not have, the value is null.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stamp::stamp;
use super::table::{Cell, Row, Show};
use super::usage::Usage;
use crate::view::{ClientState, ClientView, ProxyView, SessionState, SessionView, View};

/// What is known of the gateway.
pub(super) struct Facts {
    /// What `/state` says.
    pub(super) view: View,
    /// What is known of each of its proxies besides.
    pub(super) proxies: Vec<ProxyFacts>,
    /// Every setting: its path, its value, its default, and whether a change of it needs no restart.
    pub(super) settings: Vec<Setting>,
    /// What the process holds in memory, in bytes.
    pub(super) resident: Option<u64>,
    /// The time of day, since 1970.
    pub(super) now: Duration,
}

/// What a console needs to know of a proxy beyond the view.
#[derive(Clone, Debug, Default)]
pub(super) struct ProxyFacts {
    /// As whom the gateway logs in.
    pub(super) user: Option<String>,
    /// In which database by default.
    pub(super) database: Option<String>,
    /// How old a client becomes, at most.
    pub(super) max_age: Option<Duration>,
    /// All that has happened since the start.
    pub(super) total: Usage,
    /// What has happened lately, and in which time.
    pub(super) lately: (Usage, Duration),
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) default: Option<String>,
    pub(super) is_live: bool,
}

/// An address as PgBouncer writes it: a host, and a port.
struct Place(String, Cell);

/// What there is for one name of a user.
#[derive(Default)]
struct OfUser {
    clients: usize,
    sessions: usize,
}

/// The rows of a table.
pub(super) fn rows(show: Show, facts: &Facts) -> Vec<Row> {
    let each = |row: fn(&ProxyView, &ProxyFacts) -> Row| {
        facts.view.proxies.iter().zip(&facts.proxies).map(|(proxy, more)| row(proxy, more)).collect()
    };
    match show {
        Show::Clients => {
            sockets(facts, |proxy| proxy.session_list.iter().map(|session| client(proxy, session, facts)).collect())
        }
        Show::Servers => {
            sockets(facts, |proxy| proxy.client_list.iter().map(|client| server(proxy, client, facts)).collect())
        }
        Show::Config => config(facts),
        Show::Databases => each(database),
        Show::Lists => lists(facts),
        Show::Mem => vec![vec!["resident".into(), Cell::Null, Cell::Null, Cell::Null, number(facts.resident)]],
        Show::Pools => each(pool),
        Show::State => state(facts),
        Show::Stats => each(|proxy, more| {
            let (total, lately) = (more.total.totals(), more.lately.0.averages(more.lately.1));
            [vec![proxy.name.as_str().into()], total, lately, vec![more.total.queries.into()]].concat()
        }),
        Show::StatsTotals => each(|proxy, more| [vec![proxy.name.as_str().into()], more.total.totals()].concat()),
        Show::StatsAverages => {
            each(|proxy, more| [vec![proxy.name.as_str().into()], more.lately.0.averages(more.lately.1)].concat())
        }
        Show::Totals => totals(facts),
        Show::Users => users(facts),
        Show::Version => vec![vec![format!("Postern {}", facts.view.version).into()]],
    }
}

fn sockets(facts: &Facts, of: impl Fn(&ProxyView) -> Vec<Row>) -> Vec<Row> {
    facts.view.proxies.iter().flat_map(of).collect()
}

/// A session is what PgBouncer calls a client.
fn client(proxy: &ProxyView, session: &SessionView, facts: &Facts) -> Row {
    let state = match (session.state, session.client) {
        (SessionState::Waiting, _) => "waiting",
        (_, Some(_)) => "active",
        (_, None) => "idle",
    };
    let waits = if session.waits { session.state_since_seconds } else { 0.0 };
    let (Place(addr, port), Place(local_addr, local_port)) = (place(&session.peer), place(&proxy.address));
    let name = |name: &Option<String>| Cell::maybe(name.clone());
    let ago = |seconds| Cell::Text(stamp(facts.now.saturating_sub(Duration::from_secs_f64(seconds))));
    let [wait, wait_us] = split(waits);
    vec![
        "C".into(),
        name(&session.user),
        name(&session.database),
        "none".into(),
        state.into(),
        addr.into(),
        port,
        local_addr.into(),
        local_port,
        ago(session.since_seconds),
        ago(session.state_since_seconds),
        wait,
        wait_us,
        Cell::Number(0),
        Cell::Null,
        Cell::Text(session.client.map(|client| client.to_string()).unwrap_or_default()),
        Cell::Number(0),
        Cell::Null,
        name(&session.application),
        Cell::Null,
        session.id.into(),
        proxy.name.as_str().into(),
    ]
}

/// A client is what PgBouncer calls a server.
fn server(proxy: &ProxyView, client: &ClientView, facts: &Facts) -> Row {
    let state = match client.state {
        ClientState::Lent => "active",
        ClientState::Idle => "idle",
        ClientState::Resetting => "tested",
    };
    let (Place(addr, port), Place(local_addr, local_port)) = (place(&client.remote), place(&client.local));
    let session = proxy.session_list.iter().find(|session| session.client == Some(client.id));
    let since = facts.now.saturating_sub(Duration::from_secs_f64(client.age_seconds));
    vec![
        "S".into(),
        Cell::maybe(client.user.clone()),
        Cell::maybe(client.database.clone()),
        "none".into(),
        state.into(),
        addr.into(),
        port,
        local_addr.into(),
        local_port,
        stamp(since).into(),
        Cell::Null,
        Cell::Number(0),
        Cell::Number(0),
        Cell::Number(0),
        Cell::Null,
        Cell::Text(session.map(|session| session.id.to_string()).unwrap_or_default()),
        number(client.backend_pid.map(u64::from)),
        Cell::Null,
        Cell::maybe(session.and_then(|session| session.application.clone())),
        Cell::Null,
        client.id.into(),
        proxy.name.as_str().into(),
    ]
}

fn config(facts: &Facts) -> Vec<Row> {
    let most: usize = facts.view.proxies.iter().map(|proxy| proxy.max_peers).sum();
    // What exporters look for, by the names that it has there.
    let theirs = [("max_client_conn", most.to_string()), ("max_user_connections", "0".to_owned())];
    let theirs = theirs.map(|(key, value)| vec![key.into(), value.into(), Cell::Null, "no".into()]);
    let ours = facts.settings.iter().map(|setting| {
        let Setting { key, value, default, is_live } = setting;
        let changeable = if *is_live { "yes" } else { "no" };
        vec![key.as_str().into(), value.as_str().into(), Cell::maybe(default.clone()), changeable.into()]
    });
    theirs.into_iter().chain(ours).collect()
}

fn database(proxy: &ProxyView, more: &ProxyFacts) -> Row {
    let first = || proxy.database.addresses.first().map(String::as_str).unwrap_or_default();
    let Place(host, port) = place(proxy.database.current.as_deref().unwrap_or_else(first));
    vec![
        proxy.name.as_str().into(),
        host.into(),
        port,
        Cell::maybe(more.database.clone()),
        Cell::maybe(more.user.clone()),
        Cell::count(proxy.pool.size),
        Cell::count(proxy.pool.min_idle),
        Cell::Number(0),
        Cell::Number(more.max_age.unwrap_or_default().as_secs()),
        mode(proxy).into(),
        Cell::Null,
        Cell::count(proxy.pool.size),
        Cell::count(connected(proxy)),
        Cell::count(proxy.max_peers),
        Cell::count(proxy.sessions),
        Cell::Number(proxy.pool.paused.into()),
        Cell::Number(0),
        Cell::Number(0),
    ]
}

fn lists(facts: &Facts) -> Vec<Row> {
    let sum = |count: fn(&ProxyView) -> usize| facts.view.proxies.iter().map(count).sum::<usize>();
    let (sessions, clients) = (sum(|proxy| proxy.sessions), sum(connected));
    let list = [
        ("databases", facts.view.proxies.len()),
        ("users", by_user(facts).len()),
        ("peers", 0),
        ("pools", facts.view.proxies.len()),
        ("peer_pools", 0),
        ("free_clients", sum(|proxy| proxy.max_peers).saturating_sub(sessions)),
        ("used_clients", sessions),
        ("login_clients", sum(logging_in)),
        ("free_servers", sum(|proxy| proxy.pool.size).saturating_sub(clients)),
        ("used_servers", clients),
        // Names are resolved by the system, which keeps them.
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ];
    list.into_iter().map(|(name, items)| vec![name.into(), Cell::count(items)]).collect()
}

fn pool(proxy: &ProxyView, more: &ProxyFacts) -> Row {
    let pool = &proxy.pool;
    let [maxwait, maxwait_us] = split(pool.longest_wait_seconds);
    vec![
        proxy.name.as_str().into(),
        Cell::Text(more.user.clone().unwrap_or_default()),
        Cell::count(proxy.sessions.saturating_sub(pool.waiting)),
        Cell::count(pool.waiting),
        Cell::Null,
        Cell::Null,
        Cell::count(pool.lent.saturating_sub(pool.resetting)),
        Cell::Null,
        Cell::Null,
        Cell::count(pool.idle),
        Cell::Number(0),
        Cell::count(pool.resetting),
        Cell::count(pool.dialing),
        maxwait,
        maxwait_us,
        mode(proxy).into(),
        Cell::Null,
    ]
}

fn state(facts: &Facts) -> Vec<Row> {
    let proxies = &facts.view.proxies;
    let is_paused = !proxies.is_empty() && proxies.iter().all(|proxy| proxy.pool.paused);
    let said = [("active", !is_paused), ("paused", is_paused), ("suspended", false)];
    said.into_iter().map(|(key, is)| vec![key.into(), if is { "yes" } else { "no" }.into()]).collect()
}

fn totals(facts: &Facts) -> Vec<Row> {
    let sum = |usages: &mut dyn Iterator<Item = Usage>| usages.fold(Usage::default(), |sum, usage| sum + usage);
    let total = sum(&mut facts.proxies.iter().map(|proxy| proxy.total));
    let lately = sum(&mut facts.proxies.iter().map(|proxy| proxy.lately.0));
    let time = facts.proxies.first().map(|proxy| proxy.lately.1).unwrap_or_default();
    let rows = |prefix: &'static str, cells: Row| {
        let named = super::usage::NAMES.into_iter().zip(cells);
        named.map(move |(name, cell)| vec![format!("{prefix}_{name}").into(), cell])
    };
    rows("total", total.totals()).chain(rows("avg", lately.averages(time))).collect()
}

fn users(facts: &Facts) -> Vec<Row> {
    let row = |(name, of): (String, OfUser)| {
        vec![
            name.into(),
            "".into(),
            "".into(),
            Cell::Null,
            Cell::Number(0),
            Cell::count(of.clients),
            Cell::Number(0),
            Cell::count(of.sessions),
        ]
    };
    by_user(facts).into_iter().map(row).collect()
}

fn by_user(facts: &Facts) -> BTreeMap<String, OfUser> {
    let mut users = BTreeMap::<String, OfUser>::new();
    for user in facts.proxies.iter().filter_map(|proxy| proxy.user.clone()) {
        users.entry(user).or_default();
    }
    for proxy in &facts.view.proxies {
        for user in proxy.session_list.iter().filter_map(|session| session.user.clone()) {
            users.entry(user).or_default().sessions += 1;
        }
        for user in proxy.client_list.iter().filter_map(|client| client.user.clone()) {
            users.entry(user).or_default().clients += 1;
        }
    }
    users
}

/// Where a client serves a whole session PgBouncer calls it so.
fn mode(proxy: &ProxyView) -> &'static str {
    if proxy.mode == "transaction" { "transaction" } else { "session" }
}

/// Peers that have not said yet who they are, where they have to.
fn logging_in(proxy: &ProxyView) -> usize {
    let unknown = proxy.session_list.iter().filter(|session| session.user.is_none());
    if proxy.protocol == "postgres" { unknown.count() } else { 0 }
}

fn connected(proxy: &ProxyView) -> usize {
    proxy.pool.idle + proxy.pool.lent
}

fn number(number: Option<u64>) -> Cell {
    number.map_or(Cell::Null, Cell::Number)
}

/// Whole seconds, and the rest in microseconds.
fn split(seconds: f64) -> [Cell; 2] {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    [Cell::Number(time.as_secs()), Cell::Number(time.subsec_micros().into())]
}

/// The two parts of an address; a Unix socket has no port.
fn place(address: &str) -> Place {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    match parts {
        Some((host, port)) => Place(host.trim_matches(['[', ']']).to_owned(), Cell::Number(port.into())),
        None => Place(address.to_owned(), Cell::Number(0)),
    }
}

#[cfg(test)]
mod tests;
