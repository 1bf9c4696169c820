//! CONNECT: bytes in both directions, looked at by nobody and bounded in time and number.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until, timeout},
};

use super::{
    activity::Reason,
    metrics::{Closed, Open},
};

/// Bytes that are on their way at a time, each way.
const BUFFER: usize = 16 << 10;

/// How long hyper may take to hand the connection over, once the answer is written.
const HAND_OVER: Duration = Duration::from_secs(1);

/// A tunnel that begins once the answer to CONNECT is written.
pub(super) struct Tunnel {
    pub(super) client: OnUpgrade,
    pub(super) remote: TcpStream,
    /// Its place among all.
    pub(super) place: OwnedSemaphorePermit,
    pub(super) open: Open,
}

/// Where a request leaves the tunnel that its connection becomes: the connection's own task carries
/// it, so that it is counted, bounded and cut off like any other connection.
#[derive(Clone, Default)]
pub(super) struct TunnelSlot(Arc<Mutex<Option<Tunnel>>>);

impl TunnelSlot {
    pub(super) fn put(&self, tunnel: Tunnel) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    pub(super) fn take(&self) -> Option<Tunnel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Tunnel {
    /// Carries bytes until both sides have ended, one has failed, or nothing came for `idle`.
    pub(super) async fn run(self, idle: Duration) -> Closed {
        let Self {
            client,
            mut remote,
            place: _place,
            open: _open,
        } = self;
        let Ok(Ok(client)) = timeout(HAND_OVER, client).await else {
            return Closed::Broken;
        };
        let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
        let (from_remote, to_remote) = remote.split();
        let last = Mutex::new(Instant::now());
        let both = async {
            tokio::try_join!(
                carry(from_client, to_remote, &last),
                carry(from_remote, to_client, &last)
            )
        };
        let mut both = std::pin::pin!(both);
        loop {
            let due = *last.lock().unwrap_or_else(PoisonError::into_inner) + idle;
            tokio::select! {
                ended = both.as_mut() => return if ended.is_ok() { Closed::Done } else { Closed::Broken },
                () = sleep_until(due) => {
                    let last = *last.lock().unwrap_or_else(PoisonError::into_inner);
                    if last + idle <= Instant::now() {
                        return Closed::Bound(Reason::Idle);
                    }
                }
            }
        }
    }
}

/// One direction, to its end; then the other side is told that no more will come.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    last: &Mutex<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}
