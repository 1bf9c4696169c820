//! Requests that say nothing to a cache but what they ask for: most of them.

use super::fields::connection::is_of_connection;
use super::forwarding::{has_crumbs, is_unkeyed};
use http::{HeaderMap, HeaderName};

/// Whether no field of a request has a say in how a cache answers it, or is changed on the way: no
/// directive, condition or range, no sign of a body or a loop, nothing of the connection, nothing
/// that [`strip_unkeyed`](super::forwarding::strip_unkeyed) would remove or
/// [`join_cookies`](super::forwarding::join_cookies) would join.
///
/// What decides about such a request decides as if it had no fields, save where fields are compared:
/// by Vary (RFC 9111 §4.1), and by the rules of a route. One look at each name, in place of a search
/// for each of them.
pub fn is_plain(fields: &HeaderMap) -> bool {
    !fields.keys().any(speaks) && !has_crumbs(fields)
}

/// Whether a field of this name may say something to a cache.
fn speaks(name: &HeaderName) -> bool {
    // As text: that compares lengths first.
    let decides = matches!(
        name.as_str(),
        "cache-control"
            | "cdn-loop"
            | "content-length"
            | "if-match"
            | "if-modified-since"
            | "if-none-match"
            | "if-range"
            | "if-unmodified-since"
            | "pragma"
            | "range"
    );
    decides || is_of_connection(name) || is_unkeyed(name)
}

#[cfg(test)]
mod tests {
    use super::super::fields::cache_control::RequestDirectives;
    use super::super::fields::connection;
    use super::super::{Hop, forwarding, reuse};
    use super::*;
    use http::{HeaderValue, Method, header};
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Every field that the policy reads in a request or changes there, with values that count.
    const SPEAKING: [(&str, &str); 42] = [
        ("connection", "x-a"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "x"),
        ("proxy-authorization", "x"),
        ("cache-control", "no-cache"),
        ("cache-control", "no-store"),
        ("cache-control", "only-if-cached"),
        ("cache-control", "max-age=0"),
        ("cache-control", "max-stale"),
        ("cache-control", "min-fresh=9"),
        ("cache-control", "stale-if-error=9"),
        ("cache-control", "\""),
        ("pragma", "no-cache"),
        ("content-length", "1"),
        ("if-match", "*"),
        ("if-none-match", "*"),
        ("if-range", "\"a\""),
        ("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("range", "bytes=0-0"),
        ("cdn-loop", "koorde; node=n"),
        ("forwarded", "x"),
        ("x-forwarded-host", "x"),
        ("x-forwarded-path", "x"),
        ("x-forwarded-port", "x"),
        ("x-forwarded-prefix", "x"),
        ("x-forwarded-scheme", "x"),
        ("x-forwarded-server", "x"),
        ("x-host", "x"),
        ("x-http-method", "x"),
        ("x-http-method-override", "x"),
        ("x-method-override", "x"),
        ("x-original-host", "x"),
        ("x-original-url", "x"),
        ("x-rewrite-url", "x"),
        ("x-wap-profile", "x"),
        ("proxy-authenticate", "x"),
        ("proxy-authentication-info", "x"),
    ];

    /// What most requests have, and what looks alike.
    const SILENT: [&str; 16] = [
        "accept",
        "accept-encoding",
        "accept-language",
        "authorization",
        "content-type",
        "cookie",
        "host",
        "origin",
        "referer",
        "traceparent",
        "user-agent",
        "via",
        "x-a",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-request-id",
    ];

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn each_field_that_the_policy_reads_is_one_that_speaks() {
        for field in SPEAKING {
            assert!(!is_plain(&map(&[field])), "{field:?}");
        }
        for name in SILENT {
            assert!(is_plain(&map(&[(name, "x")])), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_request_is_changed_by_nothing_and_says_nothing(
            silent in proptest::collection::vec(select(&SILENT[..]), 0..8),
            speaking in proptest::collection::vec(select(&SPEAKING[..]), 0..2),
        ) {
            let silent: Vec<_> = silent.into_iter().map(|name| (name, "x, no-cache")).collect();
            let fields = map(&[silent, speaking].concat());
            let hop = Hop::new("koorde", "n").expect("tokens");
            let mut changed = fields.clone();
            connection::strip_request(&mut changed);
            forwarding::join_cookies(&mut changed);
            forwarding::strip_unkeyed(&Method::GET, &mut changed, &[]);
            let says = RequestDirectives::read(&fields) != RequestDirectives::default()
                || reuse::is_bypass(&fields)
                || forwarding::is_loop(&fields, &hop)
                || forwarding::has_unkeyed(&fields, &[])
                || !reuse::may_collapse(&Method::GET, &fields)
                || [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE]
                    .iter()
                    .any(|name| fields.contains_key(name));
            if is_plain(&fields) {
                prop_assert!(changed == fields && !says, "{:?}", fields);
            }
        }
    }
}
