use proptest::prelude::*;

use super::client::Client;
use super::server::{ITERATIONS, Salts, Server, Verifier};
use super::*;

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const THEIRS: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
/// RFC 7677, section 3.
const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const PROOF: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

const HASH: &[u8] = &[7; 32];

fn of_the_rfc() -> Verifier {
    Verifier::new("pencil", decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("16 bytes"))
}

/// One that costs nothing.
fn cheap(password: &str) -> Verifier {
    Verifier::of(password, [1; 16], 1)
}

/// A whole exchange; what each side has found out.
fn meet(client: Client, password: &str, server: &Server<'_>) -> (Result<(), Error>, Result<(), Error>) {
    let challenged = server.challenge(client.mechanism(), client.first().as_bytes(), THEIRS);
    let (waiting, challenge) = match challenged {
        Ok(challenged) => challenged,
        Err(error) => return (Ok(()), Err(error)),
    };
    let (last, answered) = match client.challenged(challenge.as_bytes(), password) {
        Ok(challenged) => challenged.answer(),
        Err(error) => return (Err(error), Ok(())),
    };
    match server.verify(waiting, last.as_bytes()) {
        Ok(proof) => (answered.verify(proof.as_bytes()), Ok(())),
        Err(error) => (Ok(()), Err(error)),
    }
}

#[test]
fn both_ends_say_what_rfc_7677_says() {
    let client = Client::named(Binding::Unable, "user", NONCE);
    assert_eq!((client.first().as_str(), client.mechanism()), (FIRST, SCRAM_SHA_256));
    let verifier = of_the_rfc();
    let server = Server { verifier: &verifier, end_point: None };
    let (waiting, challenge) = server.challenge(SCRAM_SHA_256, FIRST.as_bytes(), THEIRS).expect("a challenge");
    assert_eq!(challenge, CHALLENGE);
    let (last, answered) = client.challenged(CHALLENGE.as_bytes(), "pencil").expect("a challenge").answer();
    assert_eq!(last, LAST);
    assert_eq!(server.verify(waiting, LAST.as_bytes()).as_deref(), Ok(PROOF));
    assert_eq!(answered.verify(PROOF.as_bytes()), Ok(()));
}

#[test]
fn channel_binding_is_as_strong_as_both_sides_can() {
    let verifier = cheap("secret");
    let unbound = Server { verifier: &verifier, end_point: None };
    let bound = Server { verifier: &verifier, end_point: Some(HASH) };
    assert_eq!(unbound.mechanisms(), [SCRAM_SHA_256]);
    assert_eq!(bound.mechanisms(), [SCRAM_SHA_256_PLUS, SCRAM_SHA_256]);
    let cases = [
        (Binding::Unable, &unbound, Ok(())),
        (Binding::Unoffered, &unbound, Ok(())),
        (Binding::EndPoint(HASH.to_vec()), &unbound, Err(Error::Mechanism)),
        (Binding::Unable, &bound, Ok(())),
        // Somebody between has taken the better mechanism out of the offer.
        (Binding::Unoffered, &bound, Err(Error::Downgrade)),
        (Binding::EndPoint(HASH.to_vec()), &bound, Ok(())),
        // Somebody between shows a certificate of his own.
        (Binding::EndPoint(vec![8; 32]), &bound, Err(Error::Binding)),
    ];
    for (binding, server, expected) in cases {
        let said = meet(Client::new(binding.clone(), NONCE), "secret", server);
        assert_eq!(said, (Ok(()), expected), "{binding:?} {server:?}");
    }
}

#[test]
fn a_peer_cannot_say_one_thing_of_binding_and_do_another() {
    let verifier = cheap("secret");
    let bound = Server { verifier: &verifier, end_point: Some(HASH) };
    let unbound = Server { verifier: &verifier, end_point: None };
    let said = |server: &Server<'_>, mechanism, first: &str| {
        server.challenge(mechanism, first.as_bytes(), THEIRS).map(|_| ()).expect_err("a refusal")
    };
    assert_eq!(said(&bound, SCRAM_SHA_256_PLUS, "n,,n=,r=x"), Error::Binding);
    assert_eq!(said(&bound, SCRAM_SHA_256_PLUS, "p=tls-unique,,n=,r=x"), Error::Binding);
    assert!(matches!(said(&bound, SCRAM_SHA_256, "p=tls-server-end-point,,n=,r=x"), Error::Malformed(_)));
    assert_eq!(said(&unbound, SCRAM_SHA_256_PLUS, "p=tls-server-end-point,,n=,r=x"), Error::Mechanism);
    assert_eq!(said(&unbound, "SCRAM-SHA-1", "n,,n=,r=x"), Error::Mechanism);
    assert!(matches!(said(&unbound, SCRAM_SHA_256, "n,a=admin,n=,r=x"), Error::Malformed(_)));
    assert!(matches!(said(&unbound, SCRAM_SHA_256, "n,,m=1,n=,r=x"), Error::Malformed(_)));
    // `y` at first, `n` in the end.
    let (waiting, _) = unbound.challenge(SCRAM_SHA_256, b"y,,n=,r=x", THEIRS).expect("a challenge");
    let last = format!("c=biws,r=x{THEIRS},p={}", STANDARD.encode([0; 32]));
    assert_eq!(unbound.verify(waiting, last.as_bytes()), Err(Error::Binding));
}

