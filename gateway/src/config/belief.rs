//! From what people write to what the gateway believes: the one function that turns the wire type into a [`Config`].

use std::num::NonZeroUsize;
use std::sync::Arc;

use crds::{
    ClientTlsMode, GatewayConfig, Network, Problem, ServerAuthMode, ServerTlsMode, TargetSessionAttrs, TlsNegotiation,
};

use super::document::Problems;
use super::{
    Address, ClientAuth, ClientConfig, ClientTls, Config, HookConfig, HostPort, Listen, LogConfig, LogFormat, OnError,
    PeerAuth, PeerTls, PoolConfig, PoolMode, Protocol, ProxyConfig, Readiness, RetryConfig, ServerConfig, Target,
    TlsMode,
};
use crate::hooks;
use crate::random::Random;

impl TryFrom<&GatewayConfig> for Config {
    type Error = Problems;

    fn try_from(written: &GatewayConfig) -> Result<Self, Problems> {
        let mut problems = crds::validate(&written.spec);
        problems.extend(unservable(&written.spec));
        if let Some(problems) = Problems::from_list(problems) {
            return Err(problems);
        }
        let name = written.metadata.name.clone().unwrap_or_default();
        believe(name, &written.spec).map_err(Problems::from)
    }
}

/// What the resource can ask for and this gateway cannot do: what it does not serve yet, and hooks that refuse their
/// settings.
pub(super) fn unservable(spec: &crds::GatewayConfigSpec) -> Vec<Problem> {
    let has_hooks = !spec.hooks.is_empty();
    let proxies = spec.proxies.iter().enumerate();
    let hooks = spec.hooks.iter().enumerate();
    let mut problems: Vec<Problem> = proxies.flat_map(|(index, proxy)| unserved(index, proxy, has_hooks)).collect();
    problems.extend(hooks.filter_map(|(index, hook)| refused(index, hook)));
    problems
}

fn unserved(index: usize, proxy: &crds::Proxy, has_hooks: bool) -> Vec<Problem> {
    let asked = match proxy.protocol {
        crds::Protocol::Postgres => vec![(
            "client.auth",
            "a login of the gateway's own together with spec.hooks",
            has_hooks && proxy.is_managed(),
        )],
        crds::Protocol::Opaque => vec![
            ("client.tls.mode", "encryption towards the database", proxy.client.tls.mode != ClientTlsMode::Disable),
            ("server.tls.mode", "encryption towards peers", proxy.server.tls.mode != ServerTlsMode::Disable),
        ],
    };
    let asked = asked.into_iter().filter(|(_, _, is_asked)| *is_asked);
    let problem = |(key, what, _)| {
        let message = format!("{what} is not served by this version of the gateway");
        Problem::new(format!("spec.proxies[{index}].{key}"), message)
    };
    asked.map(problem).collect()
}

fn refused(index: usize, hook: &crds::Hook) -> Option<Problem> {
    if hook.source.is_some() {
        let name = &hook.name;
        let message =
            format!("the plugin {name:?} is not served by this version of the gateway, only built-in hooks are");
        return Some(Problem::new(format!("spec.hooks[{index}].source"), message));
    }
    if !crds::BUILT_IN_HOOKS.contains(&hook.name.as_str()) {
        return None;
    }
    let sentence = hooks::build(&hook_of(hook), &Random::from_seed(0)).err()?;
    Some(Problem::new(format!("spec.hooks[{index}].config"), sentence))
}

/// Everything has been validated; what still fails is a rule that is missing there, and is said like any other problem.
fn believe(name: String, written: &crds::GatewayConfigSpec) -> Result<Config, Problem> {
    let resolved = crds::resolve(written);
    let mut proxies = Vec::new();
    for (index, (proxy, written)) in resolved.proxies.iter().zip(&written.proxies).enumerate() {
        let explicit = written.pool.min_idle.is_some();
        let mut proxy = proxy_of(proxy, explicit)
            .map_err(|problem| Problem::new(format!("spec.proxies[{index}].{}", problem.path), problem.message))?;
        proxy.pool.dials_first = resolved.readiness == crds::Readiness::Database;
        proxies.push(Arc::new(proxy));
    }
    let admin = resolved.admin.address.parse();
    Ok(Config {
        name,
        proxies,
        hooks: resolved.hooks.iter().map(hook_of).collect(),
        workers: count(resolved.workers, "spec.workers")?,
        drain_timeout: resolved.drain_timeout.get(),
        readiness: match resolved.readiness {
            crds::Readiness::Listening => Readiness::Listening,
            crds::Readiness::Database => Readiness::Database,
        },
        log: log_of(&resolved.log),
        admin: admin.map_err(|_| Problem::new("spec.admin.address", "it is not a literal IP:port"))?,
    })
}

