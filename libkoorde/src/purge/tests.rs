//! The purges against an oracle: plain lists of what was purged and what is stored.

use std::{sync::atomic::AtomicU64, time::Instant};

use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::policy::Target;

const BOUNDS: Bounds = Bounds {
    scopes: 65_536,
    log: 65_536,
};

const HOSTS: [&str; 3] = [
    "http://a.example",
    "http://a.example:81",
    "https://b.example",
];
const PATHS: [&str; 4] = ["/", "/x", "/x/y", "/xy?q=1"];
const NAMES: [&str; 3] = ["one", "two", "three"];
const TENANTS: [&str; 2] = ["", "t"];

#[expect(clippy::disallowed_methods, reason = "any time will do")]
fn any_time() -> Instant {
    Instant::now()
}

/// Something stored, in plain words.
#[derive(Clone, Debug)]
struct Response {
    host: usize,
    path: usize,
    tenant: usize,
    tags: Vec<usize>,
    groups: Vec<usize>,
}

/// A purge, in plain words.
#[derive(Clone, Debug)]
enum Plain {
    Url(usize, usize),
    Tag(usize, Option<usize>),
    Group(usize, usize),
    Prefix(usize, usize),
    Host(usize),
    All,
}

impl Response {
    fn target(&self) -> Target {
        url(self.host, self.path)
    }

    fn tags(&self) -> Tags {
        let mut fields = HeaderMap::new();
        for tag in &self.tags {
            fields.append("cache-tag", NAMES[*tag].parse().expect("a value"));
        }
        for group in &self.groups {
            let value = format!("\"{}\"", NAMES[*group]);
            fields.append("cache-groups", value.parse().expect("a value"));
        }
        Tags::read(&fields)
    }
}

fn url(host: usize, path: usize) -> Target {
    Target::parse(&format!("{}{}", HOSTS[host], PATHS[path])).expect("a URL")
}

impl Plain {
    fn verdict(&self, hard: bool) -> Verdict {
        match self {
            _ if hard => Verdict::Hard,
            Self::Group(..) => Verdict::Invalid,
            _ => Verdict::Soft,
        }
    }

    fn takes(&self, tenant: Option<usize>, response: &Response) -> bool {
        // The first two hosts are one name; a purge of the name takes all of its ports.
        let same_host = |host: usize| match host {
            0 => response.host <= 1,
            host => host == response.host,
        };
        tenant.is_none_or(|tenant| tenant == response.tenant)
            && match self {
                Self::Url(host, path) => (*host, *path) == (response.host, response.path),
                Self::Tag(name, host) => response.tags.contains(name) && host.is_none_or(same_host),
                Self::Group(host, name) => response.groups.contains(name) && *host == response.host,
                Self::Prefix(host, path) => {
                    let prefix = url(*host, *path);
                    response
                        .target()
                        .to_string()
                        .starts_with(&prefix.to_string())
                }
                Self::Host(host) => same_host(*host),
                Self::All => true,
            }
    }

    fn key(&self, tenant: Option<usize>) -> ScopeKey {
        let name = |index: usize| HOSTS[index].split_once("://").expect("a URL").1;
        let (scope, target) = match self {
            Self::Url(host, path) => (Scope::Url(url(*host, *path)), url(*host, *path)),
            Self::Tag(tag, host) => {
                let host = host.map(name);
                (Scope::tag(NAMES[*tag], host).expect("valid"), url(0, 0))
            }
            Self::Group(host, group) => {
                let scope = Scope::group(url(*host, 0), NAMES[*group]);
                (scope.expect("valid"), url(0, 0))
            }
            Self::Prefix(host, path) => (Scope::Prefix(url(*host, *path)), url(0, 0)),
            Self::Host(host) => (Scope::host(name(*host)).expect("valid"), url(0, 0)),
            Self::All => (Scope::All, url(0, 0)),
        };
        let key = CacheKey::new("", &target);
        ScopeKey::new(&scope, tenant.map(|tenant| TENANTS[tenant]), key.url())
    }
}

