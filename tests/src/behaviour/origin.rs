//! The origin of all stories: a TCP server that sends what it is told, well-formed or not.

use std::{
    collections::BTreeMap,
    fmt::Write,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    task::JoinSet,
};

use super::{
    play::{Asked, Play, Reply},
    wire::{self, Framing, Head, Reader},
};

/// Between an interim response and what follows, so that they do not arrive as one.
const BETWEEN: Duration = Duration::from_millis(40);

type Plays = Arc<Mutex<BTreeMap<String, Arc<Mutex<Play>>>>>;

/// A running origin; it ends when dropped.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    plays: Plays,
    _server: JoinSet<()>,
}

impl Origin {
    /// Listens on loopback.
    ///
    /// # Panics
    /// Without a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let plays = Plays::default();
        let mut server = JoinSet::new();
        server.spawn(accept(listener, Arc::clone(&plays)));
        Self {
            address,
            plays,
            _server: server,
        }
    }

    /// From now on, requests under this first path segment belong to this story.
    pub fn add(&self, segment: &str, play: Play) -> Arc<Mutex<Play>> {
        let play = Arc::new(Mutex::new(play));
        let mut plays = self.plays.lock().unwrap_or_else(PoisonError::into_inner);
        plays.insert(segment.to_owned(), Arc::clone(&play));
        play
    }
}

/// The time of the wall.
#[expect(clippy::disallowed_methods, reason = "an origin dates its answers")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

async fn accept(listener: TcpListener, plays: Plays) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let plays = Arc::clone(&plays);
            connections.spawn(async move {
                // A connection that breaks is the cache's business; what it asked is noted.
                let _broken = serve(stream, plays).await;
            });
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, plays: Plays) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reading, mut writing) = stream.into_split();
    let mut reader = Reader::new(reading);
    while let Some(head) = reader.head().await? {
        let framing = match head.length() {
            _ if head.is_chunked() => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::None,
        };
        if head.get("expect").is_some() {
            writing.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let (body, _) = reader.body(framing).await;
        let Some(reply) = reply(&plays, head, &body) else {
            let gone = b"HTTP/1.1 404 No Such Story\r\nContent-Length: 0\r\n\r\n";
            writing.write_all(gone).await?;
            continue;
        };
        if send(&mut writing, &reply).await? {
            break;
        }
    }
    Ok(())
}

fn reply(plays: &Plays, head: Head, body: &[u8]) -> Option<Reply> {
    let mut words = head.start.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    // Absolute form, if a proxy takes us for one.
    let path = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => &rest[rest.find('/')?..],
        _ => target,
    };
    let segment = path.strip_prefix('/')?;
    let end = segment.find(['/', '?']).unwrap_or(segment.len());
    let (segment, suffix) = segment.split_at(end);
    let play = {
        let plays = plays.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(plays.get(segment)?)
    };
    let asked = Asked {
        method: method.to_owned(),
        suffix: suffix.to_owned(),
        fields: head.fields,
        body: wire::text(body),
        answered: None,
        answer_body: Vec::new(),
    };
    let mut play = play.lock().unwrap_or_else(PoisonError::into_inner);
    Some(play.answer(asked, wall()))
}

/// Sends it; true if the connection has to end.
async fn send(writing: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<bool> {
    tokio::time::sleep(reply.delay).await;
    for (status, fields) in &reply.interims {
        writing.write_all(&head(*status, "Interim", fields)).await?;
        tokio::time::sleep(BETWEEN).await;
    }
    if let Some((status, reason)) = &reply.status {
        let mut bytes = head(*status, reason, &reply.fields);
        bytes.extend_from_slice(&reply.body);
        writing.write_all(&bytes).await?;
        if reply.closes {
            // Long enough to be read before the end is seen.
            tokio::time::sleep(BETWEEN).await;
        }
    }
    Ok(reply.closes)
}

fn head(status: u16, reason: &str, fields: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} {reason}\r\n");
    for (name, value) in fields {
        // Writing to a String cannot fail.
        let _ok = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    wire::bytes(&text)
}
