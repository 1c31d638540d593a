//! A wire between agents and a coordinator that can be cut, or go silent: a TCP proxy on the lab's loopback address.

use std::net::SocketAddrV4;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::lab::Lab;

/// Where agents dial when their coordinator is behind a wire.
pub const GRPC: u16 = 7402;
/// Where they fetch images from then.
pub const IMAGES: u16 = 7403;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They arrive.
    Open,
    /// Connections are reset, and new ones with them.
    Cut,
    /// They are neither passed on nor refused: nobody is told. Connections that saw it are dead for good.
    HalfOpen,
    /// As half-open, but when it ends, everything arrives late.
    Stalled,
}

/// The wire; dropped: cut.
#[derive(Debug)]
pub struct Wire {
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Listens at a port of a lab, and goes on to another. Call it within a runtime.
    ///
    /// # Panics
    /// When its address is taken.
    pub async fn listen(lab: &Lab, at: u16, to: u16) -> Self {
        let (at, to) = (lab.listen(at), lab.listen(to));
        let listener = TcpListener::bind(at).await.unwrap_or_else(|error| panic!("{at}: {error}"));
        let (state, seen) = watch::channel(State::Open);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, to, seen.clone()));
            }
        });
        Self { state, task }
    }

    /// What becomes of bytes from now on.
    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
        self.set(State::Cut);
    }
}

/// One connection, both ways, until it ends or is cut.
async fn carry(near: TcpStream, to: SocketAddrV4, mut state: watch::Receiver<State>) {
    if !passes(&mut state).await {
        return;
    }
    let Ok(far) = TcpStream::connect(to).await else { return };
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let (there, back) = (state.clone(), state.clone());
    tokio::select! {
        () = pass(near_in, far_out, there) => {}
        () = pass(far_in, near_out, back) => {}
        () = until_cut(state) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if !passes(&mut state).await || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Waits while the wire is silent; false: it was cut, or this connection did not live through the silence.
async fn passes(state: &mut watch::Receiver<State>) -> bool {
    let mut dead = false;
    loop {
        match *state.borrow_and_update() {
            State::Open => return !dead,
            State::Cut => return false,
            State::HalfOpen => dead = true,
            State::Stalled => {}
        }
        if state.changed().await.is_err() {
            return false;
        }
    }
}

/// Returns when the wire is cut, or opens again after this connection was half-open.
async fn until_cut(mut state: watch::Receiver<State>) {
    let mut dead = false;
    loop {
        match *state.borrow_and_update() {
            State::Cut => return,
            State::HalfOpen => dead = true,
            State::Open if dead => return,
            State::Open | State::Stalled => {}
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// A client through a wire to something that echoes.
    async fn through(wire: &watch::Receiver<State>) -> TcpStream {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let std::net::SocketAddr::V4(to) = echo.local_addr().unwrap() else { panic!("IPv4") };
        tokio::spawn(async move {
            let (mut stream, _) = echo.accept().await.unwrap();
            let (mut from, mut to) = stream.split();
            drop(tokio::io::copy(&mut from, &mut to).await);
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        tokio::spawn(carry(near, to, wire.clone()));
        client
    }

    async fn echoes(client: &mut TcpStream) -> std::io::Result<()> {
        client.write_all(b"x").await?;
        client.read_exact(&mut [0]).await.map(drop)
    }

    #[tokio::test]
    async fn an_open_wire_passes_and_a_cut_one_ends_the_connection() {
        let (state, seen) = watch::channel(State::Open);
        let mut client = through(&seen).await;
        echoes(&mut client).await.unwrap();
        state.send_replace(State::Cut);
        echoes(&mut client).await.unwrap_err();
    }

    #[tokio::test]
    async fn silence_is_silent_and_ends_as_its_kind_says() {
        for (silence, survives) in [(State::Stalled, true), (State::HalfOpen, false)] {
            let (state, seen) = watch::channel(State::Open);
            let mut client = through(&seen).await;
            echoes(&mut client).await.unwrap();
            state.send_replace(silence);
            assert!(timeout(Duration::from_millis(50), echoes(&mut client)).await.is_err(), "{silence:?}");
            state.send_replace(State::Open);
            let after = client.read_exact(&mut [0]).await;
            assert_eq!(after.is_ok(), survives, "{silence:?}: {after:?}");
        }
    }
}
