//! Names to addresses, by the system's resolver.
//!
//! That takes a thread for each look-up, for as long as it likes, and threads are shared by all: neither
//! a name whose servers do not answer nor all the names that one can make up under a domain must
//! take them all.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task, time,
};

/// Addresses of one name that are tried, at most.
const MAX_ADDRESSES: usize = 16;
/// Look-ups of one name at once.
const OF_A_NAME: usize = 4;
/// Of all names under one domain.
const OF_A_DOMAIN: usize = 32;
/// Of all names. There are two resolvers, one for the names of targets, one for those that the operator
/// wrote, and tokio has 512 threads for them and for all else that blocks.
const IN_ALL: usize = 192;
/// Names, or domains, that are remembered without need.
const MAX_NAMES: usize = 1024;

/// Resolves names; clones share the bounds.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    names: Turns,
    domains: Turns,
    all: Arc<Semaphore>,
    /// How long a place among the look-ups of a domain is waited for, and one among all.
    patience: Duration,
}

/// There was no place for a look-up within a part of `origin.connect_timeout`; says of which bound.
#[derive(Debug, thiserror::Error)]
#[error("no place within the bound of {0}")]
pub(crate) struct Crowded(pub(crate) &'static str);

impl Resolver {
    /// A look-up that finds no place has failed within half of `connect_timeout`, and so it can still be
    /// told from one that takes too long.
    pub(crate) fn new(connect_timeout: Duration) -> Self {
        Self {
            names: Turns::new(OF_A_NAME),
            domains: Turns::new(OF_A_DOMAIN),
            all: Arc::new(Semaphore::new(IN_ALL)),
            patience: connect_timeout / 4,
        }
    }

    /// The addresses of a name, or the one that it is. Waits while the same name is looked up by
    /// many; a look-up that nobody waits for any more counts until the system gives it up.
    ///
    /// # Errors
    /// What the system says; [`Crowded`].
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(literal) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(literal, port)]);
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let turn = self.names.of(&name).acquire_owned().await;
        let domain = self.domains.of(domain(&name));
        let places = [
            self.place(domain, "look-ups of names under one domain")
                .await?,
            self.place(Arc::clone(&self.all), "look-ups of names")
                .await?,
        ];
        let name = host.to_owned();
        let look_up = move || {
            let _held = (turn, places);
            let addresses = (name.as_str(), port).to_socket_addrs()?;
            Ok(addresses.take(MAX_ADDRESSES).collect())
        };
        task::spawn_blocking(look_up)
            .await
            .map_err(io::Error::other)?
    }

    async fn place(
        &self,
        places: Arc<Semaphore>,
        bound: &'static str,
    ) -> io::Result<OwnedSemaphorePermit> {
        let place = time::timeout(self.patience, places.acquire_owned()).await;
        let place = place.map_err(|_elapsed| io::Error::other(Crowded(bound)))?;
        Ok(place.expect("the semaphore is never closed"))
    }
}

/// The last two labels of a name: whoever has the domain can make up all that stands before them.
fn domain(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    dots.nth(1).map_or(name, |at| &name[at + 1..])
}

/// So many at once of each.
#[derive(Clone, Debug)]
struct Turns {
    at_once: usize,
    taken: Arc<Mutex<BTreeMap<String, Arc<Semaphore>>>>,
}

impl Turns {
    fn new(at_once: usize) -> Self {
        Self {
            at_once,
            taken: Arc::default(),
        }
    }

    fn of(&self, name: &str) -> Arc<Semaphore> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= MAX_NAMES && !taken.contains_key(name) {
            taken.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        let turns = taken.entry(name.to_owned());
        Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(self.at_once))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver() -> Resolver {
        Resolver::new(Duration::from_millis(40))
    }

    /// Takes every place, as look-ups that hang do.
    async fn taken(places: Arc<Semaphore>) -> OwnedSemaphorePermit {
        let all = u32::try_from(places.available_permits()).expect("few");
        let taken = places.acquire_many_owned(all).await;
        taken.expect("never closed")
    }

    async fn finds_localhost(resolver: &Resolver) {
        let found = resolver.resolve("localhost", 80).await;
        let found = found.expect("every system knows it");
        assert!(found.iter().all(|address| address.ip().is_loopback()));
    }

    #[tokio::test]
    async fn a_name_that_hangs_holds_up_no_other() {
        let resolver = resolver();
        let _look_ups = taken(resolver.names.of("hangs.example")).await;
        let waits = resolver.resolve("Hangs.example.", 80);
        tokio::select! {
            biased;
            _ = waits => panic!("it has no turn"),
            () = finds_localhost(&resolver) => (),
        }
    }

    #[tokio::test]
    async fn names_made_up_under_one_domain_hold_up_no_other() {
        let resolver = resolver();
        let _look_ups = taken(resolver.domains.of("hangs.example")).await;
        for name in ["1.hangs.example", "2.HANGS.example.", "a.b.hangs.example"] {
            let error = resolver.resolve(name, 80).await.expect_err("no place");
            let said = "no place within the bound of look-ups of names under one domain";
            assert_eq!(error.to_string(), said, "{name}");
        }
        assert_eq!(resolver.all.available_permits(), IN_ALL, "they took none");
        finds_localhost(&resolver).await;
    }

    #[tokio::test]
    async fn look_ups_are_bounded_in_all_and_give_their_places_back() {
        let resolver = resolver();
        let look_ups = taken(Arc::clone(&resolver.all)).await;
        let error = resolver.resolve("localhost", 80).await;
        let error = error.expect_err("no place").to_string();
        assert_eq!(error, "no place within the bound of look-ups of names");
        drop(look_ups);
        for _ in 0..IN_ALL + 1 {
            finds_localhost(&resolver).await;
        }
        let free = || resolver.domains.of("localhost").available_permits();
        assert_eq!(free(), OF_A_DOMAIN);
        // The operator's look-ups and the targets' together leave threads for all else.
        const { assert!(2 * IN_ALL < 512 - OF_A_DOMAIN) };
    }

    #[test]
    fn a_domain_is_the_last_two_labels() {
        for (name, is) in [
            ("localhost", "localhost"),
            ("evil.example", "evil.example"),
            ("1.evil.example", "evil.example"),
            ("a.b.c.evil.example", "evil.example"),
            ("", ""),
        ] {
            assert_eq!(domain(name), is);
        }
    }

    #[tokio::test]
    async fn only_names_that_are_looked_up_are_remembered_for_long() {
        let resolver = resolver();
        let _used = resolver.names.of("used.example");
        for n in 0..3 * MAX_NAMES {
            resolver.names.of(&format!("{n}.example"));
        }
        let taken = resolver.names.taken.lock().expect("no panic");
        assert!(taken.len() <= MAX_NAMES && taken.contains_key("used.example"));
    }

    #[tokio::test]
    async fn a_literal_needs_no_look_up() {
        let resolver = resolver();
        let found = resolver.resolve("::1", 8080).await.expect("an address");
        assert_eq!(found, ["[::1]:8080".parse().expect("an address")]);
        assert!(resolver.names.taken.lock().expect("no panic").is_empty());
    }
}
