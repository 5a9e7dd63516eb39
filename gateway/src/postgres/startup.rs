//! The packets before a login: what a peer asks for first. Pure.

use bytes::BufMut;

use super::wire::{CancelKey, Version, packet, split_text, text};

/// What a peer may ask for before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// SSLRequest: to go on encrypted.
    Tls,
    /// GSSENCRequest: to go on encrypted by Kerberos.
    Gss,
    /// CancelRequest: to end the query of whoever has this key.
    Cancel(CancelKey),
    /// StartupMessage: to begin a session.
    Startup(StartupMessage),
}

/// The wish to begin a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartupMessage {
    /// The protocol that the peer wants to speak.
    pub version: Version,
    /// Names and values, in order: `user`, `database`, `options`, settings, and protocol options (`_pq_.`).
    pub parameters: Vec<(String, String)>,
}

/// Why bytes are none of these; the words are for who sees the session's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The length is one that no packet has: it may be another protocol altogether.
    #[error("these are not the first bytes of a PostgreSQL client")]
    Length(i32),
    /// The code or the protocol's major version is unknown.
    #[error("protocol {0} is not spoken here, only 3.0 and 3.2 are")]
    Version(Version),
    /// The body is malformed.
    #[error("the startup packet is malformed")]
    Body,
}

/// PostgreSQL refuses longer startup packets too (`MAX_STARTUP_PACKET_LENGTH`).
pub const MAX_STARTUP: usize = 10_000;
/// The first byte of a TLS handshake: a peer with `sslnegotiation=direct`.
pub const TLS_HANDSHAKE: u8 = 0x16;

const CANCEL_CODE: u32 = 80_877_102;
const TLS_CODE: u32 = 80_877_103;
const GSS_CODE: u32 = 80_877_104;

// === impl Request ===

impl Request {
    /// The packet that `bytes` begin with, and its length; `None` while it is incomplete.
    ///
    /// # Errors
    /// It can become no packet, whatever follows.
    pub fn read(bytes: &[u8]) -> Result<Option<(Request, usize)>, Error> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = i32::from_be_bytes(*length);
        let size = usize::try_from(length).ok().filter(|size| (8..=MAX_STARTUP).contains(size));
        let Some(size) = size else { return Err(Error::Length(length)) };
        let Some((code, _)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let code = u32::from_be_bytes(*code);
        let Some(body) = bytes.get(8..size) else { return Ok(None) };
        let request = match code {
            TLS_CODE if body.is_empty() => Request::Tls,
            GSS_CODE if body.is_empty() => Request::Gss,
            TLS_CODE | GSS_CODE => return Err(Error::Body),
            CANCEL_CODE => Request::Cancel(CancelKey::read(body).ok_or(Error::Body)?),
            version if Version(version).major() == 3 => {
                let parameters = parameters(body).ok_or(Error::Body)?;
                Request::Startup(StartupMessage { version: Version(version), parameters })
            }
            version => return Err(Error::Version(Version(version))),
        };
        Ok(Some((request, size)))
    }

    /// Appends the packet.
    pub fn write(&self, out: &mut Vec<u8>) {
        packet(out, |out| match self {
            Request::Tls => out.put_u32(TLS_CODE),
            Request::Gss => out.put_u32(GSS_CODE),
            Request::Cancel(key) => {
                out.put_u32(CANCEL_CODE);
                key.write(out);
            }
            Request::Startup(startup) => {
                out.put_u32(startup.version.0);
                for (name, value) in &startup.parameters {
                    text(out, name);
                    text(out, value);
                }
                out.push(0);
            }
        });
    }
}

/// Pairs of texts, and an empty one that ends them.
fn parameters(mut body: &[u8]) -> Option<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    loop {
        let (name, rest) = split_text(body)?;
        if name.is_empty() {
            return rest.is_empty().then_some(parameters);
        }
        let (value, rest) = split_text(rest)?;
        parameters.push((text(name)?, text(value)?));
        body = rest;
    }
}

