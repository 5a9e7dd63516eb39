//! From what people write to what the gateway believes: the one function that turns the wire type into a [`Config`].

use std::num::NonZeroUsize;
use std::sync::Arc;

use crds::{ClientTlsMode, GatewayConfig, Network, Problem, ServerTlsMode};

use super::document::Problems;
use super::{
    Address, ClientConfig, Config, HookConfig, HostPort, Listen, LogConfig, LogFormat, OnError, PoolConfig, Protocol,
    ProxyConfig, Readiness, RetryConfig, ServerConfig,
};

impl TryFrom<&GatewayConfig> for Config {
    type Error = Problems;

    fn try_from(written: &GatewayConfig) -> Result<Self, Problems> {
        let mut problems = crds::validate(&written.spec);
        problems.extend(unserved(&written.spec));
        if let Some(problems) = Problems::from_list(problems) {
            return Err(problems);
        }
        let name = written.metadata.name.clone().unwrap_or_default();
        believe(name, &written.spec).map_err(|problem| match Problems::from_list(vec![problem]) {
            Some(problems) => problems,
            None => unreachable!("one problem is not none"),
        })
    }
}

/// What the resource can ask for and this version of the gateway does not do yet.
pub(super) fn unserved(spec: &crds::GatewayConfigSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, proxy) in spec.proxies.iter().enumerate() {
        let mut refuse = |key: &str, what: &str| {
            let message = format!("{what} is not served by this version of the gateway");
            problems.push(Problem::new(format!("spec.proxies[{index}].{key}"), message));
        };
        if proxy.protocol == crds::Protocol::Postgres {
            refuse("protocol", "protocol postgres");
            continue;
        }
        if proxy.client.tls.mode != ClientTlsMode::Disable {
            refuse("client.tls.mode", "encryption towards the database");
        }
        if proxy.server.tls.mode != ServerTlsMode::Disable {
            refuse("server.tls.mode", "encryption towards peers");
        }
    }
    for (index, hook) in spec.hooks.iter().enumerate().filter(|(_, hook)| hook.source.is_some()) {
        let message =
            format!("the plugin {:?} is not served by this version of the gateway, only built-in hooks are", hook.name);
        problems.push(Problem::new(format!("spec.hooks[{index}].source"), message));
    }
    problems
}

/// Everything has been validated; what still fails is a rule that is missing there, and is said like any other problem.
fn believe(name: String, written: &crds::GatewayConfigSpec) -> Result<Config, Problem> {
    let resolved = crds::resolve(written);
    let mut proxies = Vec::new();
    for (index, (proxy, written)) in resolved.proxies.iter().zip(&written.proxies).enumerate() {
        let explicit = written.pool.min_idle.is_some();
        let proxy = proxy_of(proxy, explicit)
            .map_err(|problem| Problem::new(format!("spec.proxies[{index}].{}", problem.path), problem.message))?;
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
    let crds::Pool { size: most, min_idle, mode: _, acquire_timeout, max_waiting, max_idle, max_age, .. } = proxy.pool;
    Ok(ProxyConfig {
        name: proxy.name.as_str().into(),
        protocol: Protocol::Opaque,
        server: ServerConfig {
            listen: listen_of(proxy)?,
            max_peers: size(proxy.server.max_peers),
            idle_timeout: proxy.server.idle_timeout.and_then(crds::Duration::nonzero),
        },
        pool: PoolConfig {
            size: count(most.unwrap_or_default(), "pool.size")?,
            min_idle: size(min_idle.unwrap_or_default()),
            min_idle_is_explicit,
            acquire_timeout: acquire_timeout.get(),
            max_waiting: size(max_waiting),
            max_idle: max_idle.and_then(crds::Duration::nonzero),
            max_age: max_age.nonzero(),
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
