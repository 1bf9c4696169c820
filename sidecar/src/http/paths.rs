//! The paths of our own.

use super::ListenerName;

/// What a path of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BuiltIn {
    Livez,
    Readyz,
    Health,
    Metrics,
    Prometheus,
    Json,
    Ring,
    Explain,
    Config,
    Purge,
    Page,
    Events,
}

/// Path, purpose, whether it is on the admin listener, whether it is on the main one.
const BUILT_IN: [(&str, BuiltIn, bool, bool); 12] = [
    ("/livez", BuiltIn::Livez, true, true),
    ("/readyz", BuiltIn::Readyz, true, true),
    ("/health", BuiltIn::Health, true, true),
    ("/metrics", BuiltIn::Metrics, true, true),
    ("/metrics/prometheus", BuiltIn::Prometheus, true, true),
    ("/metrics/json", BuiltIn::Json, true, true),
    ("/debug/ring", BuiltIn::Ring, true, false),
    ("/debug/explain", BuiltIn::Explain, true, false),
    ("/debug/config", BuiltIn::Config, true, false),
    ("/purge", BuiltIn::Purge, true, false),
    ("/ui", BuiltIn::Page, true, false),
    ("/ui/events", BuiltIn::Events, true, false),
];

impl BuiltIn {
    /// What is behind a path of this listener.
    pub(super) fn find(path: &str, listener: ListenerName) -> Option<Self> {
        let mut here = here(listener);
        let found = here.find(|(known, _)| *known == path);
        let page = || {
            let is_below = listener == ListenerName::Admin && path.starts_with("/ui/");
            is_below.then_some(Self::Page)
        };
        found.map(|(_, built_in)| built_in).or_else(page)
    }

    /// Its path.
    pub(super) fn path(self) -> &'static str {
        let mut all = BUILT_IN.iter();
        let found = all.find(|(_, built_in, ..)| *built_in == self);
        found.map_or("other", |(path, ..)| path)
    }
}

/// Every path that is always there on a listener, for who asks for another.
pub(super) fn all(listener: ListenerName) -> Vec<&'static str> {
    let cache = (listener == ListenerName::Http).then_some("/cache");
    let ours = here(listener).map(|(path, _)| path);
    cache.into_iter().chain(ours).collect()
}

fn here(listener: ListenerName) -> impl Iterator<Item = (&'static str, BuiltIn)> {
    let is_here = move |admin: bool, http: bool| match listener {
        ListenerName::Http => http,
        ListenerName::Admin => admin,
    };
    let ours = BUILT_IN.into_iter();
    let ours = ours.filter(move |(_, _, admin, http)| is_here(*admin, *http));
    ours.map(|(path, built_in, ..)| (path, built_in))
}
