//! What a gateway does to a message that it forwards: RFC 9110 §7.6 and §10.1.4,
//! RFC 8586. Neither is done to what travels between nodes of one cluster: they
//! are one recipient.

use super::fields::date::HttpDate;
use super::fields::list::{is_token, members, trim};
use super::fields::{MAX_DELTA_SECONDS, connection, delta_seconds, seconds};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use std::time::{Duration, SystemTime};

const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// The parameter of our member of CDN-Loop that tells one node from another.
const NODE: &str = "node";

/// Who forwards: our name in Via, and the name of our node beside it in CDN-Loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    name: String,
    node: String,
    /// Our member of Via in what came by HTTP/1.1: nearly always.
    via: HeaderValue,
}

impl Hop {
    /// Takes a pseudonym for Via and CDN-Loop, which all nodes have in common, and a
    /// name that no other node has. A cluster's name would not do: two clusters in
    /// one chain need not have different ones. Of one key the same node asks the
    /// origin, so a loop comes back to it.
    ///
    /// # Errors
    /// Names the one that is no token (RFC 9110 §5.6.2) of at most 64 bytes.
    pub fn new(name: &str, node: &str) -> Result<Self, String> {
        for (key, value) in [("name", name), ("node", node)] {
            if !is_token(value.as_bytes()) || value.len() > 64 {
                return Err(format!("{key}: {value:?} is no token of 1 to 64 bytes"));
            }
        }
        let via = HeaderValue::try_from(format!("1.1 {name}")).expect("a token is a value");
        Ok(Self {
            name: name.to_owned(),
            node: node.to_owned(),
            via,
        })
    }

    /// Our member of Via (§7.6.3) for a message of this version.
    fn via(&self, received: Version) -> HeaderValue {
        let version = match received {
            Version::HTTP_09 => "0.9",
            Version::HTTP_10 => "1.0",
            // "the minor version "0" is implied" (§2.5).
            Version::HTTP_2 => "2.0",
            Version::HTTP_3 => "3.0",
            _ => return self.via.clone(),
        };
        HeaderValue::try_from(format!("{version} {}", self.name)).expect("a token is a value")
    }

    /// Our member of CDN-Loop.
    fn cdn_info(&self) -> HeaderValue {
        let text = format!("{}; {NODE}={}", self.name, self.node);
        HeaderValue::try_from(text).expect("tokens are a value")
    }

    /// Whether a member of CDN-Loop is ours. Names of hosts have no case, so none
    /// has; a value may be a token or a quoted string.
    fn is_ours(&self, member: &[u8]) -> bool {
        let mut parts = member.split(|&byte| byte == b';').map(trim);
        let named = parts
            .next()
            .is_some_and(|id| id.eq_ignore_ascii_case(self.name.as_bytes()));
        named
            && parts.any(|parameter| {
                let equals = parameter.iter().position(|&byte| byte == b'=');
                let (name, value) = parameter.split_at(equals.unwrap_or(parameter.len()));
                let value = value.strip_prefix(b"=").unwrap_or_default();
                let unquoted = value
                    .strip_prefix(b"\"")
                    .and_then(|v| v.strip_suffix(b"\""));
                name.eq_ignore_ascii_case(NODE.as_bytes())
                    && unquoted
                        .unwrap_or(value)
                        .eq_ignore_ascii_case(self.node.as_bytes())
            })
    }
}

/// Why a request must not be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotForwarded {
    /// It has passed this node before: answer 508 (Loop Detected) or 502.
    #[error("the request has passed this node before (CDN-Loop)")]
    Loop,
    /// Its Max-Forwards is zero: "the intermediary MUST respond as the final
    /// recipient" (RFC 9110 §7.6.2).
    #[error("the request may not be forwarded any more (Max-Forwards)")]
    MaxForwards,
}

/// Joins the lines of Cookie, of which HTTP/2 and HTTP/3 may make one for each cookie: they "MUST be
/// concatenated into a single octet string using the two-octet delimiter of 0x3B, 0x20" before
/// anything else sees them (RFC 9113 §8.2.3). So Vary sees by each version the same.
pub fn join_cookies(fields: &mut HeaderMap) {
    if !has_crumbs(fields) {
        return;
    }
    let lines = fields.get_all(header::COOKIE).iter();
    let lines: Vec<&[u8]> = lines.map(HeaderValue::as_bytes).collect();
    let mut joined = HeaderValue::from_bytes(&lines.join(&b"; "[..])).expect("of values");
    joined.set_sensitive(fields[header::COOKIE].is_sensitive());
    fields.insert(header::COOKIE, joined);
}

/// Whether there is more than one line of Cookie.
pub(super) fn has_crumbs(fields: &HeaderMap) -> bool {
    // Nearly always each name has one line, which is known without a search.
    let has_more = fields.len() > fields.keys_len();
    has_more && fields.get_all(header::COOKIE).iter().nth(1).is_some()
}

