use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::postgres::scram::server::{Server, Verifier};
use crate::postgres::scram::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

const HASH: &[u8] = &[7; 32];

/// A database that asks for SCRAM.
struct Scram {
    stream: DuplexStream,
    verifier: Verifier,
    end_point: Option<&'static [u8]>,
    /// The mechanisms that it says it has.
    offer: &'static str,
    /// It closes after so many bytes.
    left: usize,
    /// What it says in the end.
    last: Vec<u8>,
}

impl Scram {
    fn new(stream: DuplexStream) -> Scram {
        let verifier = Verifier::of("secret", [1; 16], 1);
        Scram { stream, verifier, end_point: None, offer: "SCRAM-SHA-256\0\0", left: usize::MAX, last: welcome() }
    }

    async fn say(&mut self, bytes: &[u8]) -> Option<()> {
        let length = bytes.len().min(self.left);
        self.left -= length;
        self.stream.write_all(&bytes[..length]).await.ok()?;
        (length == bytes.len()).then_some(())
    }

    async fn hear(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header).await.ok()?;
        assert_eq!(header[0], tag::PASSWORD);
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]])) - 4];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(body)
    }

    /// `None` once it has closed.
    async fn serve(mut self) -> Option<&'static str> {
        let length = self.stream.read_u32().await.ok()?;
        let mut packet = vec![0; usize::try_from(length).ok()? - 4];
        self.stream.read_exact(&mut packet).await.ok()?;
        self.say(&ask(10, self.offer.as_bytes())).await?;
        let initial = self.hear().await?;
        let (mechanism, rest) = split_text(&initial)?;
        let mechanism = if mechanism == SCRAM_SHA_256.as_bytes() { SCRAM_SHA_256 } else { SCRAM_SHA_256_PLUS };
        let verifier = std::mem::replace(&mut self.verifier, Verifier::of_nobody([0; 16]));
        let server = Server { verifier: &verifier, end_point: self.end_point };
        let (waiting, challenge) = match server.challenge(mechanism, &rest[4..], "theirs") {
            Ok(challenged) => challenged,
            Err(error) => {
                self.say(&refusal(error.code(), &error.to_string())).await?;
                return None;
            }
        };
        self.say(&ask(11, challenge.as_bytes())).await?;
        let last = self.hear().await?;
        match server.verify(waiting, &last) {
            Ok(proof) => self.say(&[ask(12, proof.as_bytes()), self.last.clone()].concat()).await?,
            Err(error) => self.say(&refusal(error.code(), &error.to_string())).await?,
        }
        Some(mechanism)
    }
}

/// A login at a database that asks for SCRAM.
async fn proved(
    password: &str,
    channel: Channel,
    prepare: impl FnOnce(&mut Scram),
) -> (Result<Backend, Error>, Option<&'static str>) {
    let (mut ours, database) = duplex(64 * 1024);
    let mut database = Scram::new(database);
    prepare(&mut database);
    let startup = startup();
    tokio::join!(login_over(&mut ours, channel, &startup, password), database.serve())
}

#[tokio::test]
async fn an_exchange_that_is_cut_fails_wherever_it_is_cut() {
    let (said, _) = proved("secret", Channel::Network, |_| {}).await;
    said.expect("a login");
    for cut in 0.. {
        let (said, served) = proved("secret", Channel::Network, |database| database.left = cut).await;
        if served.is_some() {
            assert!(said.is_ok() && cut > 200, "{said:?} at {cut}");
            break;
        }
        assert!(matches!(&said, Err(Error::Io(_))), "cut at {cut}: {said:?}");
    }
}

#[tokio::test]
async fn scram_is_as_strong_as_both_sides_can() {
    let both = "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    let tls = || Channel::Tls(Some(HASH.to_vec()));
    let (said, mechanism) = proved("secret", tls(), |database| {
        (database.end_point, database.offer) = (Some(HASH), both);
    })
    .await;
    assert_eq!((said.is_ok(), mechanism), (true, Some(SCRAM_SHA_256_PLUS)));
    let (said, mechanism) = proved("secret", tls(), |_| {}).await;
    assert_eq!((said.is_ok(), mechanism), (true, Some(SCRAM_SHA_256)));
    // Our side of the TLS ends at somebody who shows another certificate, or has no hash, or there is none.
    let (said, _) = proved("secret", Channel::Tls(Some(vec![8; 32])), |database| {
        (database.end_point, database.offer) = (Some(HASH), both);
    })
    .await;
    assert!(words(said).contains("channel binding does not match"));
    for channel in [Channel::Network, Channel::Host, Channel::Tls(None)] {
        let (said, mechanism) = proved("secret", channel, |database| {
            (database.end_point, database.offer) = (Some(HASH), both);
        })
        .await;
        assert_eq!((said.is_ok(), mechanism), (true, Some(SCRAM_SHA_256)));
    }
    // Somebody between has taken the better mechanism out of the offer.
    let (said, _) = proved("secret", tls(), |database| database.end_point = Some(HASH)).await;
    let Err(Error::Refused(said)) = said else { panic!("{said:?}") };
    assert_eq!(&*said.code, "28000");
}

#[tokio::test]
async fn a_wrong_password_is_refused_in_the_database_s_words() {
    let (said, _) = proved("Secret", Channel::Network, |_| {}).await;
    let Err(Error::Refused(said)) = said else { panic!("{said:?}") };
    assert_eq!(&*said.code, "28P01");
}

/// A login at somebody who takes any proof for right, asks for one iteration, and ends the exchange with `ending`.
async fn believed(ending: &[u8]) -> Result<Backend, Error> {
    let (mut ours, mut database) = duplex(64 * 1024);
    let startup = startup();
    let liar = async {
        let mut buffer = vec![0; 1024];
        let heard = database.read(&mut buffer).await.expect("a packet");
        assert!(heard > 8);
        database.write_all(&ask(10, b"SCRAM-SHA-256\0\0")).await.expect("it is open");
        let heard = database.read(&mut buffer).await.expect("the first message");
        let first = String::from_utf8_lossy(&buffer[..heard]).into_owned();
        let nonce = first.rsplit("r=").next().expect("a nonce").to_owned();
        database.write_all(&ask(11, format!("r={nonce}x,s=AAAA,i=1").as_bytes())).await.expect("it is open");
        database.write_all(&[ending, &welcome()].concat()).await.expect("it is open");
    };
    tokio::join!(login_over(&mut ours, Channel::Network, &startup, "secret"), liar).0
}

#[tokio::test]
async fn a_database_that_does_not_prove_itself_is_left() {
    // A proof is there, and of another password.
    let said = believed(&ask(12, b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")).await;
    assert!(matches!(&said, Err(Error::Unsupported(why)) if why.contains("did not prove")), "{said:?}");
    // The proof is left out: believing us must not do.
    let said = believed(b"").await;
    assert!(matches!(said, Err(Error::Protocol(wire::Error::Body(b'R')))), "{said:?}");
}
