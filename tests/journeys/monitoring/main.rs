//! What Prometheus makes of real faults: each makes its alert fire (in a recording no other), and its end clears it.
//!
//! In `cargo verify` a minute of the rules is three seconds. With `POSTERN_WRITE_SERIES=1` what Prometheus has scraped is written
//! as tests for `promtool`, which try the rules as they are; with `slowly` for the 1 it takes its real time, half an hour.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

#[path = "../postgres/modes.rs"]
#[allow(dead_code, reason = "other journeys need all of the modes")]
mod modes;
mod rules;
mod pace;
mod play;
mod site;
mod database;
mod pool;
mod peers;
mod itself;
mod series;
mod dashboard;
mod picture;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cast::Prometheus;
use cast::prometheus::Scrapes;
use cast::time::{comes_true, eventually, pause};
use serde_json::{Value, json};

use pace::Pace;
use play::Play;
use series::Recording;
use site::{NAMESPACE, Site};

/// One fault.
struct Fault {
    /// What it is called, as a `GatewayConfig` is.
    name: &'static str,
    /// What was done, for who reads the recording.
    done: &'static str,
    /// What fires, in a recording alone.
    alert: Option<&'static str>,
    set: fn() -> Box<dyn Site>,
}

/// When what happened, in Prometheus' time: seconds since 1970.
struct Story {
    start: f64,
    began: f64,
    ended: f64,
    over: f64,
}

/// All of them.
const FAULTS: &[Fault] = &[
    Fault {
        name: "nothing-is-wrong",
        done: "a gateway whose peers ask all the time",
        alert: None,
        set: database::sound,
    },
    Fault {
        name: "database-away",
        done: "the PostgreSQL behind two gateways is killed (kill -9), and started again in the end",
        alert: Some("PosternDatabaseAway"),
        set: database::killed,
    },
    Fault {
        name: "database-partly-away",
        done: "one of two gateways has its way to a PostgreSQL cut, and the other has not",
        alert: Some("PosternDatabasePartlyAway"),
        set: database::partly_away,
    },
    Fault {
        name: "database-flaps",
        done: "PostgreSQL is killed and started again, time after time",
        alert: Some("PosternDatabaseFlaps"),
        set: database::flaps,
    },
    Fault {
        name: "database-silent",
        done: "queries take longer than receiveTimeout",
        alert: Some("PosternDatabaseSilent"),
        set: database::silent,
    },
    Fault {
        name: "login-fails",
        done: "the role's password is changed in PostgreSQL, and not in the Secret",
        alert: Some("PosternLoginFails"),
        set: database::login_fails,
    },
    Fault {
        name: "pool-exhausted",
        done: "one peer keeps the only connection in a transaction, and others wait for acquireTimeout",
        alert: Some("PosternPoolExhausted"),
        set: pool::exhausted,
    },
    Fault {
        name: "peers-wait-long",
        done: "four peers ask for a second each over one connection",
        alert: Some("PosternPeersWaitLong"),
        set: pool::waits,
    },
    Fault {
        name: "limit-reached",
        done: "more peers than maxPeers stay",
        alert: Some("PosternLimitReached"),
        set: pool::full,
    },
    Fault {
        name: "no-file-descriptors",
        done: "a gateway that may open 64 files has 100 more peers",
        alert: Some("PosternNoFileDescriptors"),
        set: pool::no_descriptors,
    },
    Fault {
        name: "peers-not-understood",
        done: "something asks the proxy for a page, as an HTTP probe does",
        alert: Some("PosternPeersNotUnderstood"),
        set: peers::not_understood,
    },
    Fault {
        name: "peers-use-a-wrong-password",
        done: "psql proves another password than the Secret's",
        alert: Some("PosternPeersUseAWrongPassword"),
        set: peers::wrong_password,
    },
    Fault {
        name: "desync",
        done: "a database that answers twice, as a pooler does that mixes its sessions up",
        alert: Some("PosternDesync"),
        set: peers::desync,
    },
    Fault {
        name: "config-refused",
        done: "the configuration is edited to one that cannot be served",
        alert: Some("PosternConfigRefused"),
        set: itself::config_refused,
    },
    Fault {
        name: "gateway-without-config",
        done: "a sidecar is started before its file is there",
        alert: Some("PosternGatewayWithoutConfig"),
        set: itself::without_config,
    },
    Fault {
        name: "gateway-gone",
        done: "the gateway stands still (kill -STOP)",
        alert: Some("PosternGatewayGone"),
        set: itself::gone,
    },
    Fault {
        name: "gateway-restarts",
        done: "the gateway is killed and started again, time after time",
        alert: Some("PosternGatewayRestarts"),
        set: itself::restarts,
    },
    Fault {
        name: "gateway-memory-near-limit",
        done: "300 peers come; the limit, which kube-state-metrics would tell, comes from a stand-in for it",
        alert: Some("PosternGatewayMemoryNearLimit"),
        set: itself::memory,
    },
];

/// Names a part of the faults to set; without it all of them are.
const ONLY: &str = "POSTERN_TEST_FAULT";

