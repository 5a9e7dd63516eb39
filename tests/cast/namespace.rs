//! Two hosts on a network of their own, of which packets can be lost: the gateway lives on one, the database on the other.

use std::fs;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::install::program;
use crate::process::run;

/// One host of a pair, joined to the other by a cable; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    ip: IpAddr,
}

// === impl Namespace ===

impl Namespace {
    /// Two hosts that reach each other and nothing else.
    #[track_caller]
    pub fn pair() -> (Self, Self) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tag = format!("{}-{}", std::process::id() % 100_000, COUNT.fetch_add(1, Ordering::Relaxed));
        let near = Self { name: format!("near-{tag}"), ip: IpAddr::V4(Ipv4Addr::new(10, 199, 0, 1)) };
        let far = Self { name: format!("far-{tag}"), ip: IpAddr::V4(Ipv4Addr::new(10, 199, 0, 2)) };
        for host in [&near, &far] {
            ip(&["netns", "add", &host.name]);
        }
        // Made inside one host, so that the machine's own network never sees it.
        ip(&["-n", &near.name, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &far.name]);
        for host in [&near, &far] {
            ip(&["-n", &host.name, "addr", "add", &format!("{}/24", host.ip), "dev", "cable"]);
            ip(&["-n", &host.name, "link", "set", "cable", "up"]);
            ip(&["-n", &host.name, "link", "set", "lo", "up"]);
        }
        (near, far)
    }

    /// Its name, by which `ip netns` and `/etc/netns` know it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the network.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Gives it one more address.
    #[track_caller]
    pub fn add_ip(&self, address: IpAddr) {
        ip(&["-n", &self.name, "addr", "add", &format!("{address}/24"), "dev", "cable"]);
    }

    /// The command that runs another one in here: put the program and its arguments behind it.
    pub fn entering(&self) -> Vec<String> {
        let ip = program("ip").to_string_lossy().into_owned();
        [&ip, "netns", "exec", &self.name].map(str::to_owned).to_vec()
    }

    /// Does `work` in here: the sockets that it opens are this host's.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        enter_network(&Path::new("/run/netns").join(&self.name), work)
    }

    /// From now on every packet that arrives is lost without a word.
    #[track_caller]
    pub fn swallow_packets(&self) {
        self.drop_what_arrives("policy drop; iif lo accept;");
    }

    /// From now on every packet that arrives for this address of it is lost.
    #[track_caller]
    pub fn swallow_packets_to(&self, address: IpAddr) {
        self.drop_what_arrives(&format!("ip daddr {address} drop;"));
    }

    /// From now on datagrams that arrive are lost, and streams go on.
    #[track_caller]
    pub fn swallow_datagrams(&self) {
        self.drop_what_arrives("meta l4proto udp drop;");
    }

    /// From now on so many packets of a hundred are lost by chance, on their way in and on their way out.
    #[track_caller]
    pub fn lose_packets(&self, percent: u8) {
        assert!((1..=100).contains(&percent), "{percent} of a hundred packets");
        let lost = format!("numgen random mod 100 <= {} drop;", percent - 1);
        self.drop("input", &format!("iif lo accept; {lost}"));
        self.drop("output", &format!("oif lo accept; {lost}"));
    }

    #[track_caller]
    fn drop_what_arrives(&self, rules: &str) {
        self.drop("input", rules);
    }

    #[track_caller]
    fn drop(&self, hook: &str, rules: &str) {
        let table = format!("table inet hole {{ chain {hook} {{ type filter hook {hook} priority 0; {rules} }}; }}");
        run(self.command("nft").arg(table));
    }

    /// Packets arrive again.
    #[track_caller]
    pub fn pass_packets(&self) {
        run(self.command("nft").args(["delete", "table", "inet", "hole"]));
    }

    /// Gives processes that are started in here from now on an `/etc/hosts` of their own; it can be rewritten at any time.
    pub fn set_hosts(&self, content: &str) {
        self.etc("hosts", content);
    }

    /// The same for `/etc/resolv.conf`.
    pub fn set_resolver(&self, content: &str) {
        self.etc("resolv.conf", content);
    }

    fn etc(&self, file: &str, content: &str) {
        let folder = self.etc_folder();
        fs::create_dir_all(&folder).expect("root can write below /etc/netns");
        // In place: who has it mounted sees the same file.
        fs::write(folder.join(file), content).expect("root can write below /etc/netns");
    }

    fn etc_folder(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program("ip"));
        command.args(["netns", "exec", &self.name]).arg(program(name));
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing depends on what could not be removed, and a failing test must say its own reason.
        let _ = Command::new(program("ip")).args(["netns", "del", &self.name]).output();
        let _ = fs::remove_dir_all(self.etc_folder());
    }
}

/// Does `work` on a thread that has entered the network namespace which this file stands for.
pub(crate) fn enter_network<T: Send>(file: &Path, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(file).expect("the namespace exists");
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("a thread of root may enter a network namespace");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[track_caller]
fn ip(arguments: &[&str]) {
    run(Command::new(program("ip")).args(arguments));
}
