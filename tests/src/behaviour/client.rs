//! A client that sees everything that comes: interim responses, fields as they are, broken ends.

use std::{fmt::Write, net::SocketAddr, time::Duration};

use tokio::{io::AsyncWriteExt, net::TcpStream, time};

use super::{
    story::Request,
    wire::{self, Framing, Head, Reader},
};

/// How long a response may take from beginning to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Interim responses, in order.
    pub interims: Vec<(u16, Head)>,
    /// The final status.
    pub status: u16,
    /// The fields of the final response.
    pub fields: Vec<(String, String)>,
    /// As far as it came.
    pub body: Vec<u8>,
    /// Whether it ended as announced.
    pub is_whole: bool,
}

/// Sends one request over a connection of its own and reads its response to the end.
///
/// # Errors
/// Why there was no response.
pub async fn ask(
    address: SocketAddr,
    target: &str,
    host: &str,
    request: &Request,
) -> Result<Response, String> {
    time::timeout(PATIENCE, talk(address, target, host, request))
        .await
        .map_err(|_| format!("no response within {PATIENCE:?}"))?
        .map_err(|error| error.to_string())
}

async fn talk(
    address: SocketAddr,
    target: &str,
    host: &str,
    request: &Request,
) -> std::io::Result<Response> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (reading, mut writing) = stream.into_split();
    writing.write_all(&message(target, host, request)).await?;
    let mut reader = Reader::new(reading);
    let mut response = Response::default();
    loop {
        let head = reader.head().await?;
        let head = head.ok_or_else(|| std::io::Error::other("closed without a response"))?;
        let status = head.start.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status: u16 = status.ok_or_else(|| std::io::Error::other(head.start.clone()))?;
        if (100..200).contains(&status) {
            response.interims.push((status, head));
            continue;
        }
        let framing = match head.length() {
            _ if request.method == "HEAD" || matches!(status, 204 | 304) => Framing::None,
            _ if head.is_chunked() => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        };
        (response.body, response.is_whole) = reader.body(framing).await;
        (response.status, response.fields) = (status, head.fields);
        return Ok(response);
    }
}

fn message(target: &str, host: &str, request: &Request) -> Vec<u8> {
    let mut text = format!("{} {target} HTTP/1.1\r\nHost: {host}\r\n", request.method);
    let mut is_chunked = false;
    let mut has_length = false;
    for (name, value) in &request.fields {
        is_chunked |= name.eq_ignore_ascii_case("transfer-encoding");
        has_length |= name.eq_ignore_ascii_case("content-length");
        // Writing to a String cannot fail.
        let _ok = write!(text, "{name}: {value}\r\n");
    }
    let body = request.body.as_deref();
    if let Some(body) = body.filter(|_| !is_chunked && !has_length) {
        let _ok = write!(text, "Content-Length: {}\r\n", body.len());
    }
    text.push_str("\r\n");
    match body {
        Some(body) if is_chunked => {
            let _ok = write!(text, "{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        }
        Some(body) => text.push_str(body),
        None => (),
    }
    wire::bytes(&text)
}
