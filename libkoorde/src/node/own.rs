//! Origins that each node asks for itself, whoever owns their keys: another node would reach another
//! server under that name, or may not reach it.
//!
//! What they answer is stored here, for the clients of this node. No peer is asked for it, and none
//! gets it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time;

use super::{Inner, Request, answer::Answer, egress::Guard, fetch::Hop, resolver::Resolver};
use crate::{
    config::EgressConfig,
    error::FetchError,
    policy::{CacheKey, Target},
};

/// Origins that are found to be this node's own, at most; those found later stay refused.
const MAX_FOUND: usize = 1024;

/// Which origins those are.
#[derive(Debug)]
pub(crate) struct Own {
    short_names: bool,
    /// Lets pass what `egress.own` names, too; none if it names nothing.
    guard: Option<Arc<Guard>>,
    /// Authorities that this guard lets pass and the one for all does not.
    found: Mutex<BTreeSet<String>>,
}

impl Own {
    /// # Errors
    /// The first entry that is neither a host, a `*.suffix`, an address nor a network.
    pub(crate) fn new(config: &EgressConfig, all: &Guard) -> Result<Self, String> {
        let guard = (!config.own.is_empty()).then(|| all.and(&config.own));
        Ok(Self {
            short_names: config.own_short_names,
            guard: guard.transpose()?.map(Arc::new),
            found: Mutex::default(),
        })
    }

    /// Who judges what is fetched for clients of this node only, if that is another than for all.
    pub(crate) fn guard(&self) -> Option<&Arc<Guard>> {
        self.guard.as_ref()
    }

    fn has(&self, authority: &str) -> bool {
        let found = || self.found.lock().unwrap_or_else(PoisonError::into_inner);
        self.short_names && is_short(authority)
            || self.guard.is_some() && found().contains(authority)
    }

    /// Whether only this node's own clients may have what `target` answers. If so, it is remembered.
    async fn finds(
        &self,
        target: &Target,
        all: &Guard,
        resolver: &Resolver,
        timeout: Duration,
    ) -> bool {
        let Some(guard) = &self.guard else {
            return false;
        };
        let host = target.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = time::timeout(timeout, resolver.resolve(bare, target.port())).await;
        let Ok(Ok(addresses)) = addresses else {
            return false;
        };
        if all.check(bare, &addresses).is_ok() || guard.check(bare, &addresses).is_err() {
            return false;
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() < MAX_FOUND {
            found.insert(target.authority().to_owned());
        }
        found.contains(target.authority())
    }
}

/// Whether a name has no dot, so that the resolver's search domains say whose it is.
fn is_short(authority: &str) -> bool {
    !authority.contains('.') && !authority.starts_with('[')
}

impl Inner {
    /// Whether what is stored under a key is for the clients of this node only. Where the operator has
    /// named the servers, they are the same for all.
    pub(crate) fn is_own(&self, key: &CacheKey) -> bool {
        self.own.has(key.authority()) && self.routes.find(&key.target()).upstream.is_none()
    }

    /// Answers a request, whole or in slices; once more if its origin is found to be ours alone.
    pub(crate) async fn answer_or_own(
        self: &Arc<Self>,
        mut request: Request,
        hop: Hop,
        timeout: Duration,
    ) -> Result<Answer, FetchError> {
        let is_client = hop == Hop::Client && self.own.guard.is_some();
        let mut again = is_client.then(|| request.clone());
        loop {
            let answer = match self.sliced(&mut request, hop, timeout).await {
                Some(answer) => answer,
                None => self.answer(request, hop, timeout).await,
            };
            let is_denied = matches!(answer, Err(FetchError::Denied { .. }));
            let Some(same) = again.take().filter(|_| is_denied) else {
                return answer;
            };
            let (target, timeout) = (&same.target, self.config.origin.connect_timeout);
            let finds = self.own.finds(target, &self.guard, &self.resolver, timeout);
            if !finds.await {
                return answer;
            }
            request = same;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_dot_is_short_with_any_port_and_an_address_never_is() {
        for (authority, expected) in [
            ("billing", true),
            ("billing:8080", true),
            ("localhost", true),
            ("billing.shop", false),
            ("billing.", false),
            ("10.0.0.1:80", false),
            ("[::1]", false),
            ("[::1]:80", false),
        ] {
            assert_eq!(is_short(authority), expected, "{authority}");
        }
    }

    #[tokio::test]
    async fn what_all_may_reach_is_nobodys_own_and_so_is_what_nobody_may() {
        let allow = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let all = Guard::new(&allow(&["127.0.0.1"])).expect("an address");
        let config = EgressConfig {
            own: allow(&["127.0.0.0/24"]),
            ..EgressConfig::default()
        };
        let own = Own::new(&config, &all).expect("a network");
        for (host, expected) in [
            ("127.0.0.1", false),
            ("127.0.0.2", true),
            ("127.0.0.2", true),
            ("127.0.1.1", false),
            ("1.1.1.1", false),
        ] {
            let target = Target::parse(&format!("http://{host}:81/")).expect("a URL");
            let second = Duration::from_secs(1);
            let finds = own
                .finds(&target, &all, &Resolver::new(second), second)
                .await;
            assert_eq!(finds, expected, "{host}");
            assert_eq!(own.has(target.authority()), expected, "{host}");
        }
        assert!(!own.has("127.0.0.2:82"), "another port is another origin");
    }
}
