//! What belongs to one connection and must not be forwarded or stored,
//! RFC 9110 §7.6.1 and RFC 9111 §3.1.

use super::list::members;
use http::{HeaderMap, HeaderName, header};

/// Removed from every message, named by Connection or not.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Never removed because Connection names them. "A sender MUST NOT send a
/// connection option corresponding to a field that is intended for all
/// recipients"; if one does so nevertheless, obeying would let it switch off
/// `no-store`, `Vary`, a credential or a name to purge by between two caches. Of
/// CDN-Loop RFC 8586 §2 says "not to be removed under any circumstances".
const END_TO_END: [HeaderName; 22] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    HeaderName::from_static("cache-group-invalidation"),
    HeaderName::from_static("cache-groups"),
    header::CACHE_STATUS,
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("cdn-loop"),
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::HOST,
    header::PRAGMA,
    header::SET_COOKIE,
    HeaderName::from_static("surrogate-key"),
    header::VARY,
    header::VIA,
];

/// Removes what the client meant for its connection to us.
///
/// `Proxy-Authorization` goes too: it was for us, not for the origin.
pub fn strip_request(fields: &mut HeaderMap) {
    // Nearly always: a look at the names there are is less than a search for those there may be.
    if !fields.keys().any(is_of_connection) {
        return;
    }
    strip(fields);
    fields.remove(header::PROXY_AUTHORIZATION);
}

/// Removes what the origin meant for its connection to us.
pub fn strip_response(fields: &mut HeaderMap) {
    if !fields.keys().any(is_of_connection) {
        return;
    }
    strip(fields);
    fields.remove(header::PROXY_AUTHENTICATE);
    fields.remove("proxy-authentication-info");
    fields.remove(header::PROXY_AUTHORIZATION);
}

/// Whether a field of this name may be removed here, or names those that are: all others stay
/// unless a Connection field is there.
pub(in crate::policy) fn is_of_connection(name: &HeaderName) -> bool {
    // As text: that compares lengths first.
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
    )
}

fn strip(fields: &mut HeaderMap) {
    // Most messages have no Connection field at all, and then this is empty.
    let mut named = Vec::new();
    for line in fields.get_all(header::CONNECTION) {
        named.extend(members(line.as_bytes()).filter_map(|name| HeaderName::from_bytes(name).ok()));
    }
    for name in named {
        if !END_TO_END.contains(&name) && !name.as_str().contains("cache-control") {
            fields.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        fields.remove(name);
    }
}
