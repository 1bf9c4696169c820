//! Messages of HTTP/1.1 byte by byte, as lenient as an observer has to be. Text is Latin-1: every
//! byte is a character.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest head that is read, in bytes.
const MAX_HEAD: usize = 256 * 1024;
/// The longest body that is read, in bytes.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// The start line and the fields of a message, in order.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Without its line end.
    pub start: String,
    /// Names as they came.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// All lines of a field joined by `", "`; none if there is none.
    pub fn get(&self, name: &str) -> Option<String> {
        joined(&self.fields, name)
    }

    /// Whether the body comes in chunks.
    pub fn is_chunked(&self) -> bool {
        let encoding = self.get("transfer-encoding").unwrap_or_default();
        encoding.to_ascii_lowercase().contains("chunked")
    }

    /// The Content-Length, if it is one number.
    pub fn length(&self) -> Option<usize> {
        self.get("content-length")?.trim().parse().ok()
    }
}

/// All lines of a field joined by `", "`; none if there is none.
pub fn joined(fields: &[(String, String)], name: &str) -> Option<String> {
    let lines: Vec<_> = fields
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// Characters to bytes; what is no Latin-1 becomes `?`.
pub fn bytes(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
        .collect()
}

/// Bytes to characters.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(usize),
    /// After the last chunk and the trailers.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// Reads messages from a connection.
#[derive(Debug)]
pub struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// Reads from its beginning.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// The next head; `None` at the end of the connection.
    ///
    /// # Errors
    /// Of the connection, and a head that is too long.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(io::Error::other("a head without end"));
            }
            if !self.more().await? {
                return Ok(None);
            }
        };
        let lines = text(&self.buffer[..end]);
        self.buffer.drain(..end + 4);
        let mut lines = lines.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .map(|line| line.split_once(':').unwrap_or((line, "")))
            .map(|(name, value)| (name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
            .collect();
        Ok(Some(Head { start, fields }))
    }

    /// The body, and whether it ended as announced.
    pub async fn body(&mut self, framing: Framing) -> (Vec<u8>, bool) {
        match framing {
            Framing::None => (Vec::new(), true),
            Framing::Length(length) => self.exactly(length).await,
            Framing::Chunked => self.chunks().await,
            Framing::UntilClose => {
                while self.buffer.len() < MAX_BODY && matches!(self.more().await, Ok(true)) {}
                (std::mem::take(&mut self.buffer), true)
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.buffer.len() < length && matches!(self.more().await, Ok(true)) {}
        let taken = length.min(self.buffer.len());
        (self.buffer.drain(..taken).collect(), taken == length)
    }

    async fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.line().await else {
                return (body, false);
            };
            let digits = line.split(';').next().unwrap_or_default().trim();
            let Ok(size) = usize::from_str_radix(digits, 16) else {
                return (body, false);
            };
            if size == 0 {
                break;
            }
            let (chunk, is_whole) = self.exactly(size.min(MAX_BODY)).await;
            body.extend_from_slice(&chunk);
            if !is_whole || self.line().await.is_none() {
                return (body, false);
            }
        }
        loop {
            match self.line().await {
                None => return (body, false),
                Some(line) if line.is_empty() => return (body, true),
                Some(_trailer) => (),
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = text(&self.buffer[..end]);
                self.buffer.drain(..end + 2);
                return Some(line);
            }
            if self.buffer.len() > MAX_BODY || !matches!(self.more().await, Ok(true)) {
                return None;
            }
        }
    }

    async fn more(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
