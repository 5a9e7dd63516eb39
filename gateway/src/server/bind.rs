//! Opens the sockets that peers dial. Everything of a new configuration is bound before anything of it is committed.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use crate::config::{Listen, ProxyConfig};
use crate::net::{self, bare};

/// A socket that peers can dial already; nobody accepts yet.
#[derive(Debug)]
pub enum Bound {
    /// For TCP peers.
    Tcp(bare::TcpListener),
    /// For UDP peers.
    Udp(bare::UdpSocket),
    /// For peers in the same pod.
    Unix(UnixListener, SocketFile),
}

/// A Unix socket's file; dropping it removes the file, unless another socket is there by now.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// What a listener is known by over reloads: its address, and its proxy's name where that is any free port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A UDP address.
    Udp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
    /// Any free port, for the proxy of this name.
    Any(Arc<str>, Listen),
}

/// An address on which we cannot listen.
#[derive(Debug, Error)]
#[error("cannot listen on {listen} for proxy \"{proxy}\": {why}")]
pub struct Error {
    proxy: Arc<str>,
    listen: Listen,
    why: String,
    is_in_use: bool,
}

// === impl Error ===

impl Error {
    /// Says so where it is ourselves who have the port, on another address.
    #[must_use]
    pub fn beside(mut self, open: &HashMap<Place, String>) -> Error {
        let port = |listen: &Listen| match listen {
            Listen::Tcp(addr) => Some((true, addr.port())),
            Listen::Udp(addr) => Some((false, addr.port())),
            Listen::Unix { .. } => None,
        };
        let ours = open.keys().find_map(|place| match place {
            Place::Tcp(addr) if port(&self.listen) == Some((true, addr.port())) => Some(addr),
            Place::Udp(addr) if port(&self.listen) == Some((false, addr.port())) => Some(addr),
            _ => None,
        });
        if let (true, Some(addr)) = (self.is_in_use, ours) {
            self.why =
                format!("this gateway still listens on {addr}; close that in one change, and open this in the next");
        }
        self
    }
}

// === impl Place ===

impl Place {
    /// The place of `proxy`'s listener.
    pub fn of(proxy: &ProxyConfig) -> Place {
        match &proxy.server.listen {
            listen @ (Listen::Tcp(addr) | Listen::Udp(addr)) if addr.port() == 0 => {
                Place::Any(proxy.name.clone(), listen.clone())
            }
            Listen::Tcp(addr) => Place::Tcp(*addr),
            Listen::Udp(addr) => Place::Udp(*addr),
            Listen::Unix { path, .. } => Place::Unix(path.clone()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(addr) | Place::Udp(addr) => addr.fmt(out),
            Place::Unix(path) => path.display().fmt(out),
            Place::Any(_, listen) => listen.fmt(out),
        }
    }
}

// === impl Bound ===

impl Bound {
    /// Opens the address of `proxy`'s server.
    ///
    /// # Errors
    /// One sentence that says what is wrong with the address, and what to do.
    pub fn bind(proxy: &ProxyConfig) -> Result<Bound, Error> {
        let listen = &proxy.server.listen;
        let bound = match listen {
            Listen::Tcp(addr) => net::listen(*addr).map(Bound::Tcp),
            Listen::Udp(addr) => net::bind(*addr).map(Bound::Udp),
            Listen::Unix { path, mode } => bind_unix(path, *mode).map(|(listener, file)| Bound::Unix(listener, file)),
        };
        bound.map_err(|error| Error {
            proxy: proxy.name.clone(),
            listen: listen.clone(),
            why: explain(listen, &error),
            is_in_use: error.kind() == io::ErrorKind::AddrInUse,
        })
    }

    /// The address that peers dial: with the actual port where any was asked for.
    pub fn address(&self) -> String {
        let addr = match self {
            Bound::Tcp(listener) => listener.local_addr(),
            Bound::Udp(socket) => socket.local_addr(),
            Bound::Unix(_, file) => return file.path.display().to_string(),
        };
        addr.map_or_else(|error| error.to_string(), |addr| addr.to_string())
    }
}

/// Gives the socket at `path` the permissions `mode`, so that any user id of the pod can connect.
///
/// # Errors
/// The system's.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) };
    set_mode(path, mode)?;
    listener.set_nonblocking(true)?;
    Ok((listener, file))
}

/// Removes a socket that nobody serves any more, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Somebody accepts, or has a full backlog: it is in use.
        Ok(()) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn explain(listen: &Listen, error: &io::Error) -> String {
    let advice = match (error.kind(), listen) {
        (io::ErrorKind::AddrInUse, Listen::Unix { .. }) => {
            "another process serves this socket; stop it, or change server.address"
        }
        (io::ErrorKind::AddrInUse, _) => "the address is in use; free it, or change server.address",
        (io::ErrorKind::AddrNotAvailable, _) => "it is no address of this host; change server.address",
        (io::ErrorKind::AlreadyExists, _) => {
            "a file that is no socket is in the way; move it, or change server.address"
        }
        (io::ErrorKind::NotFound, _) => "its folder does not exist; create it, or change server.address",
        (io::ErrorKind::StorageFull, _) => "no space is left on that file system; free some, or change server.address",
        (io::ErrorKind::PermissionDenied, Listen::Unix { .. }) => {
            "the folder is not writable; change its permissions, or server.address"
        }
        (io::ErrorKind::PermissionDenied, _) => "this port needs a privilege; use one above 1023",
        _ => return error.to_string(),
    };
    advice.to_owned()
}

// === impl SocketFile ===

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            // Whoever finds it stale replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("postern-bind-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = folder("stale");
        let path = folder.join("socket");
        drop(UnixListener::bind(&path).expect("a socket"));
        let (_listener, file) = bind_unix(&path, 0o666).expect("the stale socket is replaced");
        assert_eq!(fs::metadata(&path).expect("it exists").permissions().mode() & 0o777, 0o666);
        let error = bind_unix(&path, 0o666).expect_err("the live socket stays");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(file);
        assert!(!path.exists(), "a closed listener leaves no file");
        fs::remove_dir_all(folder).expect("the folder goes");
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let folder = folder("file");
        let path = folder.join("socket");
        fs::write(&path, "precious").expect("a file");
        assert_eq!(bind_unix(&path, 0o666).expect_err("it is in the way").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
        fs::remove_dir_all(folder).expect("the folder goes");
    }
}
