//! Addresses that stay for the life of the process, whatever the document says later: an application was told where its
//! gateway listens when its pod was made, and cannot be told again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::{Config, Listen, ProxyConfig};

/// One `--listen NAME=ADDRESS[,WRITTEN]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    proxy: Arc<str>,
    address: PinnedAddress,
    /// What the document said when the pin was made; that, and the pinned address itself, is no change.
    written: PinnedAddress,
}

/// Every pin of the process; each proxy and each address is pinned once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins(Vec<Pin>);

/// What can be served of a document, and what of it needs a restart.
#[derive(Debug, PartialEq)]
pub struct Held {
    /// What can be served.
    pub config: Config,
    /// One sentence for each change that needs a restart.
    pub restart_required: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PinnedAddress {
    Ip(SocketAddr),
    Socket(PathBuf),
}

/// The permissions of a pinned socket of which the document does not speak any more.
const SOCKET_MODE: u32 = 0o666;

// === impl Pin ===

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Pin, String> {
        let named = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, addresses) = named
            .ok_or_else(|| format!("{text:?} is not like NAME=ADDRESS; write one such as orders=127.0.0.1:5432"))?;
        // A socket's path may hold a comma itself.
        let pair = addresses.rsplit_once(',').and_then(|(address, written)| Some((address, written.parse().ok()?)));
        let (address, written) = match pair {
            Some((address, written)) => (address.parse::<PinnedAddress>()?, written),
            None => (addresses.parse::<PinnedAddress>()?, addresses.parse()?),
        };
        Ok(Pin { proxy: name.into(), address, written })
    }
}

impl Pin {
    /// Whether the document says for its proxy what it said when the pin was made.
    fn agrees_with(&self, listen: &Listen) -> bool {
        self.address.is(listen) || self.written.is(listen)
    }

    /// Where its proxy listens; nowhere where a socket is pinned and datagrams are to come.
    fn listen(&self, proxy: &ProxyConfig) -> Option<Listen> {
        Some(match (&self.address, &proxy.server.listen) {
            (PinnedAddress::Ip(addr), Listen::Udp(_)) => Listen::Udp(*addr),
            (PinnedAddress::Ip(addr), Listen::Tcp(_) | Listen::Unix { .. }) => Listen::Tcp(*addr),
            (PinnedAddress::Socket(path), Listen::Unix { mode, .. }) => {
                Listen::Unix { path: path.clone(), mode: *mode }
            }
            (PinnedAddress::Socket(path), Listen::Tcp(_)) => Listen::Unix { path: path.clone(), mode: SOCKET_MODE },
            (PinnedAddress::Socket(_), Listen::Udp(_)) => return None,
        })
    }
}

// === impl PinnedAddress ===

impl FromStr for PinnedAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<PinnedAddress, String> {
        if text.starts_with('/') {
            return crds::check_socket_path(text).map(|()| PinnedAddress::Socket(text.into()));
        }
        match crds::Listen::parse(crds::Network::Tcp, text)? {
            crds::Listen::Tcp(addr) | crds::Listen::Udp(addr) => Ok(PinnedAddress::Ip(addr)),
            crds::Listen::Unix(path) => Ok(PinnedAddress::Socket(path)),
        }
    }
}

impl PinnedAddress {
    fn is(&self, listen: &Listen) -> bool {
        match (self, listen) {
            (PinnedAddress::Ip(pinned), Listen::Tcp(addr) | Listen::Udp(addr)) => pinned == addr,
            (PinnedAddress::Socket(pinned), Listen::Unix { path, .. }) => pinned == path,
            _ => false,
        }
    }

    fn text(&self) -> String {
        match self {
            PinnedAddress::Ip(addr) => addr.to_string(),
            PinnedAddress::Socket(path) => path.display().to_string(),
        }
    }
}

// === impl Pins ===

impl Pins {
    /// All pins of a command line.
    ///
    /// # Errors
    /// One sentence that names what is pinned twice.
    pub fn new(pins: Vec<Pin>) -> Result<Pins, String> {
        for (index, pin) in pins.iter().enumerate() {
            for other in &pins[..index] {
                if other.proxy == pin.proxy {
                    return Err(format!("--listen names proxy {:?} twice; remove one of the two", &*pin.proxy));
                }
                if other.address == pin.address && !has_any_port(&pin.address) {
                    let address = pin.address.text();
                    return Err(format!("--listen gives {address} to two proxies; give each its own"));
                }
            }
        }
        Ok(Pins(pins))
    }

