//! Which of several servers is taken, and when one is left that is not what was asked for any more.

use std::net::{IpAddr, SocketAddr};

use cast::time::{Stopwatch, eventually};
use cast::wire::Address;
use cast::{Folder, Frontend, Gateway, Manifest, Namespace, Postgres, Proxy};

use crate::load::failure_of;
use crate::modes::{self, MANAGED};

/// A proxy for several servers.
fn proxy(mode: &str, servers: &[&Postgres], target: &str) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|server| server.address().to_string()).collect();
    modes::proxy(mode, &servers[0].address())
        .set("client.addresses", addresses)
        .set("client.targetSessionAttrs", target)
}

/// The port of the server that answers in a proxy.
#[track_caller]
fn port_of(gateway: &Gateway, name: &str) -> String {
    let mut psql = cast::postgres::psql(&gateway.address_of(name));
    let asked = psql.args(["-U", "postgres", "-d", "postgres", "-c", "select inet_server_port()"]);
    cast::process::run(asked).trim().to_owned()
}

#[test]
fn each_target_finds_its_server_in_whatever_order_they_are_listed() {
    let mut primary = Postgres::start();
    let mut standby = primary.standby();
    let secrets = modes::secrets();
    let [first, second] = [&primary, &standby].map(|server| server.port().to_string());
    let wanted = [
        ("read-write", &first),
        ("primary", &first),
        ("read-only", &second),
        ("standby", &second),
        ("prefer-standby", &second),
    ];
    let proxies = wanted.iter().flat_map(|(target, _)| {
        let orders = [("here", [&primary, &standby]), ("there", [&standby, &primary])];
        orders.map(|(order, servers)| proxy("transaction", &servers, target).named(&format!("{target}-{order}")))
    });
    let any = proxy("transaction", &[&standby, &primary], "any").named("any");
    let gateway = modes::start(Manifest::of(proxies.chain([any])), &secrets);
    for (target, port) in wanted {
        for order in ["here", "there"] {
            assert_eq!(&port_of(&gateway, &format!("{target}-{order}")), port, "{target}-{order}");
        }
    }
    assert_eq!(port_of(&gateway, "any"), second);
    // A standby is only preferred, and any server is only the first that answers.
    standby.stop();
    for name in ["prefer-standby-here", "prefer-standby-there", "any"] {
        assert_eq!(port_of(&gateway, name), first, "{name}");
    }
    standby.start_again();
    primary.stop();
    assert_eq!(port_of(&gateway, "standby-here"), second);
}

#[test]
fn a_primary_that_takes_no_more_writes_is_left_at_the_first_sign() {
    let (old, new) = (Postgres::start(), Postgres::start());
    for server in [&old, &new] {
        server.query("create table notes (note text)");
    }
    let secrets = modes::secrets();
    let gateway = modes::start(Manifest::of(MANAGED.map(|mode| proxy(mode, &[&old, &new], "read-write"))), &secrets);
    for mode in MANAGED {
        let address = gateway.address_of(mode);
        let mut peers: Vec<_> = (0..3).map(|_| Frontend::login(&address)).collect();
        for peer in &mut peers {
            assert!(peer.ask("select inet_server_port()").contains(&old.port().to_string()), "{mode}");
        }
        old.query("alter system set default_transaction_read_only = on");
        old.query("select pg_reload_conf()");
        eventually("the old one takes no writes", || old.query("show default_transaction_read_only") == "on");
        eventually("a write is refused", || {
            failure_of(&asked(&mut peers[0], "insert into notes values ('first')")).as_deref() == Some("25006")
        });
        let watch = Stopwatch::start();
        if mode == "transaction" {
            for mut peer in peers {
                assert_eq!(failure_of(&asked(&mut peer, "insert into notes values ('next')")), None, "{mode}");
            }
        } else {
            // A session keeps its server; the next one has the new primary.
            drop(peers);
            assert_eq!(failure_of(&asked(&mut Frontend::login(&address), "insert into notes values ('next')")), None);
        }
        eprintln!("{mode}: the old primary was left after {:?}", watch.elapsed());
        assert_ne!(new.query("select count(*) from notes where note = 'next'"), "0", "{mode}");
        gateway.expect_quiet(mode);
        gateway.expect_metric("postern_failovers_total", &[("proxy", mode)], 1.0);
        old.query("alter system reset default_transaction_read_only");
        old.query("select pg_reload_conf()");
        new.query("truncate notes");
    }
    gateway.ends_well();
}

fn asked(peer: &mut Frontend, sql: &str) -> Vec<cast::frontend::Message> {
    peer.send(&cast::frontend::query(sql));
    peer.until_ready(1)
}

#[test]
fn a_name_that_moves_to_another_server_is_followed_without_an_error() {
    let folder = Folder::new("moves");
    let (near, far) = Namespace::pair();
    let elsewhere: IpAddr = "10.199.0.3".parse().unwrap();
    far.add_ip(elsewhere);
    let at = |ip| Postgres::inside(far.entering(), SocketAddr::new(ip, 5432), &[]);
    let (mut old, new) = (at(far.ip()), at(elsewhere));
    let hosts = |ip: IpAddr| format!("127.0.0.1 localhost\n{ip} database\n");
    near.set_hosts(&hosts(far.ip()));
    let hosts_file = format!("/etc/netns/{}/hosts", near.name());
    let secrets = modes::secrets();
    let socket = Address::Unix(folder.join(".s.PGSQL.5432"));
    let proxy = modes::proxy("transaction", &old.address())
        .set("client.addresses", vec!["database:5432"])
        .listening_on(&socket);
    let gateway = Gateway::with(proxy).on(near).told(&["--secrets", &secrets.display().to_string()]).start();
    let mut peer = Frontend::login(&socket);
    assert!(peer.ask("select inet_server_addr()").contains("10.199.0.2"));
    old.stop();
    std::fs::write(hosts_file, hosts(elsewhere)).unwrap();
    assert!(peer.ask("select inet_server_addr()").contains("10.199.0.3"));
    drop(new);
    gateway.ends_well_without_waiting();
}
