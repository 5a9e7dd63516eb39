//! What keeps packets from an address, as a `NetworkPolicy` or a firewall does.

use std::net::SocketAddr;

use cast::cluster::Node;
use cast::process::{attempt, run};

/// Nothing that comes to an address of a node, or of one of its pods, by a cable arrives there, until this is dropped; what
/// begins there itself does.
pub(crate) struct Wall<'a> {
    node: &'a Node,
    /// The rules of its own that it is made of.
    table: String,
}

// === impl Wall ===

impl<'a> Wall<'a> {
    pub(crate) fn before(node: &'a Node, address: SocketAddr) -> Self {
        let table = format!("wall_{}_{}", address.ip().to_string().replace('.', "_"), address.port());
        let mut rules = vec![format!("add table ip {table}")];
        for hook in ["forward", "input"] {
            rules.push(format!("add chain ip {table} {hook} {{ type filter hook {hook} priority 0; }}"));
            rules.push(format!(
                "add rule ip {table} {hook} iifname != \"lo\" ip daddr {} tcp dport {} drop",
                address.ip(),
                address.port()
            ));
        }
        run(node.command("nft").arg(rules.join("; ")));
        Self { node, table }
    }
}

impl Drop for Wall<'_> {
    fn drop(&mut self) {
        // It goes with the cluster at the latest.
        let _ = attempt(self.node.command("nft").args(["delete", "table", "ip", &self.table]));
    }
}
