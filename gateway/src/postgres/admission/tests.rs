use tokio::io::{DuplexStream, duplex};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::*;
use crate::postgres::scram::Binding;
use crate::postgres::scram::client::{Answered, Client};

const HASH: &[u8] = &[7; 32];

fn login(user: &str, password: &str) -> Login {
    Login { username: user.into(), password: Zeroizing::new(password.to_owned()) }
}

fn account(doorkeeper: &Doorkeeper, secret: &Login) -> Rc<Account> {
    doorkeeper.account_of(secret, None).expect("an account")
}

/// A peer that answers as a driver does.
struct Peer(DuplexStream);

impl Peer {
    /// The kind and the data of the next Authentication message.
    async fn hears(&mut self) -> (u32, Vec<u8>) {
        assert_eq!(self.0.read_u8().await.expect("a message"), tag::AUTHENTICATION);
        let length = self.0.read_u32().await.expect("a length");
        let kind = self.0.read_u32().await.expect("a kind");
        let mut data = vec![0; length as usize - 8];
        self.0.read_exact(&mut data).await.expect("data");
        (kind, data)
    }

    async fn says(&mut self, body: &[u8]) {
        let mut out = Vec::new();
        message(&mut out, tag::PASSWORD, |out| out.extend_from_slice(body));
        self.0.write_all(&out).await.expect("it is open");
    }

    /// An exchange up to the proof; the mechanisms that were offered, the challenge, and what verifies the answer.
    async fn proves(&mut self, binding: Binding, password: &str, at_once: bool) -> (Vec<u8>, String, Answered) {
        let (kind, offered) = self.hears().await;
        assert_eq!(kind, ASK);
        let client = Client::new(binding, "theirs");
        let (mechanism, first) = (client.mechanism().as_bytes(), client.first());
        let length = u32::try_from(first.len()).expect("it is short").to_be_bytes();
        if at_once {
            self.says(&[mechanism, b"\0", &length, first.as_bytes()].concat()).await;
        } else {
            self.says(&[mechanism, b"\0\xff\xff\xff\xff"].concat()).await;
            assert_eq!(self.hears().await, (CONTINUE, Vec::new()));
            self.says(first.as_bytes()).await;
        }
        let (kind, challenge) = self.hears().await;
        assert_eq!(kind, CONTINUE);
        let (last, answered) = client.challenged(&challenge, password).expect("a challenge").answer();
        self.says(last.as_bytes()).await;
        (offered, String::from_utf8(challenge).expect("text"), answered)
    }
}

/// A login of `user` with `password`, where the Secret is `secret`: the challenge, and what came of it.
async fn attempt(
    doorkeeper: &Doorkeeper,
    secret: &Login,
    (user, password): (&str, &str),
) -> (String, Result<(), Error>) {
    let (mut stream, peer) = duplex(4096);
    let mut said = Vec::new();
    let claim = Claim { user, end_point: None };
    let (mut peer, account) = (Peer(peer), account(doorkeeper, secret));
    let ((_, challenge, answered), asked) = tokio::join!(
        peer.proves(Binding::Unable, password, true),
        doorkeeper.ask(&mut stream, claim, &account, &mut said)
    );
    if asked.is_ok() {
        // What has not been sent is the proof that we know the password, too.
        assert_eq!(said[HEADER..HEADER + 4], FINAL.to_be_bytes());
        answered.verify(&said[HEADER + 4..]).expect("our proof");
    }
    (challenge, asked.map(|early| assert!(early.is_empty(), "it said nothing else")))
}

#[tokio::test]
async fn who_knows_name_and_password_is_let_in() {
    let (doorkeeper, secret) = (Doorkeeper::default(), login("app", "gr\u{fc}n \n"));
    assert!(attempt(&doorkeeper, &secret, ("app", "gr\u{fc}n \n")).await.1.is_ok());
}

