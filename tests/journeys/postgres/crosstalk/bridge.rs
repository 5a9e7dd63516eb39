//! Stands between the gateway and the database, and resets connections wherever their bytes are.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use cast::Random;
use cast::wire::Address;
use rustix::net::sockopt::set_socket_linger;

/// A listener that leads to the database.
pub(super) struct Bridge {
    listener: TcpListener,
    spans: Arc<Mutex<Vec<Weak<Span>>>>,
}

/// One connection of the gateway and the one of ours to the database. Both close when nobody has it any more.
struct Span {
    gateway: TcpStream,
    database: TcpStream,
    is_cut: AtomicBool,
}

// === impl Bridge ===

impl Bridge {
    /// To the database at `address`.
    pub(super) fn to(address: &Address) -> Bridge {
        let Address::Tcp(database) = *address else { panic!("{address} is no TCP address") };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (accepting, spans) = (listener.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let known = spans.clone();
        std::thread::spawn(move || {
            while let Ok((gateway, _)) = accepting.accept() {
                // While the database is down the gateway sees that its connection ends.
                let Ok(database) = TcpStream::connect(database) else { continue };
                let span = Arc::new(Span { gateway, database, is_cut: AtomicBool::new(false) });
                lock(&known).push(Arc::downgrade(&span));
                let other = span.clone();
                std::thread::spawn(move || span.carry(&span.gateway, &span.database));
                std::thread::spawn(move || other.carry(&other.database, &other.gateway));
            }
        });
        Bridge { listener, spans }
    }

    /// Where the gateway finds it.
    pub(super) fn address(&self) -> Address {
        self.listener.local_addr().unwrap().into()
    }

    /// Resets one connection.
    pub(super) fn cut(&self, random: &mut Random) {
        let mut spans = lock(&self.spans);
        spans.retain(|span| span.strong_count() > 0);
        if !spans.is_empty() {
            let chosen = usize::try_from(random.below(spans.len() as u64)).unwrap();
            spans.swap_remove(chosen).upgrade().inspect(|span| span.cut());
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // On Linux this ends a blocked accept, and nothing else does.
        let _ = rustix::net::shutdown(self.listener.as_fd(), rustix::net::Shutdown::Both);
    }
}

fn lock(spans: &Mutex<Vec<Weak<Span>>>) -> MutexGuard<'_, Vec<Weak<Span>>> {
    spans.lock().expect("no thread panics while it holds the list")
}

// === impl Span ===

impl Span {
    fn carry(&self, mut from: &TcpStream, mut to: &TcpStream) {
        // A side that has gone ends the other.
        let _ = to.set_nodelay(true);
        let mut bytes = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            if to.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
        if !self.is_cut.load(Ordering::SeqCst) {
            let _ = to.shutdown(Shutdown::Write);
            let _ = from.shutdown(Shutdown::Read);
        }
    }

    /// Ends both threads without a regular end of either connection: closing them resets them.
    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for stream in [&self.gateway, &self.database] {
            // It may have ended by itself.
            let _ = set_socket_linger(stream, Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
}
