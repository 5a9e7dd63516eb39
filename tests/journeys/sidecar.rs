//! The gateway as it runs in a pod: it never ends before its signal, keeps the addresses that the application knows, follows
//! what the pod says, and needs nothing but its one file.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use cast::gateway::{binary, cli};
use cast::install::program;
use cast::loopback::free_address;
use cast::process::{owned, run};
use cast::time::{Stopwatch, found};
use cast::wire::Address;
use cast::{Dns, Folder, Gateway, Manifest, Namespace, Peer, Process, Proxy, Scripted, eventually, within};

/// All crates of the workspace have one.
const VERSION: &str = env!("CARGO_PKG_VERSION");

const SOON: Duration = Duration::from_secs(5);

fn sentences(gateway: &Gateway) -> Vec<String> {
    let applied = gateway.applied();
    let sentences = applied["restartRequired"].as_array().unwrap().iter();
    sentences.map(|sentence| sentence.as_str().unwrap().to_owned()).collect()
}

fn with_size(database: &Scripted, size: u32) -> Manifest {
    Proxy::to(database.address()).set("pool.size", size).into()
}

#[test]
fn a_sidecar_waits_for_its_file_and_says_so_until_it_comes() {
    let (near, _far) = Namespace::pair();
    let (pod, database) = (Folder::new("pod"), Scripted::exchanging_over_unix());
    let listener = Address::Unix(pod.join("peers.sock"));
    let proxy = Proxy::to(database.address()).listening_on(&listener);
    let mut gateway = Gateway::with(proxy.clone()).before_its_file().beside(&pod).on(near).start();
    assert_eq!(gateway.says("Waiting for the configuration")["level"], "WARN");
    for (path, status) in [("/livez", 200), ("/metrics", 200), ("/startupz", 503), ("/readyz", 503)] {
        assert_eq!(gateway.get(path).status, status, "{path}");
    }
    let config = gateway.applied();
    assert_eq!((&config["state"], &config["generation"], &config["hash"]), (&"refused".into(), &0.into(), &"".into()));
    let reason = config["refused"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("cannot read ") && reason.contains("No such file"), "{reason}");
    gateway.edit(&Manifest::of([proxy]).set("admin.address", "[::]:19187"));
    gateway.reaches_generation(1);
    assert_eq!(gateway.get("/readyz").status, 200);
    assert_eq!(sentences(&gateway), [""; 0]);
    Peer::dial(&listener).exchange(cast::peer::Exchange { seed: 1, up: 100, down: 100 }).unwrap();
    assert!(gateway.runs());
}

#[test]
fn by_hand_a_missing_file_ends_it_with_a_sentence() {
    let ended = Gateway::with_text("").before_its_file().end();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.lines.iter().any(|line| line.contains("cannot read ")), "{:?}", ended.lines);
}

#[test]
fn a_document_that_a_sidecar_does_not_understand_is_told_and_a_better_one_taken() {
    let (pod, database) = (Folder::new("pod"), Scripted::echo());
    let good = Manifest::from(Proxy::to(database.address()));
    let newer = Manifest::from(Proxy::to(database.address()).set("pool.colour", "blue"));
    let mut gateway = Gateway::with_text(&newer.text()).beside(&pod).start();
    let sentence = format!(
        "this sidecar ({VERSION}) does not know spec.proxies[0].pool.colour; restart the pod to get a newer one, or remove it"
    );
    let config = gateway.applied();
    assert_eq!((&config["state"], &config["version"]), (&"refused".into(), &VERSION.into()));
    assert!(config["refused"]["reason"].as_str().unwrap().ends_with(&sentence), "{config}");
    assert!(!config["refused"]["hash"].as_str().unwrap().is_empty());
    let readiness = gateway.get("/readyz");
    assert_eq!(readiness.status, 503);
    assert!(readiness.body.contains(&sentence), "{}", readiness.body);
    assert_eq!((gateway.get("/livez").status, gateway.get("/startupz").status), (200, 503));

    gateway.edit(&good);
    gateway.reaches_generation(1);
    assert_eq!((gateway.get("/readyz").status, gateway.get("/startupz").status), (200, 200));
    let config = gateway.applied();
    assert_eq!((&config["state"], &config["refused"]), (&"applied".into(), &Value::Null));
    let mut peer = Peer::dial(&gateway.address());
    peer.echoes(b"served");

    gateway.edit(&newer);
    eventually("the newer document is refused", || gateway.applied()["state"] == "refused");
    assert!(gateway.applied()["refused"]["reason"].as_str().unwrap().ends_with(&sentence));
    assert_eq!(gateway.get("/readyz").status, 200, "what it served before, it serves");
    peer.echoes(b"still served");
}

