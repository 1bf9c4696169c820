//! The reverse proxy's map: which target a request for a host and a path means. Like the routes it
//! is made of, a function of the configuration alone.

use std::{collections::BTreeMap, sync::Arc};

use super::routes::{Route, Routes};
use crate::{
    config::{Config, UpstreamConfig},
    policy::{Target, TargetError},
};

/// The routes that have an upstream, as a client of the reverse proxy meets them.
#[derive(Clone, Debug)]
pub struct Gateway {
    routes: Arc<Routes>,
    upstreams: Arc<BTreeMap<String, Upstream>>,
}

/// What a target at an upstream looks like.
#[derive(Debug)]
struct Upstream {
    /// `http` or `https`.
    scheme: String,
    /// For requests whose own Host says nothing: the upstream's `host`, else its first server.
    authority: String,
}

impl Gateway {
    /// The map of a configuration.
    ///
    /// # Errors
    /// A route that cannot be used; the message names key and value.
    pub fn new(config: &Config) -> Result<Self, String> {
        let upstreams = config.upstreams.iter();
        let upstreams =
            upstreams.filter_map(|(name, from)| Some((name.clone(), Upstream::of(from)?)));
        Ok(Self {
            routes: Arc::new(Routes::new(config)?),
            upstreams: Arc::new(upstreams.collect()),
        })
    }

    /// The target of a request for this host (the Host field, RFC 9110 §7.2) and this path and
    /// query: the first route that matches must have a host and an upstream. A port that no route
    /// names is looked over, because it may be that of our own listener; the target is then
    /// without it.
    ///
    /// # Errors
    /// Host, path and query are no URL that may be asked for.
    #[must_use]
    pub fn by_host(&self, host: &str, path_and_query: &str) -> Option<Result<Target, TargetError>> {
        let without_port = host
            .rsplit_once(':')
            .filter(|(name, port)| !name.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
            .map(|(name, _)| name);
        let hosts = [Some(host), without_port].into_iter().flatten();
        hosts
            .filter_map(|host| self.first(host, path_and_query, Route::has_host))
            .next()
    }

    /// The target of a request whose host says nothing: the first route that matches its path must
    /// have an upstream and no host. The target is at the upstream's `host`, else at its first
    /// server.
    ///
    /// # Errors
    /// Path and query are none that may be asked for.
    #[must_use]
    pub fn by_path(&self, path_and_query: &str) -> Option<Result<Target, TargetError>> {
        let path = path_and_query.split('?').next().unwrap_or_default();
        let mut routes = self.routes.iter();
        let route = routes.find(|route| !route.has_host() && route.matches_path(path))?;
        let upstream = self.upstreams.get(route.upstream.as_deref()?)?;
        let target = upstream.target(&upstream.authority, path_and_query);
        // Without its dot segments the path may be one that the route does not stand for.
        let is_below = |target: &Target| {
            let path = target.path_and_query().split('?').next();
            route.matches_path(path.unwrap_or_default())
        };
        (!target.as_ref().is_ok_and(|target| !is_below(target))).then_some(target)
    }

    /// The first route that matches counts, so that the door and the fetch behind it agree: if it
    /// is not `wanted`, or has no upstream, there is none.
    fn first(
        &self,
        host: &str,
        path_and_query: &str,
        wanted: fn(&Route) -> bool,
    ) -> Option<Result<Target, TargetError>> {
        for route in self.routes.iter() {
            let upstream = route.upstream.as_ref();
            let upstream = upstream.and_then(|name| self.upstreams.get(name));
            let target = match upstream {
                Some(upstream) => upstream.target(host, path_and_query),
                None => target("http", host, path_and_query),
            };
            match target {
                Ok(target) if route.matches(&target) => {
                    return (wanted(route) && upstream.is_some()).then_some(Ok(target));
                }
                Ok(_) => {}
                // The host is well-formed, or no route could name it; what is wrong is the path.
                Err(error) if route.has_host() && route.upstream.is_some() => {
                    let root = upstream?.target(host, "/").ok()?;
                    if route.matches_host(&root) {
                        return Some(Err(error));
                    }
                }
                Err(_) => {}
            }
        }
        None
    }
}

impl Upstream {
    fn of(from: &UpstreamConfig) -> Option<Self> {
        let (scheme, authority) = from.servers.first()?.split_once("://")?;
        let authority = authority.trim_end_matches('/');
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            authority: from.host.clone().unwrap_or_else(|| authority.to_owned()),
        })
    }

    fn target(&self, authority: &str, path_and_query: &str) -> Result<Target, TargetError> {
        target(&self.scheme, authority, path_and_query)
    }
}

