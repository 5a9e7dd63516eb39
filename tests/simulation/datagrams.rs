//! Peers and a database that exchange datagrams.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use gateway::net::simulated::UdpSocket;
use tokio::time::{sleep, timeout};

use crate::host::Host;
use crate::setting::{Draw, Kind};
use crate::world::{PEERS, POD, World};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most bytes of one datagram.
const MOST_BYTES: usize = 2048;

/// One peer's life: questions, each with a new socket now and then.
pub async fn live(world: &Rc<World>) {
    while !world.is_over.get() {
        let socket = UdpSocket::open(SocketAddr::new(PEERS, 0)).expect("a free port");
        let session = world.session();
        for number in 0..world.random.between(1, 6) {
            ask(world, &socket, session, number).await;
            sleep(world.random.millis(0, 500)).await;
        }
        sleep(world.random.millis(0, 3000)).await;
    }
}

async fn ask(world: &World, socket: &UdpSocket, session: u64, number: u64) {
    let size = usize::try_from(world.random.between(16, 1400)).expect("it is small");
    let mut question = vec![0; size];
    question[..8].copy_from_slice(&session.to_be_bytes());
    question[8..16].copy_from_slice(&number.to_be_bytes());
    let gateway = SocketAddr::new(POD, Kind::Datagrams.port());
    // What is lost is lost.
    let _ = socket.send_to(&question, gateway).await;
    let answered = timeout(PATIENCE, async {
        loop {
            let (answer, from) = receive(socket).await;
            if from != gateway || answer.len() < 16 || answer[..8] != question[..8] {
                world.record.broken(format_args!("datagram session {session} got another's answer"));
            }
            // An earlier one may come late.
            if answer.get(8..16) == Some(&question[8..16]) {
                if answer != question {
                    world.record.broken(format_args!("datagram session {session} got a changed answer"));
                }
                return;
            }
        }
    });
    let is_answered = answered.await.is_ok();
    world.record.count(if is_answered { "datagram answered" } else { "datagram lost" });
    world.record.note(format_args!("datagram {session}.{number} answered: {is_answered}"));
}

/// The database's side.
pub async fn answer(world: &Rc<World>, host: &Host, socket: UdpSocket) {
    loop {
        let (question, from) = receive(&socket).await;
        host.breathe().await;
        if world.random.once_in(10) {
            sleep(world.random.millis(0, 100)).await;
        }
        // What is lost is lost.
        let _ = socket.send_to(&question, from).await;
    }
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; MOST_BYTES];
    loop {
        // It has no errors but those that a datagram before has caused.
        let _ = socket.readable().await;
        if let Ok((length, from)) = socket.try_recv_from(&mut buffer) {
            return (buffer[..length].to_vec(), from);
        }
    }
}
