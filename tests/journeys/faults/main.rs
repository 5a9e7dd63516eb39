//! Faults on real things, under a small steady load: what each looks like to a peer and to the operator of the gateway.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

#[path = "../postgres/modes.rs"]
#[allow(dead_code, reason = "other journeys need all of the modes")]
mod modes;
mod load;
mod amid;
mod stage;
mod sight;
mod processes;
mod resources;
mod network;
mod clocks;
mod table;

use sight::Sight;

/// One fault.
struct Fault {
    /// What goes wrong.
    name: &'static str,
    /// How it was made to.
    done: &'static str,
    /// How what the peers see begins: of transaction pooling, and of `opaque`.
    promise: [&'static str; 2],
    run: fn() -> Vec<Sight>,
}

/// The promise that peers do not notice.
const NO_ERROR: [&str; 2] = ["no error"; 2];

/// All of them, in the order of the table.
const FAULTS: &[Fault] = &[
    Fault {
        name: "the database is killed",
        done: "`kill -9` of all its processes, started again after 3 s",
        promise: ["no error", "`reset` once each"],
        run: processes::killed_database,
    },
    Fault {
        name: "the database hangs",
        done: "`kill -STOP` of all its processes for 3 s, `receiveTimeout: 1s`",
        promise: NO_ERROR,
        run: processes::frozen_database,
    },
    Fault {
        name: "the database hangs too long",
        done: "the same with `receiveDeadline: 1s`",
        promise: ["`08006`", "`reset`"],
        run: processes::frozen_database_with_a_deadline,
    },
    Fault {
        name: "the gateway hangs",
        done: "`kill -STOP` for 3 s",
        promise: NO_ERROR,
        run: processes::frozen_gateway,
    },
    Fault {
        name: "the gateway is killed",
        done: "`kill -9`; another one at the same socket after 3 s",
        promise: ["`reset` once each, no connection meanwhile"; 2],
        run: processes::killed_gateway,
    },
    Fault {
        name: "no room for the database's rows",
        done: "a tablespace of 256 KiB that is full for 3 s",
        promise: ["`53100`"; 2],
        run: resources::full_disk_of_the_database,
    },
    Fault {
        name: "no room for the gateway's socket",
        done: "a full disk, where another gateway is started",
        promise: NO_ERROR,
        run: resources::full_disk_of_the_sockets,
    },
    Fault {
        name: "no file descriptor is left",
        done: "`ulimit -n 64`, and 100 more peers of each mode for 3 s",
        promise: NO_ERROR,
        run: resources::no_descriptors,
    },
    Fault {
        name: "packets are lost",
        done: "5 % of them, each way, for 10 s",
        promise: NO_ERROR,
        run: network::lost_packets,
    },
    Fault { name: "a black hole", done: "no packet passes for 3 s", promise: NO_ERROR, run: network::short_hole },
    Fault {
        name: "a long black hole",
        done: "no packet passes for 10 s; `tcpUserTimeout: 2s`, `tcpKeepAlivePeriod: 2s`, `dialTimeout: 1s`",
        promise: ["`08006`", "`reset`"],
        run: network::long_hole,
    },
    Fault { name: "a slow network", done: "100 ms each way, by a relay", promise: NO_ERROR, run: network::delay },
    Fault {
        name: "the time of day jumps",
        done: "an hour forward, a day back, ten years forward, and back",
        promise: NO_ERROR,
        run: clocks::time_of_day,
    },
    Fault {
        name: "a clock that has just begun, or is old",
        done: "an uptime of 1 s, and of 50 years",
        promise: NO_ERROR,
        run: clocks::uptime,
    },
];

/// Set, the table of the README is written anew.
const WRITE: &str = "POSTERN_WRITE_FAULTS";

/// Names a part of the faults to set; without it all of them are.
const ONLY: &str = "POSTERN_TEST_FAULT";

#[test]
fn every_fault_keeps_its_promises() {
    let only = std::env::var(ONLY).unwrap_or_default();
    let chosen = FAULTS.iter().filter(|fault| fault.name.contains(&only));
    let rows: Vec<_> = chosen
        .map(|fault| {
            let watch = cast::Stopwatch::start();
            let sights = (fault.run)();
            eprintln!("{} ({:.1?})", fault.name, watch.elapsed());
            // Where one was seen, both modes saw the same.
            for (index, promise) in fault.promise.into_iter().enumerate() {
                let sight = sights.get(index).or(sights.last()).expect("something was seen");
                assert!(sight.seen.starts_with(promise), "{}: {sight:?}, not {promise}", fault.name);
            }
            (fault, sights)
        })
        .collect();
    assert!(!rows.is_empty(), "there is no fault {only:?}");
    let table = table::table(&rows);
    eprintln!("{table}");
    if std::env::var_os(WRITE).is_some() && rows.len() == FAULTS.len() {
        table::write(&table);
    }
}
