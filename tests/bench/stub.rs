//! What stands in for a database: it lets everybody in and answers each query with nothing, and thousands of connections
//! to it cost little.

use std::io;
use std::net::SocketAddr;

use cast::backend::welcome;
use cast::frontend::message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;

/// How many may wait to be let in.
const BACKLOG: u32 = 4096;

/// More than anybody sends at once.
const LONGEST: usize = 1 << 16;

/// SSLRequest and GSSENCRequest.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];

/// CancelRequest.
const CANCEL: u32 = 80_877_102;

/// Answers until it is killed.
pub(crate) fn run(listen: SocketAddr) -> io::Result<()> {
    Builder::new_current_thread().enable_io().build()?.block_on(serve(listen))
}

#[expect(clippy::disallowed_methods, reason = "a program that is killed has no owner for tasks")]
async fn serve(listen: SocketAddr) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(listen)?;
    let listener = socket.listen(BACKLOG)?;
    loop {
        let (peer, _) = listener.accept().await?;
        peer.set_nodelay(true)?;
        tokio::spawn(answer(peer));
    }
}

async fn answer(mut peer: TcpStream) -> io::Result<()> {
    loop {
        let hello = packet(&mut peer).await?;
        match hello.get(..4).map(|code| u32::from_be_bytes([code[0], code[1], code[2], code[3]])) {
            Some(code) if ENCRYPTION.contains(&code) => peer.write_all(b"N").await?,
            None | Some(CANCEL) => return Ok(()),
            Some(_) => break,
        }
    }
    peer.write_all(&welcome().concat()).await?;
    let nothing = [message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat();
    loop {
        let tag = peer.read_u8().await?;
        packet(&mut peer).await?;
        match tag {
            b'Q' => peer.write_all(&nothing).await?,
            b'X' => return Ok(()),
            _ => (),
        }
    }
}

/// A length, and what follows it.
async fn packet(peer: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::try_from(peer.read_u32().await?).map_err(io::Error::other)?;
    if !(4..LONGEST).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length - 4];
    peer.read_exact(&mut body).await?;
    Ok(body)
}