/// Prepares a request for the next hop towards the origin, once, in place.
///
/// Removes what was meant for this connection, with Proxy-* and HTTP2-Settings;
/// joins the lines of Cookie; counts Max-Forwards down; adds our members to Via and CDN-Loop. `received` is
/// the version of the client's request, `next` that of ours if it is known: only
/// then `TE: trailers` goes along, since on HTTP/1.1 it needs a connection option.
///
/// # Errors
/// [`NotForwarded`]: then the fields are as they were. What nodes of a cluster ask
/// each other does not come through here, so our own name there once is a loop.
pub fn request(
    method: &Method,
    fields: &mut HeaderMap,
    hop: &Hop,
    received: Version,
    next: Option<Version>,
) -> Result<(), NotForwarded> {
    if is_loop(fields, hop) {
        return Err(NotForwarded::Loop);
    }
    count_down(method, fields)?;
    let trailers = fields
        .get_all(header::TE)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
        .any(|member| member.eq_ignore_ascii_case(b"trailers"));
    connection::strip_request(fields);
    join_cookies(fields);
    let ours: Vec<HeaderName> = fields
        .keys()
        .filter(|name| is_ours(name))
        .cloned()
        .collect();
    for name in ours {
        fields.remove(name);
    }
    if let Some(next) = next.filter(|_| trailers) {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
        if next <= Version::HTTP_11 {
            fields.insert(header::CONNECTION, HeaderValue::from_static("TE"));
        }
    }
    fields.append(header::VIA, hop.via(received));
    fields.append(CDN_LOOP, hop.cdn_info());
    Ok(())
}

/// Prepares a response for the client, once, when it is sent: what is stored keeps
/// the Via of the hops before us. `received` is the version in which it came.
pub fn response(fields: &mut HeaderMap, hop: &Hop, received: Version) {
    connection::strip_response(fields);
    sign(fields, hop, received);
}

/// The same for what was stored: it has nothing of a connection any more.
pub fn sign(fields: &mut HeaderMap, hop: &Hop, received: Version) {
    fields.append(header::VIA, hop.via(received));
}

/// Whether CDN-Loop holds our name and our node's (RFC 8586 §2).
///
/// "The CDN-Loop header field can be generated by any client, and therefore its
/// contents cannot be trusted" (§3): who writes our name there fails, and nobody
/// else may fail with him. So ask this before a request joins others in a fill.
pub fn is_loop(fields: &HeaderMap, hop: &Hop) -> bool {
    fields
        .get_all(CDN_LOOP)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
        .any(|member| hop.is_ours(member))
}

/// Max-Forwards, §7.6.2: of TRACE and OPTIONS only. What is no number, or said
/// twice, says nothing.
fn count_down(method: &Method, fields: &mut HeaderMap) -> Result<(), NotForwarded> {
    if !matches!(*method, Method::TRACE | Method::OPTIONS) {
        return Ok(());
    }
    let mut lines = fields.get_all(header::MAX_FORWARDS).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Ok(());
    };
    match delta_seconds(line.as_bytes()) {
        None => Ok(()),
        Some(0) => Err(NotForwarded::MaxForwards),
        Some(left) => {
            // "the lesser of a) the received value decremented by one (1) or b) the
            // recipient's maximum supported value": ours is 2^31 - 1.
            let left = HeaderValue::from(left.min(MAX_DELTA_SECONDS) - 1);
            fields.insert(header::MAX_FORWARDS, left);
            Ok(())
        }
    }
}

/// Fields meant for a proxy, or for the switch to another protocol with us. `Proxy`
/// itself is no field of HTTP, but origins that run scripts take it for a setting.
fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "proxy" || name.starts_with("proxy-") || name == "http2-settings"
}

/// Request fields that origins and their frameworks act on, though they are neither
/// part of the URL nor named by Vary: another host, another path, another method.
/// X-Forwarded-For and X-Forwarded-Proto stay: proxies before us set them.
const UNKEYED: [&str; 15] = [
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "x-wap-profile",
];

/// Removes from a GET or HEAD request what would let its sender choose what others
/// get for the same key. `keyed` are the fields that are in the key
/// ([`KeyRules::headers`](super::KeyRules::headers)): those stay. What a request of
/// another method brings is answered to it alone, so there all stay.
pub fn strip_unkeyed(method: &Method, fields: &mut HeaderMap, keyed: &[HeaderName]) {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return;
    }
    if !has_unkeyed(fields, keyed) {
        return;
    }
    for name in UNKEYED {
        if !keyed.iter().any(|keyed| keyed == name) {
            fields.remove(name);
        }
    }
}

/// Whether this is a field that [`strip_unkeyed`] may remove.
pub(super) fn is_unkeyed(name: &HeaderName) -> bool {
    let name = name.as_str();
    (name.starts_with("x-") || name == "forwarded") && UNKEYED.contains(&name)
}

/// Whether these fields have one that [`strip_unkeyed`] would remove: what comes of such a request
/// may be its sender's choice, and so is nobody else's.
pub fn has_unkeyed(fields: &HeaderMap, keyed: &[HeaderName]) -> bool {
    let mut names = fields.keys();
    names.any(|name| is_unkeyed(name) && !keyed.contains(name))
}

/// The longest that an origin's Retry-After is obeyed.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// How long the origin asks not to be asked again, RFC 9110 §10.2.3: seconds or a
/// date, which is zero if it has passed; at most [`MAX_RETRY_AFTER`]. `None` if it is
/// neither or said twice. `wall` is when the response came.
pub fn retry_after(fields: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let mut lines = fields.get_all(header::RETRY_AFTER).iter();
    let (value, None) = (lines.next()?.as_bytes(), lines.next()) else {
        return None;
    };
    let wait = match delta_seconds(value) {
        Some(delta) => seconds(delta),
        None => HttpDate::parse(value, wall)?.since(HttpDate::from(wall)),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}
