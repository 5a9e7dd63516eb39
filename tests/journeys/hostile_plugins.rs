//! Plugins that mean harm, in a gateway that serves others too: nobody else is kept waiting for long, the gateway goes on,
//! and what they did is counted.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use cast::gateway::cli;
use cast::plugin::Plugin;
use cast::{Folder, Gateway, Manifest, Peer, Proxy, Scripted, Stopwatch};
use serde_json::json;

/// Loops until it is stopped.
const FOREVER: &str = "(loop $again (br $again)) unreachable";
/// Asks for 4 GiB, and goes on without them.
const GROWS: &str = "(drop (memory.grow (i32.const 65530))) (call $drop (local.get $chunk)) \
                     (call $answer (i32.const 0) (i32.const 0) (i32.const 0))";
/// Says more than anybody can read.
const SHOUTS: &str = "(loop $again (call $log (i32.const 0) (i32.const 0) (i32.const 60000)) (br $again)) unreachable";
/// Sessions that a plugin is let loose on.
const ATTACKS: u64 = 40;
const PATIENCE: Duration = Duration::from_secs(20);

/// What the plugin answers.
fn ask(peer: &mut Peer) -> String {
    let mut answer = [0; 3];
    peer.wire().write_all(b"who").unwrap();
    peer.wire().read_exact(&mut answer).unwrap();
    String::from_utf8(answer.to_vec()).unwrap()
}

/// A gateway with two proxies: one is left alone by the plugin, which looks only at what begins with an `x`.
fn attacked(name: &str, instructions: &str) -> (Folder, Scripted, Gateway) {
    let spares = format!(
        "(call $read (local.get $chunk) (i32.const 0) (i32.const 1) (i32.const 48)) \
         (if (i32.ne (i32.load8_u (i32.load (i32.const 48))) (i32.const 120)) (then (call $drop (local.get $chunk)) \
         (return (call $answer (i32.const 0) (i32.const 0) (i32.const 0))))) {instructions}"
    );
    let folder = Folder::new(name);
    let file = folder.join("plugin.wasm");
    std::fs::write(&file, Plugin::default().wants("from-client").does("from-client", &spares).component()).unwrap();
    let database = Scripted::echo();
    // Without a bound by instructions, time alone ends it.
    let hook =
        json!({"name": "hostile", "source": {"file": file}, "onError": "close", "limits": {"fuel": 2_000_000_000}});
    let gateway = Gateway::start(Manifest::of([Proxy::to(database.address())]).set("hooks", json!([hook])));
    (folder, database, gateway)
}

#[test]
fn a_plugin_that_means_harm_keeps_no_other_session_waiting() {
    for (name, instructions, reason) in [
        ("loops", FOREVER, "time"),
        ("grows", GROWS, "memory"),
        ("traps", "unreachable", "trap"),
        ("shouts", SHOUTS, "time"),
    ] {
        let (_folder, _database, mut gateway) = attacked(name, instructions);
        let (is_over, rounds, longest) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut bystander = Peer::dial(&gateway.address());
                while !is_over.load(SeqCst) {
                    let watch = Stopwatch::start();
                    bystander.echoes(b"quietly");
                    rounds.fetch_add(1, SeqCst);
                    longest.fetch_max(u64::try_from(watch.elapsed().as_micros()).unwrap(), SeqCst);
                }
            });
            let mut served = 0;
            for _ in 0..ATTACKS {
                let before = rounds.load(SeqCst);
                let mut peer = Peer::dial(&gateway.address());
                peer.wire().write_all(b"x").unwrap();
                assert!(peer.closed_within(PATIENCE).is_some(), "{name}: onError has its session closed");
                served += u64::from(rounds.load(SeqCst) > before);
            }
            is_over.store(true, SeqCst);
            eprintln!(
                "{name}: {} rounds of the bystander during {ATTACKS} attacks, {served} of which had one; the longest took {} µs",
                rounds.load(SeqCst),
                longest.load(SeqCst)
            );
        });
        // Each attack costs what it may cost and then everybody has their turn, however fast the machine is.
        assert!(rounds.load(SeqCst) >= ATTACKS / 2, "{name}: others are served between two attacks");
        gateway.expect_metric(
            "postern_plugin_errors_total",
            &[("plugin", "hostile"), ("hook", "from-client"), ("reason", reason)],
            40.0,
        );
        assert!(gateway.runs());
        Peer::dial(&gateway.address()).echoes(b"still here");
    }
}

