//! What has been purged here, newest first: by this a stored response is judged.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    invalidated::Invalidated,
    scope::{Class, ScopeKey, host_of},
};
use crate::policy::{CacheKey, Tags};

/// Lengths of purged prefixes that are known at once: a judgement hashes a URL once for each.
const MAX_LENGTHS: usize = 64;

/// The newest purges of something, by this node's sequence; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) soft: u64,
    /// Invalidations of RFC 9111 §4.4: by unsafe requests, of their URLs and of groups.
    pub(crate) invalid: u64,
    pub(crate) hard: u64,
}

impl Mark {
    fn add(&mut self, other: Self) {
        self.soft = self.soft.max(other.soft);
        self.invalid = self.invalid.max(other.invalid);
        self.hard = self.hard.max(other.hard);
    }

    /// The newest of all.
    pub(crate) fn newest(self) -> u64 {
        self.soft.max(self.invalid).max(self.hard)
    }
}

/// What purges make of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// No purge that applies is newer than it.
    Clean,
    /// It must be validated before it is reused, but may answer for an origin that fails.
    Soft,
    /// It must be validated before it is reused, whatever fails (RFC 9111 §4.4).
    Invalid,
    /// It counts as not stored.
    Hard,
}

impl Verdict {
    /// The verdict on what was asked for when `born` was the newest purge. One hard purge is enough,
    /// whatever came after it.
    pub(crate) fn of(born: u64, mark: Mark) -> Self {
        if mark.hard > born {
            Self::Hard
        } else if mark.invalid > born {
            Self::Invalid
        } else if mark.soft > born {
            Self::Soft
        } else {
            Self::Clean
        }
    }
}

/// Scopes and the newest purge of each, at most `max`; the oldest are folded into a floor, which
/// takes everything: that costs fetches, and never a wrong answer.
#[derive(Debug)]
pub(crate) struct Table {
    seq: u64,
    marks: BTreeMap<ScopeKey, Mark>,
    /// Scopes by their newest purge, to find the oldest.
    order: BTreeMap<u64, ScopeKey>,
    floor: Mark,
    /// Scopes of each class, so that no hash is made in vain.
    counts: [usize; Class::COUNT],
    /// Scopes of one tenant.
    tenants: usize,
    /// Purged prefixes by their length.
    lengths: BTreeMap<u32, usize>,
    /// Purges of any tag or group: a response whose names are not all known is taken by each.
    names: Mark,
    invalidated: Invalidated,
    max: usize,
    folded: u64,
}

