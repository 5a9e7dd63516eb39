//! What stays the same however much has passed: after millions of transactions by peers that come, prepare, ask and leave, the
//! gateway holds the memory and the file descriptors that it held after the first.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "with `--nocapture` it says how far it is")]
#![allow(clippy::cast_precision_loss, reason = "transactions and bytes stay far below 2^52")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cast::frontend::{Frontend, bind, close, execute, message, parse, query, sync};
use cast::time::{Stopwatch, pause};
use cast::wire::Address;
use cast::{Gateway, Manifest, Postgres, Random};

#[path = "postgres/modes.rs"]
#[expect(dead_code, reason = "the other journeys need all of it")]
mod modes;

const PEERS: u64 = 32;
const CLIENTS: u32 = 8;
/// Transactions, unless `POSTERN_TEST_TRANSACTIONS` says otherwise.
const TRANSACTIONS: u64 = 500_000;
/// A peer sends at most so many transactions before it reads an answer.
const MOST_AT_ONCE: u64 = 32;
/// A peer logs in again after about so many pipelines.
const PIPELINES_A_LOGIN: u64 = 1000;
/// One of so many pipelines begins with a statement that nobody has prepared before.
const PIPELINES_A_STATEMENT: u64 = 50;
/// Looks at the gateway, evenly over the run.
const LOOKS: u64 = 200;
/// The first part of the run, in which buffers and caches grow to what they are for: one of so many.
const WARM_UP: u64 = 5;
/// Bytes that each further million of transactions may add, as the slope of a line through all looks.
const MOST_SLOPE: f64 = 1024.0;
/// A run of fewer millions cannot tell a slope, because looks differ by pages.
const LEAST_FOR_A_SLOPE: f64 = 10.0;
/// So many bytes more than at first are nothing in such a run: the bounded memory of statements fills.
const NOISE: f64 = 256.0 * 1024.0;

/// What the gateway held when so many transactions were answered.
#[derive(Clone, Copy, Debug)]
struct Look {
    transactions: u64,
    /// All that is resident, in bytes.
    memory: u64,
    /// As much of it as the gateway has allocated; the rest is of its program, and cannot be more than that.
    allocated: u64,
    files: usize,
}

