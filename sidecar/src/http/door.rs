//! Which door a request came to: a function of its head and the configuration, and of nothing else.

use http::{
    Method, Version,
    request::Parts,
    uri::{Authority, Uri},
};
use libkoorde::{
    Gateway, Quoted,
    policy::{Target, TargetError},
};

use super::{
    ListenerName,
    head::{host, is_framed_plainly, max_forwards},
    look_aside,
    paths::BuiltIn,
    target,
};

/// Where a request is answered.
#[derive(Debug)]
pub(super) enum Door {
    /// CONNECT: a tunnel, if that is configured.
    Tunnel(Authority),
    /// By the cache, for apps that make the origin's requests themselves.
    LookAside,
    /// By the cache or the origin.
    Fetch(Way, Target),
    /// Here, by a path of our own.
    BuiltIn(BuiltIn),
    /// Here: what this proxy can do (RFC 9110 §9.3.7).
    Options,
    /// Here: what was received (RFC 9110 §9.3.8).
    Trace,
    /// Nowhere: the request is wrong, and why. It came to that way; if to none, then it is the
    /// message that is wrong, and what follows it on the connection is not to be trusted.
    Bad(Option<Way>, String),
    /// Nowhere: what came that way names a URL that can't be fetched, and why; a message of the same.
    NoTarget(Way, TargetError, String),
    /// Nowhere: there is no such path.
    NoSuchPath,
}

/// How a request names what it wants fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `/cache?url=`.
    Cache,
    /// `/https://host/path`.
    Path,
    /// A URL in place of a path: we are the client's proxy.
    Forward,
    /// Host and path of a route: we stand before the origin.
    Reverse,
}

impl Way {
    /// The word for labels.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "/cache",
            Self::Path => "path",
            Self::Forward => "forward",
            Self::Reverse => "reverse",
        }
    }

    /// Whether a browser takes what comes back for a page of this host.
    pub(super) const fn is_of_this_host(self) -> bool {
        matches!(self, Self::Cache | Self::Path)
    }
}

impl Door {
    /// The word for labels: a closed set.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Tunnel(_) => "connect",
            Self::Fetch(way, _) | Self::Bad(Some(way), _) | Self::NoTarget(way, ..) => way.as_str(),
            Self::BuiltIn(built_in) => built_in.path(),
            Self::LookAside => "look-aside",
            Self::Options => "options",
            Self::Trace => "trace",
            Self::Bad(None, _) | Self::NoSuchPath => "other",
        }
    }
}

/// The door of a request.
pub(super) fn door(head: &Parts, gateway: &Gateway, listener: ListenerName) -> Door {
    let bad = |message: &str| Door::Bad(None, message.to_owned());
    if !is_framed_plainly(&head.headers) {
        return bad("Transfer-Encoding is not chunked alone");
    }
    let host = match host(head) {
        Ok(host) => host,
        Err(message) => return bad(message),
    };
    if listener == ListenerName::Admin {
        let built_in = BuiltIn::find(head.uri.path(), listener);
        return built_in.map_or(Door::NoSuchPath, Door::BuiltIn);
    }
    if head.method == Method::CONNECT {
        return match head.uri.authority() {
            Some(authority) if authority.port().is_some() => Door::Tunnel(authority.clone()),
            _ => bad("CONNECT needs host:port"),
        };
    }
    if head.uri.path() == "*" {
        return match head.method {
            Method::OPTIONS => Door::Options,
            _ => bad("only OPTIONS is asked of *"),
        };
    }
    if look_aside::is_call(head) {
        return Door::LookAside;
    }
    let asked = head.uri.path_and_query().map_or("", |asked| asked.as_str());
    if !asked.starts_with('/') {
        return bad("the request target is neither a path nor a URL");
    }
    // Any HTTP/2 request has scheme and authority; it cannot say that it takes us for its proxy.
    let is_absolute = head.uri.scheme().is_some() && head.version < Version::HTTP_2;
    let door = if is_absolute {
        fetch(Way::Forward, &head.uri.to_string())
    } else {
        origin_form(&head.uri, asked, host.as_deref(), gateway)
    };
    match (&door, &head.method, max_forwards(&head.headers)) {
        (Door::Fetch(..), &Method::OPTIONS, Some(0)) => Door::Options,
        (Door::Fetch(..), &Method::TRACE, Some(0)) => Door::Trace,
        _ => door,
    }
}

