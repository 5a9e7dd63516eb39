//! Plugins that behave, and plugins that do not: real components, called as a session calls them.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::{OnError, PluginSource, Protocol};
use crate::hooks::{Chain, Hooks, Judgement, Moment, Session, Verdict};
use crate::net::Endpoint;
use crate::postgres::wire::{ErrorResponse, HEADER, Version, message, packet, tag, text};
use crate::proxy::relay::Direction;
use crate::random::Random;
use crate::secrets::Secrets;

#[path = "../../../../tests/cast/plugin.rs"]
#[expect(unreachable_pub, reason = "the journeys use it, too")]
mod actor;

use actor::Plugin as Actor;

/// A folder with a plugin in it, and what would load it.
struct Scene {
    folder: PathBuf,
    metrics: Metrics,
    loader: Loader,
    hook: HookConfig,
}

impl Scene {
    fn new(name: &str, actor: &Actor) -> Scene {
        let folder = std::env::temp_dir().join(format!("postern-plugin-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("plugin.wasm"), actor.component()).expect("a file");
        let metrics = Metrics::new().expect("metrics");
        let places = Places { folder: folder.clone(), secrets: Secrets::in_folder(&folder) };
        let loader = Loader::new(places, metrics.clone());
        let limits = PluginLimits { memory: 1024 * 1024, fuel: 10_000_000, time: Duration::from_millis(5) };
        let source = PluginSource::File("plugin.wasm".into());
        let hook = HookConfig {
            name: name.to_owned(),
            plugin: Some(PluginConfig { source, digest: None, limits }),
            on_error: OnError::Close,
            config: serde_json::json!({}),
        };
        Scene { folder, metrics, loader, hook }
    }

    fn passing(mut self) -> Scene {
        self.hook.on_error = OnError::Pass;
        self
    }

    fn limits(&mut self) -> &mut PluginLimits {
        &mut self.hook.plugin.as_mut().expect("it is a plugin").limits
    }

    fn load(&self) -> Result<Plugins, String> {
        self.loader.load(std::slice::from_ref(&self.hook)).map_err(|refused| refused.sentence)
    }

    fn session(&self, protocol: Protocol) -> Play {
        let plugins = self.load().unwrap_or_else(|sentence| panic!("{sentence}"));
        let hooks = Hooks::new(std::slice::from_ref(&self.hook), &plugins, &Random::from_seed(0)).expect("hooks");
        let session = Session { id: 7, proxy: "db".into(), protocol, peer: Endpoint::Unnamed };
        let metrics = self.metrics.proxy(&session.proxy);
        Play { chain: hooks.chain(&session), session, metrics }
    }

    /// Whether the gateway's metrics have this line.
    fn counts(&self, line: &str) -> bool {
        self.metrics.encode().expect("metrics").lines().any(|found| found == line)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // What is left is in the temporary folder.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A session in which a test speaks for both sides.
struct Play {
    chain: Chain,
    session: Session,
    metrics: crate::metrics::ProxyMetrics,
}

impl Play {
    fn says(&self, direction: Direction, bytes: &[u8]) -> Verdict {
        let Judgement { verdict, .. } = self.chain.judge(direction, bytes, &self.session, &self.metrics.session);
        let passed = match &verdict {
            Verdict::Pass => Some(bytes),
            Verdict::Replace(other) => Some(&**other),
            _ => None,
        };
        if let Some(passed) = passed.filter(|passed| !passed.is_empty()) {
            self.chain.notify(Moment::Sent(direction, passed), &self.session, &self.metrics.session);
        }
        verdict
    }

    fn peer(&self, bytes: &[u8]) -> Verdict {
        self.says(Direction::ToDatabase, bytes)
    }

    fn database(&self, bytes: &[u8]) -> Verdict {
        self.says(Direction::ToPeer, bytes)
    }

    /// A login without a password.
    fn logs_in(&self) {
        let mut startup = Vec::new();
        packet(&mut startup, |out| {
            out.extend_from_slice(&Version::V3_0.0.to_be_bytes());
            for word in ["user", "app", "database", "shop", ""] {
                text(out, word);
            }
        });
        assert_eq!(self.peer(&startup), Verdict::Pass);
        assert_eq!(self.database(&[said(tag::AUTHENTICATION, &[0; 4]), ready(b'I')].concat()), Verdict::Pass);
    }
}

fn said(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, tag, |out| out.extend_from_slice(body));
    out
}

fn query(text: &str) -> Vec<u8> {
    said(tag::QUERY, &[text.as_bytes(), b"\0"].concat())
}

fn ready(status: u8) -> Vec<u8> {
    said(tag::READY_FOR_QUERY, &[status])
}

const ANSWERS_EMPTY: &str = "(call $answer (i32.const 0) (i32.const 0) (i32.const 0))";

#[test]
fn a_plugin_is_called_for_what_it_asked_for_and_for_nothing_else() {
    let actor = Actor::default().wants("from-client").does("from-server", "unreachable");
    let scene = Scene::new("asked", &actor);
    let play = scene.session(Protocol::Opaque);
    assert_eq!(play.chain.open(&play.session, &play.metrics.session), Ok(None));
    assert_eq!((play.peer(b"any bytes"), play.database(b"answer")), (Verdict::Pass, Verdict::Pass));
    assert!(scene.counts("postern_plugin_calls_total{hook=\"from-client\",plugin=\"asked\",verdict=\"pass\"} 1"));
    assert!(!scene.metrics.encode().expect("metrics").contains("hook=\"from-server\""));
}

#[test]
fn verdicts_pass_replace_reply_and_close() {
    for (number, expected) in [
        (0, Verdict::Pass),
        (1, Verdict::Replace(b"other".to_vec())),
        (2, Verdict::Reply(b"other".to_vec())),
        (3, Verdict::Close),
    ] {
        let actor = Actor::default().wants("from-client").answers("from-client", number, b"other");
        assert_eq!(Scene::new("verdicts", &actor).session(Protocol::Opaque).peer(b"bytes"), expected);
    }
}

#[test]
fn a_plugin_reads_what_it_is_asked_about_and_no_more() {
    // It asks for more than there is, and answers with what it got.
    let read =
        "(call $read (local.get $chunk) (i32.const 2) (i32.const 1000) (i32.const 48)) (call $drop (local.get $chunk))
                (call $answer (i32.const 1) (i32.load (i32.const 48)) (i32.load (i32.const 52)))";
    let scene = Scene::new("reads", &Actor::default().wants("from-client").does("from-client", read));
    let play = scene.session(Protocol::Opaque);
    assert_eq!(play.peer(b"abcdef"), Verdict::Replace(b"cdef".to_vec()));
    assert_eq!(play.peer(b"a"), Verdict::Replace(Vec::new()), "an offset behind the end is the end");
}

#[test]
fn one_session_knows_nothing_of_another() {
    let count = "(call $drop (local.get $chunk)) (i32.store8 (i32.const 512) (i32.add (i32.load8_u (i32.const 512)) (i32.const 1)))
                 (call $answer (i32.const 1) (i32.const 512) (i32.const 1))";
    let scene = Scene::new("alone", &Actor::default().wants("from-client").does("from-client", count));
    let (one, other) = (scene.session(Protocol::Opaque), scene.session(Protocol::Opaque));
    assert_eq!((one.peer(b"x"), one.peer(b"x")), (Verdict::Replace(vec![1]), Verdict::Replace(vec![2])));
    assert_eq!(other.peer(b"x"), Verdict::Replace(vec![1]));
}

#[test]
fn what_a_hostile_plugin_does_ends_within_its_limits_and_is_counted() {
    let forever = "(loop $again (br $again)) unreachable";
    let grow = "(drop (memory.grow (i32.const 65530))) (call $drop (local.get $chunk)) (call $answer (i32.const 0) (i32.const 0) (i32.const 0))";
    let outside =
        "(call $drop (local.get $chunk)) (call $answer (i32.const 1) (i32.const 100000) (i32.const 2000000000))";
    let deep = "(call $deep) unreachable";
    let keeps = ANSWERS_EMPTY;
    for (name, instructions, fuel, reason) in [
        ("loops", forever, 100_000, "fuel"),
        ("stays", forever, 2_000_000_000, "time"),
        ("grows", grow, 10_000_000, "memory"),
        ("traps", "unreachable", 10_000_000, "trap"),
        ("lies", outside, 10_000_000, "trap"),
        ("dives", deep, 10_000_000, "stack"),
        ("keeps", keeps, 10_000_000, "trap"),
    ] {
        let actor = Actor::default().wants("from-client").does("from-client", instructions);
        let actor = actor.has("(func $deep (call $deep) (call $deep))");
        let mut scene = Scene::new(name, &actor).passing();
        scene.limits().fuel = fuel;
        let play = scene.session(Protocol::Opaque);
        assert_eq!(play.peer(b"bytes"), Verdict::Pass, "{name}: onError has them pass");
        let line = |reason: &str, count| {
            format!("postern_plugin_errors_total{{hook=\"from-client\",plugin=\"{name}\",reason=\"{reason}\"}} {count}")
        };
        assert!(scene.counts(&line(reason, 1)), "{name}: {}", scene.metrics.encode().expect("metrics"));
        assert_eq!((play.peer(b"more"), play.peer(b"more")), (Verdict::Pass, Verdict::Pass));
        assert!(scene.counts(&line("dead", 2)) && scene.counts(&line(reason, 1)), "{name} is not called again");
        scene.hook.on_error = OnError::Close;
        assert_eq!(scene.session(Protocol::Opaque).peer(b"bytes"), Verdict::Close, "{name}");
    }
}

#[test]
fn a_call_takes_little_more_than_its_time_of_the_thread() {
    let mut scene =
        Scene::new("late", &Actor::default().wants("on-opened").does("on-opened", "(loop $again (br $again))"));
    scene.limits().fuel = 2_000_000_000;
    let play = scene.session(Protocol::Opaque);
    let spent = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).expect("nanoseconds"))
    };
    let before = spent();
    assert!(!play.chain.notify(Moment::Opened, &play.session, &play.metrics.session));
    let taken = spent().saturating_sub(before);
    eprintln!("a call of at most 5 ms was stopped after {taken:?} of its thread, with what making the instance took");
    assert!(taken >= Duration::from_millis(4), "{taken:?}");
}

