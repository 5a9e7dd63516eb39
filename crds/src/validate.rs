//! The rules that no single setting can break alone. The operator and the gateway share them; those that CEL can
//! express stand in the schema as well, so that the API server refuses them first.

use crate::{
    BUILT_IN_HOOKS, Client, ClientTlsMode, GatewayConfigSpec, Hook, HostPort, Listen, Network, PoolMode, Problem,
    Protocol, Proxy, Server, ServerAuthMode, ServerTlsMode, TargetSessionAttrs, check_socket_path,
};
use crate::{address::parse_literal, resolve, resolve::listen};

/// Everything that is wrong with `spec`, each in one sentence; nothing if it can be served.
pub fn validate(spec: &GatewayConfigSpec) -> Vec<Problem> {
    let mut findings = Findings { path: "spec".into(), problems: Vec::new() };
    let resolved = resolve(spec);
    if spec.proxies.is_empty() {
        findings.add("proxies", "there is no proxy; write at least one with name and client.addresses");
    }
    for (index, (proxy, resolved)) in spec.proxies.iter().zip(&resolved.proxies).enumerate() {
        findings.within(&format!("proxies[{index}]"), |findings| {
            if spec.proxies[..index].iter().any(|other| other.name == proxy.name) {
                findings
                    .add("name", format!("another proxy is named {:?} too; give this one its own name", proxy.name));
            }
            check_mode(proxy, findings);
            check_server(proxy, resolved, findings);
            check_pool(resolved, findings);
            findings.within("client", |findings| check_client(&proxy.client, findings));
        });
    }
    check_listens(spec, &resolved, &mut findings);
    for (index, hook) in spec.hooks.iter().enumerate() {
        let is_second = spec.hooks[..index].iter().any(|other| other.name == hook.name);
        findings.within(&format!("hooks[{index}]"), |findings| check_hook(hook, is_second, findings));
    }
    if let Err(sentence) = parse_literal(&spec.admin.address) {
        findings.add("admin.address", sentence);
    }
    findings.problems
}

/// The problems so far, and where we are looking.
struct Findings {
    path: String,
    problems: Vec<Problem>,
}

impl Findings {
    fn add(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(format!("{}.{key}", self.path), message));
    }

    fn within(&mut self, key: &str, look: impl FnOnce(&mut Self)) {
        let outside = self.path.len();
        self.path = format!("{}.{key}", self.path);
        look(self);
        self.path.truncate(outside);
    }
}

/// What only a proxy with a login of its own can do.
fn check_mode(proxy: &Proxy, findings: &mut Findings) {
    if proxy.protocol == Protocol::Postgres && proxy.client.network == Network::Udp {
        findings.add("client.network", "protocol postgres does not run over udp; use tcp or unix");
    }
    let has_console = proxy.server.console.as_deref().is_some_and(|console| !console.is_empty());
    if has_console && proxy.protocol != Protocol::Postgres {
        findings.add("server.console", "it needs protocol: postgres; set that, or remove server.console");
    }
    if proxy.client.auth.is_some() {
        if proxy.protocol != Protocol::Postgres {
            findings.add("client.auth", "it needs protocol: postgres; set that, or remove client.auth");
        }
        return;
    }
    let asked = [
        ("pool.mode", "transaction", proxy.pool.mode == PoolMode::Transaction),
        ("pool.idleTransactionTimeout", "a timeout", proxy.pool.idle_transaction_timeout.nonzero().is_some()),
        ("client.targetSessionAttrs", "a value but any", proxy.client.target_session_attrs != TargetSessionAttrs::Any),
        ("server.auth.mode", "scram", proxy.server.auth.mode == ServerAuthMode::Scram),
    ];
    for (key, value, _) in asked.into_iter().filter(|(_, _, asked)| *asked) {
        let message = format!("{value} needs client.auth and protocol: postgres; add them, or remove this");
        findings.add(key, message);
    }
}

fn check_server(proxy: &Proxy, resolved: &Proxy, findings: &mut Findings) {
    let network = proxy.server_network();
    let udp = |network| network == Network::Udp;
    if udp(network) != udp(proxy.client.network) {
        let client = proxy.client.network;
        let message =
            format!("{network} does not go with a client on {client}; udp goes with udp only, so change one of them");
        findings.add("server.network", message);
    }
    match proxy.server.address.as_deref().map(|address| Listen::parse(network, address)) {
        Some(Err(sentence)) => findings.add("server.address", sentence),
        None if resolved.server.address.is_none() && can_default(proxy) => {
            findings.add("server.address", missing_address(network));
        }
        _ => {}
    }
    if udp(network) && resolved.server.idle_timeout.is_some_and(|timeout| timeout.nonzero().is_none()) {
        findings
            .add("server.idleTimeout", "a udp session has no other end; write how long it lasts without a datagram");
    }
    check_server_secrets(&proxy.server, findings);
}

