//! What the system allows the process: as many file descriptors as it may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

use crate::config::Config;

/// Descriptors that are no peer's and no client's: listeners, admin, the runtime's own.
const OTHERS: u64 = 64;

/// Descriptors that stay free when peers are turned away: for a scrape, a name to resolve, a file to read again.
const SPARE: u64 = 8;

/// Whether too few descriptors are left for the clients of `unserved` peers, where so many are `taken`: peers must not
/// take what it needs to serve them.
pub fn leave_no_client_for(taken: usize, unserved: usize) -> bool {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (taken as u64).saturating_add(unserved as u64).saturating_add(SPARE) >= allowed
}

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
