//! A line of the log is a line, in either form, whatever peers and databases put into it; and nothing of it is in the metrics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use cast::backend::{First, answer, first, heard, welcome};
use cast::frontend::{V3_0, message, startup};
use cast::gateway::{binary, cli};
use cast::loopback::free_address;
use cast::process::owned;
use cast::wire::{Address, Wire};
use cast::{Folder, Frontend, Manifest, Process, Proxy, Scripted, eventually};
use serde_json::Value;

/// They end a line, begin another one in both forms, colour, clear and name a terminal, turn round and quote.
const WORDS: &str = "gone\n2026-01-01T00:00:00Z ERROR forged\r{\"level\":\"ERROR\",\"message\":\"forged\"}\u{1b}[31m\u{1b}]0;\
                     forged\u{7}\u{9b}2J\u{202e}\u{2028}\t\u{7f}\"'\\";

/// What the database does with one connection after the other.
const TURNS: usize = 5;

/// Says [`WORDS`] wherever a database has something to say.
fn hostile() -> Scripted {
    let turn = AtomicUsize::new(0);
    Scripted::tcp(move |mut wire| {
        if first(&mut wire) != Some(First::Session) {
            return;
        }
        let refusal = |severity: &str, code: &str| {
            let fields = format!("S{severity}\0V{severity}\0C{code}\0M{WORDS}\0D{WORDS}\0H{WORDS}\0\0");
            message(b'E', fields.as_bytes())
        };
        let said = match turn.fetch_add(1, Ordering::SeqCst) % TURNS {
            0 => refusal("FATAL", "57P03"),
            1 => message(b'R', format!("\0\0\0\x0a{WORDS}\0\0").as_bytes()),
            2 => format!("E{WORDS}\0").into_bytes(),
            3 => [
                message(b'R', &[0; 4]),
                message(b'S', format!("{WORDS}\0{WORDS}\0").as_bytes()),
                refusal(WORDS, "42601"),
            ]
            .concat(),
            _ => return converse(&mut wire, &refusal("ERROR", "42601"), &refusal("FATAL", "57P01")),
        };
        // The gateway may have left.
        let _ = wire.write_all(&said);
    })
}

/// Lets the gateway in, refuses the settings of its first peer, and ends with an error at the third question.
fn converse(wire: &mut Wire, error: &[u8], fatal: &[u8]) {
    let mut login = welcome();
    login.insert(1, message(b'S', b"application_name\0\0"));
    let _ = wire.write_all(&login.concat());
    let mut questions = 0;
    while let Some((tag, body)) = heard(wire) {
        questions += 1;
        let said = match questions {
            1 => [error, &message(b'Z', b"I")].concat(),
            2 => answer(tag, &body),
            _ => fatal.to_vec(),
        };
        if wire.write_all(&said).is_err() || questions > 2 {
            return;
        }
    }
}

/// What a gateway logs in this form beside hostile peers and a hostile database.
#[track_caller]
fn said_in(form: &str) -> Vec<String> {
    let (database, folder, admin) = (hostile(), Folder::new("log"), free_address());
    std::fs::create_dir(folder.join("app")).unwrap();
    std::fs::write(folder.join("app/username"), "postgres").unwrap();
    std::fs::write(folder.join("app/password"), "secret").unwrap();
    let addresses: Vec<Address> = (0..3).map(|_| free_address().into()).collect();
    let proxy = |number: usize, name: &str| {
        let proxy = Proxy::to(database.address()).named(name).listening_on(&addresses[number]);
        let proxy = proxy.set("protocol", "postgres").set("pool.acquireTimeout", "200ms").set("client.retries", 0);
        proxy.set("client.backoff", "0s").set("client.probe", "20ms")
    };
    let managed = |number, name| proxy(number, name).set("client.auth.secretName", "app");
    let asking = managed(2, "asking").set("server.auth.mode", "scram").set("server.auth.secretName", "app");
    let manifest = Manifest::of([proxy(0, "passthrough"), managed(1, "session"), asking]);
    let manifest = manifest.set("log.level", "trace").set("log.format", form).set("admin.address", admin.to_string());
    let file = folder.join("gateway.yaml");
    std::fs::write(&file, manifest.text()).unwrap();
    let mut command = owned(binary());
    command.args(["run", "--secrets"]).arg(&*folder).arg("-f").arg(&file);
    let gateway = Process::start("the gateway", &mut command);
    eventually("it serves", || TcpStream::connect(admin).is_ok());
    for _ in 0..2 * TURNS {
        addresses.iter().for_each(misbehave);
        addresses[..2].iter().for_each(ask);
    }
    let metrics = metrics(admin);
    assert!(metrics.contains("postern_sessions_refused_total") && !metrics.contains("forged"), "{metrics}");
    let said = gateway.lines().join("\n");
    for words in ["The database cannot be logged in to", "The database is", "Peer refused", "Session closed"] {
        assert!(said.contains(words), "nothing is said of {words:?}");
    }
    gateway.lines()
}

