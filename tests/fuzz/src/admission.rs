//! What a peer says that is asked for a password: only who knows it is let in, and hears nothing but whole messages.

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use gateway::postgres::admission::{Account, Claim, Doorkeeper};
use gateway::postgres::frames::{Frames, Sender, Step};
use gateway::postgres::scram::Binding;
use gateway::postgres::scram::client::Client;
use gateway::postgres::wire::{HEADER, message, tag};
use gateway::secrets::Secrets;
use tokio::runtime::Runtime;

use super::input::Input;
use super::stream::{Other, Stream, bodies};

const PASSWORD: &str = "correct horse";
const HASH: &[u8] = &[7; 32];

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    static DOOR: (Doorkeeper, Rc<Account>) = door();
}

/// A peer that follows its script, and knows the password where that tells it to use it.
struct Peer<'a> {
    script: Input<'a>,
    /// Its end of an exchange, once it has begun one in earnest.
    client: Option<Client>,
    has_proved: bool,
    is_over: bool,
}

fn door() -> (Doorkeeper, Rc<Account>) {
    let folder: PathBuf = std::env::temp_dir().join(format!("postern-fuzz-{}", std::process::id()));
    let secret = folder.join("app");
    fs::create_dir_all(&secret).expect("a folder for a Secret");
    for (key, value) in [("username", "app"), ("password", PASSWORD)] {
        fs::write(secret.join(key), value).expect("a file of a Secret");
    }
    let doorkeeper = Doorkeeper::default();
    let account = doorkeeper.account(&Secrets::in_folder(&folder), "app").expect("an account");
    fs::remove_dir_all(folder).expect("the folder goes");
    (doorkeeper, account)
}

/// Who the peer says that it is and whether it sees our certificate, the length of pieces, then its script.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let both = input.byte();
    let (user, end_point) = (if both & 1 == 0 { "app" } else { "nobody" }, (both & 2 != 0).then_some(HASH));
    let most = input.byte();
    let mut peer = Stream::new(Peer { script: input, client: None, has_proved: false, is_over: false }, most);
    let mut said = Vec::new();
    let asked = DOOR.with(|(doorkeeper, account)| {
        let asking = doorkeeper.ask(&mut peer, Claim { user, end_point }, account, &mut said);
        RUNTIME.with(|runtime| runtime.block_on(asking))
    });
    match asked {
        Ok(_) => {
            assert!(peer.other.has_proved && user == "app", "it is let in without the password");
            assert_eq!(said.first_chunk(), Some(&tag::AUTHENTICATION.to_be_bytes()));
        }
        Err(error) => {
            let response = error.response();
            assert!(!error.reason().is_empty() && response.code.len() == 5 && !response.message.is_empty());
            assert!(!response.to_string().contains(PASSWORD));
        }
    }
    peer.heard.extend_from_slice(&said);
    are_whole_messages(&peer.heard);
}

fn are_whole_messages(mut heard: &[u8]) {
    let mut frames = Frames::new(Sender::Database);
    while let Some(step) = frames.step(heard).expect("a message of a database") {
        heard = match step {
            Step::Head { tag, kept, .. } => {
                assert_eq!(tag, tag::AUTHENTICATION);
                &heard[HEADER - kept..]
            }
            Step::Body { bytes, .. } => &heard[bytes..],
        };
    }
    assert!(!frames.is_within());
}

// === impl Peer ===

impl Other for Peer<'_> {
    fn says(&mut self, heard: &[u8]) -> Option<Vec<u8>> {
        if self.is_over || self.script.is_empty() {
            self.is_over = true;
            return None;
        }
        let mut out = Vec::new();
        let mut say = |body: &[u8]| message(&mut out, tag::PASSWORD, |out| out.extend_from_slice(body));
        match self.script.below(6) {
            0 => return Some(self.script.piece().to_vec()),
            1 => say(self.script.piece()),
            2 => {
                let mechanism = self.script.one_of(&["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1"]);
                let first = self.script.piece();
                say(&initial(mechanism, first));
            }
            3 => {
                let bindings = [Binding::Unable, Binding::Unoffered, Binding::EndPoint(HASH.to_vec())];
                let client = Client::new(bindings[self.script.below(3)].clone(), "theirs");
                say(&initial(client.mechanism(), client.first().as_bytes()));
                self.client = Some(client);
            }
            4 => {
                let mechanism = self.script.one_of(&["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]);
                say(&[mechanism.as_bytes(), b"\0\xff\xff\xff\xff"].concat());
            }
            _ => {
                let is_right = self.script.byte() & 1 == 0;
                let password = if is_right { PASSWORD } else { "Secret" };
                let challenge = bodies(heard, tag::AUTHENTICATION).last().and_then(|body| body.get(4..));
                let challenged = self.client.take().and_then(|client| client.challenged(challenge?, password).ok());
                if let Some(challenged) = challenged {
                    say(challenged.answer().0.as_bytes());
                    self.has_proved |= is_right;
                }
            }
        }
        Some(out)
    }
}

/// A SASLInitialResponse.
fn initial(mechanism: &str, first: &[u8]) -> Vec<u8> {
    let length = u32::try_from(first.len()).expect("it is short").to_be_bytes();
    [mechanism.as_bytes(), b"\0", &length, first].concat()
}
