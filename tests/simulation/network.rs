//! What the simulated network promises: what the system's sockets do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use gateway::net::simulated::{Installed, Network, Reach, TcpListener, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::{Instant, timeout};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
const THERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 8)), 1);

fn simulate(test: impl AsyncFnOnce(Installed)) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build_local(LocalOptions::default());
    runtime.unwrap().block_on(async { test(Network::install(1)).await });
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::listen(THERE).unwrap();
    let ours = TcpStream::connect_from(HERE, THERE).await.unwrap();
    (ours, listener.accept().await.unwrap().0)
}

#[test]
fn bytes_arrive_in_order_after_the_links_latency_and_the_end_after_them() {
    simulate(async |network| {
        network.link(THERE.ip()).set_latency(Duration::from_millis(10));
        let begin = Instant::now();
        let (mut ours, mut theirs) = pair().await;
        assert_eq!(begin.elapsed(), Duration::from_millis(20));
        let sent: Vec<u8> = (0..200_000_u32).map(|number| number.to_be_bytes()[3]).collect();
        let expected = sent.clone();
        let (wrote, read) = tokio::join!(
            async {
                ours.write_all(&sent).await?;
                ours.shutdown().await
            },
            async {
                let mut read = Vec::new();
                theirs.read_to_end(&mut read).await.map(|_| read)
            }
        );
        wrote.unwrap();
        assert!(read.unwrap() == expected);
        drop((ours, theirs));
        assert_eq!((network.open(HERE), network.open(THERE.ip())), (0, 0));
    });
}

#[test]
fn what_was_not_read_makes_the_close_a_reset() {
    simulate(async |_network| {
        let (mut ours, theirs) = pair().await;
        ours.write_all(b"unread").await.unwrap();
        drop(theirs);
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(ours.write_all(b"more").await.is_err());
    });
}

#[test]
fn in_the_dark_nothing_arrives_and_nothing_is_lost() {
    simulate(async |network| {
        let link = network.link(THERE.ip());
        let (mut ours, mut theirs) = pair().await;
        link.set_reach(Reach::Dark);
        ours.write_all(b"late").await.unwrap();
        let mut buffer = [0; 4];
        assert!(timeout(Duration::from_mins(1), theirs.read_exact(&mut buffer)).await.is_err());
        let dialed = timeout(Duration::from_mins(1), TcpStream::connect_from(HERE, THERE)).await;
        assert!(dialed.is_err(), "nobody answers in the dark");
        link.set_reach(Reach::Open);
        theirs.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"late");
    });
}

#[test]
fn who_does_not_listen_refuses() {
    simulate(async |_network| {
        let refused = TcpStream::connect_from(HERE, THERE).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
}