/// Whether the database's address, from which the default would come, is fine itself.
fn can_default(proxy: &Proxy) -> bool {
    let first = proxy.client.addresses.first();
    proxy.server_network() == Network::Unix
        || first.is_some_and(|address| proxy.client.network == Network::Unix || address.parse::<HostPort>().is_ok())
}

fn missing_address(network: Network) -> String {
    match network {
        Network::Unix => {
            "a unix server has no default address; write a path such as /var/run/postern/.s.PGSQL.5432".into()
        }
        _ => "there is no default without a free port of client.addresses; write one such as 127.0.0.1:5432".into(),
    }
}

fn check_server_secrets(server: &Server, findings: &mut Findings) {
    if server.auth.mode == ServerAuthMode::Scram && server.auth.secret_name.is_none() {
        findings.add("server.auth.secretName", "mode scram needs it; name the Secret with username and password");
    }
    if server.tls.mode != ServerTlsMode::Disable && server.tls.secret_name.is_none() {
        findings.add("server.tls.secretName", "it is needed to offer TLS; name the Secret with tls.crt and tls.key");
    }
}

fn check_pool(resolved: &Proxy, findings: &mut Findings) {
    if let (Some(size), Some(min_idle)) = (resolved.pool.size, resolved.pool.min_idle)
        && min_idle > size
    {
        findings.add("pool.minIdle", format!("{min_idle} is more than pool.size, {size}; lower it or raise the size"));
    }
}

fn check_client(client: &Client, findings: &mut Findings) {
    if client.addresses.is_empty() {
        findings.add("addresses", "there is none; write the database's, such as db.example:5432");
    }
    for (index, address) in client.addresses.iter().enumerate() {
        let key = format!("addresses[{index}]");
        let read = match client.network {
            Network::Unix => check_socket_path(address),
            Network::Tcp | Network::Udp => address.parse::<HostPort>().map(drop),
        };
        if let Err(sentence) = read {
            findings.add(&key, sentence);
        } else if client.addresses[..index].contains(address) {
            findings.add(&key, format!("{address} is listed already; remove one of the two"));
        }
    }
    if !client.backoff_multiplier.is_finite() || client.backoff_multiplier < 0.0 {
        findings.add("backoffMultiplier", "it is not a number of 0 or more; write one such as 2");
    }
    if !(0.0..=1.0).contains(&client.jitter) {
        findings.add("jitter", "it is not a fraction from 0 to 1; write one such as 0.2");
    }
    let verifies = matches!(client.tls.mode, ClientTlsMode::VerifyCa | ClientTlsMode::VerifyFull);
    if verifies && client.tls.secret_name.is_none() {
        findings.add("tls.secretName", "it is needed to verify the database; name the Secret with ca.crt");
    }
}

/// No two listeners on one address, and none on the very database that it shall reach.
fn check_listens(spec: &GatewayConfigSpec, resolved: &GatewayConfigSpec, findings: &mut Findings) {
    let listens: Vec<Option<Listen>> = resolved.proxies.iter().map(listen).collect();
    let admin = parse_literal(&spec.admin.address).ok().map(Listen::Tcp);
    for (index, (proxy, address)) in resolved.proxies.iter().zip(&listens).enumerate() {
        let Some(address) = address else { continue };
        let key = format!("proxies[{index}].server.address");
        let is_default = spec.proxies[index].server.address.is_none();
        let shown = if is_default { format!("the default, {address},") } else { address.to_string() };
        let clash = |other: &Option<Listen>| other.as_ref().is_some_and(|other| other.overlaps(address));
        let taken_by = listens[..index].iter().position(clash);
        if let Some(holder) = taken_by {
            let holder = &spec.proxies[holder].name;
            let what = if matches!(address, Listen::Unix(_)) { "path" } else { "port" };
            let message = format!("{shown} is already taken by proxy {holder:?}; give this one another {what}");
            findings.add(&key, message);
        } else if clash(&admin) {
            findings.add(&key, format!("{shown} is already taken by admin.address; give this one another port"));
        } else if proxy.client.addresses.iter().any(|to| address.is_reached_by(proxy.client.network, to)) {
            let message =
                format!("{shown} is the database's own address, so the gateway would dial itself; write another");
            findings.add(&key, message);
        }
    }
}

fn check_hook(hook: &Hook, is_second: bool, findings: &mut Findings) {
    let name = &hook.name;
    if is_second {
        findings.add("name", format!("another hook is named {name:?} too; each is called once"));
    }
    if hook.source.is_none() && !BUILT_IN_HOOKS.contains(&name.as_str()) {
        let known = BUILT_IN_HOOKS.join(", ");
        findings
            .add("name", format!("there is no built-in hook {name:?}; there are {known}, and a plugin needs a source"));
    }
}