#[test]
fn every_fault_fires_its_alert_and_its_end_clears_it() {
    let pace = Pace::wanted();
    let only = std::env::var(ONLY).unwrap_or_default();
    let faults: Vec<_> = FAULTS.iter().filter(|fault| fault.name.contains(&only)).collect();
    assert!(!faults.is_empty(), "there is no fault {only:?}");
    let mut sites: Vec<_> = faults.iter().map(|fault| (fault.set)()).collect();
    let scrapes = Scrapes { configs: scrape_configs(&faults, &sites), interval: pace.interval };
    let prometheus = Prometheus::start(
        &scrapes,
        &if pace.is_in_a_hurry() { rules::hastened(&rules::text()) } else { rules::text() },
    );
    let play = Play::default();
    let story = std::thread::scope(|scope| {
        // Whatever happens here, the sites do not wait for ever.
        let _over = play.over_in_the_end();
        for site in &mut sites {
            let play = &play;
            scope.spawn(move || play.run(&mut **site, pace));
        }
        tell_story(&prometheus, &faults, &play, pace)
    });
    assert_eq!(prometheus.failing_rules(), [""; 0]);
    picture::draw(&prometheus, story.start);
    if pace.is_recorded {
        for fault in &faults {
            series::write(
                &prometheus,
                &Recording {
                    name: fault.name,
                    done: fault.done,
                    of: format!("pod=~\"{}-[0-9]\"", fault.name),
                    start: story.start,
                    step: pace.interval.trim_end_matches('s').parse().unwrap(),
                    counts_as: pace.counts_as,
                    among: ",gatewayconfig!=\"\"",
                    looks: &[
                        (story.began, &[]),
                        (story.ended, &fault.alert.into_iter().collect::<Vec<_>>()),
                        (story.over, &[]),
                    ],
                    held: 0,
                },
            );
        }
    }
}

/// Lets all faults begin and end, and looks which alerts fire before, in between and after: when that was.
fn tell_story(prometheus: &Prometheus, faults: &[&Fault], play: &Play, pace: Pace) -> Story {
    eventually("every target is scraped", || {
        let up = prometheus.query("count(up == 1) == count(up)");
        up.first().is_some_and(|up| up.last() >= 1.0)
    });
    let start = prometheus.now();
    pause(pace.before);
    assert!(!pace.is_recorded || firing(prometheus).is_empty(), "before the faults {:?}", firing(prometheus));
    let began = prometheus.now();
    play.begin();
    pause(pace.during);
    let wanted = wanted_of(faults);
    // A recording needs all of it at one moment, and nothing else. In a hurry each may have its own; and on a busy machine,
    // where seconds stand for minutes, a late scrape or dial is a fault as well.
    let mut seen = BTreeMap::<String, BTreeSet<String>>::new();
    let all = comes_true(pace.patience, || {
        if pace.is_recorded {
            seen = firing(prometheus);
            return seen == wanted;
        }
        for (about, alerts) in firing(prometheus) {
            seen.entry(about).or_default().extend(alerts);
        }
        wanted.iter().all(|(about, alerts)| seen.get(about).is_some_and(|seen| seen.is_superset(alerts)))
    });
    assert!(all, "amid the faults {seen:#?}, not {wanted:#?}");
    for alert in prometheus.alerts() {
        let words = format!("{:?}", alert.annotations);
        assert!(!words.contains("<error") && !words.contains("<no value>"), "{words}");
    }
    if !pace.is_recorded && faults.len() == FAULTS.len() {
        let panels = dashboard::panels();
        dashboard::expect_data(prometheus, panels.iter().filter(|panel| panel.row != dashboard::OPERATOR), start);
    }
    let ended = prometheus.now();
    play.end();
    pause(pace.after);
    let clear = || firing(prometheus).is_empty();
    assert!(comes_true(pace.patience, clear), "after the faults {:#?}", firing(prometheus));
    Story { start, began, ended, over: prometheus.now() }
}

/// What should fire, by the configuration that it is about.
fn wanted_of(faults: &[&Fault]) -> BTreeMap<String, BTreeSet<String>> {
    let wanted = |fault: &&Fault| Some((fault.name.to_owned(), BTreeSet::from([fault.alert?.to_owned()])));
    faults.iter().filter_map(wanted).collect()
}

/// The alerts that fire, by the configuration that they are about.
fn firing(prometheus: &Prometheus) -> BTreeMap<String, BTreeSet<String>> {
    let mut firing = BTreeMap::<_, BTreeSet<_>>::new();
    for alert in prometheus.alerts().iter().filter(|alert| alert.fires) {
        let Some(about) = alert.labels.get("gatewayconfig") else { continue };
        firing.entry(about.clone()).or_default().insert(alert.name().to_owned());
    }
    firing
}

/// The gateways under the names that pods would have, and a stand-in for kube-state-metrics where there is one.
fn scrape_configs(faults: &[&Fault], sites: &[Box<dyn Site>]) -> Value {
    let mut gateways = Vec::new();
    let mut limits = Vec::new();
    for (fault, site) in faults.iter().zip(sites) {
        for (number, address) in site.gateways().into_iter().enumerate() {
            let labels =
                json!({"namespace": NAMESPACE, "pod": format!("{}-{number}", fault.name), "gatewayconfig": fault.name});
            gateways.push(json!({"targets": [address], "labels": labels}));
        }
        limits.extend(site.limits().map(|address| json!({"targets": [address]})));
    }
    let mut configs = vec![json!({"job_name": "postern-sidecars", "static_configs": gateways})];
    if !limits.is_empty() {
        configs.push(json!({"job_name": "kube-state-metrics", "honor_labels": true, "static_configs": limits}));
    }
    configs.into()
}

/// How long a site waits for something of its own.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
