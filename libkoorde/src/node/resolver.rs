//! Names to addresses, by the system's resolver.
//!
//! That takes a thread for each look-up, for as long as it likes, and threads are shared by all: a
//! name whose servers do not answer must not take them all.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::Semaphore, task};

/// Addresses of one name that are tried, at most.
const MAX_ADDRESSES: usize = 16;
/// Look-ups of one name at once.
const AT_ONCE: usize = 4;
/// Names that are remembered without need.
const MAX_NAMES: usize = 1024;

/// Resolves names; clones share the bounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolver {
    names: Arc<Mutex<BTreeMap<String, Arc<Semaphore>>>>,
}

impl Resolver {
    /// The addresses of a name, or the one that it is. Waits while the same name is looked up by
    /// many; a look-up that nobody waits for any more counts until the system gives it up.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(literal) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(literal, port)]);
        }
        let turn = self.of(host).acquire_owned().await;
        let name = host.to_owned();
        let look_up = move || {
            let _turn = turn;
            let addresses = (name.as_str(), port).to_socket_addrs()?;
            Ok(addresses.take(MAX_ADDRESSES).collect())
        };
        task::spawn_blocking(look_up)
            .await
            .map_err(io::Error::other)?
    }

    fn of(&self, host: &str) -> Arc<Semaphore> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MAX_NAMES && !names.contains_key(host) {
            names.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        let turns = names.entry(host.to_owned());
        Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_hangs_holds_up_no_other() {
        let resolver = Resolver::default();
        let hangs = resolver.of("hangs.example");
        let all = u32::try_from(AT_ONCE).expect("few");
        let _look_ups = hangs.acquire_many(all).await.expect("never closed");
        let waits = resolver.resolve("hangs.example", 80);
        tokio::select! {
            biased;
            _ = waits => panic!("it has no turn"),
            found = resolver.resolve("localhost", 80) => {
                let found = found.expect("every system knows it");
                assert!(found.iter().all(|address| address.ip().is_loopback()));
            }
        }
    }

    #[tokio::test]
    async fn only_names_that_are_looked_up_are_remembered_for_long() {
        let resolver = Resolver::default();
        let _used = resolver.of("used.example");
        for n in 0..3 * MAX_NAMES {
            resolver.of(&format!("{n}.example"));
        }
        let names = resolver.names.lock().expect("no panic");
        assert!(names.len() <= MAX_NAMES && names.contains_key("used.example"));
    }

    #[tokio::test]
    async fn a_literal_needs_no_look_up() {
        let resolver = Resolver::default();
        let found = resolver.resolve("::1", 8080).await.expect("an address");
        assert_eq!(found, ["[::1]:8080".parse().expect("an address")]);
        assert!(resolver.names.lock().expect("no panic").is_empty());
    }
}