// === impl StartupMessage ===

impl StartupMessage {
    /// The value of a parameter; of several the last counts, as with PostgreSQL.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The same, however the name is written, as with settings.
    pub fn get_any_case(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter().rev();
        parameters.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Who wants to log in; empty where that is missing.
    pub fn user(&self) -> &str {
        self.get("user").unwrap_or_default()
    }

    /// Where to; by default the database is named like the user.
    pub fn database(&self) -> &str {
        self.get("database").filter(|database| !database.is_empty()).unwrap_or_else(|| self.user())
    }

    /// Whether it begins a stream of changes instead of a session with queries.
    pub fn is_replication(&self) -> bool {
        let is_none = |value: &str| ["false", "off", "no", "0", "f", "n", "of"].contains(&&*value.to_ascii_lowercase());
        self.get("replication").is_some_and(|value| !is_none(value))
    }

    /// The protocol options that it asks for.
    pub fn protocol_options(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("_pq_."))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(request: &Request) -> Vec<u8> {
        let mut out = Vec::new();
        request.write(&mut out);
        out
    }

    fn startup(version: Version, parameters: &[(&str, &str)]) -> Request {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Request::Startup(StartupMessage { version, parameters })
    }

    fn every_kind() -> Vec<Request> {
        let key = |length| CancelKey { process: 7, secret: vec![1; length].into() };
        vec![
            Request::Tls,
            Request::Gss,
            Request::Cancel(key(4)),
            Request::Cancel(key(256)),
            startup(Version::V3_0, &[("user", "u"), ("database", "d"), ("options", "-c x=y")]),
            startup(Version(0x3_270f), &[("user", "u"), ("_pq_.test_protocol_negotiation", "")]),
        ]
    }

    #[test]
    fn what_is_written_is_read_wherever_it_is_cut() {
        for request in every_kind() {
            let mut bytes = written(&request);
            for cut in 0..bytes.len() {
                assert_eq!(Request::read(&bytes[..cut]), Ok(None), "{request:?} cut at {cut}");
            }
            let length = bytes.len();
            bytes.extend_from_slice(b"more");
            assert_eq!(Request::read(&bytes), Ok(Some((request, length))));
        }
    }

    #[test]
    fn other_protocols_and_false_lengths_are_refused() {
        assert_eq!(Request::read(b"GET / HTTP/1.1"), Err(Error::Length(i32::from_be_bytes(*b"GET "))));
        for length in [0, 3, 7, -1, i32::MAX, 10_001] {
            assert_eq!(Request::read(&length.to_be_bytes()), Err(Error::Length(length)));
        }
        assert_eq!(Request::read(b"\0\0\0\x08\0\x02\0\0"), Err(Error::Version(Version(2 << 16))));
        assert_eq!(Request::read(b"\0\0\0\x0a\x04\xd2\x16\x2fxx"), Err(Error::Body));
        assert_eq!(Request::read(b"\0\0\0\x0d\0\x03\0\0user\0"), Err(Error::Body));
        assert_eq!(Request::read(b"\0\0\0\x0b\0\x03\0\0\xff\0\0"), Err(Error::Body));
    }

    #[test]
    fn the_database_is_named_like_the_user_unless_it_is_said() {
        let Request::Startup(unsaid) = startup(Version::V3_0, &[("user", "u"), ("database", "")]) else { return };
        assert_eq!((unsaid.user(), unsaid.database(), unsaid.is_replication()), ("u", "u", false));
        let Request::Startup(said) = startup(Version::V3_0, &[("user", "u"), ("database", "d"), ("replication", "1")])
        else {
            return;
        };
        assert_eq!((said.database(), said.is_replication()), ("d", true));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((request, length))) = Request::read(&bytes) {
                prop_assert_eq!(written(&request), &bytes[..length]);
            }
        }
    }
}
