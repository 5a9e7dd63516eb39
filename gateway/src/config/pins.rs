//! Addresses that stay for the life of the process, whatever the document says later: an application was told where its
//! gateway listens when its pod was made, and cannot be told again. Nobody else is ever served on such an address, not
//! even while its own proxy is not there: whoever dials it would be led to another database.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use super::{Config, Listen, ProxyConfig};

/// One `--listen NAME=ADDRESS[,WRITTEN]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    proxy: Arc<str>,
    address: crds::Listen,
    /// What the document said when the pin was made; that, and the pinned address itself, is no change.
    written: crds::Listen,
}

/// Every pin of the process; each proxy and each address is pinned once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    proxies: Vec<Pin>,
    admin: Option<SocketAddr>,
}

/// What can be served of a document, and what of it needs a restart.
#[derive(Debug, PartialEq)]
pub struct Held {
    /// What can be served.
    pub config: Config,
    /// One sentence for each change that needs a restart.
    pub restart_required: Vec<String>,
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
        let pair = addresses
            .rsplit_once(',')
            .and_then(|(address, written)| Some((address, crds::Listen::from_word(written).ok()?)));
        let (address, written) = match pair {
            Some((address, written)) => (crds::Listen::from_word(address)?, written),
            None => (crds::Listen::from_word(addresses)?, crds::Listen::from_word(addresses)?),
        };
        Ok(Pin { proxy: name.into(), address, written })
    }
}

impl Pin {
    /// Whether the document says for its proxy what it said when the pin was made.
    fn agrees_with(&self, wanted: &Listen) -> bool {
        let wanted = address_of(wanted);
        self.address == wanted || self.written == wanted
    }

    /// Where its proxy listens; nowhere where the document wants datagrams instead of streams, or the reverse.
    fn listen(&self, wanted: &Listen) -> Option<Listen> {
        Some(match (&self.address, wanted) {
            (crds::Listen::Udp(addr), Listen::Udp(_)) => Listen::Udp(*addr),
            (crds::Listen::Tcp(addr), Listen::Tcp(_) | Listen::Unix { .. }) => Listen::Tcp(*addr),
            (crds::Listen::Unix(path), Listen::Unix { mode, .. }) => Listen::Unix { path: path.clone(), mode: *mode },
            (crds::Listen::Unix(path), Listen::Tcp(_)) => Listen::Unix { path: path.clone(), mode: SOCKET_MODE },
            (crds::Listen::Udp(_), _) | (_, Listen::Udp(_)) => return None,
        })
    }
}

// === impl Pins ===

impl Pins {
    /// All pins of a command line.
    ///
    /// # Errors
    /// One sentence that names what is pinned twice.
    pub fn new(proxies: Vec<Pin>, admin: Option<SocketAddr>) -> Result<Pins, String> {
        for (index, pin) in proxies.iter().enumerate() {
            if admin.is_some_and(|admin| pin.address.overlaps(&crds::Listen::Tcp(admin))) {
                let (name, address) = (&*pin.proxy, &pin.address);
                return Err(format!(
                    "--listen gives {address} to proxy {name:?}, and --admin has it; change one of the two"
                ));
            }
            for other in &proxies[..index] {
                if other.proxy == pin.proxy {
                    return Err(format!("--listen names proxy {:?} twice; remove one of the two", &*pin.proxy));
                }
                if other.address.overlaps(&pin.address) {
                    return Err(format!("--listen gives {} to two proxies; give each its own", pin.address));
                }
            }
        }
        Ok(Pins { proxies, admin })
    }

    /// Where the admin endpoints listen, whatever the document says.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What this process can serve of `wanted`, while it serves `served`.
    pub fn hold(&self, mut wanted: Config, served: &Config) -> Held {
        let dropped: Vec<&Pin> = self.proxies.iter().filter(|pin| find(&wanted, &pin.proxy).is_none()).collect();
        let proxies = std::mem::take(&mut wanted.proxies);
        let mut held = Held { config: wanted, restart_required: Vec::new() };
        for proxy in proxies {
            let before = find(served, &proxy.name);
            if let Some(pin) = self.proxies.iter().find(|pin| pin.proxy == proxy.name) {
                held.add_pinned(pin, &proxy, before);
            } else if let Some(kept) = self.kept(&proxy.server.listen) {
                held.add_elsewhere(&kept, &proxy, before);
            } else {
                held.config.proxies.push(proxy);
            }
        }
        for pin in dropped {
            held.add_dropped(pin, find(served, &pin.proxy));
        }
        held
    }

    /// For whom `listen`, or a part of it, is kept, where it is.
    fn kept(&self, listen: &Listen) -> Option<String> {
        let address = address_of(listen);
        if let Some(pin) = self.proxies.iter().find(|pin| pin.address.overlaps(&address)) {
            return Some(format!("{} is kept for proxy {:?}", pin.address, &*pin.proxy));
        }
        let admin = self.admin.filter(|admin| crds::Listen::Tcp(*admin).overlaps(&address))?;
        Some(format!("{admin} is kept for the admin endpoints"))
    }
}

fn find<'a>(config: &'a Config, name: &str) -> Option<&'a Arc<ProxyConfig>> {
    config.proxies.iter().find(|proxy| &*proxy.name == name)
}

fn address_of(listen: &Listen) -> crds::Listen {
    match listen {
        Listen::Tcp(addr) => crds::Listen::Tcp(*addr),
        Listen::Udp(addr) => crds::Listen::Udp(*addr),
        Listen::Unix { path, .. } => crds::Listen::Unix(path.clone()),
    }
}

// === impl Held ===

impl Held {
    /// Adds what is wanted of a pinned proxy, on its pinned address.
    fn add_pinned(&mut self, pin: &Pin, wanted: &Arc<ProxyConfig>, served: Option<&Arc<ProxyConfig>>) {
        let (name, stays) = (&*pin.proxy, &pin.address);
        let Some(listen) = pin.listen(&wanted.server.listen) else {
            let until = match served {
                Some(_) => format!("it goes on as it was on {stays}"),
                None => format!("nobody listens on {stays} for it"),
            };
            let network = wanted.server.listen.network();
            self.restart_required
                .push(format!("proxy {name:?}: server.network {network} needs a restart; until then {until}"));
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

    /// Adds a proxy whose address is `kept` for another where it was before, or not at all.
    fn add_elsewhere(&mut self, kept: &str, wanted: &Arc<ProxyConfig>, served: Option<&Arc<ProxyConfig>>) {
        let (name, listen) = (&*wanted.name, &wanted.server.listen);
        self.restart_required.push(format!("proxy {name:?}: listening on {listen} needs a restart; until then {kept}"));
        if let Some(before) = served.filter(|before| is_datagrams(before) == is_datagrams(wanted)) {
            self.add_at(before.server.listen.clone(), wanted);
        }
    }

    /// A pinned proxy of which the document does not speak any more goes on as it was.
    fn add_dropped(&mut self, pin: &Pin, served: Option<&Arc<ProxyConfig>>) {
        let (name, stays) = (&*pin.proxy, &pin.address);
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

#[cfg(test)]
mod tests;