fn count(number: u32, path: &str) -> Result<NonZeroUsize, Problem> {
    let number = usize::try_from(number).ok().and_then(NonZeroUsize::new);
    number.ok_or_else(|| Problem::new(path, "0 is out of range; write one of 1 or more"))
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn hook_of(hook: &crds::Hook) -> HookConfig {
    HookConfig {
        name: hook.name.clone(),
        on_error: match hook.on_error {
            crds::OnError::Pass => OnError::Pass,
            crds::OnError::Close => OnError::Close,
        },
        config: hook.config.clone().into(),
    }
}

fn log_of(log: &crds::Log) -> LogConfig {
    LogConfig {
        level: match log.level {
            crds::LogLevel::Error => tracing::Level::ERROR,
            crds::LogLevel::Warn => tracing::Level::WARN,
            crds::LogLevel::Info => tracing::Level::INFO,
            crds::LogLevel::Debug => tracing::Level::DEBUG,
            crds::LogLevel::Trace => tracing::Level::TRACE,
        },
        format: log.format.map(|format| match format {
            crds::LogFormat::Json => LogFormat::Json,
            crds::LogFormat::Text => LogFormat::Text,
        }),
    }
}

fn proxy_of(proxy: &crds::Proxy, min_idle_is_explicit: bool) -> Result<ProxyConfig, Problem> {
    let crds::Pool { size: most, min_idle, acquire_timeout, max_waiting, max_idle, max_age, .. } = proxy.pool;
    Ok(ProxyConfig {
        name: proxy.name.as_str().into(),
        protocol: match proxy.protocol {
            crds::Protocol::Opaque => Protocol::Opaque,
            crds::Protocol::Postgres => Protocol::Postgres,
        },
        server: ServerConfig {
            listen: listen_of(proxy)?,
            max_peers: size(proxy.server.max_peers),
            console: proxy.server.console.as_deref().filter(|console| !console.is_empty()).map(Into::into),
            idle_timeout: proxy.server.idle_timeout.and_then(crds::Duration::nonzero),
            auth: peer_auth_of(&proxy.server.auth)?,
            tls: peer_tls_of(&proxy.server.tls),
        },
        pool: PoolConfig {
            size: count(most.unwrap_or_default(), "pool.size")?,
            min_idle: size(min_idle.unwrap_or_default()),
            dials_first: false,
            min_idle_is_explicit,
            acquire_timeout: acquire_timeout.get(),
            max_waiting: size(max_waiting),
            max_idle: max_idle.and_then(crds::Duration::nonzero),
            max_age: max_age.nonzero(),
            mode: match proxy.pool.mode {
                crds::PoolMode::Session => PoolMode::Session,
                crds::PoolMode::Transaction => PoolMode::Transaction,
            },
            idle_transaction_timeout: proxy.pool.idle_transaction_timeout.nonzero(),
        },
        client: client_of(&proxy.client)?,
    })
}

fn listen_of(proxy: &crds::Proxy) -> Result<Listen, Problem> {
    let problem = |sentence: String| Problem::new("server.address", sentence);
    let address = proxy.server.address.as_deref().unwrap_or_default();
    Ok(match crds::Listen::parse(proxy.server_network(), address).map_err(problem)? {
        crds::Listen::Tcp(addr) => Listen::Tcp(addr),
        crds::Listen::Udp(addr) => Listen::Udp(addr),
        crds::Listen::Unix(path) => {
            let mode = u32::from_str_radix(&proxy.server.socket_mode, 8);
            Listen::Unix { path, mode: mode.map_err(|error| Problem::new("server.socketMode", error.to_string()))? }
        }
    })
}

fn client_of(client: &crds::Client) -> Result<ClientConfig, Problem> {
    let addresses = client.addresses.iter().map(|address| address_of(client.network, address));
    Ok(ClientConfig {
        addresses: addresses
            .collect::<Result<_, _>>()
            .map_err(|sentence| Problem::new("client.addresses", sentence))?,
        dial_timeout: client.dial_timeout.nonzero(),
        retry: retry_of(client),
        probe: client.probe.nonzero(),
        receive_chunk_size: count(client.receive_chunk_size, "client.receiveChunkSize")?,
        send_deadline: client.send_deadline.nonzero(),
        receive_deadline: client.receive_deadline.nonzero(),
        receive_timeout: client.receive_timeout.nonzero(),
        tcp_keep_alive_period: client.tcp_keep_alive_period.nonzero(),
        tcp_user_timeout: client.tcp_user_timeout.nonzero(),
        tls: client_tls_of(&client.tls),
        auth: client.auth.as_ref().map(|auth| ClientAuth {
            secret: auth.secret_name.as_str().into(),
            database: auth.database.as_deref().map(Into::into),
        }),
        target: match client.target_session_attrs {
            TargetSessionAttrs::Any => Target::Any,
            TargetSessionAttrs::ReadWrite => Target::ReadWrite,
            TargetSessionAttrs::ReadOnly => Target::ReadOnly,
            TargetSessionAttrs::Primary => Target::Primary,
            TargetSessionAttrs::Standby => Target::Standby,
            TargetSessionAttrs::PreferStandby => Target::PreferStandby,
        },
    })
}

fn peer_auth_of(auth: &crds::ServerAuth) -> Result<PeerAuth, Problem> {
    match (auth.mode, &auth.secret_name) {
        (ServerAuthMode::Trust, _) => Ok(PeerAuth::Trust),
        (ServerAuthMode::Scram, Some(secret)) => Ok(PeerAuth::Scram(secret.as_str().into())),
        (ServerAuthMode::Scram, None) => Err(Problem::new("server.auth.secretName", "mode scram needs it")),
    }
}

fn peer_tls_of(tls: &crds::ServerTls) -> Option<PeerTls> {
    let is_required = match tls.mode {
        ServerTlsMode::Disable => return None,
        ServerTlsMode::Allow => false,
        ServerTlsMode::Require => true,
    };
    Some(PeerTls { is_required, secret: tls.secret_name.as_deref()?.into() })
}

fn client_tls_of(tls: &crds::ClientTls) -> Option<ClientTls> {
    let mode = match tls.mode {
        ClientTlsMode::Disable => return None,
        ClientTlsMode::Prefer => TlsMode::Prefer,
        ClientTlsMode::Require => TlsMode::Require,
        ClientTlsMode::VerifyCa => TlsMode::VerifyCa,
        ClientTlsMode::VerifyFull => TlsMode::VerifyFull,
    };
    let as_shared = |text: &Option<String>| text.as_deref().map(Into::into);
    Some(ClientTls {
        mode,
        secret: as_shared(&tls.secret_name),
        server_name: as_shared(&tls.server_name),
        is_direct: tls.negotiation == TlsNegotiation::Direct,
    })
}

fn address_of(network: Network, address: &str) -> Result<Address, String> {
    if network == Network::Unix {
        return crds::check_socket_path(address).map(|()| Address::Unix(address.into()));
    }
    let crds::HostPort { host, port } = address.parse()?;
    let target = HostPort { host: host.into(), port };
    Ok(if network == Network::Udp { Address::Udp(target) } else { Address::Tcp(target) })
}

/// The caps of the documentation, unless they are lifted.
fn retry_of(client: &crds::Client) -> RetryConfig {
    let (backoff, jitter) = (client.backoff.get(), client.jitter);
    if client.disable_backoff_caps {
        let (retries, multiplier) = (client.retries, client.backoff_multiplier);
        return RetryConfig { retries, backoff, multiplier, cap: None, jitter };
    }
    RetryConfig {
        retries: client.retries.min(crds::MAX_RETRIES),
        backoff,
        multiplier: client.backoff_multiplier.min(crds::MAX_BACKOFF_MULTIPLIER),
        cap: Some(crds::MAX_BACKOFF.get()),
        jitter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::{Client, Duration, GatewayConfigSpec, Proxy};
    use std::time;

    fn proxy(name: &str, database: &str) -> Proxy {
        let client = Client { addresses: vec![database.into()], ..Client::default() };
        Proxy { name: name.into(), client, ..Proxy::default() }
    }

    fn believed(proxies: Vec<Proxy>) -> Config {
        let spec = GatewayConfigSpec { proxies, ..GatewayConfigSpec::default() };
        Config::try_from(&GatewayConfig::new("orders", spec)).expect("it is valid")
    }

    #[test]
    fn a_minimal_document_is_believed_with_every_default() {
        let config = believed(vec![proxy("orders", "db.example:5432")]);
        let [orders] = config.proxies.as_slice() else { panic!("there is one proxy") };
        assert_eq!((config.name.as_str(), config.workers.get()), ("orders", 1));
        assert_eq!(config.drain_timeout, time::Duration::from_secs(25));
        assert_eq!(config.admin.to_string(), "[::]:19187");
        assert_eq!(orders.server.listen, Listen::Tcp("127.0.0.1:5432".parse().unwrap()));
        assert_eq!(orders.server.idle_timeout, None);
        assert_eq!((orders.pool.size.get(), orders.pool.min_idle, orders.pool.min_idle_is_explicit), (100, 1, false));
        assert_eq!(orders.pool.max_idle, Some(time::Duration::from_secs(30)));
        assert_eq!(orders.client.addresses[0].to_string(), "db.example:5432");
        assert_eq!(orders.client.receive_chunk_size.get(), 8192);
        assert_eq!((orders.client.send_deadline, orders.client.receive_timeout), (None, None));
    }

    #[test]
    fn zero_means_none_where_the_documentation_says_so() {
        let mut written = proxy("a", "db:1");
        written.pool.max_idle = Some(Duration::ZERO);
        written.pool.max_age = Duration::ZERO;
        written.client.dial_timeout = Duration::ZERO;
        written.client.probe = Duration::ZERO;
        written.client.tcp_keep_alive_period = Duration::ZERO;
        let config = believed(vec![written]);
        let (pool, client) = (&config.proxies[0].pool, &config.proxies[0].client);
        assert_eq!((pool.max_idle, pool.max_age), (None, None));
        assert_eq!((client.dial_timeout, client.probe, client.tcp_keep_alive_period), (None, None, None));
    }

    #[test]
    fn retries_backoff_and_multiplier_are_capped_unless_the_caps_are_lifted() {
        let mut written = proxy("a", "db:1");
        (written.client.retries, written.client.backoff_multiplier) = (11, 12.5);
        let retry = |written: &Proxy| believed(vec![written.clone()]).proxies[0].client.retry.clone();
        let capped = retry(&written);
        assert_eq!((capped.retries, capped.cap), (10, Some(time::Duration::from_mins(1))));
        assert!((capped.multiplier - 10.0).abs() < f64::EPSILON);
        written.client.disable_backoff_caps = true;
        let lifted = retry(&written);
        assert_eq!((lifted.retries, lifted.cap), (11, None));
        assert!((lifted.multiplier - 12.5).abs() < f64::EPSILON);
    }

    #[test]
    fn addresses_lose_their_brackets_and_sockets_get_their_mode() {
        let mut socket = proxy("b", "/run/db.sock");
        socket.client.network = Network::Unix;
        socket.server.address = Some("/run/gateway.sock".into());
        socket.server.socket_mode = "0660".into();
        let config = believed(vec![proxy("a", "[::1]:5432"), socket]);
        let Address::Tcp(v6) = &config.proxies[0].client.addresses[0] else { panic!("it is a TCP address") };
        assert_eq!((&*v6.host, v6.port), ("::1", 5432));
        let path = "/run/gateway.sock".into();
        assert_eq!(config.proxies[1].server.listen, Listen::Unix { path, mode: 0o660 });
        assert_eq!(config.proxies[1].client.addresses, [Address::Unix("/run/db.sock".into())]);
    }
}
