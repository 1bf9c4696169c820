//! A cache under test, and how a URL is asked of it.

use std::net::SocketAddr;

use super::layer::App;

/// A running cache.
#[derive(Clone, Debug)]
pub struct Target {
    /// For reports.
    pub name: String,
    /// Where it listens. With several, every request goes to one of them by chance.
    pub addresses: Vec<SocketAddr>,
    /// How its requests look.
    pub door: Door,
    /// Whether koorde's own promises count.
    pub is_koorde: bool,
    /// The app that asks, if it is one with the layer; then nothing is asked at `addresses`.
    pub app: Option<App>,
}

/// How the URL of a story becomes a request-target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `/cache?url=http%3A%2F%2F…`
    Query,
    /// `/path`, with a host that is routed to the origin.
    Reverse,
    /// `http://origin/path`
    Forward,
    /// `/http://origin/path`
    Path,
}

/// The host under which reverse proxies know the origin.
pub const HOST: &str = "behaviour.test";

impl Door {
    /// Scheme and authority of the stories' URLs.
    pub fn origin(self, origin: SocketAddr) -> String {
        match self {
            Door::Reverse => format!("http://{HOST}"),
            Door::Query | Door::Forward | Door::Path => format!("http://{origin}"),
        }
    }

    /// The request-target and the Host of a request for this path and query.
    pub fn request(self, origin: SocketAddr, path: &str, cache: SocketAddr) -> (String, String) {
        let url = format!("http://{origin}{path}");
        match self {
            Door::Query => {
                let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
                (format!("/cache?url={url}"), cache.to_string())
            }
            Door::Reverse => (path.to_owned(), HOST.to_owned()),
            Door::Forward => (url, origin.to_string()),
            Door::Path => (format!("/{url}"), cache.to_string()),
        }
    }
}
