//! Finds the addresses of a name, anew each time: it may point elsewhere by now. The system's resolver cannot be
//! cancelled, so look-ups that nobody waits for any more are bounded, and one name service that hangs stops nobody else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Error;
use crate::config::HostPort;
use crate::net;

/// The look-ups of one pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolver {
    running: Arc<AtomicUsize>,
}

/// A look-up that runs, on a thread of its own and whether somebody waits for it or not.
struct Running(Arc<AtomicUsize>);

/// Look-ups of one pool at one time; a healthy one dials less often.
const MOST_LOOKUPS: usize = 8;

// === impl Resolver ===

impl Resolver {
    /// The addresses of `host`, never none.
    ///
    /// # Errors
    /// The name has no address, or nobody answers for it.
    pub(crate) async fn resolve(&self, host: &HostPort) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(ip) = host.host.parse() {
            return Ok(vec![SocketAddr::new(ip, host.port)]);
        }
        let failed = |error| Error::Resolve(host.clone(), error);
        let running = self.begin().map_err(failed)?;
        let addrs = net::look_up(&host.host, host.port, running).await.map_err(failed)?;
        if addrs.is_empty() {
            return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
        }
        Ok(addrs)
    }

    fn begin(&self) -> io::Result<Running> {
        let running = Running(self.running.clone());
        if self.running.fetch_add(1, Ordering::Relaxed) >= MOST_LOOKUPS {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the name service has not answered earlier look-ups"));
        }
        Ok(running)
    }
}

// === impl Running ===

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