#[test]
fn a_plugin_that_wants_more_than_it_is_offered_is_refused_by_name() {
    let foreign = r#"(component (import "wasi:filesystem/types@0.2.0" (instance)))"#;
    let scene = Scene::new("foreign", &Actor::default());
    let refusal = |code: &[u8]| {
        std::fs::write(scene.folder.join("plugin.wasm"), code).expect("a file");
        scene.load().map(drop).expect_err("it is refused")
    };
    let said = refusal(&wat::parse_str(foreign).expect("a component"));
    assert_eq!(
        said,
        "it imports wasi:filesystem/types@0.2.0, and a plugin is offered postern:plugin/host and nothing else"
    );
    let said = refusal(&wat::parse_str("(module)").expect("a module"));
    assert_eq!(said, "it is a core module of WebAssembly and not a component");
    let said = refusal(&wat::parse_str("(component)").expect("a component"));
    assert!(said.contains("postern:plugin/hooks"), "{said}");
    assert!(!refusal(b"no code at all").is_empty());
}

#[test]
fn a_plugin_that_does_not_take_its_configuration_is_refused() {
    let refuse = "(i32.store8 (i32.const 32) (i32.const 1)) (i32.store (i32.const 36) (i32.const 1024))
                  (i32.store (i32.const 40) (i32.const 7)) (i32.const 32)";
    let actor = Actor::default().does("configure", refuse).has("(data (i32.const 1024) \"no wish\")");
    assert_eq!(Scene::new("no", &actor).load().map(drop), Err("it refuses its configuration: no wish".to_owned()));
    let stuck = Actor::default().does("configure", "(loop $again (br $again)) unreachable");
    let mut scene = Scene::new("stuck", &stuck);
    scene.limits().fuel = 100_000;
    let said = scene.load().map(drop).expect_err("it is stopped");
    assert_eq!(said, "it does not take its configuration: it took more instructions than limits.fuel allows");
    let mut scene = Scene::new("big", &Actor::default());
    scene.limits().memory = 65536;
    let said = scene.load().map(drop).expect_err("it has two pages");
    assert!(said.contains("limits.memory"), "{said}");
}

