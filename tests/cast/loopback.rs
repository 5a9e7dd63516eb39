//! Addresses on loopback that nothing else uses: each member of the cast gets one out of 127.0.0.0/8.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// An address that no other test of this machine uses, with a port that was free a moment ago.
pub fn free_address() -> SocketAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let [.., host] = number.to_be_bytes();
    let ip = IpAddr::V4(Ipv4Addr::new(127, high.max(1), low, host.max(1)));
    let listener = TcpListener::bind((ip, 0)).expect("loopback addresses can be bound");
    listener.local_addr().expect("a bound socket has an address")
}