#[test]
fn a_sidecar_whose_port_is_taken_serves_as_soon_as_it_is_free() {
    let (pod, database) = (Folder::new("pod"), Scripted::echo());
    let taken = TcpListener::bind(free_address()).unwrap();
    let address = Address::Tcp(taken.local_addr().unwrap());
    let manifest = Manifest::from(Proxy::to(database.address()).listening_on(&address));
    let mut gateway = Gateway::with_text(&manifest.text()).beside(&pod).start();
    let reason = gateway.applied()["refused"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(&address.to_string()) && reason.contains("in use"), "{reason}");
    drop(taken);
    gateway.reaches_generation(1);
    Peer::dial(&address).echoes(b"served");
    let refusals = gateway.log().iter().filter(|line| line["reason"] == reason.as_str()).count();
    assert_eq!(refusals, 1, "it is said once");
    assert!(gateway.runs());
}

#[test]
fn a_pinned_address_stays_whatever_the_configuration_says() {
    let (pod, database, other) = (Folder::new("pod"), Scripted::echo(), Scripted::echo());
    let [pinned, moved] = [free_address(), free_address()].map(Address::Tcp);
    let proxy = Proxy::to(database.address()).listening_on(&pinned);
    let mut gateway = Gateway::with(proxy.clone()).beside(&pod).told(&["--listen", &format!("db={pinned}")]).start();
    let mut peer = Peer::dial(&pinned);
    peer.echoes(b"before");
    assert_eq!(sentences(&gateway), [""; 0]);

    let elsewhere = Proxy::to(other.address()).listening_on(&moved);
    gateway.edit(&Manifest::from(elsewhere).set("workers", 2).set("log.level", "debug"));
    gateway.reaches_generation(2);
    let mut expected = vec![
        format!("proxy \"db\": listening on {moved} needs a restart; until then it listens on {pinned}"),
        "spec.workers: 2 needs a restart; until then it is 1".to_owned(),
    ];
    assert_eq!(sentences(&gateway), expected);
    assert_eq!(gateway.applied()["state"], "applied");
    assert!(Peer::try_dial(&moved).is_err(), "the new address is not served");
    Peer::dial(&pinned).echoes(b"the other database");
    assert!(other.accepted() > 0, "what is no address is applied");
    peer.echoes(b"the session lives on");

    gateway.edit(&Manifest::from(Proxy::to(database.address()).named("another").listening_on(&pinned)));
    gateway.reaches_generation(3);
    expected = vec![
        format!(
            "proxy \"another\": listening on {pinned} needs a restart; until then {pinned} is kept for proxy \"db\""
        ),
        format!("proxy \"db\": its end needs a restart; until then it goes on as it was on {pinned}"),
    ];
    assert_eq!(sentences(&gateway), expected);
    Peer::dial(&pinned).echoes(b"goes on as it was");
    peer.echoes(b"the session lives on");

    gateway.edit(&Manifest::from(proxy));
    gateway.reaches_generation(4);
    assert_eq!(sentences(&gateway), [""; 0]);
    peer.echoes(b"the session lives on");
}

#[test]
fn after_a_restart_a_pinned_address_leads_to_its_own_database_or_nowhere() {
    let (pod, others) = (Folder::new("pod"), Scripted::echo());
    let [pinned, free] = [free_address(), free_address()].map(Address::Tcp);
    let at = |name: &str, address: &Address| Proxy::to(others.address()).named(name).listening_on(address);
    let renamed = Manifest::of([at("renamed", &pinned), at("added", &free)]);
    let listen = ["--listen", &format!("db={pinned}")];
    let mut gateway = Gateway::with_text(&renamed.text()).beside(&pod).told(&listen).start();
    assert_eq!(gateway.applied()["state"], "applied");
    assert_eq!(
        sentences(&gateway),
        [
            format!(
                "proxy \"renamed\": listening on {pinned} needs a restart; until then {pinned} is kept for proxy \"db\""
            ),
            format!("proxy \"db\": it is not in the configuration, and nobody listens on {pinned} for it"),
        ]
    );
    assert!(Peer::try_dial(&pinned).is_err(), "an application that asks for one database is not given another");
    Peer::dial(&free).echoes(b"the rest is served");

    let database = Scripted::echo();
    let back = Proxy::to(database.address()).listening_on(&pinned);
    gateway.edit(&Manifest::of([back, at("added", &free)]));
    gateway.reaches_generation(2);
    assert_eq!(sentences(&gateway), [""; 0]);
    Peer::dial(&pinned).echoes(b"its own database");
    assert!(database.accepted() > 0);
}

