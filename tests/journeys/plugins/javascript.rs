//! A plugin in another language than the gateway's: the same interface, with the whole of a JavaScript engine in it.

use serde_json::json;

use cast::{Frontend, Gateway, Manifest, Postgres, Proxy, plugins};

#[test]
fn a_plugin_in_javascript_refuses_what_matches_its_patterns() {
    let file = plugins::javascript().unwrap().display().to_string();
    let postgres = Postgres::start();
    let hook = json!({
        "name": "pattern", "source": { "file": file }, "onError": "close", "config": { "patterns": ["^\\s*grant\\b"] },
        "limits": { "memory": "64Mi", "fuel": 100_000_000, "time": "100ms" }
    });
    let proxy = Proxy::to(&postgres.address()).named("db").set("protocol", "postgres");
    let gateway = Gateway::start(Manifest::of([proxy]).set("hooks", json!([hook])));
    let mut peer = Frontend::login(&gateway.address());
    let refused = peer.ask("GRANT ALL ON TABLE a TO b");
    assert!(refused.contains("42501") && refused.contains("a pattern refuses this"), "{refused}");
    assert!(peer.ask("select 'granted'").contains("granted"));
}
