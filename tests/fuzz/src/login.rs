//! What a database says to the gateway that logs in: whoever is believed in the end has proved that it knows the password
//! where it asked for a proof, and nobody on a network has seen the password.

use gateway::config::Target;
use gateway::postgres::login::{Backend, Channel, Error, Startup, login_over, will_do};
use gateway::postgres::scram::server::{Server, Verifier, Waiting, initial};
use gateway::postgres::wire::{Version, message, tag};
use tokio::runtime::Runtime;

use super::input::Input;
use super::scram::is_costly;
use super::stream::{Other, Stream, bodies};

const PASSWORD: &str = "correct horse battery staple";
const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const READY: &[u8] = b"Z\0\0\0\x05I";
/// No login is longer than what the gateway reads of one: 1 MiB, and a few messages and reads more.
const MOST_READ: usize = 1024 * 1024 + 256 * 1024;
/// Settings of the database that are kept, at most.
const MOST_PARAMETERS: usize = 200;
const TARGETS: [Target; 6] =
    [Target::Any, Target::ReadWrite, Target::ReadOnly, Target::Primary, Target::Standby, Target::PreferStandby];

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    static VERIFIER: Verifier = Verifier::of(PASSWORD, [1; 16], 1);
}

/// A database that follows its script, and knows the password where that tells it to use it.
struct Database<'a> {
    script: Input<'a>,
    waiting: Option<Waiting>,
    /// Whether it has proved that it knows the password.
    has_proved: bool,
    is_over: bool,
}

/// Settings, process and version of who has logged the gateway in.
type Known = (Vec<(String, String)>, Option<u32>, Version);

/// What came of a login, but for what is random in it.
#[derive(Debug, PartialEq)]
struct Outcome {
    said: Result<Known, String>,
    will_do: Option<Result<bool, String>>,
}

/// The channel, the version and the wanted state, the length of pieces, then the database's script.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let channel = match input.below(4) {
        0 => Channel::Network,
        1 => Channel::Host,
        2 => Channel::Tls(None),
        _ => Channel::Tls(Some(vec![7; 32])),
    };
    let version = input.one_of(&[Version::V3_2, Version::V3_0]);
    let target = input.one_of(&TARGETS);
    let most = input.byte();
    let attempt = |most| attempt((&channel, version, target), most, input);
    let (cut, whole) = (attempt(most.max(1)), attempt(0));
    // Where it is cut, nobody sees what comes after the end.
    if cut != whole {
        let (Ok(_), Err(error)) = (&cut.said, &whole.said) else {
            // Nor what comes after the answer to the first question.
            assert!(cut.said == whole.said && cut.will_do.is_some(), "{cut:?}, and at once {whole:?}");
            return;
        };
        assert!(error.contains("there is no message of type"), "{cut:?}, and at once {error}");
    }
}

fn attempt((channel, version, target): (&Channel, Version, Target), most: u8, script: Input<'_>) -> Outcome {
    let mut database = Stream::new(Database { script, waiting: None, has_proved: false, is_over: false }, most);
    let parameters = vec![("application_name".into(), "orders".into()), ("_pq_.x".into(), "".into())];
    let startup = Startup { version, user: "app".into(), database: "orders".into(), parameters };
    let login = login_over(&mut database, channel.clone(), &startup, PASSWORD);
    let said = RUNTIME.with(|runtime| runtime.block_on(login));
    assert!(database.said.len() <= MOST_READ, "{} bytes were read", database.said.len());
    let has_seen = database.heard.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
    assert!(!has_seen || *channel != Channel::Network, "the password went over the network");
    match said {
        Ok(mut backend) => {
            judge(&backend, version, &database);
            let will_do = RUNTIME.with(|runtime| runtime.block_on(will_do(&mut database, &mut backend, target)));
            Outcome { said: Ok(known(&backend)), will_do: Some(will_do.map_err(|error| error.to_string())) }
        }
        Err(error) => Outcome { said: Err(words(&error)), will_do: None },
    }
}

fn judge(backend: &Backend, version: Version, database: &Stream<Database<'_>>) {
    assert!(database.said.ends_with(READY));
    assert!(backend.version <= version && [Version::V3_0, Version::V3_2].contains(&backend.version));
    assert!(backend.memory.parameters.iter().count() <= MOST_PARAMETERS);
    assert_eq!(backend.memory.process, backend.key.as_ref().map(|key| key.process));
    let answers = answers(&database.heard);
    assert!(answers.len() <= 2, "it asks once");
    let is_scram = answers.first().is_some_and(|answer| answer.starts_with(b"SCRAM-"));
    assert!(!is_scram || database.other.has_proved, "it is believed without a proof");
}

