//! Channel binding (SCRAM-SHA-256-PLUS) of a login that passes through an encrypted connection to the database: the peer
//! cannot see the certificate to which the database wants it bound. A peer without TLS is not offered what it could only
//! refuse, and one with TLS of its own is told what to do where the database finds another certificate than its own.

use bytes::{Buf, BufMut};

use crate::net::Stream;
use crate::postgres::scram::SCRAM_SHA_256_PLUS;
use crate::postgres::wire::{ErrorResponse, HEADER, message, split_text, tag};

/// The database's side of a login, up to AuthenticationOk.
pub(super) struct Unbound {
    is_encrypted: bool,
    is_offered: bool,
    /// The beginning of a message that is not complete.
    kept: Vec<u8>,
}

/// What is to be said of a message.
enum Said {
    /// It goes on as it is.
    Same,
    /// This goes on in its place.
    Instead(Vec<u8>),
    /// It goes on, and so does all that follows.
    Over,
}

/// Longer ones are nothing that a login depends on.
const MOST: usize = 64 * 1024;
/// `AuthenticationOk` and `AuthenticationSASL`.
const OK: u32 = 0;
const ASK: u32 = 10;

// === impl Unbound ===

impl Unbound {
    /// None where binding works, or is not asked for: the database without TLS does not offer it.
    pub(super) fn between(peer: &Stream, database: &Stream) -> Option<Unbound> {
        let is_of_one = peer.is_tls() && peer.channel_binding() == database.channel_binding();
        let unbound = Unbound { is_encrypted: peer.is_tls(), is_offered: false, kept: Vec::new() };
        (database.is_tls() && !is_of_one).then_some(unbound)
    }

    /// What the peer shall receive of `bytes`, and whether there is more to look at.
    pub(super) fn look(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        self.kept.extend_from_slice(bytes);
        let (heard, mut out) = (std::mem::take(&mut self.kept), Vec::new());
        let mut rest = &heard[..];
        while let Some((tag, size)) = size_of(rest) {
            if size > MOST {
                out.extend_from_slice(rest);
                return (out, false);
            }
            let Some(body) = rest.get(HEADER..size) else { break };
            match self.judge(tag, body) {
                Said::Same => out.extend_from_slice(&rest[..size]),
                Said::Instead(other) => out.extend_from_slice(&other),
                Said::Over => {
                    out.extend_from_slice(rest);
                    return (out, false);
                }
            }
            rest = &rest[size..];
        }
        self.kept = rest.to_vec();
        (out, true)
    }

    fn judge(&mut self, tag: u8, body: &[u8]) -> Said {
        match tag {
            tag::AUTHENTICATION => match body.split_first_chunk().map(|(kind, rest)| (u32::from_be_bytes(*kind), rest))
            {
                Some((ASK, offered)) if self.is_encrypted => {
                    self.is_offered = mechanisms(offered).any(|mechanism| mechanism == SCRAM_SHA_256_PLUS.as_bytes());
                    Said::Same
                }
                Some((ASK, offered)) => Said::Instead(without_binding(offered)),
                Some((OK, _)) | None => Said::Over,
                Some(_) => Said::Same,
            },
            tag::ERROR_RESPONSE if self.is_offered => explained(body).map_or(Said::Over, Said::Instead),
            tag::NOTICE_RESPONSE | tag::NEGOTIATE_PROTOCOL_VERSION => Said::Same,
            _ => Said::Over,
        }
    }
}

/// The type and whole size of the message that `bytes` begin with.
fn size_of(bytes: &[u8]) -> Option<(u8, usize)> {
    let (tag, mut length) = (*bytes.first()?, bytes.get(1..HEADER)?);
    Some((tag, usize::try_from(length.get_u32()).ok()?.max(4).saturating_add(1)))
}

fn mechanisms(mut offered: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (mechanism, rest) = split_text(offered).filter(|(mechanism, _)| !mechanism.is_empty())?;
        offered = rest;
        Some(mechanism)
    })
}

fn without_binding(offered: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, tag::AUTHENTICATION, |out| {
        out.put_u32(ASK);
        for mechanism in mechanisms(offered).filter(|mechanism| *mechanism != SCRAM_SHA_256_PLUS.as_bytes()) {
            out.extend_from_slice(mechanism);
            out.put_u8(0);
        }
        out.put_u8(0);
    });
    out
}

