//! The plugins of the documentation do what it says of them.

use std::time::Duration;

use serde_json::{Value, json};

use cast::frontend::{Message, bind, execute, parse, query, sync, transcript};
use cast::postgres::psql;
use cast::process::attempt;
use cast::{Frontend, Gateway, Manifest, Postgres, Proxy, plugins, within};

/// A gateway that understands PostgreSQL, with the example `name`, which was given `config`.
fn with(postgres: &Postgres, name: &str, config: &Value) -> Gateway {
    let file = plugins::example(name).display().to_string();
    let hook = json!({ "name": name, "source": { "file": file }, "onError": "close", "config": config });
    let proxy = Proxy::to(&postgres.address()).named("db").set("protocol", "postgres");
    Gateway::start(Manifest::of([proxy]).set("hooks", json!([hook])))
}

/// The types of messages, one letter each.
fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

fn sqlstate(messages: &[Message]) -> Option<String> {
    messages.iter().find_map(Message::sqlstate)
}

/// What the plugin has logged.
fn told(gateway: &Gateway, words: &str) -> bool {
    gateway.lines().iter().any(|line| line.contains(words))
}

#[test]
fn hello_says_what_is_asked() {
    let postgres = Postgres::start();
    let gateway = with(&postgres, "hello", &json!({}));
    assert!(Frontend::login(&gateway.address()).ask("select 'what'").contains("what"));
    within(Duration::from_secs(10), "it is logged", || told(&gateway, "somebody asks: select 'what'"));
}

#[test]
fn block_refuses_as_the_database_would_and_the_session_goes_on() {
    let postgres = Postgres::start();
    postgres.query("create table orders (id int)");
    let gateway = with(&postgres, "block", &json!({ "hint": "ask the owners" }));
    let mut peer = Frontend::login(&gateway.address());
    peer.send(&query("drop table orders"));
    let refused = peer.until_ready(1);
    assert_eq!(
        (tags(&refused).as_str(), sqlstate(&refused).as_deref()),
        ("EZ", Some("42501")),
        "{}",
        transcript(&refused)
    );
    assert_eq!(refused[0].field(b'H').as_deref(), Some("ask the owners"));
    assert_eq!(refused[1].body, b"I", "outside of a transaction it is idle again");
    assert!(peer.ask("insert into orders values (1)").contains("INSERT"));
    for sql in ["delete from orders", "select 1; delete from orders"] {
        assert!(peer.ask(sql).contains("42501"), "{sql}");
    }
    assert!(peer.ask("delete from orders where id = 2").contains("DELETE 0"));
    assert_eq!(postgres.query("select count(*) from orders"), "1");
}

#[test]
fn a_refusal_within_a_transaction_fails_it_as_an_error_does() {
    let postgres = Postgres::start();
    postgres.query("create table orders (id int)");
    let gateway = with(&postgres, "block", &json!({}));
    let mut peer = Frontend::login(&gateway.address());
    peer.ask("begin");
    peer.ask("insert into orders values (1)");
    peer.send(&query("drop table orders"));
    let refused = peer.until_ready(1);
    assert_eq!(refused.last().unwrap().body, b"E", "the transaction has failed");
    assert!(peer.ask("insert into orders values (2)").contains("25P02"), "and takes nothing any more");
    assert!(peer.ask("commit").contains("ROLLBACK"));
    assert_eq!(postgres.query("select count(*) from orders"), "0");
}

#[test]
fn a_refused_statement_of_a_pipeline_has_the_rest_of_it_skipped() {
    let postgres = Postgres::start();
    postgres.query("create table orders (id int)");
    let gateway = with(&postgres, "block", &json!({}));
    let mut peer = Frontend::login(&gateway.address());
    let round = |sql: &str| [parse("", sql), bind("", "", &[]), execute("", 0)].concat();
    let pipeline = [round("insert into orders values (1)"), round("drop table orders"), round("select 1"), sync()];
    peer.send(&pipeline.concat());
    let answers = peer.until_ready(1);
    assert_eq!(
        (tags(&answers).as_str(), sqlstate(&answers).as_deref()),
        ("12CEZ", Some("42501")),
        "{}",
        transcript(&answers)
    );
    peer.send(&[round("select 'served'"), sync()].concat());
    assert!(transcript(&peer.until_ready(1)).contains("served"));
    assert_eq!(postgres.query("select count(*) from orders"), "0", "what came before it in the pipeline is undone");
}

#[test]
fn psql_is_told_what_it_would_be_told_by_the_database() {
    let postgres = Postgres::start();
    let gateway = with(&postgres, "block", &json!({}));
    let mut command = psql(&gateway.address());
    let (ok, said) = attempt(command.args(["-U", "postgres", "-c", "drop table nothing"]));
    assert!(!ok && said.contains("ERROR:  DROP is refused here"), "{said}");
}

#[test]
fn mask_hides_values_by_the_names_of_their_columns() {
    let postgres = Postgres::start();
    postgres.query("create table people (id int, email text, age int, card varchar(20))");
    postgres.query("insert into people values (1, 'jo@example.org', 42, '4111222233334444'), (2, null, null, 'ab')");
    let gateway = with(&postgres, "mask", &json!({ "columns": ["email", "age", "card"], "keep": 4 }));
    let mut peer = Frontend::login(&gateway.address());
    let rows = |messages: &[Message]| -> Vec<String> {
        let rows = messages.iter().filter(|message| message.tag == b'D');
        rows.map(|row| row.body.escape_ascii().to_string()).collect()
    };
    peer.send(&query("select id, email, age, card from people order by id"));
    let simple = peer.until_ready(1);
    let all = transcript(&simple);
    assert!(all.contains("*****.org") && all.contains("*****4444"), "{all}");
    assert!(!["jo@", "42", "4111", "ab"].iter().any(|secret| rows(&simple).concat().contains(secret)), "{all}");
    let sql = "select id, email, age, card from people order by id";
    peer.send(
        &[parse("", sql), bind("", "", &[]), cast::frontend::describe(b'P', ""), execute("", 0), sync()].concat(),
    );
    assert_eq!(rows(&peer.until_ready(1)), rows(&simple), "the extended protocol shows the same");
    assert!(peer.ask("select id from people where id = 1").contains("D "));
}

#[test]
fn query_log_tells_fingerprints_and_no_data() {
    let postgres = Postgres::start();
    let gateway = with(&postgres, "query-log", &json!({ "once": true }));
    let mut peer = Frontend::login(&gateway.address());
    for card in ["4111", "4222"] {
        peer.ask(&format!("SELECT 1 WHERE 'secret' = '{card}'"));
    }
    within(Duration::from_secs(10), "it is logged", || told(&gateway, "select ? where ? = ?"));
    let lines = gateway.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("select ? where")).count(), 1, "once a session");
    assert!(
        lines.iter().all(|line| !line.contains("4111") && !line.contains("secret")),
        "literals stay out of the log"
    );
    gateway.expect_metric("postern_plugin_counter_total", &[("plugin", "query-log"), ("name", "statements")], 2.0);
}
