//! The gateway's page, as a person sees it in a real browser, of a real gateway before a real PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::process::Command;
use std::time::Duration;

use cast::frontend::V3_0;
use cast::postgres::psql;
use cast::process::{Process, owned};
use cast::{Frontend, Manifest, Proxy, eventually};
use serde_json::json;

mod stage;
mod pictures;

use stage::Stage;

/// A name that would run, were it taken for markup.
const HOSTILE: &str = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>";
/// Narrow phones.
const NARROW: u32 = 360;

/// A psql that carries out `statements`, of which the last one takes long.
#[track_caller]
fn session(stage: &Stage, application: &str, statements: &[&str]) -> Process {
    let asked = psql(&stage.gateway.address_of("orders"));
    let mut command = owned(asked.get_program());
    command.args(asked.get_args()).args(["-U", "postgres", "-d", "postgres"]).env("PGAPPNAME", application);
    Process::start("psql", command.args(statements.iter().flat_map(|statement| ["-c", *statement])))
}

#[test]
fn an_open_transaction_shows_as_a_lent_connection_and_a_session() {
    let stage = Stage::set(|proxy| proxy.set("pool.size", 4));
    stage.browser.expect("#verdict", "All is well");
    stage.browser.expect("#proxies .legend", "0 lent");
    let who = [("user", "postgres"), ("database", "postgres"), ("application_name", "nightly report")];
    let (mut peer, _) = Frontend::login_as(&stage.gateway.address_of("orders"), V3_0, &who);
    peer.ask("begin");
    stage.browser.expect("#proxies .legend", "1 lent");
    stage.browser.expect("#sessions", "nightly report");
    stage.browser.expect("#sessions tbody", "active");
    stage.browser.expect("#clients tbody", "lent");
    let lent = stage.browser.run("return document.querySelectorAll('#proxies .slots i.lent').length");
    assert_eq!(lent, 1);
    peer.ask("commit");
    stage.browser.expect("#proxies .legend", "0 lent");
    stage.browser.expect("#sessions tbody", "idle");
    drop(peer);
    stage.browser.expect("#sessions", "No peer is connected");
    stage.expect_clean();
}

#[test]
fn while_the_database_is_away_the_page_says_why_what_to_do_and_when_it_is_dialed() {
    let mut stage = Stage::set(|proxy| proxy.set("client.backoff", "2s").set("client.retries", 8));
    stage.postgres.query("select 1");
    assert!(session(&stage, "first", &["select 1"]).wait(Duration::from_mins(1)).success());
    stage.browser.expect("#proxies .state", "Up");
    stage.postgres.stop();
    stage.browser.expect("#verdict", "the database is away");
    stage.browser.expect("#verdict", "What to do: Start the database");
    stage.browser.expect("#proxies .when", "Next dial in");
    // What is left of a wait, and the mark on its way, in one moment.
    let look = || {
        let found = stage.browser.run(
            "const next = document.querySelector('.when').textContent; \
             const dot = document.querySelector('.track b:not([hidden])'); \
             return [next, parseFloat(next.match(/in ([0-9.]+) s/)?.[1]), parseFloat(dot?.style.left)]",
        );
        (found[0].as_str().unwrap_or_default().to_owned(), found[1].as_f64(), found[2].as_f64())
    };
    eventually("the countdown and its mark move", || {
        let (one, before, mark) = look();
        let mut is_later = false;
        cast::time::comes_true(Duration::from_secs(2), || {
            let (other, after, moved) = look();
            let is_same_wait = one.rsplit(':').next() == other.rsplit(':').next();
            is_later = is_same_wait && before > after && after.is_some() && moved > mark && mark.is_some();
            is_later
        });
        is_later
    });
    let waiting = session(&stage, "patient", &["select 1"]);
    stage.browser.expect("#proxies .queue", "1 waiting");
    stage.expect_readable(NARROW);
    stage.postgres.start_again();
    stage.browser.expect("#verdict", "All is well");
    stage.browser.expect("#proxies .state", "Up");
    drop(waiting);
    stage.expect_clean();
}

#[test]
fn whatever_an_application_calls_itself_is_text() {
    let stage = Stage::set(|proxy| proxy);
    let _session = session(&stage, HOSTILE, &["select pg_sleep(600)"]);
    // PostgreSQL takes 63 bytes of such a name.
    stage.browser.expect("#sessions", "<img src=x onerror=document.title=");
    let found =
        stage.browser.run("return [document.querySelectorAll('img').length, document.scripts.length, document.title]");
    assert_eq!((&found[0], &found[1]), (&json!(0), &json!(1)));
    assert!(!found[2].as_str().unwrap().contains("taken"), "{found}");
    // The policy does not let it run even where it was inserted as markup.
    let inserted = stage
        .browser
        .run("try { document.body.innerHTML = '<b>markup</b>'; return 'inserted' } catch { return 'refused' }");
    assert_eq!(inserted, "refused");
    stage.expect_readable(NARROW);
}