    /// What this process can serve of `wanted`, while it serves `served`.
    pub fn hold(&self, mut wanted: Config, served: &Config) -> Held {
        let kept = self.kept(&wanted, served);
        let dropped: Vec<&Pin> = self.0.iter().filter(|pin| find(&wanted, &pin.proxy).is_none()).collect();
        let proxies = std::mem::take(&mut wanted.proxies);
        let mut held = Held { config: wanted, restart_required: Vec::new() };
        for proxy in proxies {
            match self.0.iter().find(|pin| pin.proxy == proxy.name) {
                Some(pin) => held.add_pinned(pin, &proxy, find(served, &proxy.name)),
                None => held.add_beside(&kept, proxy, served),
            }
        }
        for pin in dropped {
            held.add_dropped(pin, find(served, &pin.proxy));
        }
        held
    }

    /// The addresses that are taken by pins, with the proxies that they are pinned for.
    fn kept(&self, wanted: &Config, served: &Config) -> Vec<(Arc<str>, Listen)> {
        let listen = |pin: &Pin| {
            let proxy = find(served, &pin.proxy).or_else(|| find(wanted, &pin.proxy))?;
            Some((pin.proxy.clone(), pin.listen(proxy)?))
        };
        self.0.iter().filter_map(listen).collect()
    }
}

fn find<'a>(config: &'a Config, name: &str) -> Option<&'a Arc<ProxyConfig>> {
    config.proxies.iter().find(|proxy| &*proxy.name == name)
}

fn has_any_port(address: &PinnedAddress) -> bool {
    matches!(address, PinnedAddress::Ip(addr) if addr.port() == 0)
}

// === impl Held ===

impl Held {
    /// Adds what is wanted of a pinned proxy, on its pinned address.
    fn add_pinned(&mut self, pin: &Pin, wanted: &Arc<ProxyConfig>, served: Option<&Arc<ProxyConfig>>) {
        let (name, stays) = (&*pin.proxy, pin.address.text());
        let is_other_kind = served.is_some_and(|served| is_datagrams(served) != is_datagrams(wanted));
        let listen = pin.listen(wanted).filter(|_| !is_other_kind);
        let Some(listen) = listen else {
            let network = wanted.server.listen.network();
            self.restart_required.push(format!(
                "proxy {name:?}: server.network {network} needs a restart; until then it goes on as it was on {stays}"
            ));
            self.config.proxies.extend(served.cloned());
            return;
        };
        if !pin.agrees_with(&wanted.server.listen) {
            self.restart_required.push(format!(
                "proxy {name:?}: listening on {} needs a restart; until then it listens on {stays}",
                wanted.server.listen
            ));
        }
        self.add_at(listen, wanted);
    }

    /// Adds a proxy that is not pinned, unless a pinned one has its address.
    fn add_beside(&mut self, kept: &[(Arc<str>, Listen)], wanted: Arc<ProxyConfig>, served: &Config) {
        let clash = kept.iter().find(|(_, listen)| overlap(listen, &wanted.server.listen));
        let Some((other, listen)) = clash else { return self.config.proxies.push(wanted) };
        self.restart_required.push(format!(
            "proxy {:?}: listening on {} needs a restart; until then proxy {:?} listens on {listen}",
            &*wanted.name, wanted.server.listen, &**other
        ));
        if let Some(before) = find(served, &wanted.name).filter(|before| is_datagrams(before) == is_datagrams(&wanted))
        {
            self.add_at(before.server.listen.clone(), &wanted);
        }
    }

    /// A pinned proxy of which the document does not speak any more goes on as it was.
    fn add_dropped(&mut self, pin: &Pin, served: Option<&Arc<ProxyConfig>>) {
        let (name, stays) = (&*pin.proxy, pin.address.text());
        self.restart_required.push(match served {
            Some(_) => format!("proxy {name:?}: its end needs a restart; until then it goes on as it was on {stays}"),
            None => format!("proxy {name:?}: it is not in the configuration, and nobody listens on {stays} for it"),
        });
        self.config.proxies.extend(served.cloned());
    }

    fn add_at(&mut self, listen: Listen, wanted: &Arc<ProxyConfig>) {
        let mut proxy = ProxyConfig::clone(wanted);
        proxy.server.listen = listen;
        self.config.proxies.push(Arc::new(proxy));
    }
}