/// The door of a request for a path.
fn origin_form(uri: &Uri, asked: &str, host: Option<&str>, gateway: &Gateway) -> Door {
    let reverse = |found: Result<Target, _>| match found {
        Ok(target) => Door::Fetch(Way::Reverse, target),
        Err(error) => Door::Bad(
            Some(Way::Reverse),
            format!("path {}: {error}", Quoted(asked)),
        ),
    };
    if let Some(found) = host.and_then(|host| gateway.by_host(host, asked)) {
        return reverse(found);
    }
    if uri.path() == "/cache" {
        return match target::url(uri.query()) {
            Ok(url) => fetch(Way::Cache, &url),
            Err(error) => Door::Bad(Some(Way::Cache), error.to_string()),
        };
    }
    if let Some(built_in) = BuiltIn::find(uri.path(), ListenerName::Http) {
        return Door::BuiltIn(built_in);
    }
    if let Some(url) = path_form(asked) {
        return fetch(Way::Path, url);
    }
    gateway.by_path(asked).map_or(Door::NoSuchPath, reverse)
}

fn fetch(way: Way, url: &str) -> Door {
    match Target::parse(url) {
        Ok(target) => Door::Fetch(way, target),
        Err(error) => {
            let message = format!("url {}: {error}", Quoted(url));
            Door::NoTarget(way, error, message)
        }
    }
}