/// What the gateway has answered to what it was asked.
fn answers(heard: &[u8]) -> Vec<&[u8]> {
    let length = heard.first_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length));
    let rest = usize::try_from(length).ok().and_then(|length| heard.get(length..));
    rest.map_or_else(Vec::new, |rest| bodies(rest, tag::PASSWORD))
}

fn known(backend: &Backend) -> Known {
    let parameters = backend.memory.initial.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    (parameters.collect(), backend.key.as_ref().map(|key| key.process), backend.version)
}

fn words(error: &Error) -> String {
    // Whether it would come to the same is a part of what is said.
    format!("{error} ({})", error.is_final())
}

// === impl Database ===

impl Other for Database<'_> {
    fn says(&mut self, heard: &[u8]) -> Option<Vec<u8>> {
        if self.is_over || self.script.is_empty() {
            self.is_over = true;
            return None;
        }
        let mut out = Vec::new();
        match self.script.below(9) {
            0 => out.extend_from_slice(self.script.piece()),
            1 => {
                let tag = self.script.byte();
                message(&mut out, tag, |out| out.extend_from_slice(self.script.piece()));
            }
            2 => ask(&mut out, 10, b"SCRAM-SHA-256\0\0"),
            3 => ask(&mut out, 10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
            4 => self.challenge(heard, &mut out),
            5 => self.prove(heard, &mut out),
            6 => self.lie(heard, &mut out),
            7 => {
                let (count, tag) = (usize::from(self.script.byte()) * 64, self.script.byte());
                let body = self.script.piece();
                for _ in 0..count.min(8 * 1024 * 1024 / (body.len() + 5)) {
                    message(&mut out, tag, |out| out.extend_from_slice(body));
                }
            }
            _ => {
                out.extend_from_slice(OK);
                message(&mut out, tag::PARAMETER_STATUS, |out| out.extend_from_slice(b"in_hot_standby\0off\0"));
                message(&mut out, tag::BACKEND_KEY_DATA, |out| out.extend_from_slice(b"\0\0\0\x09secret"));
                out.extend_from_slice(READY);
            }
        }
        Some(out)
    }
}

impl Database<'_> {
    /// As PostgreSQL does it.
    fn challenge(&mut self, heard: &[u8], out: &mut Vec<u8>) {
        let answers = answers(heard);
        let Some(Ok((mechanism, Some(first)))) = answers.last().map(|body| initial(body)) else { return };
        let challenged = VERIFIER.with(|verifier| {
            let hash = [7; 32];
            let end_point = (mechanism.ends_with("-PLUS")).then_some(&hash[..]);
            Server { verifier, end_point }.challenge(mechanism, first, "theirs")
        });
        if let Ok((waiting, challenge)) = challenged {
            self.waiting = Some(waiting);
            ask(out, 11, challenge.as_bytes());
        }
    }

    /// The same.
    fn prove(&mut self, heard: &[u8], out: &mut Vec<u8>) {
        let answers = answers(heard);
        let (Some(waiting), Some(last)) = (self.waiting.take(), answers.last()) else { return };
        let hash = [7; 32];
        let proved = VERIFIER.with(|verifier| Server { verifier, end_point: Some(&hash) }.verify(waiting, last));
        if let Ok(proof) = proved {
            self.has_proved = true;
            ask(out, 12, proof.as_bytes());
        }
    }

    /// A challenge of its own, to who has just said its nonce.
    fn lie(&mut self, heard: &[u8], out: &mut Vec<u8>) {
        let answers = answers(heard);
        let first = answers.last().map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default();
        let nonce = first.rsplit_once("r=").map_or("", |(_, nonce)| nonce);
        let challenge = [b"r=", nonce.as_bytes(), self.script.piece()].concat();
        if !is_costly(&challenge) {
            ask(out, 11, &challenge);
        }
    }
}

fn ask(out: &mut Vec<u8>, kind: u32, rest: &[u8]) {
    message(out, tag::AUTHENTICATION, |out| {
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(rest);
    });
}