#[test]
fn a_wrong_password_and_a_user_that_is_not_there_are_told_alike() {
    let salts = Salts::new([9; 32]);
    assert_eq!(salts.of("nobody"), salts.of("nobody"));
    assert_ne!(salts.of("nobody"), salts.of("somebody"));
    let (real, nobody) = (Verifier::new("secret", salts.of("app")), Verifier::of_nobody(salts.of("app")));
    let challenge_of = |verifier: &Verifier| {
        let server = Server { verifier, end_point: None };
        server.challenge(SCRAM_SHA_256, FIRST.as_bytes(), THEIRS).expect("a challenge").1
    };
    assert_eq!(challenge_of(&real), challenge_of(&nobody));
    for (verifier, password) in [(&real, "Secret"), (&nobody, "secret"), (&nobody, "")] {
        let said = meet(Client::new(Binding::Unable, NONCE), password, &Server { verifier, end_point: None });
        assert_eq!(said, (Ok(()), Err(Error::Password)));
    }
    assert_eq!(format!("{real:?}"), format!("Verifier({ITERATIONS} iterations)"));
}

#[test]
fn a_database_that_does_not_know_the_password_is_found_out() {
    let (_, answered) = Client::named(Binding::Unable, "user", NONCE)
        .challenged(CHALLENGE.as_bytes(), "another password")
        .expect("a challenge")
        .answer();
    assert_eq!(answered.verify(PROOF.as_bytes()), Err(Error::Unproved));
}

#[test]
fn what_the_database_asks_for_is_bounded() {
    let challenged = |iterations: &str| {
        let message = format!("r={NONCE}x,s=AAAA,i={iterations}");
        Client::new(Binding::Unable, NONCE).challenged(message.as_bytes(), "secret").map(|_| ())
    };
    assert_eq!(challenged("1000000"), Ok(()));
    assert_eq!(challenged("1000001"), Err(Error::Iterations(1_000_001)));
    assert_eq!(challenged("4294967297"), Err(Error::Iterations(4_294_967_297)));
    assert_eq!(challenged("99999999999999999999999999"), Err(Error::Iterations(u64::MAX)));
    for none in ["0", "", "-1", "+1", " 1", "1e3", "0x10"] {
        assert!(matches!(challenged(none), Err(Error::Malformed(_))), "{none:?}");
    }
    let long = [b"r=", NONCE.as_bytes(), &vec![b'x'; MAX_MESSAGE], b",s=AAAA,i=1"].concat();
    let said = Client::new(Binding::Unable, NONCE).challenged(&long, "secret").map(|_| ());
    assert_eq!(said, Err(Error::Malformed("it is too long")));
}

#[test]
fn a_challenge_is_for_us_or_refused() {
    for message in [
        "r=other,s=AAAA,i=1",
        "r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=1",
        "r=rOprNGfwEbeRWgbNEkqO\u{e9},s=AAAA,i=1",
        "r=rOprNGfwEbeRWgbNEkqOx,s=A,i=1",
        "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=1,x=y",
        "r=rOprNGfwEbeRWgbNEkqOx,i=1,s=AAAA",
        "m=x,r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=1",
        "r=rOprNGfwEbeRWgbNEkqOx,s=AA\0AA,i=1",
    ] {
        let said = Client::new(Binding::Unable, NONCE).challenged(message.as_bytes(), "secret").map(|_| ());
        assert!(matches!(said, Err(Error::Malformed(_))), "{message:?}: {said:?}");
    }
}

#[test]
fn the_database_may_end_it_in_words_that_fit_on_a_line() {
    let answered = |message: &str| {
        let client = Client::named(Binding::Unable, "user", NONCE);
        client.challenged(CHALLENGE.as_bytes(), "pencil").expect("a challenge").answer().1.verify(message.as_bytes())
    };
    assert_eq!(answered("e=other-error"), Err(Error::Ended("other-error".into())));
    let long = format!("e=a\nb{}", "c".repeat(500));
    assert_eq!(answered(&long), Err(Error::Ended(format!("ab{}", "c".repeat(198)))));
    assert!(matches!(answered("v=AAAA"), Err(Error::Malformed(_))));
    assert!(matches!(answered(&format!("{PROOF},x=y")), Err(Error::Malformed(_))));
}

