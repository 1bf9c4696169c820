//! Which rules hold for a target: a function of the configuration and the target alone, so that
//! every node of a cluster comes to the same answer without being told.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc, time::Duration};

use http::HeaderMap;

use super::{Overrides, Request};
use crate::{
    config::{Config, RouteConfig},
    policy::{
        Bypass, CacheKey, KeyRules, Settings, Target, encoding, fields::connection, forwarding,
    },
};

/// The rules of one route.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    host: Option<String>,
    prefix: String,
    pub(crate) upstream: Option<String>,
    pub(crate) tenant: String,
    pub(crate) collapse: bool,
    pub(crate) policy: Settings,
    pub(crate) bypass: Bypass,
    /// Bytes of a slice, if bodies are fetched in slices.
    pub(crate) slice: Option<u64>,
    key: KeyRules,
    normalise_encoding: bool,
}

/// All routes, in order; behind them the one for every other target.
#[derive(Debug)]
pub(crate) struct Routes {
    routes: Vec<Arc<Route>>,
    other: Arc<Route>,
}

impl Routes {
    /// # Errors
    /// A route names an upstream that is not configured.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let route = |from: &RouteConfig| Route {
            host: from.host.as_ref().map(|host| host.to_ascii_lowercase()),
            prefix: from.prefix.trim_end_matches('/').to_owned(),
            upstream: from.upstream.clone(),
            tenant: from.tenant.clone(),
            collapse: from.collapse,
            policy: from.cache.clone().unwrap_or_else(|| config.cache.clone()),
            bypass: from.bypass.clone(),
            slice: (from.slice.0 > 0).then_some(from.slice.0),
            key: from.key.clone(),
            normalise_encoding: from.normalise_encoding,
        };
        Ok(Self {
            routes: config
                .routes
                .iter()
                .map(|from| Arc::new(route(from)))
                .collect(),
            other: Arc::new(route(&RouteConfig::default())),
        })
    }

    /// All tenants that a client's tenant may be a part of, one for each tenant of a route.
    pub(crate) fn tenants_of(&self, client: &str) -> BTreeSet<String> {
        let all = self.routes.iter().chain([&self.other]);
        all.map(|route| route.tenant_of(client).into_owned())
            .collect()
    }

    /// All of the configuration, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().map(AsRef::as_ref)
    }

    /// The first route that matches.
    pub(crate) fn find(&self, target: &Target) -> &Arc<Route> {
        let found = self.routes.iter().find(|route| route.matches(target));
        found.unwrap_or(&self.other)
    }
}

impl Route {
    pub(crate) fn matches(&self, target: &Target) -> bool {
        let path = target.path_and_query();
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        self.matches_host(target) && self.matches_path(path)
    }

    /// Whether the route names a host.
    pub(crate) fn has_host(&self) -> bool {
        self.host.is_some()
    }

    pub(crate) fn matches_host(&self, target: &Target) -> bool {
        self.host
            .as_deref()
            .is_none_or(|host| match host.strip_prefix('*') {
                Some(suffix) => {
                    target.authority().len() > suffix.len() && target.authority().ends_with(suffix)
                }
                None => target.authority() == host,
            })
    }

    /// Whether a path, without its query, is the prefix or below it.
    pub(crate) fn matches_path(&self, path: &str) -> bool {
        let below = path.strip_prefix(self.prefix.as_str());
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The cache key of a request whose place is on this route.
    pub(crate) fn key(&self, request: &Request) -> CacheKey {
        let place = request.place();
        self.key_at(place, &request.overrides, &request.fields, request.slice)
    }

    /// The same of a request's parts.
    pub(crate) fn key_at(
        &self,
        place: &Target,
        overrides: &Overrides,
        fields: &HeaderMap,
        slice: Option<u64>,
    ) -> CacheKey {
        let tenant = self.tenant_of(overrides.tenant());
        self.key.key(&tenant, place, fields, slice)
    }

    /// The tenant in the keys of a client's tenant: below ours, so that no client names another's.
    pub(crate) fn tenant_of(&self, client: &str) -> Cow<'_, str> {
        match (self.tenant.as_str(), client) {
            (ours, "") => Cow::Borrowed(ours),
            ("", client) => Cow::Owned(client.to_owned()),
            (ours, client) => Cow::Owned(format!("{ours}/{client}")),
        }
    }

    /// The same rules, with this lifetime for what says none of its own or another, but not for an
    /// error: one bad minute of the origin must not stay for a day.
    pub(crate) fn with_lifetime(&self, lifetime: Duration) -> Self {
        let mut route = self.clone();
        let ttl = &mut route.policy.ttl;
        ttl.fixed = Some(lifetime);
        ttl.floor = None;
        route
    }

    /// Whether one URL may have several keys, each with owners of its own.
    pub(crate) fn has_many_keys(&self) -> bool {
        let rules = &self.key;
        !rules.headers.is_empty() || !rules.cookies.is_empty() || self.slice.is_some()
    }

    /// Whether what comes of a request whose fields nobody strips may be its sender's choice.
    pub(crate) fn has_unkeyed(&self, request: &Request) -> bool {
        self.policy.strip_unkeyed && forwarding::has_unkeyed(&request.fields, &self.key.headers)
    }

    /// Changes a client's request before anything is decided about it, so that what is looked up is
    /// what is sent.
    pub(crate) fn prepare(&self, request: &mut Request) {
        // Also what the client's Connection names: the origin will not see it, so it must not choose
        // a variant.
        connection::strip_request(&mut request.fields);
        forwarding::join_cookies(&mut request.fields);
        if self.normalise_encoding {
            encoding::normalise_accept_encoding(&mut request.fields);
        }
        if self.policy.strip_unkeyed {
            let keyed = &self.key.headers;
            forwarding::strip_unkeyed(&request.method, &mut request.fields, keyed);
        }
    }
}
