//! Addresses: where peers dial, and where the database is.

use crate::Network;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// What follows the address where one word says the network too; TCP goes without saying.
const UDP_MARK: &str = "/udp";

/// Bytes of a socket's path, at most: the kernel's limit less the zero at its end.
const MAX_SOCKET_PATH: usize = 107;

/// A host (a name or a literal address, without brackets) and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The name, or the literal address.
    pub host: String,
    /// The port, never 0.
    pub port: u16,
}

/// An address that peers dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// A TCP address; port 0 is any free one.
    Tcp(SocketAddr),
    /// A UDP address; port 0 is any free one.
    Udp(SocketAddr),
    /// The path of a Unix stream socket.
    Unix(PathBuf),
}

/// Says what is wrong with `path` as a socket's, if anything is.
pub fn check_socket_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("{path} is not an absolute path; a unix socket has one such as /run/db.sock"));
    }
    if path.contains('\0') {
        return Err("a path holds no zero byte; remove it".into());
    }
    if path.ends_with('/') {
        return Err(format!("{path} is a folder; add the socket's name"));
    }
    if path.len() > MAX_SOCKET_PATH {
        let length = path.len();
        return Err(format!("the path has {length} bytes, and a unix socket's at most {MAX_SOCKET_PATH}; shorten it"));
    }
    Ok(())
}

// === impl HostPort ===

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(format!("{text} is an IPv6 address without port or brackets; write [ADDRESS]:PORT"));
        }
        if text.starts_with('/') {
            return Err(format!("{text} is a path; write host:port, or set network: unix"));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(format!("{text} is a URL; write host:port, without {scheme}://"));
        }
        if text.starts_with('[') && text.ends_with(']') {
            return Err(format!("{text} has no port; write {text}:PORT"));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("{text} has no port; write {text}:PORT"))?;
        let host = host_of(text, host, port)?;
        match port.parse::<u16>() {
            Ok(number) if number > 0 && port.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(Self { host, port: number })
            }
            _ => Err(format!("{port:?} is not a port; write a number from 1 to 65535")),
        }
    }
}

/// The host of `text`, without its brackets.
fn host_of(text: &str, host: &str, port: &str) -> Result<String, String> {
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or_else(|| format!("{text} lacks the closing bracket"))?;
        inner.parse::<Ipv6Addr>().map_err(|_| format!("{inner:?} in brackets is not an IPv6 address"))?;
        return Ok(inner.into());
    }
    if host.contains(':') {
        return Err(format!("an IPv6 address stands in brackets; write [{host}]:{port}"));
    }
    if host.is_empty() {
        return Err(format!("{text} has no host; write one such as 127.0.0.1:{port}"));
    }
    let is_name = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if host.len() > 253 || !host.trim_end_matches('.').split('.').all(is_name) {
        return Err(format!("{host:?} is neither a host name nor an IP address"));
    }
    Ok(host.into())
}

impl HostPort {
    /// The literal addresses that this certainly is; none where a name must be resolved.
    fn literals(&self) -> Vec<IpAddr> {
        if self.host.eq_ignore_ascii_case("localhost") {
            return vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from(Ipv6Addr::LOCALHOST)];
        }
        self.host.parse().into_iter().collect()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

// === impl Listen ===

impl Listen {
    /// Reads `address` as one of `network`.
    pub fn parse(network: Network, address: &str) -> Result<Self, String> {
        match network {
            Network::Unix => check_socket_path(address).map(|()| Self::Unix(address.into())),
            Network::Tcp => parse_literal(address).map(Self::Tcp),
            Network::Udp => parse_literal(address).map(Self::Udp),
        }
    }

    /// Reads an address that says its network as well: `IP:port`, `IP:port/udp`, or the path of a socket.
    pub fn from_word(word: &str) -> Result<Self, String> {
        match word.strip_suffix(UDP_MARK) {
            _ if word.starts_with('/') => Self::parse(Network::Unix, word),
            Some(address) => Self::parse(Network::Udp, address),
            None => Self::parse(Network::Tcp, word),
        }
    }

    /// The address as one word that says its network as well, for [`Listen::from_word`].
    pub fn word(&self) -> String {
        let mark = if matches!(self, Self::Udp(_)) { UDP_MARK } else { "" };
        format!("{self}{mark}")
    }

    /// Whether both cannot be listened on at one time: one address holds the other. Port 0 never clashes.
    pub fn overlaps(&self, other: &Listen) -> bool {
        match (self, other) {
            (Self::Tcp(a), Self::Tcp(b)) | (Self::Udp(a), Self::Udp(b)) => {
                a.port() != 0 && a.port() == b.port() && (holds(a.ip(), b.ip()) || holds(b.ip(), a.ip()))
            }
            (Self::Unix(a), Self::Unix(b)) => a == b,
            _ => false,
        }
    }

    /// Whether who dials `database` on `network` certainly reaches this very address.
    pub fn is_reached_by(&self, network: Network, database: &str) -> bool {
        match (self, network) {
            (Self::Unix(path), Network::Unix) => path.as_os_str() == database,
            (Self::Tcp(listen), Network::Tcp) | (Self::Udp(listen), Network::Udp) => {
                database.parse::<HostPort>().is_ok_and(|database| {
                    let reaches = |ip: IpAddr| ip == listen.ip() || ip.is_loopback() && holds(listen.ip(), ip);
                    listen.port() == database.port && database.literals().into_iter().any(reaches)
                })
            }
            _ => false,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) | Self::Udp(addr) => addr.fmt(out),
            Self::Unix(path) => path.display().fmt(out),
        }
    }
}

