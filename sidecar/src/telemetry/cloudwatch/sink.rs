//! Where parcels go. Each try is bounded in time, and says what became of it.

use std::{io::Write as _, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UdpSocket},
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
    Stdout,
    Tcp(Agent, Option<TcpStream>),
    Udp(Agent),
}

impl Sink {
    pub(super) fn new(settings: &CloudWatchSettings, sets: Vec<Vec<Dimension>>) -> Self {
        let bound = settings.timeout;
        let kind = match (settings.exporter, settings.agent()) {
            #[cfg(feature = "cloudwatch")]
            (Exporter::Api, _) => Kind::Api(Box::new(super::api::Api::new(settings, sets))),
            (Exporter::EmfAgent, Some(agent @ Agent::Tcp(_))) => Kind::Tcp(agent, None),
            (Exporter::EmfAgent, Some(agent @ Agent::Udp(_))) => Kind::Udp(agent),
            _ => {
                let _not_for_documents = sets;
                Kind::Stdout
            }
        };
        Self { kind, bound }
    }

    pub(super) async fn send(&mut self, parcel: &Parcel) -> Sent {
        match (&mut self.kind, parcel) {
            #[cfg(feature = "cloudwatch")]
            (Kind::Api(api), Parcel::Request(rows)) => api.send(rows).await,
            (Kind::Stdout, Parcel::Document(line)) => print(line.clone(), self.bound).await,
            (Kind::Tcp(Agent::Tcp(to), open), Parcel::Document(line)) => {
                match timeout(self.bound, tcp(*to, open, line)).await {
                    Ok(sent) => sent,
                    Err(_elapsed) => {
                        // Half a line may be out; the agent drops it with the connection.
                        *open = None;
                        Sent::Later(format!("{to}: no answer within {:?}", self.bound))
                    }
                }
            }
            (Kind::Udp(Agent::Udp(to)), Parcel::Document(line)) => match udp(*to, line).await {
                Ok(()) => Sent::Ok,
                Err(error) if line.len() > DATAGRAM => Sent::Refused(format!("{to}: {error}")),
                Err(error) => Sent::Later(format!("{to}: {error}")),
            },
            _ => Sent::Refused("this exporter sends nothing of that kind".to_owned()),
        }
    }
}

/// A line on standard output. A pipe that nobody reads blocks its writer: that is a thread which
/// nobody else waits for.
async fn print(mut line: String, bound: Duration) -> Sent {
    line.push('\n');
    let written = tokio::task::spawn_blocking(move || {
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(line.as_bytes())
            .and_then(|()| stdout.flush())
    });
    match timeout(bound, written).await {
        Ok(Ok(Ok(()))) => Sent::Ok,
        Ok(Ok(Err(error))) => Sent::Refused(format!("standard output: {error}")),
        Ok(Err(error)) => Sent::Refused(format!("standard output: {error}")),
        Err(_elapsed) => Sent::Unknown("standard output: nobody reads it".to_owned()),
    }
}

async fn tcp(to: std::net::SocketAddr, open: &mut Option<TcpStream>, line: &str) -> Sent {
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

async fn udp(to: std::net::SocketAddr, line: &str) -> std::io::Result<()> {
    let any = match to {
        std::net::SocketAddr::V4(_) => "0.0.0.0:0",
        std::net::SocketAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    socket.send(line.as_bytes()).await.map(|_all_or_nothing| ())
}