/// What is counted meanwhile.
fn metrics(admin: SocketAddr) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    metrics
}

/// Says [`WORDS`] wherever a peer has something to say.
fn misbehave(address: &Address) {
    let names = [("user", WORDS), ("database", WORDS), ("application_name", WORDS), (WORDS, WORDS)];
    let plain = [("user", "postgres"), ("application_name", WORDS)];
    for parameters in [&names[..], &plain] {
        let mut peer = Frontend::dial(address);
        peer.send(&startup(V3_0, parameters));
        let mechanism = format!("{WORDS}\0\0\0\0\x01x");
        peer.send(&message(b'p', mechanism.as_bytes()));
        peer.half_close();
        peer.until_end();
    }
    let mut peer = Frontend::dial(address);
    peer.send(WORDS.as_bytes());
    peer.half_close();
    peer.until_end();
}

/// Asks where nobody wants a password.
fn ask(address: &Address) {
    let (mut peer, _) = Frontend::login_as(address, V3_0, &[("user", "postgres"), ("application_name", WORDS)]);
    for _ in 0..3 {
        peer.send(&message(b'Q', b"select 1\0"));
    }
    peer.half_close();
    peer.until_end();
}

/// Whether it does nothing to whoever shows it.
fn is_harmless(line: &str) -> bool {
    let turns = |letter| matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !line.contains(|letter: char| letter.is_control() || turns(letter))
}

#[test]
fn a_line_of_json_is_one_record_whatever_is_said() {
    let lines = said_in("json");
    for line in &lines {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(record["timestamp"].is_string() && record["level"].is_string(), "{line:?}");
        assert!(record["level"] != "ERROR", "{line:?}");
        assert!(is_harmless(line), "{line:?}");
    }
    assert!(lines.iter().any(|line| line.contains("forged")), "nothing was said");
}

#[test]
fn a_line_of_text_is_one_line_whatever_is_said() {
    let lines = said_in("text");
    for line in &lines {
        let mut words = line.split_whitespace();
        let time = words.next().unwrap_or_default();
        assert!(time.len() == 27 && time.ends_with('Z') && !time.starts_with("2026-01-01T00:00:00"), "{line:?}");
        assert!(["TRACE", "DEBUG", "INFO", "WARN"].contains(&words.next().unwrap_or_default()), "{line:?}");
        assert!(is_harmless(line), "{line:?}");
    }
    assert!(lines.iter().any(|line| line.contains("forged")), "nothing was said");
}

#[test]
fn no_name_that_a_configuration_may_have_breaks_a_line() {
    let database = Scripted::echo();
    let folder = Folder::new("names");
    let file = folder.join("gateway.yaml");
    for name in [WORDS, "a\nb", "a\u{1b}[31m", "a\"} 1\nforged{x=\"", "A", "a b"] {
        std::fs::write(&file, Manifest::from(Proxy::to(database.address()).named(name)).text()).unwrap();
        let (code, said) = cli(&["check", "-f", &file.display().to_string()]);
        assert_eq!(code, Some(1), "{name:?}: {said}");
    }
}
