//! A DNS server that knows as many names as it is given, and questions for it.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::folder::Folder;
use crate::install::program;
use crate::loopback::free_address;
use crate::process::{Process, owned};
use crate::time::eventually;

/// A real DNS server: dnsmasq.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    _process: Process,
    _folder: Folder,
}

// === impl Dns ===

impl Dns {
    /// A running server that knows `host-0.test` to `host-(count - 1).test`, each at [`Self::address_of`].
    #[track_caller]
    pub fn knowing(count: u32) -> Self {
        let hosts = (0..count).fold(String::new(), |mut text, number| {
            let _ = writeln!(text, "{} {}", Self::address_of(number), Self::name_of(number));
            text
        });
        Self::start(free_address(), &hosts, &[])
    }

    /// A running server on the port of all name servers, which knows these names with their addresses and says of all others
    /// that there are none, as that of a cluster does. Only root can have it.
    #[track_caller]
    pub fn of_a_cluster(names: &[(&str, IpAddr)]) -> Self {
        let known = (Self::name_of(0), Self::address_of(0));
        let hosts = names.iter().fold(format!("{} {}\n", known.1, known.0), |mut text, (name, ip)| {
            let _ = writeln!(text, "{ip} {name}");
            text
        });
        Self::start(
            SocketAddr::new(free_address().ip(), 53),
            &hosts,
            &["--local=//", "--local=/local/", "--local=/test/"],
        )
    }

    fn start(address: SocketAddr, hosts: &str, more: &[&str]) -> Self {
        let folder = Folder::new("dns");
        fs::write(folder.join("hosts"), hosts).expect("our folder is writable");
        let mut command = owned(program("dnsmasq"));
        command.args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--no-daemon",
            "--conf-file=/dev/null",
        ]);
        command.arg(format!("--listen-address={}", address.ip())).arg(format!("--port={}", address.port()));
        command
            .arg(format!("--addn-hosts={}", folder.join("hosts").display()))
            .args(["--cache-size=20000", "--user=root"])
            .args(more);
        let process = Process::start("dnsmasq", &mut command);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback can be bound");
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket takes a time limit");
        eventually("dnsmasq answers", || ask(&socket, address, 1, 0) == Some(Self::address_of(0)));
        Self { address, _process: process, _folder: folder }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name of a host that it knows.
    pub fn name_of(number: u32) -> String {
        format!("host-{number}.test")
    }

    /// The address of a host that it knows.
    pub fn address_of(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(number + (10 << 24) + 1))
    }
}

/// Asks the server at `address` for a host; none when no answer came, or one to another question.
pub fn ask(socket: &UdpSocket, address: SocketAddr, id: u16, number: u32) -> Option<IpAddr> {
    socket.send_to(&question(id, number), address).ok()?;
    let mut bytes = [0; 1500];
    let (length, from) = socket.recv_from(&mut bytes).ok()?;
    (from == address).then(|| answer(&bytes[..length], id, number)).flatten()
}

/// The datagram that asks for the address of a host.
pub fn question(id: u16, number: u32) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in Dns::name_of(number).split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label is short"));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// The address in an answer to exactly this question.
pub fn answer(bytes: &[u8], id: u16, number: u32) -> Option<IpAddr> {
    let question = question(id, number);
    let repeats =
        bytes.len() > question.len() && bytes[..2] == question[..2] && bytes[12..question.len()] == question[12..];
    // The first answer: a pointer to the name (2), type (2), class (2), time to live (4), length (2), address (4).
    let answer = repeats.then(|| bytes.get(question.len()..question.len() + 16)).flatten()?;
    Some(IpAddr::V4(Ipv4Addr::new(answer[12], answer[13], answer[14], answer[15])))
}