/// The database's refusal with what to do, where it is one of what the exchange is bound to; of a wrong password the code
/// is another.
fn explained(body: &[u8]) -> Option<Vec<u8>> {
    let said = ErrorResponse::read(body);
    if &*said.code != "28000" {
        return None;
    }
    let said = said
        .detail(
            "The gateway passes the login on, and the database's certificate is another than the gateway's, so SCRAM \
             cannot be bound to it.",
        )
        .hint("Connect with channel_binding=disable, or without TLS to the gateway, or have it log in (client.auth).");
    let mut out = Vec::new();
    said.write(&mut out);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unbound(is_encrypted: bool) -> Unbound {
        Unbound { is_encrypted, is_offered: false, kept: Vec::new() }
    }

    fn authentication(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        message(&mut out, tag::AUTHENTICATION, |out| {
            out.put_u32(kind);
            out.extend_from_slice(data);
        });
        out
    }

    fn error(code: &str) -> Vec<u8> {
        let mut out = Vec::new();
        ErrorResponse::fatal(code, "refused").write(&mut out);
        out
    }

    fn both() -> Vec<u8> {
        authentication(ASK, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
    }

    /// What comes out of `said`, however it is cut, and whether the rest is looked at.
    fn passed(is_encrypted: bool, said: &[u8]) -> (Vec<u8>, bool) {
        let whole = unbound(is_encrypted).look(said);
        for size in [1, 3, 7, 30] {
            let (mut pieces, mut out, mut goes_on) = (unbound(is_encrypted), Vec::new(), true);
            for piece in said.chunks(size) {
                if goes_on {
                    let (more, goes_on_now) = pieces.look(piece);
                    out.extend_from_slice(&more);
                    goes_on = goes_on_now;
                } else {
                    out.extend_from_slice(piece);
                }
            }
            assert_eq!((&out, goes_on), (&whole.0, whole.1), "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn a_peer_without_tls_is_not_offered_what_needs_tls() {
        let expected = authentication(ASK, b"SCRAM-SHA-256\0\0");
        assert_eq!(passed(false, &both()), (expected.clone(), true));
        let login = [both(), authentication(11, b"r=x"), authentication(12, b"v=x"), authentication(OK, b"")].concat();
        let welcome = [&login[..], b"S\0\0\0\x08a\0b\0Z\0\0\0\x05I"].concat();
        assert_eq!(passed(false, &welcome), ([&expected, &welcome[both().len()..]].concat(), false));
    }

    #[test]
    fn a_peer_with_tls_is_told_what_to_do_where_the_database_finds_another_certificate() {
        let said = [both(), authentication(11, b"r=x"), error("28000")].concat();
        let (out, _) = passed(true, &said);
        let kept = both().len() + authentication(11, b"r=x").len();
        assert_eq!(out[..kept], said[..kept]);
        let told = ErrorResponse::read(&out[kept + HEADER..]);
        assert_eq!((&*told.code, &*told.message), ("28000", "refused"));
        assert!(told.hint.is_some_and(|hint| hint.contains("channel_binding=disable")));
    }

    #[test]
    fn everything_else_passes_as_it_is() {
        let wrong_password = [both(), authentication(11, b"r=x"), error("28P01")].concat();
        let elsewhere = [authentication(ASK, b"SCRAM-SHA-256\0\0"), error("28000")].concat();
        let after = [both(), authentication(OK, b""), error("28000")].concat();
        let strange: [&[u8]; 5] = [b"", b"R", b"R\0\0\0\0", b"R\0\0\0\x05xZ", b"\xff\xff\xff\xff\xff\xff"];
        for said in [&wrong_password[..], &elsewhere, &after, &error("28000")].into_iter().chain(strange) {
            let (out, goes_on) = passed(true, said);
            let kept = if goes_on { said.len() - out.len() } else { 0 };
            assert_eq!(out, said[..said.len() - kept], "{}", said.escape_ascii());
            assert!(kept < HEADER, "{}", said.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_login_passes_alike_however_it_is_cut(
            said in proptest::collection::vec((
                prop::sample::select(vec![b'R', b'R', b'E', b'N', b'v', b'S', b'Z']),
                prop::sample::select(vec![0_u32, 3, 10, 10, 11, 12]),
                prop::sample::select(vec![&b""[..], b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", b"\0C28000\0\0", b"x"]),
                proptest::collection::vec(any::<u8>(), 0..9),
            ), 0..5),
            rest in proptest::collection::vec(any::<u8>(), 0..9),
            is_encrypted in any::<bool>(),
        ) {
            let mut stream = Vec::new();
            for (tag, kind, known, other) in said {
                message(&mut stream, tag, |out| {
                    out.put_u32(kind);
                    out.extend_from_slice(known);
                    out.extend_from_slice(&other);
                });
            }
            stream.extend_from_slice(&rest);
            passed(is_encrypted, &stream);
        }
    }
}