#[test]
fn peers_that_wait_because_every_connection_is_lent_are_a_problem_with_a_name() {
    let stage = Stage::set(|proxy| proxy.set("pool.size", 1));
    let _keeper = session(&stage, "keeper", &["select pg_sleep(600)"]);
    stage.browser.expect("#proxies .legend", "1 lent");
    let _waiting = ["one", "other"].map(|name| session(&stage, name, &["select 1"]));
    stage.browser.expect("#verdict", "2 peers wait for a connection");
    stage.browser.expect("#verdict", "(keeper) has had its connection the longest");
    stage.browser.expect("#verdict", "Raise pool.size");
    stage.browser.expect("#sessions tbody tr:first-child", "waiting");
    stage.expect_readable(NARROW);
    stage.expect_clean();
}

#[test]
fn a_gateway_that_has_ended_is_missed_and_found_again() {
    let stage = Stage::set(|proxy| proxy);
    stage.expect_clean();
    let Stage { browser, gateway, .. } = stage;
    gateway.ends_well();
    browser.expect("#contact", "Lost contact");
    browser.expect("#contact", "Next try in");
    browser.expect("#contact", "it cannot be reached");
    browser.expect("header", "Try now");
}

#[test]
fn sessions_are_found_and_sorted_and_all_of_it_is_reached_by_keys() {
    let stage = Stage::set(|proxy| proxy.set("pool.size", 8));
    let _sessions = ["alpha", "beta", "gamma"].map(|name| session(&stage, name, &["select pg_sleep(600)"]));
    stage.browser.expect("#sessions", "Sessions of peers (3)");
    for key in ["\u{e004}", "\u{e007}"] {
        stage.browser.press(key);
    }
    assert_eq!(stage.browser.run("return document.activeElement.id"), "proxies", "the first stop skips to the proxies");
    let mut reached = Vec::new();
    for _ in 0..40 {
        stage.browser.press("\u{e004}");
        reached.push(stage.browser.run(
            "const it = document.activeElement; return it.getAttribute('aria-label') ?? it.getAttribute('aria-labelledby') ?? it.textContent",
        ));
    }
    for name in ["Search sessions of peers", "sessions-title", "events-title", "Pause"] {
        assert!(reached.contains(&json!(name)), "{name} is not among {reached:?}");
    }
    stage.browser.run("document.querySelector('#sessions input').focus()");
    stage.browser.press("BETA");
    eventually("the search finds one", || {
        stage.browser.run("return document.querySelectorAll('#sessions tbody tr').length") == 1
    });
    stage.browser.expect("#sessions tbody", "beta");
    stage.expect_clean();
}

#[test]
fn an_edit_that_is_refused_is_said_with_its_reason() {
    let mut stage = Stage::set(|proxy| proxy);
    stage.gateway.edit_text("spec: {}");
    stage.browser.expect("#verdict", "The last edit of the configuration is not served");
    stage.browser.expect("#configuration", "the one before the last edit is served");
    stage.expect_readable(NARROW);
    stage.expect_clean();
}

#[test]
fn any_mix_of_proxies_fits_a_narrow_window() {
    let stage = Stage::with(|postgres| {
        let proxy = |name: &str| Proxy::to(&postgres.address()).named(name);
        let passthrough = proxy("passthrough").set("protocol", "postgres");
        let long = proxy("a-name-that-is-as-long-as-a-name-may-be-and-not-shorter").set("pool.size", 400);
        Manifest::of([proxy("opaque"), passthrough, long])
    });
    stage.browser.expect("#jump", "passthrough");
    stage.expect_readable(NARROW);
    stage.expect_readable(1280);
    stage.expect_clean();
}

#[test]
fn the_page_is_for_loopback_only_and_says_what_it_needs() {
    let stage = Stage::set(|proxy| proxy);
    let said = cast::process::run(Command::new("curl").args(["--silent", "--include", &stage.url()]));
    assert!(said.contains("content-security-policy: default-src 'none'; script-src 'sha256-"), "{said}");
    let rebound =
        ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--header", "Host: evil.example"];
    for path in ["", "state"] {
        let said = cast::process::run(Command::new("curl").args(rebound).arg(stage.url() + path));
        assert_eq!(said, "403", "/{path}");
    }
}