#[test]
fn a_pinned_admin_address_stays_also_when_the_process_is_started_after_the_edit() {
    let (pod, database) = (Folder::new("pod"), Scripted::echo());
    let [pinned, moved] = [free_address(), free_address()];
    let at = |admin: SocketAddr| with_size(&database, 10).set("admin.address", admin.to_string());
    let told = ["--admin", &pinned.to_string()];
    let expected = vec![format!("spec.admin.address: {moved} needs a restart; until then it is {pinned}")];
    let mut gateway = Gateway::with(at(pinned)).beside(&pod).told(&told).start();
    assert_eq!((gateway.admin(), sentences(&gateway)), (pinned, vec![]));
    gateway.edit(&at(moved));
    gateway.reaches_generation(2);
    assert_eq!(sentences(&gateway), expected);
    gateway.ends_well();

    let gateway = Gateway::with(at(moved)).beside(&pod).told(&told).start();
    assert_eq!((gateway.admin(), sentences(&gateway)), (pinned, expected));
    assert_eq!(gateway.get("/readyz").status, 200);
    let (code, said) = cli(&["wait", "--admin", &pinned.to_string()]);
    assert_eq!(code, Some(0));
    assert!(said.contains("it serves, after"), "{said}");
}

#[test]
fn the_pods_log_level_is_live_and_nonsense_is_one_warning() {
    let (pod, database) = (Folder::new("pod"), Scripted::echo());
    let gateway = Gateway::with(Proxy::to(database.address())).beside(&pod).start();
    let chunks = || {
        Peer::dial(&gateway.address()).echoes(b"heard?");
        gateway.log().iter().filter(|line| line["function"] == "proxy.passthrough").count()
    };
    assert_eq!(chunks(), 0);
    let file = pod.join("log-level");
    fs::write(&file, "debug").unwrap();
    within(SOON, "the pod asks for debug", || chunks() > 0);
    let warnings = || gateway.log().iter().filter(|line| line["level"] == "WARN").count();
    fs::write(&file, vec![0xff; 100_000]).unwrap();
    within(SOON, "nonsense is warned of", || warnings() == 1);
    let said = gateway.says("The pod's log-level");
    assert!(said["message"].as_str().unwrap().contains("write one of error, warn, info, debug, trace"), "{said}");
    let before = chunks();
    assert_eq!(chunks(), before, "the configuration's level holds");
    fs::write(&file, "trace\n").unwrap();
    within(SOON, "the pod asks for trace", || chunks() > before);
    fs::remove_file(&file).unwrap();
    within(SOON, "the pod asks for nothing", || chunks() == chunks());
    assert_eq!(warnings(), 1);
}