fn target(scheme: &str, authority: &str, path_and_query: &str) -> Result<Target, TargetError> {
    Target::parse(&format!("{scheme}://{authority}{path_and_query}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RouteConfig;

    fn gateway() -> Gateway {
        let mut config = Config::default();
        config.node.name = "node-a".to_owned();
        let upstream = |server: &str, host: Option<&str>| UpstreamConfig {
            servers: vec![server.to_owned()],
            host: host.map(str::to_owned),
            ..UpstreamConfig::default()
        };
        config.upstreams = BTreeMap::from([
            ("api".to_owned(), upstream("http://10.0.0.1:8000", None)),
            ("tls".to_owned(), upstream("https://10.0.0.2", None)),
            (
                "web".to_owned(),
                upstream("http://10.0.0.3", Some("www.example.com")),
            ),
        ]);
        let route = |host: Option<&str>, prefix: &str, upstream: Option<&str>| RouteConfig {
            host: host.map(str::to_owned),
            prefix: prefix.to_owned(),
            upstream: upstream.map(str::to_owned),
            ..RouteConfig::default()
        };
        config.routes = vec![
            route(Some("api.example.com"), "/internal", None),
            route(Some("api.example.com"), "/", Some("api")),
            route(Some("*.secure.example"), "/v1", Some("tls")),
            route(Some("port.example:8443"), "/", Some("tls")),
            route(None, "/web", Some("web")),
            route(None, "/files", Some("api")),
            route(None, "/plain", None),
        ];
        config
            .check()
            .expect("the test's configuration is in bounds");
        Gateway::new(&config).expect("the test's routes can be used")
    }

    fn shown(found: Option<Result<Target, TargetError>>) -> String {
        match found {
            None => "none".to_owned(),
            Some(Ok(target)) => target.to_string(),
            Some(Err(error)) => format!("error: {error}"),
        }
    }

    #[test]
    fn host_and_path_lead_to_the_first_route_that_matches_both() {
        for (host, path, expected) in [
            (
                "api.example.com",
                "/a?b=%20&c",
                "http://api.example.com/a?b=%20&c",
            ),
            ("API.Example.com", "/", "http://api.example.com/"),
            // Our own port, most likely.
            ("api.example.com:8080", "/a", "http://api.example.com/a"),
            ("api.example.com", "/internal/x", "none"),
            ("x.secure.example", "/v1/y", "https://x.secure.example/v1/y"),
            ("x.secure.example", "/v10", "none"),
            ("secure.example", "/v1", "none"),
            ("port.example:8443", "/p", "https://port.example:8443/p"),
            ("port.example", "/p", "none"),
            ("port.example:8080", "/p", "none"),
            (
                "api.example.com",
                "//double//slash",
                "http://api.example.com//double//slash",
            ),
            // No host's route comes by its host.
            ("elsewhere", "/web/x", "none"),
        ] {
            let found = shown(gateway().by_host(host, path));
            assert_eq!(found, expected, "{host} {path}");
        }
    }

    #[test]
    fn a_path_leads_to_the_upstream_of_a_route_without_host() {
        for (path, expected) in [
            ("/web/x?y", "http://www.example.com/web/x?y"),
            ("/files", "http://10.0.0.1:8000/files"),
            ("/files?/web", "http://10.0.0.1:8000/files?/web"),
            ("/plain/x", "none"),
            ("/web/../secret", "none"),
            ("/web/%2e%2e/secret", "none"),
            ("/web/./x/..", "http://www.example.com/web/"),
            ("/filesystem", "none"),
            ("/", "none"),
        ] {
            assert_eq!(shown(gateway().by_path(path)), expected, "{path}");
        }
    }

    #[test]
    fn what_is_too_long_for_a_target_is_an_error_and_not_another_door() {
        let long = format!("/{}", "x".repeat(9 << 10));
        let found = shown(gateway().by_host("api.example.com", &long));
        assert!(found.starts_with("error: the URL is too long"), "{found}");
        assert_eq!(shown(gateway().by_host("elsewhere", &long)), "none");
    }
}
