//! What the system allows the process: as many file descriptors as it may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

use crate::config::Config;

/// Descriptors that are no peer's and no client's: listeners, admin, the runtime's own.
const OTHERS: u64 = 64;

/// Takes as many file descriptors as the system allows, and warns when a configuration may need more.
pub fn raise(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|current| current < allowed) {
        // The system may still refuse; then what there is must do.
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
            debug!(%error, "Cannot raise the limit of file descriptors");
        }
    }
    let needed = needed(config);
    if allowed < needed {
        warn!(
            allowed,
            needed,
            "The limit of file descriptors (ulimit -n) is below what maxPeers and pool.size may need: peers beyond it \
             will be refused"
        );
    }
}

fn needed(config: &Config) -> u64 {
    let each = config.proxies.iter().map(|proxy| proxy.server.max_peers + proxy.pool.size.get());
    (each.sum::<usize>() * config.workers.get()) as u64 + OTHERS
}