#[test]
fn a_changed_plugin_serves_new_sessions_and_one_that_cannot_be_had_changes_nothing() {
    let folder = Folder::new("swap");
    let answering = |word: &[u8]| Plugin::default().wants("from-client").answers("from-client", 2, word).component();
    let database = Scripted::echo();
    let manifest = |file: &str, digest: Option<&str>| {
        let mut hook = json!({"name": "answers", "source": {"file": folder.join(file)}, "onError": "close"});
        if let Some(digest) = digest {
            hook["digest"] = json!(digest);
        }
        Manifest::of([Proxy::to(database.address())]).set("hooks", json!([hook]))
    };
    std::fs::write(folder.join("one.wasm"), answering(b"one")).unwrap();
    std::fs::write(folder.join("two.wasm"), answering(b"two")).unwrap();
    std::fs::write(folder.join("none.wasm"), b"nothing").unwrap();
    let mut gateway = Gateway::start(manifest("one.wasm", None));
    let mut before = Peer::dial(&gateway.address());
    assert_eq!(ask(&mut before), "one");
    gateway.edit(&manifest("two.wasm", None));
    gateway.reaches_generation(2);
    assert_eq!(ask(&mut Peer::dial(&gateway.address())), "two");
    assert_eq!(ask(&mut before), "one");
    for (file, digest, reason) in [
        ("none.wasm", None, "spec.hooks[0]: the plugin"),
        ("missing.wasm", None, "cannot read"),
        ("one.wasm", Some(format!("sha256:{}", "0".repeat(64))), "is wanted"),
    ] {
        gateway.edit(&manifest(file, digest.as_deref()));
        cast::within(PATIENCE, "it is refused with the reason", || {
            gateway.state()["refused"]["reason"].as_str().is_some_and(|said| said.contains(reason))
        });
        assert_eq!(ask(&mut Peer::dial(&gateway.address())), "two");
    }
}

#[test]
fn a_plugin_is_looked_at_and_tried_before_it_serves() {
    let folder = Folder::new("tried");
    let plugin = Plugin::default().wants("query").wants("from-client").answers("from-client", 3, b"");
    std::fs::write(folder.join("plugin.wasm"), plugin.component()).unwrap();
    let document = |file: &str| {
        let proxy = Proxy::reaching("tcp", "db:5432").set("protocol", "postgres");
        let hook = json!({"name": "closes", "source": {"file": file}});
        let path = folder.join("gateway.yaml");
        std::fs::write(&path, Manifest::of([proxy]).set("hooks", json!([hook])).text()).unwrap();
        path.display().to_string()
    };
    let path = document("plugin.wasm");
    let (status, said) = cli(&["check", "-f", &path]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("plugin closes: sha256:") && said.contains("is called for from-client, query"), "{said}");
    let recorded = folder.join("recorded.yaml");
    let events = "events: [{startup: {user: app, database: db}}, {ready: idle}, {query: select 1}, {query: select 2}]";
    std::fs::write(&recorded, events).unwrap();
    let (status, said) = cli(&["plugin", "test", "-f", &path, "--session", &recorded.display().to_string()]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("peer: Query \"select 1\"\n  ends the session\n") && !said.contains("select 2"), "{said}");
    let closed = "postern_plugin_calls_total{hook=\"from-client\",plugin=\"closes\",verdict=\"close\"} 1";
    assert!(said.contains(closed), "{said}");
    let (status, said) = cli(&["check", "-f", &document("elsewhere.wasm")]);
    assert!(status == Some(0) && said.contains("plugin closes: not looked at: cannot read "), "{said}");
    std::fs::write(folder.join("broken.wasm"), b"nothing").unwrap();
    let (status, said) = cli(&["check", "-f", &document("broken.wasm")]);
    assert!(status == Some(1) && said.contains("spec.hooks[0].source: the plugin \"closes\": "), "{said}");
}