/// The URL behind the first slash. One slash is enough after the scheme: proxies on the way merge
/// two, and the URL standard reads both alike.
fn path_form(asked: &str) -> Option<&str> {
    let url = asked.strip_prefix('/')?;
    let (scheme, rest) = url.split_once(':')?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    (known && rest.starts_with('/')).then_some(url)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use libkoorde::{
        Config,
        config::{RouteConfig, UpstreamConfig},
    };

    use super::*;

    fn gateway() -> Gateway {
        let mut config = Config::default();
        let upstream = UpstreamConfig {
            servers: vec!["http://10.0.0.1:8000".to_owned()],
            ..UpstreamConfig::default()
        };
        config.upstreams.insert("api".to_owned(), upstream);
        let route = |host: Option<&str>, prefix: &str| RouteConfig {
            host: host.map(str::to_owned),
            prefix: prefix.to_owned(),
            upstream: Some("api".to_owned()),
            ..RouteConfig::default()
        };
        config.routes = vec![route(Some("api.example"), "/"), route(None, "/files")];
        Gateway::new(&config).expect("the test's routes can be used")
    }

    /// Method, target, version, fields: what is decided, in one line.
    fn decided(method: &str, target: &str, version: Version, fields: &[(&str, &str)]) -> String {
        let mut request = Request::builder()
            .method(method)
            .version(version)
            .uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request
            .body(())
            .expect("a well-formed request")
            .into_parts();
        match door(&head, &gateway(), ListenerName::Http) {
            Door::Tunnel(authority) => format!("tunnel {authority}"),
            Door::Fetch(way, target) => format!("{} {target}", way.as_str()),
            Door::BuiltIn(built_in) => format!("{built_in:?}"),
            Door::LookAside => "look-aside".to_owned(),
            Door::Options => "options".to_owned(),
            Door::Trace => "trace".to_owned(),
            Door::Bad(_, message) | Door::NoTarget(.., message) => format!("bad: {message}"),
            Door::NoSuchPath => "none".to_owned(),
        }
    }

    #[test]
    fn the_doors_are_tried_in_order() {
        let host = |name| [("host", name)];
        for (method, target, host, expected) in [
            (
                "CONNECT",
                "a.example:443",
                host("x"),
                "tunnel a.example:443",
            ),
            (
                "CONNECT",
                "a.example",
                host("x"),
                "bad: CONNECT needs host:port",
            ),
            (
                "GET",
                "http://a.example/p?q=%20&r",
                host("x"),
                "forward http://a.example/p?q=%20&r",
            ),
            // The URL counts and not Host (RFC 9112 §3.2.2).
            (
                "POST",
                "https://a.example",
                host("api.example"),
                "forward https://a.example/",
            ),
            (
                "GET",
                "http://u:p@a.example/",
                host("x"),
                "bad: url \"http://u:p@a.example/\": the URL has a user name or password",
            ),
            (
                "GET",
                "/livez",
                host("api.example"),
                "reverse http://api.example/livez",
            ),
            (
                "GET",
                "/a//b?c&d=%2F",
                host("API.example:8080"),
                "reverse http://api.example/a//b?c&d=%2F",
            ),
            ("GET", "/livez", host("x"), "Livez"),
            (
                "POST",
                "/cache?url=http://o/",
                host("x"),
                "/cache http://o/",
            ),
            (
                "GET",
                "/cache?url=",
                host("x"),
                "bad: the query needs one parameter, url=<percent-encoded URL>",
            ),
            ("GET", "/debug/ring", host("x"), "none"),
            (
                "GET",
                "/https://o/p?a=http://b/",
                host("x"),
                "path https://o/p?a=http://b/",
            ),
            ("GET", "/http:/o/p?q", host("x"), "path http://o/p?q"),
            ("GET", "/HTTPS://o", host("x"), "path https://o/"),
            ("GET", "/ftp://o/", host("x"), "none"),
            ("GET", "/http:o/", host("x"), "none"),
            (
                "DELETE",
                "/files/x?y",
                host("x"),
                "reverse http://10.0.0.1:8000/files/x?y",
            ),
            ("GET", "/files/../etc", host("x"), "none"),
            ("GET", "/", host("x"), "none"),
            ("OPTIONS", "*", host("x"), "options"),
            ("GET", "*", host("x"), "bad: only OPTIONS is asked of *"),
            (
                "GET",
                "o.example:80",
                host("x"),
                "bad: the request target is neither a path nor a URL",
            ),
        ] {
            let found = decided(method, target, Version::HTTP_11, &host);
            assert_eq!(found, expected, "{method} {target}");
        }
    }

    #[test]
    fn over_http2_a_url_names_host_and_path_of_this_server() {
        for (target, expected) in [
            ("https://api.example/x?y", "reverse http://api.example/x?y"),
            ("https://koorde.example/livez", "Livez"),
            ("https://koorde.example/http://o/p", "path http://o/p"),
            ("https://koorde.example/p", "none"),
        ] {
            assert_eq!(decided("GET", target, Version::HTTP_2, &[]), expected);
        }
        let fields = [("host", "other.example")];
        let found = decided("GET", "https://api.example/", Version::HTTP_2, &fields);
        assert_eq!(found, "bad: Host is not :authority");
    }

    #[test]
    fn a_call_of_look_aside_is_grpc_on_its_own_path() {
        let grpc = [("content-type", "application/grpc+proto")];
        let url = "http://api.example/koorde.cache.v1.Cache/Lease";
        let two = Version::HTTP_2;
        assert_eq!(decided("POST", url, two, &grpc), "look-aside");
        let elsewhere = format!("reverse {url}");
        assert_eq!(decided("GET", url, two, &grpc), elsewhere);
        assert_eq!(decided("POST", url, two, &[]), elsewhere);
        let other = "http://api.example/other.Service/Call";
        assert_eq!(
            decided("POST", other, two, &grpc),
            format!("reverse {other}")
        );
    }

    #[test]
    fn a_host_is_there_once_and_is_one() {
        let (one, ten) = (Version::HTTP_11, Version::HTTP_10);
        for (version, fields, expected) in [
            (one, &[][..], "bad: there is no Host"),
            (ten, &[], "Livez"),
            (one, &[("host", "")], "Livez"),
            (
                one,
                &[("host", "a"), ("host", "a")],
                "bad: there is more than one Host",
            ),
            (
                ten,
                &[("host", "a"), ("host", "b")],
                "bad: there is more than one Host",
            ),
            (one, &[("host", "a b")], "bad: Host is no host"),
            (one, &[("host", "u@a")], "bad: Host is no host"),
            (one, &[("host", "a/b")], "bad: Host is no host"),
            (one, &[("host", "a:port")], "bad: Host is no host"),
            (one, &[("host", "[::1]:80")], "Livez"),
        ] {
            assert_eq!(
                decided("GET", "/livez", version, fields),
                expected,
                "{fields:?}"
            );
        }
        let found = decided("GET", "http://a.example/", one, &[]);
        assert_eq!(found, "bad: there is no Host");
        assert_eq!(
            decided("GET", "http://a.example/", ten, &[]),
            "forward http://a.example/"
        );
    }

    #[test]
    fn who_may_not_be_forwarded_any_more_is_answered_here() {
        for (method, hops, expected) in [
            ("TRACE", "0", "trace"),
            ("OPTIONS", "0", "options"),
            ("TRACE", "1", "forward http://a.example/"),
            ("TRACE", "-0", "forward http://a.example/"),
            ("GET", "0", "forward http://a.example/"),
        ] {
            let fields = [("host", "a.example"), ("max-forwards", hops)];
            let found = decided(method, "http://a.example/", Version::HTTP_11, &fields);
            assert_eq!(found, expected, "{method} {hops}");
        }
    }

    #[test]
    fn the_admin_listener_has_its_paths_and_no_door() {
        for (target, known) in [
            ("/debug/ring", true),
            ("/livez", true),
            ("/cache?url=http://o/", false),
            ("http://o/", false),
            ("/http://o/", false),
        ] {
            let request = Request::get(target).header("host", "api.example");
            let (head, ()) = request
                .body(())
                .expect("a well-formed request")
                .into_parts();
            let door = door(&head, &gateway(), ListenerName::Admin);
            assert_eq!(
                matches!(door, Door::BuiltIn(_)),
                known,
                "{target}: {door:?}"
            );
        }
    }
}
