//! Passwords, their proofs and keys for cancelling: who is told of them, and where they stay.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cast::backend::{First, answer, first, heard, welcome};
use cast::frontend::{V3_0, cancel_request, message, startup, transcript};
use cast::gateway::binary;
use cast::loopback::free_address;
use cast::postgres::psql;
use cast::process::{attempt, owned_as, run};
use cast::wire::{Address, Wire};
use cast::{Folder, Frontend, Gateway, Manifest, Postgres, Process, Proxy, Scripted, eventually};
use rustix::process::Signal;

/// What the gateway logs in with.
const PASSWORD: &str = "richtig-Pferd-Heftklammer-7";
/// What peers prove.
const FRONT: &str = "vorne-Anders-Heftklammer-8";
/// What the application itself says to the database, through the gateway.
const PASSING: &str = "durch-Gereicht-Heftklammer-9";
/// The database's key for cancelling.
const KEY: &[u8] = b"key!";

/// What the database was told in answer to its questions.
type Told = Arc<Mutex<Vec<Vec<u8>>>>;

/// A database that asks for the password itself and for its md5 in turn, and what it was told.
fn asking() -> (Scripted, Told) {
    let told = Told::default();
    let hears = told.clone();
    let database = Scripted::tcp(move |mut wire| {
        if first(&mut wire) != Some(First::Session) {
            return;
        }
        let asked = if hears.lock().unwrap().len() % 2 == 0 {
            message(b'R', b"\0\0\0\x03")
        } else {
            message(b'R', b"\0\0\0\x05salt")
        };
        let _ = wire.write_all(&asked);
        let Some((b'p', proof)) = heard(&mut wire) else { return };
        hears.lock().unwrap().push(proof);
        let _ = wire.write_all(&welcome().concat());
        answers(&mut wire);
    });
    (database, told)
}

fn answers(wire: &mut Wire) {
    while let Some((tag, body)) = heard(wire) {
        if wire.write_all(&answer(tag, &body)).is_err() {
            return;
        }
    }
}

/// `app`: what the gateway logs in with; `front`: what peers prove.
fn put_secrets() -> Folder {
    let secrets = Folder::new("secrets");
    for (name, username, password) in [("app", "postgres", PASSWORD), ("front", "shop", FRONT)] {
        fs::create_dir(secrets.join(name)).unwrap();
        fs::write(secrets.join(name).join("username"), username).unwrap();
        fs::write(secrets.join(name).join("password"), password).unwrap();
    }
    secrets
}

/// The forms in which bytes could be shown.
fn forms(secret: &[u8]) -> Vec<String> {
    let hexadecimal = secret.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let list = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let text = secret.escape_ascii().to_string();
    vec![String::from_utf8_lossy(secret).into_owned(), hexadecimal.to_uppercase(), hexadecimal, list, text]
}

#[test]
fn at_its_most_talkative_the_gateway_tells_no_secret() {
    let ((database, told), secrets) = (asking(), put_secrets());
    let proxy = |name| Proxy::to(database.address()).named(name).set("protocol", "postgres");
    let managed = proxy("session").set("client.auth.secretName", "app").set("pool.size", 3).set("pool.minIdle", 3);
    let folder = secrets.display().to_string();
    let manifest = Manifest::of([proxy("passthrough"), managed]).set("log.level", "trace");
    let gateway = Gateway::with(manifest).told(&["--secrets", &folder]).start();
    let mut found: Vec<Vec<u8>> = [PASSWORD, FRONT, PASSING].map(|secret| secret.as_bytes().to_vec()).into();
    let mut said = String::new();
    for _ in 0..4 {
        let (mut peer, welcome) = Frontend::login_as(&gateway.address_of("session"), V3_0, &[("user", "postgres")]);
        let key = welcome.iter().find(|message| message.tag == b'K').unwrap().body.clone();
        assert!(peer.ask("select 'served'").contains("served"));
        let mut cancelling = Frontend::dial(&gateway.address_of("session"));
        cancelling.send(&cancel_request(&key));
        cancelling.until_end();
        found.push(key[4..].to_vec());
        let mut passing = Frontend::dial(&gateway.address_of("passthrough"));
        passing.send(&startup(V3_0, &[("user", "postgres")]));
        passing.until(b'R', 1);
        passing.send(&message(b'p', format!("{PASSING}\0").as_bytes()));
        passing.until_ready(1);
        // Who is refused is told no more.
        fs::write(secrets.join("app/username"), [0xff]).unwrap();
        said += &transcript(&Frontend::login_as(&gateway.address_of("session"), V3_0, &[("user", "x")]).1);
        fs::write(secrets.join("app/username"), "postgres").unwrap();
    }
    eventually("the database has asked in both ways", || told.lock().unwrap().len() > 6);
    let proofs = told.lock().unwrap().clone();
    assert!(
        proofs.contains(&format!("{PASSWORD}\0").into_bytes()) && proofs.iter().any(|proof| proof.starts_with(b"md5"))
    );
    found.extend(proofs.into_iter().map(|proof| proof[..proof.len() - 1].to_vec()));
    found.push(KEY.to_vec());
    said += &[gateway.lines().join("\n"), gateway.get("/metrics").body, gateway.get("/config").body].concat();
    for secret in found {
        for form in forms(&secret) {
            assert!(!said.contains(&form), "{form} is told");
        }
    }
    gateway.ends_well_without_waiting();
}

