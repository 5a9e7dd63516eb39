//! Why a database cannot be reached, and what mends it: what the gateway says, read beside what the cluster knows of the
//! name that it dials.

use crds::{HostPort, Network};
use kube::ResourceExt;

use super::advice::Advice;
use super::live;
use super::snapshot::{Namespace, Service};
use crate::caches::Held;

/// Of an error that is not now any more, this long is told.
const RECENT: f64 = 60.0;
/// More Services than this are not named in a sentence.
const MOST_NAMES: usize = 5;

/// One proxy of a pod's gateway, with where its setting is.
struct Way<'a> {
    live: &'a live::Proxy,
    config: &'a Held,
    /// The proxy's place in `spec.proxies`, and what stands there.
    spec: Option<(usize, &'a crds::Proxy)>,
    namespace: &'a Namespace,
}

/// What is wrong with the database of `live`, and with its pool.
pub fn advice(live: &live::Proxy, config: &Held, namespace: &Namespace) -> Vec<Advice> {
    let proxies = config.known.as_ref().map(|config| config.spec.proxies.as_slice()).unwrap_or_default();
    let spec = proxies.iter().enumerate().find(|(_, proxy)| proxy.name == live.name);
    let way = Way { live, config, spec, namespace };
    let mut advice = Vec::new();
    if let Some(text) = live.trouble() {
        advice.push(way.away(text));
    } else if let Some(last) = live.database.last_error.as_ref().filter(|last| last.ago_seconds < RECENT) {
        advice.push(Advice::hint(
            "RecentError",
            format!("proxy {:?} had an error {} ago: {}", live.name, super::words::span(last.ago_seconds), last.text),
        ));
    }
    advice.extend(way.waits());
    advice
}

// === impl Way ===