#[test]
fn a_swapped_config_map_is_in_force_within_a_quarter_of_a_second() {
    let (pod, database) = (Folder::new("pod"), Scripted::echo());
    let mut gateway = Gateway::with(with_size(&database, 10)).mounted_as_a_config_map().beside(&pod).start();
    let mut times: Vec<_> = (2..12)
        .map(|generation| {
            let watch = Stopwatch::start();
            gateway.edit_config_map(&with_size(&database, 10 + generation));
            gateway.reaches_generation(generation.into());
            watch.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[times.len() / 2] < Duration::from_millis(250), "{times:?}");
}

#[test]
fn gateway_wait_rests_until_the_gateway_serves() {
    let (pod, folder, database) = (Folder::new("pod"), Folder::new("wait"), Scripted::echo());
    let admin = free_address();
    let manifest = with_size(&database, 10).set("admin.address", admin.to_string());
    let file = folder.join("gateway.yaml");
    let path = file.to_str().unwrap();

    // Nobody is there, and there is not even a file.
    let (code, said) = cli(&["wait", "--file", path, "--timeout", "100ms"]);
    assert_eq!(code, Some(0), "a container whose start fails is killed: {said}");
    assert!(said.contains("it does not serve within 100ms"), "{said}");
    fs::write(&file, manifest.text()).unwrap();
    let (code, said) = cli(&["wait", "--file", path, "--timeout", "100ms"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{admin} does not answer: Connection refused")), "{said}");

    // It comes later, and is told a bad configuration first.
    let waiting = Process::start("gateway wait", owned(binary()).args(["wait", "--file", path]));
    let bad = Manifest::from(Proxy::to(database.address()).set("pool.size", 0)).set("admin.address", admin.to_string());
    let mut gateway = Gateway::with_text(&bad.text()).beside(&pod).start();
    let (code, said) = cli(&["wait", "--file", path, "--timeout", "100ms"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("pool.size: 0 is out of range"), "{said}");
    let mut waiting = waiting;
    assert!(waiting.ended().is_none(), "it waits: {}", waiting.tail());
    gateway.edit(&manifest);
    assert_eq!(waiting.wait(SOON).code(), Some(0));
    eventually("it says so", || waiting.lines().iter().any(|line| line.contains("it serves, after")));
    assert!(cli(&["wait", "--file", path]).1.contains("it serves, after"));
}

#[test]
fn what_is_wrong_with_a_pin_is_one_sentence() {
    let run = |pins: &[&str]| {
        let pins = pins.iter().flat_map(|pin| ["--listen", pin]);
        cli(&["run", "-f", "/does/not/exist"].into_iter().chain(pins).collect::<Vec<_>>())
    };
    let (code, said) = run(&["orders"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("is not like NAME=ADDRESS; write one such as orders=127.0.0.1:5432"), "{said}");
    let (code, said) = run(&["a=127.0.0.1:1", "a=127.0.0.1:2"]);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("--listen names proxy \"a\" twice"), "{said}");
}

#[test]
fn at_its_signal_a_sidecar_without_sessions_ends_at_once() {
    let (pod, database) = (Folder::new("pod"), Scripted::echo());
    let manifest = Manifest::from(Proxy::to(database.address()).set("pool.minIdle", 3)).set("drainTimeout", "25s");
    let mut gateway = Gateway::with(manifest).beside(&pod).start();
    Peer::dial(&gateway.address()).echoes(b"it was used");
    gateway.expect_quiet("db");
    let watch = Stopwatch::start();
    gateway.terminate();
    assert_eq!(gateway.exit_code(SOON), Some(0));
    assert!(watch.elapsed() < Duration::from_secs(1), "it took {:?}", watch.elapsed());
}

#[test]
fn at_its_signal_a_sidecar_does_not_wait_for_the_answers_of_an_application_that_is_gone() {
    let (pod, database) = (Folder::new("pod"), Scripted::silent());
    let manifest = Manifest::from(Proxy::to(database.address())).set("drainTimeout", "25s");
    let mut gateway = Gateway::with(manifest).beside(&pod).start();
    let mut peer = Peer::dial(&gateway.address());
    peer.wire().write_all(b"a long query").unwrap();
    gateway.expect_metric("postern_bytes_total", &[("direction", "to_database")], 12.0);
    drop(peer);
    // A pool of connections that the application left open, and between two exchanges.
    let echo = Scripted::echo();
    gateway.edit(&Manifest::from(Proxy::to(echo.address())).set("drainTimeout", "25s"));
    gateway.reaches_generation(2);
    let mut idle = Peer::dial(&gateway.address());
    idle.echoes(b"between two exchanges");
    let watch = Stopwatch::start();
    gateway.terminate();
    assert_eq!(gateway.exit_code(Duration::from_secs(10)), Some(0), "{:?}", gateway.lines());
    assert!(watch.elapsed() < Duration::from_secs(3), "it took {:?}", watch.elapsed());
}

#[test]
fn at_its_signal_a_sidecar_gives_a_session_that_is_busy_the_drain_time() {
    let (pod, database) = (Folder::new("pod"), Scripted::silent());
    let manifest = Manifest::from(Proxy::to(database.address())).set("drainTimeout", "2s");
    let mut gateway = Gateway::with(manifest).beside(&pod).start();
    let mut peer = Peer::dial(&gateway.address());
    peer.wire().write_all(b"a long query").unwrap();
    gateway.expect_metric("postern_bytes_total", &[("direction", "to_database")], 12.0);
    let watch = Stopwatch::start();
    gateway.terminate();
    assert_eq!(gateway.exit_code(Duration::from_secs(20)), Some(0));
    let elapsed = watch.elapsed();
    assert!((Duration::from_millis(1900)..Duration::from_secs(4)).contains(&elapsed), "it took {elapsed:?}");
}

/// A root file system that holds the gateway's program, what the kubelet puts into `/etc`, and nothing else.
fn empty_image(dns: &Dns, hosts: &str, manifest: &Manifest) -> Folder {
    let root = Folder::new("image");
    for folder in ["etc/postern", "proc"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy(binary(), root.join("gateway")).unwrap();
    let resolver = format!(
        "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver {}\noptions ndots:5\n",
        dns.address().ip()
    );
    fs::write(root.join("etc/resolv.conf"), resolver).unwrap();
    fs::write(root.join("etc/hosts"), hosts).unwrap();
    fs::write(root.join("etc/postern/gateway.yaml"), manifest.text()).unwrap();
    root
}

/// Starts the program of `root` as a container runtime does: its file system read-only, its user without a name.
fn contained(root: &Path) -> Process {
    let chroot = program("chroot").display().to_string();
    let script = "mount --bind \"$0\" \"$0\" && mount -t proc proc \"$0/proc\" && mount -o remount,bind,ro \"$0\" && \
                  chroot=$1 && shift && exec env -i \"$chroot\" --userspec=64123:64123 \"$0\" /gateway \"$@\"";
    let mut command = owned("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(root);
    command.args([&chroot, "run", "--file", "/etc/postern/gateway.yaml", "--pod", "/etc/postern-pod"]);
    Process::start("the gateway in its image", &mut command)
}

#[test]
fn in_an_empty_image_names_are_resolved_as_in_any_container() {
    let database = Scripted::echo();
    let Address::Tcp(at) = *database.address() else { panic!("it listens on TCP") };
    let nowhere = IpAddr::V4(Ipv4Addr::new(127, 255, 255, 254));
    let dns = Dns::of_a_cluster(&[
        ("db.shop.svc.cluster.local", at.ip()),
        ("db.other.svc.cluster.local", at.ip()),
        ("db.example.test", at.ip()),
        ("both.shop.svc.cluster.local", nowhere),
        ("both", nowhere),
    ]);
    let names = ["db", "db.other", "db.other.svc", "db.example.test", "db.example.test.", "hosted", "both"];
    let listeners = names.map(|_| Address::Tcp(free_address()));
    let proxies = names.iter().zip(&listeners).enumerate().map(|(index, (name, listener))| {
        let database = format!("{name}:{}", at.port());
        Proxy::reaching("tcp", &database).named(&format!("p{index}")).listening_on(listener).set("pool.minIdle", 0)
    });
    let lost = Proxy::reaching("tcp", "lost.example.test:5432").named("lost").set("pool.acquireTimeout", "1s");
    let manifest = Manifest::of(proxies.chain([lost]));
    let hosts = format!("127.0.0.1 localhost\n{0} hosted\n{0} both\n", at.ip());
    let root = empty_image(&dns, &hosts, &manifest);
    let gateway = contained(&root);
    let listening = |name: &str| {
        let lines = gateway.lines();
        let records = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut listening = records.filter(|line| line["message"] == "Listening" && line["proxy"] == name);
        listening.next().and_then(|line| line["address"].as_str()?.parse().ok())
    };
    let lost = Address::Tcp(found("every proxy listens", || listening("lost")));
    for (name, listener) in names.iter().zip(&listeners) {
        let mut peer = Peer::dial(listener);
        if let Err(error) = peer.try_echo(b"hello") {
            panic!("{name}: {error}\n{}", gateway.tail());
        }
    }
    assert!(Peer::dial(&lost).closed_within(Duration::from_secs(20)).is_some(), "a name that nobody knows");
    let failed = |line: &String| line.contains("cannot resolve lost.example.test:5432");
    eventually("it says which name has no address", || gateway.lines().iter().any(failed));
    let writable = run(Command::new("find")
        .arg(&*root)
        .args(["-newer"])
        .arg(root.join("etc/postern/gateway.yaml"))
        .args(["-not", "-path", "*/proc/*", "-type", "f"]));
    assert_eq!(writable, "", "it writes nothing");
}