/// All that a process has in memory.
#[track_caller]
fn memory_of(pid: u32) -> Vec<u8> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (begin, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [begin, end] = [begin, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut part = vec![0; usize::try_from(end - begin).unwrap()];
        if memory.read_exact_at(&mut part, begin).is_ok() {
            all.extend(part);
        }
    }
    all
}

/// How often a secret is in memory.
fn count(memory: &[u8], secret: &str) -> usize {
    memory.windows(secret.len()).filter(|part| *part == secret.as_bytes()).count()
}

#[test]
fn no_password_of_a_secret_stays_in_memory() {
    let ((database, told), secrets) = (asking(), put_secrets());
    let folder = secrets.display().to_string();
    let postgres = Postgres::start();
    postgres.query(&format!("alter role postgres password '{PASSWORD}'"));
    postgres.admit(&["local all all trust", "host all all all scram-sha-256"]);
    let proxy = |name: &str, address: &Address| {
        let proxy = Proxy::to(address).named(name).set("protocol", "postgres").set("client.auth.secretName", "app");
        proxy.set("client.auth.database", "postgres").set("pool.size", 4).set("pool.minIdle", 4)
    };
    let scram = proxy("scram", &postgres.address());
    let scram = scram.set("server.auth.mode", "scram").set("server.auth.secretName", "front");
    let manifest = Manifest::of([proxy("trusting", database.address()), scram]);
    let gateway = Gateway::with(manifest).told(&["--secrets", &folder]).start();
    for _ in 0..20 {
        Frontend::login_as(&gateway.address_of("trusting"), V3_0, &[("user", "postgres")]);
        let mut command = psql(&gateway.address_of("scram"));
        command.args(["-d", "dbname=postgres user=shop", "-c", "select 1"]).env("PGPASSWORD", FRONT);
        assert!(attempt(&mut command).0);
    }
    assert!(told.lock().unwrap().len() > 3, "it was asked in both ways");
    let memory = memory_of(gateway.process().pid());
    // The name is there, so this would find it.
    assert!(count(&memory, "postgres") > 0);
    assert_eq!([count(&memory, PASSWORD), count(&memory, FRONT)], [0, 0]);
    gateway.ends_well();
}

#[test]
fn no_neighbour_reads_a_sidecars_memory_and_no_core_file_has_it() {
    let (database, secrets, pod) = (Scripted::echo(), put_secrets(), Folder::new("pod"));
    let admin = free_address();
    let manifest = Manifest::from(Proxy::to(database.address())).set("admin.address", admin.to_string());
    let file = pod.join("gateway.yaml");
    fs::write(&file, manifest.text()).unwrap();
    run(Command::new("chmod").args(["777"]).arg(&*pod));
    // As in a pod whose containers have one user and see each other's processes.
    let mut command = owned_as("daemon", "prlimit");
    command.args(["--core=unlimited:unlimited", "--"]).arg(binary()).arg("run").arg("-f").arg(&file);
    command.arg("--pod").arg(&*pod).arg("--secrets").arg(&*secrets).current_dir(&*pod);
    let mut gateway = Process::start("the gateway", &mut command);
    eventually("it serves", || gateway.lines().iter().any(|line| line.contains("Configuration applied")));
    let of = |file: &str| format!("/proc/{}/{file}", gateway.pid());
    assert_eq!(fs::metadata(of("mem")).unwrap().uid(), 0, "the memory is its user's");
    for file in ["environ", "maps", "root/etc/passwd", "fd/0"] {
        let (may, said) = attempt(owned_as("daemon", "cat").arg(of(file)));
        assert!(!may && said.contains("ermission denied"), "{file}: {said}");
    }
    gateway.signal(Signal::ABORT);
    gateway.wait(Duration::from_secs(10));
    let left: Vec<_> = fs::read_dir(&*pod).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["gateway.yaml"], "there is a core file");
}