/// Reads a literal `IP:port`.
pub(crate) fn parse_literal(address: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = address.parse() {
        return Ok(addr);
    }
    Err(match address.parse::<HostPort>() {
        Ok(HostPort { host, port }) if host.eq_ignore_ascii_case("localhost") => {
            format!("{address} is a name, and we listen on a literal IP:port; write 127.0.0.1:{port}")
        }
        Ok(HostPort { port, .. }) => {
            format!("{address} is not a literal IP:port; write one such as 127.0.0.1:{port}")
        }
        Err(_) if address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) => {
            format!("{address} has no port; write {address}:PORT")
        }
        Err(sentence) => sentence,
    })
}

/// Whether listening on `wide` takes `narrow` as well. `[::]` takes IPv4 too, as is the kernel's default.
fn holds(wide: IpAddr, narrow: IpAddr) -> bool {
    wide == narrow || wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("db-0.db:5432", "db-0.db", 5432),
            ("10.0.0.1:1", "10.0.0.1", 1),
            ("[::1]:5432", "::1", 5432),
            ("db.example.com.:65535", "db.example.com.", 65535),
            ("my_db:5432", "my_db", 5432),
        ] {
            let parsed: HostPort = text.parse().unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_precisely() {
        for (text, sentence) in [
            ("db", "db has no port; write db:PORT"),
            ("::1", "::1 is an IPv6 address without port or brackets; write [ADDRESS]:PORT"),
            ("fe80::1:2:3:4:5:6:7:5432", "an IPv6 address stands in brackets; write [fe80::1:2:3:4:5:6:7]:5432"),
            ("[::1]", "[::1] has no port; write [::1]:PORT"),
            ("[::1:5432", "[::1:5432 lacks the closing bracket"),
            ("[db]:5432", "\"db\" in brackets is not an IPv6 address"),
            (":5432", ":5432 has no host; write one such as 127.0.0.1:5432"),
            ("db:0", "\"0\" is not a port; write a number from 1 to 65535"),
            ("db:65536", "\"65536\" is not a port; write a number from 1 to 65535"),
            ("db:+5432", "\"+5432\" is not a port; write a number from 1 to 65535"),
            ("d b:1", "\"d b\" is neither a host name nor an IP address"),
            ("/run/db.sock", "/run/db.sock is a path; write host:port, or set network: unix"),
            ("postgres://db:5432", "postgres://db:5432 is a URL; write host:port, without postgres://"),
        ] {
            assert_eq!(text.parse::<HostPort>().map(|parsed| parsed.to_string()), Err(sentence.into()), "{text}");
        }
    }

    #[test]
    fn we_listen_on_literal_addresses() {
        for (text, sentence) in [
            ("localhost:1", "localhost:1 is a name, and we listen on a literal IP:port; write 127.0.0.1:1"),
            ("db:1", "db:1 is not a literal IP:port; write one such as 127.0.0.1:1"),
            ("127.0.0.1", "127.0.0.1 has no port; write 127.0.0.1:PORT"),
            ("::1", "::1 is an IPv6 address without port or brackets; write [ADDRESS]:PORT"),
            ("127.0.0.1:99999", "\"99999\" is not a port; write a number from 1 to 65535"),
        ] {
            assert_eq!(parse_literal(text), Err(sentence.into()), "{text}");
        }
        assert!(parse_literal("[::]:0").is_ok());
    }

    #[test]
    fn a_word_says_the_network_as_well() {
        let addr = "127.0.0.1:53".parse().unwrap();
        for (word, listen) in [
            ("127.0.0.1:53", Listen::Tcp(addr)),
            ("127.0.0.1:53/udp", Listen::Udp(addr)),
            ("/run/udp", Listen::Unix("/run/udp".into())),
        ] {
            assert_eq!((Listen::from_word(word), listen.word()), (Ok(listen), word.to_owned()));
        }
        for word in ["127.0.0.1:53/tcp", "localhost:53/udp", "/udp/", "/udp\0"] {
            assert!(Listen::from_word(word).is_err(), "{word}");
        }
    }

    #[test]
    fn a_wildcard_takes_every_address_of_its_port() {
        let tcp = |text: &str| Listen::Tcp(text.parse().unwrap());
        assert!(tcp("0.0.0.0:1").overlaps(&tcp("127.0.0.1:1")));
        assert!(tcp("127.0.0.1:1").overlaps(&tcp("[::]:1")));
        assert!(!tcp("0.0.0.0:1").overlaps(&tcp("[::1]:1")));
        assert!(!tcp("127.0.0.1:1").overlaps(&tcp("127.0.0.2:1")));
        assert!(!tcp("127.0.0.1:0").overlaps(&tcp("127.0.0.1:0")));
        assert!(!tcp("127.0.0.1:53").overlaps(&Listen::Udp("127.0.0.1:53".parse().unwrap())));
    }
}
