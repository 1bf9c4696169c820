//! Bytes cut into what a target needs, so that a seed is a text that one can read.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, response};
use libkoorde::policy::{Exchange, Now};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Field lines of one message, at most: what a listener lets through.
const MAX_LINES: usize = 64;

/// The wall clock of all inputs: Sun, 06 Nov 1994 08:49:37 GMT.
const WALL: u64 = 784_111_777;

/// Sections of a text, parted by empty lines.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next section; empty when there is no more.
    pub fn section(&mut self) -> &'a [u8] {
        self.until(b"\n\n")
    }

    /// The next line; empty when there is no more.
    pub fn line(&mut self) -> &'a [u8] {
        self.until(b"\n")
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    fn until(&mut self, end: &[u8]) -> &'a [u8] {
        let bytes = self.0;
        let at = bytes.windows(end.len()).position(|window| window == end);
        let (first, rest) = bytes.split_at(at.unwrap_or(bytes.len()));
        self.0 = rest.get(end.len()..).unwrap_or_default();
        first
    }

    /// The next section as field lines; those that no listener would let through are left out.
    pub fn fields(&mut self) -> HeaderMap {
        fields(self.section())
    }

    /// The next line as numbers; what is none counts as zero.
    pub fn numbers<const N: usize>(&mut self) -> [u64; N] {
        let mut words = text(self.line()).split_ascii_whitespace();
        [(); N].map(|()| words.next().and_then(|word| word.parse().ok()).unwrap_or(0))
    }
}

/// The text that bytes begin with.
pub fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

pub fn fields(section: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in section.split(|&byte| byte == b'\n').take(MAX_LINES) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    fields
}

/// The values of a field.
pub fn values<'a>(fields: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    let all = fields.get_all(name).iter();
    all.map(HeaderValue::as_bytes).collect()
}

/// A response's head; what is no status counts as 200.
pub fn parts(status: u64, fields: HeaderMap) -> response::Parts {
    let mut parts = Response::new(()).into_parts().0;
    let status = u16::try_from(status).unwrap_or(200);
    parts.status = StatusCode::from_u16(status).unwrap_or_default();
    parts.headers = fields;
    parts
}

/// One moment for all inputs, so that they can be played again.
#[allow(clippy::disallowed_methods, reason = "any moment will do")]
pub fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// A response that took `delay` seconds.
pub fn exchange(delay: u64) -> Exchange {
    Exchange {
        request_sent: epoch(),
        response_received: now(delay),
    }
}

/// So many seconds after [`epoch`].
pub fn now(seconds: u64) -> Now {
    let since = Duration::from_secs(seconds.min(u64::from(u32::MAX)));
    Now {
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(WALL) + since,
        instant: epoch() + since,
    }
}