impl Way<'_> {
    /// What mends a database that is away, for this reason.
    fn away(&self, text: &str) -> Advice {
        let proxy = &self.live.name;
        let problem = |reason: &str, fix: String| {
            Advice::problem(reason, format!("proxy {proxy:?} has no database: {text}; {fix}"))
        };
        if text.starts_with("cannot resolve ") {
            return problem("DatabaseUnresolved", self.unresolved());
        }
        if text.starts_with("cannot connect to ") {
            let (reason, fix) = self.refused();
            return problem(reason, fix);
        }
        if text.starts_with("no answer from ") {
            let fix = format!(
                "let the pods of namespace {} reach it (NetworkPolicy, firewall, security group), or correct {}",
                self.namespace.name,
                self.addresses()
            );
            return problem("DatabaseSilent", fix);
        }
        if let Some((_, said)) = text.split_once(" refused the login: ") {
            let (reason, fix) = self.login(said);
            return problem(reason, fix);
        }
        // What is left says itself what to do.
        let reason = if text.starts_with("cannot encrypt ") { "DatabaseTls" } else { "DatabaseAway" };
        Advice::problem(reason, format!("proxy {proxy:?} has no database: {text}{}", self.hint_of_tls(text)))
    }

    /// The setting with the database's addresses, and how it is edited.
    fn addresses(&self) -> String {
        let index = self.spec.map_or_else(|| "[]".to_owned(), |(index, _)| format!("[{index}]"));
        let (name, namespace) = (self.config.name_any(), &self.namespace.name);
        format!("spec.proxies{index}.client.addresses: kubectl edit gatewayconfig {name} -n {namespace}")
    }

    /// The addresses as they are written.
    fn written(&self) -> Vec<HostPort> {
        let client = self.spec.map(|(_, proxy)| &proxy.client).filter(|client| client.network != Network::Unix);
        client.into_iter().flat_map(|client| &client.addresses).filter_map(|address| address.parse().ok()).collect()
    }

    fn unresolved(&self) -> String {
        let missing =
            self.written().into_iter().find(|to| matches!(self.namespace.services.get(&to.host), Some(Ok(None))));
        let Some(missing) = missing else {
            return format!("correct {}, or the name service", self.addresses());
        };
        let there = match self.namespace.service_names.as_slice() {
            [] => "none".to_owned(),
            names if names.len() > MOST_NAMES => format!("{} and others", names[..MOST_NAMES].join(", ")),
            names => names.join(", "),
        };
        format!(
            "there is no Service {:?} (namespace {} has {there}); create it, or correct {}",
            missing.host,
            self.namespace.name,
            self.addresses()
        )
    }

    /// Nobody takes the connection.
    fn refused(&self) -> (&'static str, String) {
        let known = self.written().into_iter().find_map(|to| {
            let service = self.namespace.services.get(&to.host)?.as_ref().ok()?.as_ref()?;
            Some((to, service))
        });
        match known {
            Some((to, service)) if !service.has_port(to.port) => (
                "DatabasePort",
                format!(
                    "Service {} has no port {}, but {}; correct {}",
                    service.name,
                    to.port,
                    service.shown_ports(),
                    self.addresses()
                ),
            ),
            Some((_, service)) if service.ready == 0 && !service.is_without_ports => (
                "DatabaseDown",
                format!(
                    "Service {} has no ready endpoint: start the database's pods, or correct its selector",
                    service.name
                ),
            ),
            _ => (
                "DatabaseDown",
                format!(
                    "nobody listens there: start the database, or correct {}{}",
                    self.addresses(),
                    self.next_dial()
                ),
            ),
        }
    }

    fn next_dial(&self) -> String {
        let next = self.live.database.retry.as_ref().and_then(|retry| retry.next_dial_seconds);
        next.map(|next| format!(" (it is dialed again in {})", super::words::span(next))).unwrap_or_default()
    }

    /// The database does not let us in.
    fn login(&self, said: &str) -> (&'static str, String) {
        let auth = self.spec.and_then(|(_, proxy)| proxy.client.auth.as_ref());
        let secret = auth.map_or("that client.auth.secretName names", |auth| &auth.secret_name);
        let (namespace, config) = (&self.namespace.name, self.config.name_any());
        if said.contains("password authentication failed") || said.contains("28P01") || said.contains("28000") {
            let fix = format!(
                "correct username and password in Secret {secret:?} (new connections use them within 90 s): kubectl edit \
                 secret {secret} -n {namespace}"
            );
            return ("DatabaseLogin", fix);
        }
        if said.contains("3D000") {
            let fix = format!(
                "correct client.auth.database (kubectl edit gatewayconfig {config} -n {namespace}), or create the database"
            );
            return ("DatabaseLogin", fix);
        }
        if said.contains("53300") || said.contains("too many") {
            let fix = format!(
                "lower pool.size of GatewayConfig {config:?}, or raise max_connections of the database (or the connection limit \
                 of the role)"
            );
            return ("DatabaseFull", fix);
        }
        (
            "DatabaseLogin",
            format!("mend that in the database, or in GatewayConfig {config:?} and its Secret {secret:?}"),
        )
    }

    /// Peers wait, and the database is there.
    fn waits(&self) -> Option<Advice> {
        let pool = self.live.pool;
        if pool.waiting == 0 || self.live.database.is_away() {
            return None;
        }
        let (name, namespace, proxy) = (self.config.name_any(), &self.namespace.name, &self.live.name);
        let waiting = super::words::count(pool.waiting, "peer waits", "peers wait");
        let longest = super::words::span(pool.longest_wait_seconds);
        if pool.paused {
            return Some(Advice::problem(
                "PoolPaused",
                format!(
                    "{waiting} for proxy {proxy:?}, the longest for {longest}, because it is paused; say RESUME on its console"
                ),
            ));
        }
        let index = self.spec.map_or_else(|| "[]".to_owned(), |(index, _)| format!("[{index}]"));
        let mode = match self.live.mode.as_str() {
            "session" => ", or set its mode to transaction",
            _ => "",
        };
        (pool.lent >= pool.size).then(|| {
            Advice::problem(
                "PoolTooSmall",
                format!(
                    "{waiting} for proxy {proxy:?}, the longest for {longest}, because all {} of its connections are lent; \
                     raise spec.proxies{index}.pool.size, which is live{mode}: kubectl edit gatewayconfig {name} -n {namespace}",
                    pool.size
                ),
            )
        })
    }

    /// Who reads an error of TLS should know where the setting is.
    fn hint_of_tls(&self, text: &str) -> String {
        if !text.starts_with("cannot encrypt ") {
            return String::new();
        }
        let index = self.spec.map_or_else(|| "[]".to_owned(), |(index, _)| format!("[{index}]"));
        let (name, namespace) = (self.config.name_any(), &self.namespace.name);
        format!(" (spec.proxies{index}.client.tls of GatewayConfig {name} in namespace {namespace})")
    }
}

// === impl Service ===

impl Service {
    /// Whether somebody may be behind this port.
    pub fn has_port(&self, port: u16) -> bool {
        self.is_without_ports || self.ports.contains(&port)
    }

    fn shown_ports(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
    }
}

#[cfg(test)]
mod tests;