impl Table {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            seq: 0,
            marks: BTreeMap::new(),
            order: BTreeMap::new(),
            floor: Mark::default(),
            counts: [0; Class::COUNT],
            tenants: 0,
            lengths: BTreeMap::new(),
            names: Mark::default(),
            invalidated: Invalidated::new(),
            max,
            folded: 0,
        }
    }

    /// The number of the newest purge that was applied here.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Scopes that were folded so far.
    pub(crate) fn folded(&self) -> u64 {
        self.folded
    }

    /// Purges a scope, from now on.
    pub(crate) fn apply(&mut self, scope: ScopeKey, hard: bool) {
        self.seq += 1;
        let mut mark = Mark::default();
        match scope.class {
            _ if hard => mark.hard = self.seq,
            // Whoever names a group, an operator or an origin's answer, invalidates it (RFC 9875 §3);
            // what is not known one by one may have been that.
            Class::Group | Class::Folded => mark.invalid = self.seq,
            _ => mark.soft = self.seq,
        }
        if matches!(scope.class, Class::All | Class::Folded) && !scope.tenant {
            self.floor.add(mark);
            return;
        }
        if matches!(scope.class, Class::Tag | Class::Group) {
            self.names.add(mark);
        }
        match self.marks.get_mut(&scope) {
            Some(known) => {
                self.order.remove(&known.newest());
                known.add(mark);
            }
            None => {
                self.marks.insert(scope, mark);
                self.count(&scope);
            }
        }
        self.order.insert(self.seq, scope);
        while self.marks.len() > self.max || self.lengths.len() > MAX_LENGTHS {
            self.fold_oldest();
        }
    }

    /// Makes a URL of one tenant stale, from now on.
    pub(crate) fn mark(&mut self, url: &ScopeKey, now: Instant) {
        self.seq += 1;
        self.invalidated.mark(url, self.seq, now);
    }

    fn count(&mut self, scope: &ScopeKey) {
        self.counts[scope.class as usize] += 1;
        self.tenants += usize::from(scope.tenant);
        if scope.class == Class::Prefix {
            *self.lengths.entry(scope.length).or_default() += 1;
        }
    }

    fn fold_oldest(&mut self) {
        let Some((_, scope)) = self.order.pop_first() else {
            return;
        };
        self.floor
            .add(self.marks.remove(&scope).unwrap_or_default());
        self.folded += 1;
        self.counts[scope.class as usize] -= 1;
        self.tenants -= usize::from(scope.tenant);
        if scope.class == Class::Prefix
            && let Some(count) = self.lengths.get_mut(&scope.length)
        {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&scope.length);
            }
        }
    }

    /// The newest purges that apply to responses of a key, with these names if they are known yet.
    pub(crate) fn newest(&self, key: &CacheKey, tags: Option<&Tags>) -> Mark {
        let mut mark = self.floor;
        self.add_scopes(&mut mark, None, key, tags);
        if self.tenants > 0 {
            self.add_scopes(&mut mark, Some(key.tenant()), key, tags);
        }
        if tags.is_some_and(Tags::truncated) {
            mark.add(self.names);
        }
        if !self.invalidated.is_empty() {
            let url = ScopeKey::url(Some(key.tenant()), key.url());
            mark.invalid = mark.invalid.max(self.invalidated.of(&url));
        }
        mark
    }

    /// Whether a URL may have been made stale here by an unsafe request within this time.
    pub(crate) fn is_marked_within(&self, key: &CacheKey, time: Duration, now: Instant) -> bool {
        let url = || ScopeKey::url(Some(key.tenant()), key.url());
        !self.invalidated.is_empty() && self.invalidated.within(&url(), time, now)
    }

    fn add_scopes(
        &self,
        mark: &mut Mark,
        tenant: Option<&str>,
        key: &CacheKey,
        tags: Option<&Tags>,
    ) {
        let has = |class: Class| self.counts[class as usize] > 0;
        let mut add =
            |scope: ScopeKey| mark.add(self.marks.get(&scope).copied().unwrap_or_default());
        if has(Class::All) {
            add(ScopeKey::new(&super::Scope::All, tenant, &[]));
        }
        if has(Class::Url) {
            add(ScopeKey::url(tenant, key.url()));
        }
        let port = if key.scheme() == "https" { "443" } else { "80" };
        let host = host_of(key);
        // A host without port, the authority, and the authority with the port it leaves out.
        let mut hosts = vec![host.to_owned()];
        if host == key.authority() {
            hosts.push(format!("{host}:{port}"));
        } else {
            hosts.push(key.authority().to_owned());
        }
        if has(Class::Host) {
            hosts
                .iter()
                .for_each(|host| add(ScopeKey::host(tenant, host)));
        }
        if has(Class::Prefix) {
            let url = format!(
                "{}://{}{}",
                key.scheme(),
                key.authority(),
                key.path_and_query()
            );
            ScopeKey::prefixes(tenant, &url, self.lengths.keys().copied()).for_each(&mut add);
        }
        let Some(tags) = tags else { return };
        if has(Class::Tag) {
            for name in tags.tags() {
                add(ScopeKey::tag(tenant, None, name));
                for host in &hosts {
                    add(ScopeKey::tag(tenant, Some(host), name));
                }
            }
        }
        if has(Class::Group) {
            let origin = (key.scheme(), key.authority());
            for name in tags.groups() {
                add(ScopeKey::group(tenant, origin, name));
            }
        }
    }
}
