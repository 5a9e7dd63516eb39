//! `kubectl postern top`: what pools do right now, by two looks at each gateway.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use kube::ResourceExt;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::live::Proxy;
use super::look::Look;
use super::print::{self, Cell, Output, Paint, Tone};
use super::snapshot::PodView;
use super::words::{bytes, span};
use super::{Ending, Error, pod};
use crate::names;
use crate::settings::duration;

/// Clears a terminal.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";
/// Pods that are looked at.
const MOST_PODS: usize = 200;

/// The command line of `top`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only the pods of this GatewayConfig.
    #[arg(short, long, value_name = "NAME")]
    pub config: Option<String>,
    /// Look again and again.
    #[arg(short, long, conflicts_with = "output")]
    pub watch: bool,
    /// From one look to the next.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub interval: Duration,
    /// The form of it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// One proxy of one pod, between two looks.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its name.
    pub proxy: String,
    /// Its database: `up`, `away`, `down` or `unknown`.
    pub database: String,
    /// Connections at most.
    pub size: u64,
    /// Of those, with a peer.
    pub lent: u64,
    /// Of those, ready for the next.
    pub idle: u64,
    /// Of those, about to be.
    pub dialing: u64,
    /// Peers that wait.
    pub waiting: u64,
    /// The one that has waited longest.
    pub longest_wait_seconds: f64,
    /// Peers that are connected.
    pub sessions: u64,
    /// Queries in a second; nothing where the gateway does not count them, because it does not log in itself.
    pub queries_per_second: Option<f64>,
    /// Transactions in a second; nothing in the same case.
    pub transactions_per_second: Option<f64>,
    /// Bytes towards the database in a second.
    pub bytes_to_database_per_second: f64,
    /// Bytes towards peers in a second.
    pub bytes_to_peers_per_second: f64,
}

/// Shows what pools do, once or until somebody has seen enough.
pub async fn run(look: &Look, namespace: &str, settings: &Settings) -> Result<Ending, Error> {
    let scope = (!settings.all_namespaces).then_some(namespace);
    let (mut before, mut at) = (sample(look, scope, settings).await?, Instant::now());
    loop {
        sleep(settings.interval).await;
        let (now, then) = (sample(look, scope, settings).await?, Instant::now());
        let rows = rows(&before, &now, then.duration_since(at).as_secs_f64());
        if !settings.watch {
            print::show(&rows, settings.output, || table(&rows, Paint::of_terminal()))?;
            let unknown: Vec<&PodView> = now.iter().filter(|view| pod::proxies(view).is_empty()).collect();
            return told(&unknown, settings.output);
        }
        let clear = if std::io::stdout().is_terminal() { CLEAR } else { "" };
        print::say(&format!("{clear}{}\n", table(&rows, Paint::of_terminal())))?;
        (before, at) = (now, then);
    }
}

/// Says of which gateways nothing is known.
fn told(unknown: &[&PodView], output: Output) -> Result<Ending, Error> {
    let Some(first) = unknown.first() else { return Ok(Ending::Fine) };
    if output == Output::Text {
        let why = match &first.live {
            Some(Err(why)) => why.as_str(),
            _ => "its gateway is too old to tell",
        };
        let (number, name) = (unknown.len(), first.pod.name_any());
        print::say(&format!("\nOf {number} more nothing is known, the first is {name}: {why}\n"))?;
    }
    Ok(Ending::Wrong)
}

async fn sample(look: &Look, scope: Option<&str>, settings: &Settings) -> Result<Vec<PodView>, Error> {
    let of_config = settings.config.as_ref().map(|name| format!(",{}={name}", names::CONFIG));
    let labels = format!("{}=true{}", names::INJECTED, of_config.unwrap_or_default());
    let mut pods = look.pods(scope, &labels).await?;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    pods.truncate(MOST_PODS);
    let mut views = look.glances(pods).await;
    views.retain(|view| view.seen.is_some());
    Ok(views)
}

fn rows(before: &[PodView], now: &[PodView], seconds: f64) -> Vec<Row> {
    let old = |view: &PodView, name: &str| {
        let same = before.iter().find(|other| other.pod.uid() == view.pod.uid())?;
        pod::proxies(same).iter().find(|proxy| proxy.name == name)
    };
    let of_pod = |view: &PodView| -> Vec<Row> {
        let row = |proxy: &Proxy| Row::of(view, (old(view, &proxy.name), proxy), seconds);
        pod::proxies(view).iter().map(row).collect()
    };
    now.iter().flat_map(of_pod).collect()
}

// === impl Row ===

impl Row {
    fn of(view: &PodView, (before, now): (Option<&Proxy>, &Proxy), seconds: f64) -> Self {
        // A gateway that was started anew counts from nothing.
        #[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
        let rate = |count: fn(&Proxy) -> u64| {
            let new = before.map_or(0, |before| count(now).saturating_sub(count(before)));
            new as f64 / seconds.max(f64::EPSILON)
        };
        let counts = matches!(now.mode.as_str(), "session" | "transaction");
        Self {
            namespace: view.pod.namespace().unwrap_or_default(),
            pod: view.pod.name_any(),
            proxy: now.name.clone(),
            database: now.database.state.clone(),
            size: now.pool.size,
            lent: now.pool.lent,
            idle: now.pool.idle,
            dialing: now.pool.dialing,
            waiting: now.pool.waiting,
            longest_wait_seconds: now.pool.longest_wait_seconds,
            sessions: now.sessions,
            queries_per_second: counts.then(|| rate(|proxy| proxy.totals.queries)),
            transactions_per_second: counts.then(|| rate(|proxy| proxy.totals.transactions)),
            bytes_to_database_per_second: rate(|proxy| proxy.totals.bytes_to_database),
            bytes_to_peers_per_second: rate(|proxy| proxy.totals.bytes_to_peers),
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let up = self.database == "up";
        let waits = if self.waiting > 0 {
            Cell::new(format!("{} ({})", self.waiting, span(self.longest_wait_seconds)), Tone::Bad)
        } else {
            Cell::plain("0")
        };
        vec![
            Cell::plain(&self.namespace),
            Cell::plain(&self.pod),
            Cell::plain(&self.proxy),
            Cell::new(&self.database, if up { Tone::Good } else { Tone::Bad }),
            Cell::plain(format!("{}/{}", self.lent, self.size)),
            Cell::plain(self.idle.to_string()),
            Cell::plain(self.dialing.to_string()),
            waits,
            Cell::plain(self.sessions.to_string()),
            Cell::plain(counted(self.queries_per_second)),
            Cell::plain(counted(self.transactions_per_second)),
            Cell::plain(bytes(self.bytes_to_database_per_second)),
            Cell::plain(bytes(self.bytes_to_peers_per_second)),
        ]
    }
}

fn counted(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

fn table(rows: &[Row], paint: Paint) -> String {
    if rows.is_empty() {
        return "No gateway tells what it does.\n".to_owned();
    }
    let headings = [
        "NAMESPACE",
        "POD",
        "PROXY",
        "DATABASE",
        "LENT",
        "IDLE",
        "DIALING",
        "WAITING",
        "SESSIONS",
        "QUERIES/S",
        "TX/S",
        "IN/S",
        "OUT/S",
    ];
    let rows: Vec<Vec<Cell>> = rows.iter().map(Row::cells).collect();
    print::table(&headings, &rows, paint)
}
