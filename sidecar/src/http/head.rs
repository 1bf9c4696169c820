//! What a request's head must be, whichever door it came to.

use http::{HeaderMap, Version, header, request::Parts, uri::Authority};

/// The host that the request is for: `:authority`, or the Host field. None if it is empty, or was
/// not yet invented (HTTP/1.0).
///
/// RFC 9112 §3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1
/// request message that lacks a Host header field and to any request message that contains more
/// than one Host header field line or a Host header field with an invalid field value."
pub(super) fn host(head: &Parts) -> Result<Option<String>, &'static str> {
    let mut lines = head.headers.get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err("there is more than one Host");
    }
    let line = match line {
        Some(line) => Some(line.to_str().map_err(|_| "Host is no host")?),
        None => None,
    };
    let host = match (head.uri.authority(), line) {
        (None, None) if head.version >= Version::HTTP_11 => return Err("there is no Host"),
        (Some(authority), line) if head.version >= Version::HTTP_2 => {
            // RFC 9113 §8.3.1: two hosts in one request are malformed.
            if line.is_some_and(|line| !line.eq_ignore_ascii_case(authority.as_str())) {
                return Err("Host is not :authority");
            }
            authority.as_str()
        }
        (Some(_), None) if head.version == Version::HTTP_11 => return Err("there is no Host"),
        (_, Some(line)) => line,
        (_, None) => "",
    };
    if host.is_empty() {
        return Ok(None);
    }
    if host.parse().is_ok_and(|authority| is_host(&authority)) {
        Ok(Some(host.to_owned()))
    } else {
        Err("Host is no host")
    }
}

/// Whether a body is chunked once and nothing else, or not at all. Another coding would have to be
/// undone before the request is sent on (RFC 9112 §6.1), and a name that only looks like `chunked`
/// is there to make two servers see two different ends.
pub(super) fn is_framed_plainly(fields: &HeaderMap) -> bool {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Host and maybe a port (RFC 9110 §7.2), without what else an authority can have.
fn is_host(authority: &Authority) -> bool {
    let text = authority.as_str();
    let port = text.strip_prefix(authority.host());
    let port_ok = port.is_some_and(|port| {
        let digits = port.strip_prefix(':').unwrap_or(port);
        port.is_empty() || digits.is_empty() || digits.parse::<u16>().is_ok()
    });
    !authority.host().is_empty() && !text.contains('@') && port_ok
}

/// How often a TRACE or OPTIONS request may still be forwarded (RFC 9110 §7.6.2); none if that is
/// not said once and in digits.
pub(super) fn max_forwards(fields: &HeaderMap) -> Option<u32> {
    let mut lines = fields.get_all(header::MAX_FORWARDS).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let text = line.to_str().ok()?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u32::MAX))
}