#[test]
fn code_that_is_not_what_was_meant_is_refused_and_what_is_known_is_not_compiled_again() {
    let mut scene = Scene::new("digest", &Actor::default());
    let found = scene.loader.examine(std::slice::from_ref(&scene.hook)).remove(0).expect("it is loaded");
    let plugin = scene.hook.plugin.as_mut().expect("it is a plugin");
    plugin.digest = Some([7; 32]);
    let said = scene.load().map(drop).expect_err("it is something else");
    let wanted = "07".repeat(32);
    assert_eq!(said, format!("its digest is {}, and sha256:{wanted} is wanted", found.digest));
    let missing = PluginSource::ConfigMap { name: "plugins".to_owned(), key: "plugin.wasm".to_owned() };
    scene.hook.plugin.as_mut().expect("it is a plugin").source = missing;
    let refused = scene.loader.load(std::slice::from_ref(&scene.hook)).map(drop).expect_err("there is no such folder");
    assert!(refused.is_absent && refused.sentence.starts_with("cannot read "), "{refused}");
}

#[test]
fn verdicts_that_would_tear_the_protocol_are_failures_and_what_was_said_passes() {
    let two = [query("a"), query("b")].concat();
    let cases: [(&str, u8, &[u8]); 6] = [
        ("half", 1, &query("select 1")[..9]),
        ("garbage", 1, b"garbage"),
        ("twice", 1, &two),
        ("other", 1, &said(tag::SYNC, b"")),
        ("bare", 2, &said(tag::COMMAND_COMPLETE, b"SELECT 0\0")),
        ("wrong", 2, &[said(tag::COMMAND_COMPLETE, b"SELECT 0\0"), ready(b'T')].concat()),
    ];
    for (name, verdict, bytes) in cases {
        let actor = Actor::default().wants("from-client").answers("from-client", verdict, bytes);
        let scene = Scene::new(name, &actor).passing();
        let play = scene.session(Protocol::Postgres);
        play.logs_in();
        assert_eq!(play.peer(&query("select 1")), Verdict::Pass, "{name}");
        let line = format!("postern_plugin_errors_total{{hook=\"from-client\",plugin=\"{name}\",reason=\"answer\"}} 1");
        assert!(scene.counts(&line), "{name}: {}", scene.metrics.encode().expect("metrics"));
    }
}

