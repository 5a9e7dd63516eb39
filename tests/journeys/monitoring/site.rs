//! Where a fault happens: gateways, what is behind them, and what is done to them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use cast::wire::{Address, Wire};
use cast::{Folder, Gateway, Manifest, Scripted};

use crate::modes;
use crate::pace::Pace;

/// The namespace in which the gateways' pods would be.
pub(crate) const NAMESPACE: &str = "shop";

/// Where a fault happens.
pub(crate) trait Site: Send {
    /// Where its gateways tell their metrics.
    fn gateways(&self) -> Vec<SocketAddr>;

    /// Where somebody tells the limits of their pods.
    fn limits(&self) -> Option<SocketAddr> {
        None
    }

    /// The fault begins.
    fn begin(&mut self) {}

    /// The fault goes on: called again and again.
    fn go_on(&mut self, _: Pace) {}

    /// The fault ends.
    fn end(&mut self) {}
}

/// Starts a gateway, which finds the Secret `app` there.
#[track_caller]
pub(crate) fn gateway(manifest: impl Into<Manifest>, secrets: &Folder) -> Gateway {
    modes::start(manifest, secrets)
}

/// What moves bytes to `far` and back, and can be stopped.
pub(crate) fn relay(far: Address) -> Scripted {
    Scripted::tcp(move |near| {
        // Where nobody listens the near side sees its connection end.
        let Ok(far) = Wire::dial(&far) else { return };
        let (Ok(near_too), Ok(far_too)) = (near.second(), far.second()) else { return };
        std::thread::scope(|scope| {
            scope.spawn(|| carry(near, far));
            carry(far_too, near_too);
        });
    })
}

fn carry(mut from: Wire, mut to: Wire) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // One that has gone ends the other; either may have gone already.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