#[test]
fn memory_and_files_stay_as_they_are_however_many_transactions_pass() {
    let wanted = std::env::var("POSTERN_TEST_TRANSACTIONS").ok().and_then(|count| count.parse().ok());
    let wanted = wanted.unwrap_or(TRANSACTIONS);
    let seed = u64::from(std::process::id());
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let proxy = modes::proxy("transaction", &postgres.address()).set("pool.size", CLIENTS);
    let gateway = modes::start(Manifest::of([proxy]), &secrets);
    let (address, answered, is_over) = (gateway.address_of("transaction"), AtomicU64::new(0), AtomicBool::new(false));
    let watch = Stopwatch::start();
    let looks = std::thread::scope(|scope| {
        let (address, answered, is_over) = (&address, &answered, &is_over);
        let peers: Vec<_> = (0..PEERS)
            .map(|peer| {
                let random = Random::seeded(seed * PEERS + peer);
                scope.spawn(move || talk(address, random, (answered, wanted), is_over))
            })
            .collect();
        let mut looks = Vec::new();
        while looks.len() < usize::try_from(LOOKS).unwrap()
            && !peers.iter().any(std::thread::ScopedJoinHandle::is_finished)
        {
            let transactions = answered.load(Ordering::Relaxed);
            if transactions >= wanted / LOOKS * (looks.len() as u64 + 1) {
                looks.push(look(&gateway, transactions));
                tell(&looks, wanted, &watch);
            }
            pause(Duration::from_millis(2));
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(peers.into_iter().all(|peer| peer.join().is_ok()), "a peer has failed");
        looks
    });
    let settled = &looks[looks.len() / usize::try_from(WARM_UP).unwrap()..];
    let (first, last) = (settled.first().unwrap(), settled.last().unwrap());
    let slope = slope(settled);
    println!(
        "{} transactions in {:.0} s: from {} KiB and {} files to {} KiB and {}; {slope:.0} bytes for each further million",
        last.transactions,
        watch.elapsed().as_secs_f64(),
        first.memory / 1024,
        first.files,
        last.memory / 1024,
        last.files,
    );
    let further = (last.transactions - first.transactions) as f64 / 1e6;
    let is_flat = if further < LEAST_FOR_A_SLOPE { slope * further < NOISE } else { slope < MOST_SLOPE };
    assert!(is_flat, "memory grows by {slope:.0} bytes with each million");
    gateway.expect_quiet("transaction");
    gateway.expect_metric("postern_desync_total", &[("proxy", "transaction")], 0.0);
    let most = settled.iter().map(|look| look.files).max().unwrap();
    let files = gateway.process().open_files();
    assert!(
        files + usize::try_from(PEERS).unwrap() >= most,
        "{files} file descriptors are open, and there were {most}"
    );
    gateway.ends_well();
}

fn look(gateway: &Gateway, transactions: u64) -> Look {
    let process = gateway.process();
    let (memory, allocated) = (process.resident_memory(), process.anonymous_memory());
    Look { transactions, memory, allocated, files: process.open_files() }
}

/// Says how far it is, now and then.
fn tell(looks: &[Look], wanted: u64, watch: &Stopwatch) {
    if let [.., Look { transactions, memory, allocated, files }] = looks
        && looks.len().is_multiple_of(20)
    {
        let (elapsed, all, allocated) = (watch.elapsed().as_secs(), memory / 1024, allocated / 1024);
        println!(
            "{transactions} of {wanted} transactions after {elapsed} s: {all} KiB, {allocated} allocated, {files} files"
        );
    }
}

/// By how many bytes memory grows with each million transactions: the slope of the line of least squares.
fn slope(looks: &[Look]) -> f64 {
    let count = looks.len() as f64;
    let points = || looks.iter().map(|look| (look.transactions as f64 / 1e6, look.memory as f64));
    let (mean_x, mean_y) = points().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (above, below) = points()
        .fold((0.0, 0.0), |(above, below), (x, y)| (above + (x - mean_x) * (y - mean_y), below + (x - mean_x).powi(2)));
    above / below
}

/// Asks and asks, each time for a token that must come back, until all together have been answered so many times.
fn talk(address: &Address, mut random: Random, (answered, wanted): (&AtomicU64, u64), is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) && answered.load(Ordering::Relaxed) < wanted {
        let mut peer = Frontend::login(address);
        peer.send(&[parse("token", "select $1::text"), sync()].concat());
        peer.until_ready(1);
        for _ in 0..=random.below(2 * PIPELINES_A_LOGIN) {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let count = pipeline(&mut peer, &mut random);
            answered.fetch_add(count, Ordering::Relaxed);
        }
        // Every other one says good-bye.
        if random.below(2) == 0 {
            peer.send(&message(b'X', &[]));
        }
    }
}

/// Some transactions in one go; how many.
fn pipeline(peer: &mut Frontend, random: &mut Random) -> u64 {
    let count = 1 + random.below(MOST_AT_ONCE);
    let tokens: Vec<_> = (0..count).map(|_| random.next_word().to_string()).collect();
    let mut said = Vec::new();
    let is_new = random.below(PIPELINES_A_STATEMENT) == 0;
    if is_new {
        let statement = parse("new", &format!("select $1::text as t{}", tokens[0]));
        said.extend([statement, bind("", "new", &["x"]), execute("", 0), close(b'S', "new"), sync()].concat());
    }
    for (index, token) in tokens.iter().enumerate() {
        match index % 8 {
            5 => said.extend(query(&format!("begin; select '{token}'; commit"))),
            6 => said.extend(query(&format!("select '{token}'"))),
            _ => said.extend([bind("", "token", &[token]), execute("", 0), sync()].concat()),
        }
    }
    peer.send(&said);
    let readies = usize::try_from(count).unwrap() + usize::from(is_new);
    let answers = peer.until_ready(readies);
    let rows = answers.iter().filter(|answer| answer.tag == b'D').map(|row| row.body.get(6..).unwrap_or_default());
    let rows: Vec<_> = rows.skip(usize::from(is_new)).collect();
    let expected: Vec<_> = tokens.iter().map(String::as_bytes).collect();
    assert_eq!(rows, expected, "these came back in place of the tokens that were asked for");
    count + u64::from(is_new)
}
