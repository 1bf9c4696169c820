//! Where parcels go. Each try is bounded in time, and says what became of it.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UdpSocket, lookup_host},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{
    outbox::{Parcel, Sent},
    pack::Dimension,
};
use crate::settings::{Agent, CloudWatchSettings, Exporter};

/// Bytes of a document that a datagram can have.
const DATAGRAM: usize = 65_507;

/// Where parcels go.
pub(super) struct Sink {
    kind: Kind,
    bound: Duration,
}

enum Kind {
    #[cfg(feature = "cloudwatch")]
    Api(Box<super::api::Api>),
    /// The write under way, if the last one did not end in time.
    Stdout(Option<JoinHandle<io::Result<()>>>),
    /// A host with its port, which is looked up for each connection, and the one that is open.
    Tcp(String, Option<TcpStream>),
    Udp(String),
}

impl Sink {
    pub(super) fn new(settings: &CloudWatchSettings, sets: Vec<Vec<Dimension>>) -> Self {
        let bound = settings.timeout;
        let kind = match (settings.exporter, settings.agent()) {
            #[cfg(feature = "cloudwatch")]
            (Exporter::Api, _) => Kind::Api(Box::new(super::api::Api::new(settings, sets))),
            (Exporter::EmfAgent, Some(Agent::Tcp(to))) => Kind::Tcp(to, None),
            (Exporter::EmfAgent, Some(Agent::Udp(to))) => Kind::Udp(to),
            _ => {
                let _not_for_documents = sets;
                Kind::Stdout(None)
            }
        };
        Self { kind, bound }
    }

    pub(super) async fn send(&mut self, parcel: &Parcel) -> Sent {
        match (&mut self.kind, parcel) {
            #[cfg(feature = "cloudwatch")]
            (Kind::Api(api), Parcel::Request(rows)) => api.send(rows).await,
            (Kind::Stdout(stuck), Parcel::Document(line)) => {
                let write = |line: &[u8]| {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(line).and_then(|()| stdout.flush())
                };
                print(line, stuck, self.bound, write).await
            }
            (Kind::Tcp(to, open), Parcel::Document(line)) => {
                match timeout(self.bound, tcp(to, open, line)).await {
                    Ok(sent) => sent,
                    Err(_elapsed) => {
                        // Half a line may be out; the agent drops it with the connection.
                        *open = None;
                        Sent::Later(format!("{to}: no answer within {:?}", self.bound))
                    }
                }
            }
            (Kind::Udp(to), Parcel::Document(line)) => {
                match timeout(self.bound, udp(to, line)).await {
                    Ok(Ok(())) => Sent::Ok,
                    Ok(Err(error)) if line.len() > DATAGRAM => {
                        Sent::Refused(format!("{to}: {error}"))
                    }
                    Ok(Err(error)) => Sent::Later(format!("{to}: {error}")),
                    Err(_elapsed) => Sent::Later(format!("{to}: its name was not found in time")),
                }
            }
            _ => Sent::Refused("this exporter sends nothing of that kind".to_owned()),
        }
    }
}

/// A line on standard output. A pipe that nobody reads blocks its writer: that is a thread which
/// nobody else waits for, and one at most. As long as it hangs, nothing else is written.
async fn print(
    line: &str,
    stuck: &mut Option<JoinHandle<io::Result<()>>>,
    bound: Duration,
    write: impl FnOnce(&[u8]) -> io::Result<()> + Send + 'static,
) -> Sent {
    if let Some(mut before) = stuck.take()
        && timeout(bound, &mut before).await.is_err()
    {
        *stuck = Some(before);
        return Sent::Later("standard output: nobody reads it".to_owned());
    }
    let line = [line, "\n"].concat();
    let mut written = spawn_blocking(move || write(line.as_bytes()));
    match timeout(bound, &mut written).await {
        Ok(Ok(Ok(()))) => Sent::Ok,
        Ok(Ok(Err(error))) => Sent::Refused(format!("standard output: {error}")),
        Ok(Err(error)) => Sent::Refused(format!("standard output: {error}")),
        Err(_elapsed) => {
            // It is written when somebody reads again: sent again it would count twice.
            *stuck = Some(written);
            Sent::Unknown("standard output: nobody reads it".to_owned())
        }
    }
}

async fn tcp(to: &str, open: &mut Option<TcpStream>, line: &str) -> Sent {
    let mut stream = match open.take() {
        Some(stream) if is_open(&stream) => stream,
        _ => match TcpStream::connect(to).await {
            Ok(stream) => stream,
            Err(error) => return Sent::Later(format!("{to}: {error}")),
        },
    };
    let line = [line, "\n"].concat();
    match stream.write_all(line.as_bytes()).await {
        Ok(()) => {
            *open = Some(stream);
            Sent::Ok
        }
        Err(error) => Sent::Later(format!("{to}: {error}")),
    }
}

/// An agent sends nothing; one that has something to read has closed the connection.
fn is_open(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

async fn udp(to: &str, line: &str) -> std::io::Result<()> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(to).await? {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).await?;
        let sent = match socket.connect(address).await {
            Ok(()) => socket.send(line.as_bytes()).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(_all_or_nothing) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc,
    };

    use super::*;

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_holds_one_thread_however_long_it_lasts() {
        let (reads, read) = mpsc::channel::<()>();
        let (threads, bound) = (Arc::new(AtomicU32::new(0)), Duration::from_millis(10));
        let mut stuck = None;
        let counted = threads.clone();
        let blocked = move |_: &[u8]| {
            counted.fetch_add(1, SeqCst);
            read.recv().map_err(io::Error::other)
        };
        let sent = print("1", &mut stuck, bound, blocked).await;
        assert!(matches!(sent, Sent::Unknown(_)), "{sent:?}");
        for _ in 0..5 {
            let counted = threads.clone();
            let write = move |_: &[u8]| {
                counted.fetch_add(1, SeqCst);
                Ok(())
            };
            let sent = print("2", &mut stuck, bound, write).await;
            assert!(matches!(sent, Sent::Later(_)), "{sent:?}");
        }
        assert_eq!(threads.load(SeqCst), 1);
        reads.send(()).expect("it waits");
        let long = Duration::from_secs(30);
        assert_eq!(print("2", &mut stuck, long, |_| Ok(())).await, Sent::Ok);
    }
}