#[test]
fn whole_messages_may_be_replaced_and_a_peer_that_is_owed_nothing_may_be_answered() {
    let actor = Actor::default().wants("from-client").answers("from-client", 1, &query("select 2"));
    let scene = Scene::new("whole", &actor);
    let play = scene.session(Protocol::Postgres);
    play.logs_in();
    assert_eq!(play.peer(&query("select 1")), Verdict::Replace(query("select 2")));
    let answer = [said(tag::COMMAND_COMPLETE, b"SELECT 0\0"), ready(b'I')].concat();
    let actor = Actor::default().wants("from-client").answers("from-client", 2, &answer);
    let scene = Scene::new("answers", &actor).passing();
    let play = scene.session(Protocol::Postgres);
    play.logs_in();
    assert_eq!(play.peer(&query("select 1")), Verdict::Reply(answer.clone()));
    assert_eq!(play.peer(&said(tag::PARSE, b"\0select 1\0\0\0")), Verdict::Pass, "it asks for no answer yet");
}

#[test]
fn a_login_is_not_shown() {
    let actor = Actor::of_all_hooks().does("from-client", "unreachable").does("to-client", "unreachable");
    let scene = Scene::new("login", &actor);
    let play = scene.session(Protocol::Postgres);
    play.logs_in();
    assert_eq!(play.peer(&query("select 1")), Verdict::Close, "and what follows is");
}