#[tokio::test]
async fn what_a_peer_asks_behind_its_proof_is_not_lost() {
    let (doorkeeper, secret) = (Doorkeeper::default(), login("app", "secret"));
    let (mut stream, peer) = duplex(4096);
    let (mut peer, account, mut said) = (Peer(peer), account(&doorkeeper, &secret), Vec::new());
    let proving = async {
        peer.proves(Binding::Unable, "secret", true).await;
        peer.0.write_all(b"early").await.expect("room");
    };
    let claim = Claim { user: "app", end_point: None };
    let ((), asked) = tokio::join!(proving, doorkeeper.ask(&mut stream, claim, &account, &mut said));
    assert_eq!(asked.expect("it has the password"), b"early");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_refused_alike() {
    let (doorkeeper, secret) = (Doorkeeper::default(), login("app", "secret"));
    let mut salts = Vec::new();
    for (user, password) in [("app", "Secret"), ("app", ""), ("nobody", "secret"), ("nobody", "secret"), ("", "secret")]
    {
        let (challenge, asked) = attempt(&doorkeeper, &secret, (user, password)).await;
        let error = asked.expect_err("a refusal");
        let expected = format!("password authentication failed for user {user:?}");
        assert_eq!((&*error.response().code, &*error.response().message), ("28P01", &*expected));
        assert_eq!(error.reason(), "password");
        let (nonce, rest) = challenge.split_once(",s=").expect("a salt");
        assert_eq!(nonce.len(), "r=theirs".len() + 24);
        assert!(rest.ends_with(",i=4096"), "{challenge}");
        salts.push(rest.to_owned());
    }
    assert!(salts[0] == salts[1] && salts[2] == salts[3] && salts[0] != salts[2], "{salts:?}");
}

#[tokio::test]
async fn the_next_login_is_by_the_rotated_password() {
    let doorkeeper = Doorkeeper::default();
    let (old, new) = (login("app", "old"), login("app", "new"));
    assert!(attempt(&doorkeeper, &old, ("app", "old")).await.1.is_ok());
    assert!(attempt(&doorkeeper, &new, ("app", "old")).await.1.is_err());
    assert!(attempt(&doorkeeper, &new, ("app", "new")).await.1.is_ok());
    let renamed = login("shop", "new");
    assert!(attempt(&doorkeeper, &renamed, ("app", "new")).await.1.is_err());
    assert!(attempt(&doorkeeper, &renamed, ("shop", "new")).await.1.is_ok());
}

#[test]
fn a_password_is_hashed_once_for_each_content_of_a_secret() {
    let doorkeeper = Doorkeeper::default();
    let first = account(&doorkeeper, &login("app", "secret"));
    assert!(Rc::ptr_eq(&first, &account(&doorkeeper, &login("app", "secret"))));
    assert!(!Rc::ptr_eq(&first, &account(&doorkeeper, &login("app", "other"))));
    // Nothing of the old content is kept, nor of any when nobody asks for passwords.
    assert_eq!(Rc::strong_count(&first), 1);
    let last = account(&doorkeeper, &login("app", "other"));
    doorkeeper.forget();
    assert_eq!(Rc::strong_count(&last), 1);
}

#[test]
fn what_cannot_be_read_lets_nobody_in_and_is_forgotten() {
    let doorkeeper = Doorkeeper::default();
    let known = account(&doorkeeper, &login("app", "secret"));
    let nowhere = Secrets::in_folder(std::path::Path::new("/nowhere"));
    let error = doorkeeper.account(&nowhere, "db").map(drop).expect_err("there is none");
    assert_eq!((error.reason(), &*error.response().code), ("secret", "28000"));
    assert!(error.to_string().contains("/nowhere/db/username"), "{error}");
    assert!(!error.response().message.contains("nowhere"), "peers are not told where");
    assert_eq!(Rc::strong_count(&known), 1);
}

#[tokio::test]
async fn over_tls_the_exchange_is_bound_to_our_certificate() {
    let (doorkeeper, secret) = (Doorkeeper::default(), login("app", "secret"));
    let bindings = [
        (Binding::EndPoint(HASH.to_vec()), "ok"),
        (Binding::Unable, "ok"),
        (Binding::EndPoint(vec![8; 32]), "28000"),
        (Binding::Unoffered, "28000"),
    ];
    for (binding, expected) in bindings {
        let (mut stream, peer) = duplex(4096);
        let (mut peer, mut said) = (Peer(peer), Vec::new());
        let claim = Claim { user: "app", end_point: Some(HASH) };
        let account = account(&doorkeeper, &secret);
        let asking = doorkeeper.ask(&mut stream, claim, &account, &mut said);
        tokio::pin!(asking);
        let proving = peer.proves(binding.clone(), "secret", false);
        let asked = tokio::select! {
            biased;
            // It ends first where it refuses the first message.
            asked = &mut asking => asked,
            (offered, ..) = proving => {
                assert_eq!(offered, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
                asking.await
            }
        };
        let code = asked.err().map_or_else(|| "ok".to_owned(), |error| error.response().code.to_string());
        assert_eq!(code, expected, "{binding:?}");
    }
}

/// What becomes of a login in which these bytes are said, and then nothing.
async fn refused(bytes: &[u8], is_closed: bool) -> Error {
    let (doorkeeper, secret) = (Doorkeeper::default(), login("app", "secret"));
    let (mut stream, mut peer) = duplex(4096);
    peer.write_all(bytes).await.expect("room");
    let kept = (!is_closed).then_some(peer);
    let claim = Claim { user: "app", end_point: None };
    let asked = doorkeeper.ask(&mut stream, claim, &account(&doorkeeper, &secret), &mut Vec::new()).await;
    drop(kept);
    asked.expect_err("it proves nothing")
}

#[tokio::test(start_paused = true)]
async fn a_peer_has_so_much_time_and_no_more() {
    for bytes in [b"".as_slice(), b"p\0\0", b"p\0\0\0\x20SCRAM-SHA-256\0"] {
        let begin = Instant::now();
        let error = refused(bytes, false).await;
        assert_eq!((error.reason(), begin.elapsed()), ("login_timeout", LIMIT));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_or_says_something_else_has_failed_no_password() {
    assert_eq!(refused(b"p\0\0", true).await.reason(), "peer_gave_up");
    let cases: [(&[u8], &str); 8] = [
        (b"Q\0\0\0\x0dselect 1\0", "08P01"),
        (b"p\0\0\0\0", "08P01"),
        (b"p\xff\xff\xff\xff", "08P01"),
        (b"p\0\0\x20\x05", "08P01"),
        (b"p\0\0\0\x0bsecret\0", "08P01"),
        (b"p\0\0\0\x10SCRAM-SHA-1\0", "08P01"),
        (b"p\0\0\0\x1aSCRAM-SHA-256\0\0\0\0\x04n,,x", "08P01"),
        (b"p\0\0\0\x1aSCRAM-SHA-256\0\0\0\0\x04n,,xQ", "08P01"),
    ];
    for (bytes, code) in cases {
        let error = refused(bytes, false).await;
        assert_eq!(&*error.response().code, code, "{}: {error}", bytes.escape_ascii());
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