fn plain() -> impl Strategy<Value = Plain> {
    prop_oneof![
        (0..3usize, 0..4usize).prop_map(|(host, path)| Plain::Url(host, path)),
        (0..3usize, proptest::option::of(0..3usize)).prop_map(|(tag, host)| Plain::Tag(tag, host)),
        (0..3usize, 0..3usize).prop_map(|(host, group)| Plain::Group(host, group)),
        (0..3usize, 0..4usize).prop_map(|(host, path)| Plain::Prefix(host, path)),
        (0..3usize).prop_map(Plain::Host),
        Just(Plain::All),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    let names = || proptest::collection::vec(0..3usize, 0..3);
    (0..3usize, 0..4usize, 0..2usize, names(), names()).prop_map(
        |(host, path, tenant, tags, groups)| Response {
            host,
            path,
            tenant,
            tags,
            groups,
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Store(Response),
    Purge(Plain, Option<usize>, bool),
    /// An unsafe request for a URL, by one tenant.
    Mark(usize, usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tenant = || proptest::option::weighted(0.2, 0..2usize);
    let step = prop_oneof![
        response().prop_map(Step::Store),
        (plain(), tenant(), any::<bool>()).prop_map(|(p, t, hard)| Step::Purge(p, t, hard)),
        (0..3usize, 0..4usize, 0..2usize).prop_map(|(h, p, t)| Step::Mark(h, p, t)),
    ];
    proptest::collection::vec(step, 1..60)
}

fn marked(host: usize, path: usize, tenant: usize) -> ScopeKey {
    let key = CacheKey::new(TENANTS[tenant], &url(host, path));
    ScopeKey::url(Some(key.tenant()), key.url())
}

/// Runs the steps; what is stored, with what each should be judged as, and as what it is.
fn run(steps: &[Step], bounds: Bounds) -> Vec<(Response, Verdict, Verdict)> {
    let purges = Purges::new(bounds);
    let mut stored: Vec<(Response, u64, AtomicU64, Verdict)> = Vec::new();
    for step in steps {
        match step {
            Step::Store(response) => {
                let born = purges.version();
                stored.push((response.clone(), born, AtomicU64::new(born), Verdict::Clean));
            }
            Step::Purge(plain, tenant, hard) => {
                purges.issue(&[plain.key(*tenant)], *hard, (1, 1));
                let verdict = plain.verdict(*hard);
                for (response, _, _, wanted) in &mut stored {
                    if plain.takes(*tenant, response) {
                        *wanted = (*wanted).max(verdict);
                    }
                }
            }
            Step::Mark(host, path, tenant) => {
                purges.mark([marked(*host, *path, *tenant)].into_iter(), any_time());
                let plain = Plain::Url(*host, *path);
                for (response, _, _, wanted) in &mut stored {
                    if plain.takes(Some(*tenant), response) {
                        *wanted = (*wanted).max(Verdict::Invalid);
                    }
                }
            }
        }
        // Judged at every step, so that what is remembered of a judgement is tried, too.
        for (response, born, clean, _) in &stored {
            let key = CacheKey::new(TENANTS[response.tenant], &response.target());
            purges.judge(*born, clean, &key, &response.tags());
        }
    }
    stored
        .into_iter()
        .map(|(response, born, clean, wanted)| {
            let key = CacheKey::new(TENANTS[response.tenant], &response.target());
            let verdict = purges.judge(born, &clean, &key, &response.tags());
            (response, wanted, verdict)
        })
        .collect()
}

proptest! {
    #[test]
    fn what_is_stored_is_judged_as_a_plain_list_of_purges_would(steps in steps()) {
        for (response, wanted, verdict) in run(&steps, BOUNDS) {
            prop_assert_eq!(wanted, verdict, "{:?}", response);
        }
    }

    #[test]
    fn a_full_table_takes_more_and_never_less(steps in steps(), scopes in 1..5usize) {
        for (response, wanted, verdict) in run(&steps, Bounds { scopes, log: 5 }) {
            prop_assert!(verdict >= wanted, "{verdict:?}, not {wanted:?}: {response:?}");
        }
    }

    /// Three nodes issue and tell each other in any order, with logs too short to keep all: in the
    /// end they know the same, and whatever one has purged is purged at all.
    #[test]
    fn nodes_that_tell_each_other_end_up_knowing_the_same(
        steps in proptest::collection::vec((0..3usize, 0..3usize, plain(), any::<bool>()), 1..60),
        log in 1..20usize,
        response in response(),
    ) {
        let nodes: Vec<_> = (0..3).map(|_| Purges::new(Bounds { log, ..BOUNDS })).collect();
        let mut wanted = Verdict::Clean;
        for (from, to, plain, hard) in &steps {
            if from == to {
                nodes[*from].issue(&[plain.key(None)], *hard, (5, *from as u64));
                if plain.takes(None, &response) {
                    wanted = wanted.max(plain.verdict(*hard));
                }
            } else {
                tell(&nodes[*from], &nodes[*to]);
            }
        }
        for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 1)] {
            tell(&nodes[from], &nodes[to]);
        }
        let key = CacheKey::new(TENANTS[response.tenant], &response.target());
        for node in &nodes {
            prop_assert_eq!(node.known(), nodes[0].known());
            prop_assert_eq!(node.digest(), nodes[0].digest());
            prop_assert_eq!(node.generation(), nodes[0].generation());
            let verdict = node.judge(0, &AtomicU64::new(0), &key, &response.tags());
            prop_assert!(verdict >= wanted, "{verdict:?}, not {wanted:?}");
        }
    }
}

#[test]
fn a_flood_of_unsafe_requests_takes_no_more_than_their_urls_and_few_others() {
    let purges = Purges::new(Bounds {
        scopes: 16,
        log: 16,
    });
    let key = |n: u32| {
        let target = Target::parse(&format!("http://a.example/{n}")).expect("a URL");
        CacheKey::new("", &target)
    };
    let now = any_time();
    let mark = |n: u32| {
        let url = ScopeKey::url(Some(""), key(n).url());
        purges.mark([url].into_iter(), now);
    };
    let verdict =
        |n: u32, born: u64| purges.judge(born, &AtomicU64::new(born), &key(n), &Tags::default());
    // Again and again the same: each is stale at once.
    for n in 0..32_768 {
        let born = purges.version();
        mark(n % 1000);
        assert_eq!(verdict(n % 1000, born), Verdict::Invalid);
        assert_eq!(verdict(n % 1000, purges.version()), Verdict::Clean);
    }
    assert_eq!(purges.read().table.folded(), 0);
    // A thousand of 2^18 slots: one in 262 of all others is stale once.
    let stale = (10_000..20_000).filter(|n| verdict(*n, 0) != Verdict::Clean);
    let stale = stale.count();
    assert!((10..90).contains(&stale), "{stale} of 10,000");
    // Whatever comes later and wherever it falls, what was marked is never fresh from before.
    let before = purges.version();
    (0..5000).for_each(mark);
    assert!((0..5000).all(|n| verdict(n, before) == Verdict::Invalid));
    (5000..40_000).for_each(mark);
    assert!((0..5000).all(|n| verdict(n, before) == Verdict::Invalid));
    assert_eq!(purges.read().table.folded(), 0);
}

/// A day of writes to more URLs than there are slots, and what other nodes have stored since.
#[test]
fn what_is_younger_than_the_unsafe_requests_for_it_is_not_from_before_them() {
    let purges = Purges::new(BOUNDS);
    let key = |n: u32| {
        let target = Target::parse(&format!("http://a.example/{n}")).expect("a URL");
        CacheKey::new("", &target)
    };
    let (began, second) = (any_time(), Duration::from_secs(1));
    let is_from_before = |n, age, now| purges.is_marked_within(&key(n), age, began + now);
    assert!(!is_from_before(1, Duration::MAX, second));
    let urls = |urls: std::ops::Range<u32>| urls.map(|n| ScopeKey::url(Some(""), key(n).url()));
    for hour in 0..24 {
        purges.mark(
            urls(hour * 20_000..(hour + 1) * 20_000),
            began + 3600 * hour * second,
        );
    }
    let day = 24 * 3600 * second;
    purges.mark(urls(0..100), began + day);
    let age = 60 * second;
    let (sooner, later) = (day + age, day + age + 2 * second);
    assert!((0..100).all(|n| is_from_before(n, age, sooner)));
    assert!(
        !(0..480_000)
            .step_by(7)
            .any(|n| is_from_before(n, age, later))
    );
    // Slots are shared: nearly all URLs of which nobody has heard are as old as their neighbours.
    assert!((0..100).all(|n| is_from_before(n, age + 4 * second, later)));
    assert!(
        (0..480_000)
            .step_by(7)
            .all(|n| is_from_before(n, Duration::MAX, later))
    );
}

/// One exchange, as `node/purge.rs` does it: one page at a time, both ways.
fn tell(from: &Purges, to: &Purges) {
    for _ in 0..100 {
        let (theirs, ours) = (to.known(), from.known());
        if theirs == ours {
            return;
        }
        to.merge(&from.missing(&theirs), ours.horizon);
        from.merge(&to.missing(&ours), to.known().horizon);
    }
    panic!("they never agree");
}

#[test]
fn a_digest_of_the_past_is_covered_and_one_of_the_future_is_not() {
    let (a, b) = (Purges::new(BOUNDS), Purges::new(BOUNDS));
    let scope = Plain::All.key(None);
    let before = a.digest();
    a.issue(&[scope], false, (1, 1));
    assert!(a.covers(before) && !b.covers(a.digest()));
    tell(&b, &a);
    let middle = b.digest();
    assert_eq!(middle, a.digest());
    b.issue(&[scope], false, (2, 2));
    assert!(b.covers(middle) && !a.covers(b.digest()));
    assert_eq!((a.generation(), b.generation()), (1, 2));
}

#[test]
fn an_entry_behind_a_gap_waits_for_what_is_between() {
    let (a, b) = (Purges::new(BOUNDS), Purges::new(BOUNDS));
    let entries = a.issue(&[Plain::All.key(None); 3], false, (1, 1));
    let none = Horizon::default();
    assert_eq!(b.merge(&entries[2..], none).applied, 0);
    assert_eq!(b.merge(&entries[..2], none).applied, 2);
    assert_eq!(b.merge(&entries, none).applied, 1, "the rest, each once");
    assert_eq!(b.digest(), a.digest());
}

#[test]
fn many_lives_are_forgotten_behind_a_horizon_and_everything_is_purged_for_it() {
    let (a, late) = (Purges::new(BOUNDS), Purges::new(BOUNDS));
    let scope = Plain::Tag(0, None).key(None);
    for life in 0..3000 {
        let one = Purges::new(BOUNDS);
        let entries = one.issue(&[scope], false, (life + 1, life));
        a.merge(&entries, Horizon::default());
    }
    assert_eq!(a.generation(), 3000);
    assert!(a.known().vector.len() <= 1024);
    tell(&a, &late);
    assert_eq!((late.generation(), late.digest()), (3000, a.digest()));
    let other = Response {
        host: 0,
        path: 0,
        tenant: 0,
        tags: Vec::new(),
        groups: Vec::new(),
    };
    let key = CacheKey::new("", &other.target());
    let verdict = late.judge(0, &AtomicU64::new(0), &key, &other.tags());
    assert_eq!(verdict, Verdict::Invalid, "it may have missed something");
    // A life that is behind the horizon counts again under a new name.
    let old = late.issue(&[scope], false, (1, 1));
    assert_eq!(a.merge(&old, Horizon::default()).applied, 1);
}

#[test]
fn a_response_whose_names_are_not_all_known_is_taken_by_any_name() {
    let purges = Purges::new(BOUNDS);
    let mut fields = HeaderMap::new();
    let long = "x".repeat(1000);
    fields.insert("cache-tag", long.parse().expect("a value"));
    let key = CacheKey::new("", &url(0, 0));
    purges.issue(&[Plain::Tag(2, None).key(None)], false, (1, 1));
    let verdict = purges.judge(0, &AtomicU64::new(0), &key, &Tags::read(&fields));
    assert_eq!(verdict, Verdict::Soft);
    let verdict = purges.judge(0, &AtomicU64::new(0), &key, &Tags::read(&HeaderMap::new()));
    assert_eq!(verdict, Verdict::Clean);
}