/// Refuses every statement that is longer than ten bytes.
fn refuses_long_ones() -> Actor {
    // An error-response: severity, code, message, and neither detail nor hint.
    let refuse = "(if (i32.lt_u (call $length (local.get $chunk)) (i32.const 11)) (then (call $drop (local.get $chunk)) \
                  (return (call $answer (i32.const 0) (i32.const 0) (i32.const 0))))) (call $drop (local.get $chunk)) \
                  (i32.store8 (i32.const 128) (i32.const 2)) (i32.store (i32.const 132) (i32.const 1024)) \
                  (i32.store (i32.const 136) (i32.const 5)) (i32.store (i32.const 140) (i32.const 1029)) \
                  (i32.store (i32.const 144) (i32.const 5)) (i32.store (i32.const 148) (i32.const 1034)) \
                  (i32.store (i32.const 152) (i32.const 8)) (i32.const 128)";
    let actor = Actor::default().wants("query").wants("parse").has("(data (i32.const 1024) \"ERROR22023too long\")");
    actor.does("query", refuse).does("parse", refuse)
}

#[test]
fn a_refused_statement_is_refused_by_the_database_and_its_error_is_the_plugins() {
    let scene = Scene::new("refuse", &refuses_long_ones());
    let play = scene.session(Protocol::Postgres);
    play.logs_in();
    assert_eq!(play.peer(&query("select 1")), Verdict::Pass);
    let Verdict::Replace(asked) = play.peer(&query("select 1, 2, 3")) else { panic!("it goes on as it is") };
    assert_eq!(asked, query("\"postern-refused-1\""));
    let error = |message: &str| {
        let mut out = Vec::new();
        ErrorResponse::error("42601", message).write(&mut out);
        out
    };
    let Verdict::Replace(told) = play.database(&error("syntax error at or near \"\"postern-refused-1\"\"")) else {
        panic!("the error is the database's")
    };
    let refusal = ErrorResponse::read(&told[HEADER..]);
    assert_eq!((&*refusal.severity, &*refusal.code, &*refusal.message), ("ERROR", "22023", "too long"));
    assert_eq!(play.database(&error("division by zero")), Verdict::Pass, "all others are the database's");
}

#[test]
fn statements_are_found_wherever_the_stream_is_cut() {
    let scene = Scene::new("cut", &refuses_long_ones());
    let stream =
        [query("select 1"), query("select 1, 2, 3"), said(tag::PARSE, b"s\0select 4, 5\0\0\0"), said(tag::SYNC, b"")]
            .concat();
    let expected = [
        query("select 1"),
        query("\"postern-refused-1\""),
        said(tag::PARSE, b"s\0\"postern-refused-2\"\0\0\0"),
        said(tag::SYNC, b""),
    ]
    .concat();
    for cut in 0..=stream.len() {
        let play = scene.session(Protocol::Postgres);
        play.logs_in();
        let mut onward = Vec::new();
        for piece in [&stream[..cut], &stream[cut..]] {
            match play.peer(piece) {
                Verdict::Pass => onward.extend_from_slice(piece),
                Verdict::Replace(other) => onward.extend(other),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(onward, expected, "cut at {cut}");
    }
}

#[test]
fn what_was_kept_of_a_message_goes_on_when_the_plugin_fails() {
    let actor = Actor::default().wants("query").does("query", "unreachable");
    let scene = Scene::new("kept", &actor).passing();
    let play = scene.session(Protocol::Postgres);
    play.logs_in();
    let whole = query("select 1");
    assert_eq!(play.peer(&whole[..7]), Verdict::Replace(Vec::new()), "the rest is awaited");
    assert_eq!(play.peer(&whole[7..]), Verdict::Replace(whole));
}