fn is_datagrams(proxy: &ProxyConfig) -> bool {
    matches!(proxy.server.listen, Listen::Udp(_))
}

fn overlap(one: &Listen, other: &Listen) -> bool {
    let written = |listen: &Listen| match listen {
        Listen::Tcp(addr) => crds::Listen::Tcp(*addr),
        Listen::Udp(addr) => crds::Listen::Udp(*addr),
        Listen::Unix { path, .. } => crds::Listen::Unix(Path::to_owned(path)),
    };
    written(one).overlaps(&written(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn pins(pins: &[&str]) -> Pins {
        Pins::new(pins.iter().map(|pin| pin.parse().expect("a pin")).collect()).expect("they go together")
    }

    /// A document with a proxy for each `name=address`; the network is udp where the name begins with a u.
    fn document(proxies: &[&str]) -> Config {
        let mut text = "apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\nspec:\n  proxies:\n".to_owned();
        for (index, proxy) in proxies.iter().enumerate() {
            let (name, address) = proxy.split_once('=').expect("a name and an address");
            let (server, client) = match address.split_once(' ') {
                Some(("udp", _)) => ("udp", "udp"),
                _ if address.starts_with('/') => ("unix", "tcp"),
                _ => ("tcp", "tcp"),
            };
            let address = address.trim_start_matches("udp ");
            let proxy = format!(
                "  - {{name: {name}, server: {{network: {server}, address: '{address}'}}, client: {{network: {client}, \
                 addresses: ['db:{}']}}}}\n",
                index + 1
            );
            text.push_str(&proxy);
        }
        load(text.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn nothing() -> Config {
        Config { proxies: Vec::new(), ..document(&["a=127.0.0.1:1"]) }
    }

    /// What is held of `wanted`: each proxy with its address and its database's port, and the sentences.
    fn held(listen: &[&str], served: &Config, wanted: &[&str]) -> (Vec<String>, Vec<String>, Config) {
        let held = pins(listen).hold(document(wanted), served);
        let proxy = |proxy: &Arc<ProxyConfig>| format!("{}={}", proxy.name, proxy.server.listen);
        (held.config.proxies.iter().map(proxy).collect(), held.restart_required, held.config)
    }

    #[test]
    fn a_pin_is_a_name_and_an_address_and_perhaps_what_was_written() {
        for (text, is_it) in [
            ("orders=127.0.0.1:5432", true),
            ("orders=[::1]:5432", true),
            ("orders=/run/postern/.s.PGSQL.5432", true),
            ("orders=127.0.0.1:6000,127.0.0.1:5432", true),
            ("orders=/run/a,b.sock", true),
            ("orders", false),
            ("=127.0.0.1:5432", false),
            ("orders=localhost:5432", false),
            ("orders=run/db.sock", false),
            ("orders=", false),
        ] {
            assert_eq!(text.parse::<Pin>().is_ok(), is_it, "{text}");
        }
        let comma: Pin = "a=/run/a,b.sock".parse().expect("a path with a comma");
        assert_eq!(comma.address, PinnedAddress::Socket("/run/a,b.sock".into()));
        assert_eq!(
            "orders".parse::<Pin>(),
            Err("\"orders\" is not like NAME=ADDRESS; write one such as orders=127.0.0.1:5432".into())
        );
    }

    #[test]
    fn what_is_pinned_twice_is_refused() {
        let pins = |listen: [&str; 2]| Pins::new(listen.iter().map(|pin| pin.parse().expect("a pin")).collect());
        assert_eq!(
            pins(["a=127.0.0.1:1", "a=127.0.0.1:2"]),
            Err("--listen names proxy \"a\" twice; remove one of the two".into())
        );
        assert_eq!(
            pins(["a=127.0.0.1:1", "b=127.0.0.1:1"]),
            Err("--listen gives 127.0.0.1:1 to two proxies; give each its own".into())
        );
        assert!(pins(["a=127.0.0.1:0", "b=127.0.0.1:0"]).is_ok());
    }

    #[test]
    fn a_document_that_says_what_is_pinned_needs_no_restart() {
        let (proxies, sentences, _) = held(&["a=127.0.0.1:1"], &nothing(), &["a=127.0.0.1:1", "b=127.0.0.1:2"]);
        assert_eq!(proxies, ["a=127.0.0.1:1", "b=127.0.0.1:2"]);
        assert!(sentences.is_empty(), "{sentences:?}");
    }

    #[test]
    fn a_pin_that_differs_on_purpose_needs_no_restart_until_the_document_changes() {
        let pin = ["a=127.0.0.1:9,127.0.0.1:1"];
        let (proxies, sentences, served) = held(&pin, &nothing(), &["a=127.0.0.1:1"]);
        assert_eq!((proxies, sentences.len()), (vec!["a=127.0.0.1:9".to_owned()], 0));
        let (proxies, sentences, _) = held(&pin, &served, &["a=127.0.0.1:2"]);
        assert_eq!(proxies, ["a=127.0.0.1:9"]);
        let sentence = "proxy \"a\": listening on 127.0.0.1:2 needs a restart; until then it listens on 127.0.0.1:9";
        assert_eq!(sentences, [sentence]);
    }

    #[test]
    fn a_moved_proxy_takes_everything_over_but_its_address() {
        let served = held(&["a=127.0.0.1:1"], &nothing(), &["x=127.0.0.1:7", "a=127.0.0.1:1"]).2;
        let (proxies, sentences, config) = held(&["a=127.0.0.1:1"], &served, &["a=/run/a.sock"]);
        assert_eq!(proxies, ["a=127.0.0.1:1"]);
        assert_eq!(config.proxies[0].client.addresses[0].to_string(), "db:1", "it was db:2");
        assert_eq!(
            sentences,
            ["proxy \"a\": listening on /run/a.sock needs a restart; until then it listens on 127.0.0.1:1"]
        );
    }

    #[test]
    fn a_dropped_proxy_goes_on_as_it_was_and_is_taken_over_again_when_it_is_back() {
        let pin = ["a=127.0.0.1:1"];
        let served = held(&pin, &nothing(), &["a=127.0.0.1:1", "b=127.0.0.1:2"]).2;
        let (proxies, sentences, config) = held(&pin, &served, &["b=127.0.0.1:2"]);
        assert_eq!(proxies, ["b=127.0.0.1:2", "a=127.0.0.1:1"]);
        assert_eq!(config.proxies[1], served.proxies[0]);
        assert_eq!(sentences, ["proxy \"a\": its end needs a restart; until then it goes on as it was on 127.0.0.1:1"]);
        assert_eq!(held(&pin, &config, &["b=127.0.0.1:2", "a=127.0.0.1:1"]).1, [""; 0]);
        let (proxies, sentences, _) = held(&pin, &nothing(), &["b=127.0.0.1:2"]);
        assert_eq!(proxies, ["b=127.0.0.1:2"]);
        assert_eq!(
            sentences,
            ["proxy \"a\": it is not in the configuration, and nobody listens on 127.0.0.1:1 for it"]
        );
    }

    #[test]
    fn another_proxy_cannot_have_a_pinned_address() {
        let pin = ["a=127.0.0.1:1"];
        let served = held(&pin, &nothing(), &["a=127.0.0.1:1", "b=127.0.0.1:2"]).2;
        let (proxies, sentences, _) = held(&pin, &served, &["a=127.0.0.1:2", "b=0.0.0.0:1", "c=127.0.0.1:3"]);
        assert_eq!(proxies, ["a=127.0.0.1:1", "b=127.0.0.1:2", "c=127.0.0.1:3"]);
        assert_eq!(
            sentences,
            [
                "proxy \"a\": listening on 127.0.0.1:2 needs a restart; until then it listens on 127.0.0.1:1",
                "proxy \"b\": listening on 0.0.0.0:1 needs a restart; until then proxy \"a\" listens on 127.0.0.1:1",
            ]
        );
        assert_eq!(held(&pin, &nothing(), &["a=127.0.0.1:2", "d=127.0.0.1:1"]).0, ["a=127.0.0.1:1"]);
    }

    #[test]
    fn streams_do_not_become_datagrams_before_a_restart() {
        let pin = ["a=127.0.0.1:1"];
        let served = held(&pin, &nothing(), &["a=127.0.0.1:1"]).2;
        let (proxies, sentences, config) = held(&pin, &served, &["a=udp 127.0.0.1:1"]);
        assert_eq!((proxies, &config.proxies[0]), (vec!["a=127.0.0.1:1".to_owned()], &served.proxies[0]));
        assert_eq!(
            sentences,
            ["proxy \"a\": server.network udp needs a restart; until then it goes on as it was on 127.0.0.1:1"]
        );
    }
}
