//! What is held of a document while something is pinned: documents in, addresses and sentences out.

use super::*;
use crate::config::load;

fn pins(pins: &[&str]) -> Pins {
    pins_beside(None, pins).expect("they go together")
}

fn pins_beside(admin: Option<&str>, pins: &[&str]) -> Result<Pins, String> {
    let admin = admin.map(|admin| admin.parse().expect("an address"));
    Pins::new(pins.iter().map(|pin| pin.parse().expect("a pin")).collect(), admin)
}

/// A document with a proxy for each `name=address`; where the address begins with `udp `, so is the network.
fn document(proxies: &[&str]) -> Config {
    let mut text = "apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\nspec:\n  proxies:\n".to_owned();
    for (index, proxy) in proxies.iter().enumerate() {
        let (name, address) = proxy.split_once('=').expect("a name and an address");
        let (server, client) = match address.split_once(' ') {
            Some(("udp", _)) => ("udp", "udp"),
            _ if address.starts_with('/') => ("unix", "tcp"),
            _ => ("tcp", "tcp"),
        };
        let address = address.trim_start_matches("udp ");
        let proxy = format!(
            "  - {{name: {name}, server: {{network: {server}, address: '{address}'}}, client: {{network: {client}, \
             addresses: ['db:{}']}}}}\n",
            index + 1
        );
        text.push_str(&proxy);
    }
    load(text.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn nothing() -> Config {
    Config { proxies: Vec::new(), ..document(&["a=127.0.0.1:1"]) }
}

/// What is held of `wanted`: each proxy with its address and its database's port, and the sentences.
fn held(listen: &[&str], served: &Config, wanted: &[&str]) -> (Vec<String>, Vec<String>, Config) {
    let held = pins(listen).hold(document(wanted), served);
    let proxy = |proxy: &Arc<ProxyConfig>| format!("{}={}", proxy.name, proxy.server.listen);
    (held.config.proxies.iter().map(proxy).collect(), held.restart_required, held.config)
}

#[test]
fn a_pin_is_a_name_and_an_address_and_perhaps_what_was_written() {
    for (text, is_it) in [
        ("orders=127.0.0.1:5432", true),
        ("orders=[::1]:5432", true),
        ("orders=/run/postern/.s.PGSQL.5432", true),
        ("orders=127.0.0.1:6000,127.0.0.1:5432", true),
        ("names=127.0.0.1:53/udp", true),
        ("orders=/run/a,b.sock", true),
        ("orders", false),
        ("=127.0.0.1:5432", false),
        ("orders=localhost:5432", false),
        ("orders=run/db.sock", false),
        ("orders=", false),
    ] {
        assert_eq!(text.parse::<Pin>().is_ok(), is_it, "{text}");
    }
    let comma: Pin = "a=/run/a,b.sock".parse().expect("a path with a comma");
    assert_eq!(comma.address, crds::Listen::Unix("/run/a,b.sock".into()));
    assert_eq!(
        "orders".parse::<Pin>(),
        Err("\"orders\" is not like NAME=ADDRESS; write one such as orders=127.0.0.1:5432".into())
    );
}

#[test]
fn what_is_pinned_twice_is_refused() {
    let pins = |listen: [&str; 2]| pins_beside(None, &listen);
    assert_eq!(
        pins(["a=127.0.0.1:1", "a=127.0.0.1:2"]),
        Err("--listen names proxy \"a\" twice; remove one of the two".into())
    );
    assert_eq!(
        pins(["a=127.0.0.1:1", "b=127.0.0.1:1"]),
        Err("--listen gives 127.0.0.1:1 to two proxies; give each its own".into())
    );
    assert!(pins(["a=0.0.0.0:1", "b=127.0.0.1:1"]).is_err(), "one of them is never free");
    assert!(pins(["a=127.0.0.1:0", "b=127.0.0.1:0"]).is_ok());
    assert!(pins(["a=127.0.0.1:53", "b=127.0.0.1:53/udp"]).is_ok());
    assert_eq!(
        pins_beside(Some("[::]:9"), &["b=127.0.0.1:9"]),
        Err("--listen gives 127.0.0.1:9 to proxy \"b\", and --admin has it; change one of the two".into())
    );
}

#[test]
fn a_proxy_that_comes_later_does_not_take_the_pinned_admin_address() {
    let pins = pins_beside(Some("[::]:9"), &["a=127.0.0.1:1"]).expect("they go together");
    let held = pins.hold(document(&["a=127.0.0.1:1", "b=127.0.0.1:9"]), &nothing());
    assert_eq!(held.config.proxies.len(), 1);
    assert_eq!(
        held.restart_required,
        ["proxy \"b\": listening on 127.0.0.1:9 needs a restart; until then [::]:9 is kept for the admin endpoints"]
    );
}

#[test]
fn a_document_that_says_what_is_pinned_needs_no_restart() {
    let (proxies, sentences, _) = held(&["a=127.0.0.1:1"], &nothing(), &["a=127.0.0.1:1", "b=127.0.0.1:2"]);
    assert_eq!(proxies, ["a=127.0.0.1:1", "b=127.0.0.1:2"]);
    assert!(sentences.is_empty(), "{sentences:?}");
}

#[test]
fn a_pin_that_differs_on_purpose_needs_no_restart_until_the_document_changes() {
    let pin = ["a=127.0.0.1:9,127.0.0.1:1"];
    let (proxies, sentences, served) = held(&pin, &nothing(), &["a=127.0.0.1:1"]);
    assert_eq!((proxies, sentences.len()), (vec!["a=127.0.0.1:9".to_owned()], 0));
    let (proxies, sentences, _) = held(&pin, &served, &["a=127.0.0.1:2"]);
    assert_eq!(proxies, ["a=127.0.0.1:9"]);
    let sentence = "proxy \"a\": listening on 127.0.0.1:2 needs a restart; until then it listens on 127.0.0.1:9";
    assert_eq!(sentences, [sentence]);
}

#[test]
fn a_moved_proxy_takes_everything_over_but_its_address() {
    let served = held(&["a=127.0.0.1:1"], &nothing(), &["x=127.0.0.1:7", "a=127.0.0.1:1"]).2;
    let (proxies, sentences, config) = held(&["a=127.0.0.1:1"], &served, &["a=/run/a.sock"]);
    assert_eq!(proxies, ["a=127.0.0.1:1"]);
    assert_eq!(config.proxies[0].client.addresses[0].to_string(), "db:1", "it was db:2");
    assert_eq!(
        sentences,
        ["proxy \"a\": listening on /run/a.sock needs a restart; until then it listens on 127.0.0.1:1"]
    );
}

#[test]
fn a_dropped_proxy_goes_on_as_it_was_and_is_taken_over_again_when_it_is_back() {
    let pin = ["a=127.0.0.1:1"];
    let served = held(&pin, &nothing(), &["a=127.0.0.1:1", "b=127.0.0.1:2"]).2;
    let (proxies, sentences, config) = held(&pin, &served, &["b=127.0.0.1:2"]);
    assert_eq!(proxies, ["b=127.0.0.1:2", "a=127.0.0.1:1"]);
    assert_eq!(config.proxies[1], served.proxies[0]);
    assert_eq!(sentences, ["proxy \"a\": its end needs a restart; until then it goes on as it was on 127.0.0.1:1"]);
    assert_eq!(held(&pin, &config, &["b=127.0.0.1:2", "a=127.0.0.1:1"]).1, [""; 0]);
    let (proxies, sentences, _) = held(&pin, &nothing(), &["b=127.0.0.1:2"]);
    assert_eq!(proxies, ["b=127.0.0.1:2"]);
    assert_eq!(sentences, ["proxy \"a\": it is not in the configuration, and nobody listens on 127.0.0.1:1 for it"]);
}

#[test]
fn another_proxy_cannot_have_a_pinned_address() {
    let pin = ["a=127.0.0.1:1"];
    let served = held(&pin, &nothing(), &["a=127.0.0.1:1", "b=127.0.0.1:2"]).2;
    let (proxies, sentences, _) = held(&pin, &served, &["a=127.0.0.1:2", "b=0.0.0.0:1", "c=127.0.0.1:3"]);
    assert_eq!(proxies, ["a=127.0.0.1:1", "b=127.0.0.1:2", "c=127.0.0.1:3"]);
    assert_eq!(
        sentences,
        [
            "proxy \"a\": listening on 127.0.0.1:2 needs a restart; until then it listens on 127.0.0.1:1",
            "proxy \"b\": listening on 0.0.0.0:1 needs a restart; until then 127.0.0.1:1 is kept for proxy \"a\"",
        ]
    );
    assert_eq!(held(&pin, &nothing(), &["a=127.0.0.1:2", "d=127.0.0.1:1"]).0, ["a=127.0.0.1:1"]);
}

#[test]
fn after_a_restart_nobody_is_served_on_the_address_of_a_proxy_that_is_renamed_dropped_or_reordered() {
    let kept = |name: &str, wanted: &str, pin: &str| {
        let (of, address) = pin.split_once('=').expect("a pin");
        format!("proxy {name:?}: listening on {wanted} needs a restart; until then {address} is kept for proxy {of:?}")
    };
    let gone = |pin: &str| {
        let (of, address) = pin.split_once('=').expect("a pin");
        format!("proxy {of:?}: it is not in the configuration, and nobody listens on {address} for it")
    };
    let (a, b) = ("a=127.0.0.1:1", "b=127.0.0.1:2");
    for (wanted, served, sentences) in [
        (&["renamed=127.0.0.1:1", b][..], &[b][..], vec![kept("renamed", "127.0.0.1:1", a), gone(a)]),
        (&["new=[::]:1"], &[], vec![kept("new", "[::]:1", a), gone(a), gone(b)]),
        // Without a written address the next proxy moves up.
        (
            &["b=127.0.0.1:1", "c=127.0.0.1:2"],
            &[b],
            vec![
                "proxy \"b\": listening on 127.0.0.1:1 needs a restart; until then it listens on 127.0.0.1:2"
                    .to_owned(),
                kept("c", "127.0.0.1:2", b),
                gone(a),
            ],
        ),
        (&["u=/run/a.sock", a, b], &["u=/run/a.sock", a, b], vec![]),
    ] {
        let (proxies, said, _) = held(&[a, b], &nothing(), wanted);
        assert_eq!((proxies, said), (served.iter().map(ToString::to_string).collect(), sentences), "{wanted:?}");
    }
    let socket = "a=/run/a.sock";
    assert_eq!(held(&[socket], &nothing(), &["b=/run/a.sock"]).1, [kept("b", "/run/a.sock", socket), gone(socket)]);
}

#[test]
fn an_address_is_kept_for_streams_whatever_its_proxy_becomes() {
    let pin = ["a=127.0.0.1:1"];
    let (proxies, sentences, _) = held(&pin, &nothing(), &["a=udp 127.0.0.1:1", "b=127.0.0.1:1", "c=udp 127.0.0.1:2"]);
    assert_eq!(proxies, ["c=127.0.0.1:2"]);
    assert_eq!(
        sentences,
        [
            "proxy \"a\": server.network udp needs a restart; until then nobody listens on 127.0.0.1:1 for it",
            "proxy \"b\": listening on 127.0.0.1:1 needs a restart; until then 127.0.0.1:1 is kept for proxy \"a\"",
        ]
    );
}

#[test]
fn streams_and_datagrams_are_pinned_on_one_port_by_a_proxy_each() {
    let pins = ["a=127.0.0.1:53", "u=127.0.0.1:53/udp"];
    let (proxies, sentences, config) = held(&pins, &nothing(), &["a=127.0.0.1:53", "u=udp 127.0.0.1:53"]);
    assert_eq!((proxies, sentences), (vec!["a=127.0.0.1:53".to_owned(), "u=127.0.0.1:53".to_owned()], vec![]));
    assert!(matches!(config.proxies[1].server.listen, Listen::Udp(_)));
    assert_eq!(held(&pins, &config, &["a=127.0.0.1:53", "u=/run/u.sock"]).0, ["a=127.0.0.1:53", "u=127.0.0.1:53"]);
}

#[test]
fn streams_do_not_become_datagrams_before_a_restart() {
    let pin = ["a=127.0.0.1:1"];
    let served = held(&pin, &nothing(), &["a=127.0.0.1:1"]).2;
    let (proxies, sentences, config) = held(&pin, &served, &["a=udp 127.0.0.1:1"]);
    assert_eq!((proxies, &config.proxies[0]), (vec!["a=127.0.0.1:1".to_owned()], &served.proxies[0]));
    assert_eq!(
        sentences,
        ["proxy \"a\": server.network udp needs a restart; until then it goes on as it was on 127.0.0.1:1"]
    );
}