#[test]
fn a_message_that_is_cut_is_refused_wherever_it_is_cut() {
    let verifier = of_the_rfc();
    let server = Server { verifier: &verifier, end_point: None };
    for cut in 0..FIRST.len() {
        let said = server.challenge(SCRAM_SHA_256, &FIRST.as_bytes()[..cut], THEIRS).map(|(_, challenge)| challenge);
        // A nonce that is cut is a shorter nonce.
        let is_nonce_cut = cut > FIRST.len() - NONCE.len();
        assert_eq!(said.is_ok(), is_nonce_cut, "{said:?} at {cut}");
    }
    let mut accepted = Vec::new();
    for cut in 0..CHALLENGE.len() {
        let client = Client::new(Binding::Unable, NONCE);
        if client.challenged(&CHALLENGE.as_bytes()[..cut], "pencil").is_ok() {
            accepted.push(&CHALLENGE[..cut]);
        }
    }
    // A number that is cut is a smaller number, and then the proofs are wrong.
    assert!(accepted.iter().all(|message| message.contains(",i=4")) && accepted.len() == 3, "{accepted:?}");
    for cut in 0..LAST.len() {
        let (waiting, _) = server.challenge(SCRAM_SHA_256, FIRST.as_bytes(), THEIRS).expect("a challenge");
        assert!(server.verify(waiting, &LAST.as_bytes()[..cut]).is_err(), "at {cut}");
    }
    let client = || Client::named(Binding::Unable, "user", NONCE).challenged(CHALLENGE.as_bytes(), "pencil");
    for cut in 0..PROOF.len() {
        let (_, answered) = client().expect("a challenge").answer();
        assert!(answered.verify(&PROOF.as_bytes()[..cut]).is_err(), "at {cut}");
    }
}

#[test]
fn a_peer_may_send_its_first_message_at_once_or_later() {
    assert_eq!(server::initial(b"SCRAM-SHA-256\0\xff\xff\xff\xff"), Ok((SCRAM_SHA_256, None)));
    let whole = b"SCRAM-SHA-256\0\0\0\0\x03n,,";
    assert_eq!(server::initial(whole), Ok((SCRAM_SHA_256, Some(b"n,,".as_slice()))));
    for cut in 0..whole.len() {
        assert!(server::initial(&whole[..cut]).is_err(), "cut at {cut}");
    }
    for malformed in [b"S\0\0\0\0\x01xx".as_slice(), b"S\0\x80\0\0\0", b"S\0\xff\xff\xff\xffx", b"\xff\0\0\0\0\0"] {
        assert!(server::initial(malformed).is_err(), "{malformed:?}");
    }
}

#[test]
fn a_refusal_has_the_sqlstate_that_postgresql_gives_it() {
    let codes = [Error::Password, Error::Binding, Error::Downgrade, Error::Mechanism, Error::Malformed("")];
    assert_eq!(codes.map(|error| error.code()), ["28P01", "28000", "28000", "08P01", "08P01"]);
}

proptest! {
    #[test]
    fn any_bytes_are_understood_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let verifier = cheap("secret");
        let server = Server { verifier: &verifier, end_point: Some(HASH) };
        for mechanism in [SCRAM_SHA_256, SCRAM_SHA_256_PLUS] {
            let _ = server.challenge(mechanism, &bytes, THEIRS);
        }
        let _ = Client::new(Binding::Unable, NONCE).challenged(&bytes, "secret");
        let (waiting, challenge) = server.challenge(SCRAM_SHA_256, b"n,,n=,r=x", THEIRS).expect("a challenge");
        prop_assert!(server.verify(waiting, &bytes).is_err());
        let client = Client::new(Binding::Unable, "x");
        let (_, answered) = client.challenged(challenge.as_bytes(), "secret").expect("a challenge").answer();
        prop_assert!(answered.verify(&bytes).is_err());
    }

    #[test]
    fn whoever_knows_the_password_is_let_in_and_nobody_else(one in "\\PC{0,12}", other in "\\PC{0,12}") {
        let verifier = cheap(&one);
        let server = Server { verifier: &verifier, end_point: None };
        prop_assert_eq!(meet(Client::new(Binding::Unable, NONCE), &one, &server), (Ok(()), Ok(())));
        let is_same = password::prepared(&one) == password::prepared(&other);
        let said = meet(Client::new(Binding::Unable, NONCE), &other, &server);
        prop_assert_eq!(said, (Ok(()), if is_same { Ok(()) } else { Err(Error::Password) }));
    }
}
