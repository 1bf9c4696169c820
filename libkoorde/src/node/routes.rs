//! Which rules hold for a target: a function of the configuration and the target alone, so that
//! every node of a cluster comes to the same answer without being told.

use std::sync::Arc;

use crate::{
    config::{Config, RouteConfig},
    policy::{CacheKey, SetCookie, Settings, Target},
};

/// The rules of one route.
#[derive(Debug)]
pub(crate) struct Route {
    host: Option<String>,
    prefix: String,
    pub(crate) upstream: Option<String>,
    pub(crate) tenant: String,
    pub(crate) collapse: bool,
    pub(crate) policy: Settings,
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
        let policy = Settings {
            store_set_cookie: if config.store.set_cookie {
                SetCookie::ExplicitFreshness
            } else {
                SetCookie::PublicOnly
            },
            ..Settings::default()
        };
        let route = |from: &RouteConfig| Route {
            host: from.host.as_ref().map(|host| host.to_ascii_lowercase()),
            prefix: from.prefix.trim_end_matches('/').to_owned(),
            upstream: from.upstream.clone(),
            tenant: from.tenant.clone(),
            collapse: from.collapse,
            policy: policy.clone(),
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

    /// The first route that matches.
    pub(crate) fn find(&self, target: &Target) -> &Arc<Route> {
        let found = self.routes.iter().find(|route| route.matches(target));
        found.unwrap_or(&self.other)
    }
}

impl Route {
    fn matches(&self, target: &Target) -> bool {
        let host = self
            .host
            .as_deref()
            .is_none_or(|host| match host.strip_prefix('*') {
                Some(suffix) => {
                    target.authority().len() > suffix.len() && target.authority().ends_with(suffix)
                }
                None => target.authority() == host,
            });
        let path = target.path_and_query();
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let below = path.strip_prefix(self.prefix.as_str());
        host && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The cache key of a request for this target.
    pub(crate) fn key(&self, target: &Target) -> CacheKey {
        CacheKey::new(&self.tenant, target)
    }
}
