//! How many connections are open, in all and from one client.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts open connections against two bounds.
#[derive(Debug)]
pub(super) struct Admission {
    max: usize,
    max_per_client: usize,
    // Held for a few instructions a connection, never across an await.
    open: Mutex<Open>,
}

/// The bound that a connection would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// `max_connections`.
    Total,
    /// `max_connections_per_client`.
    Client,
}

/// A connection's place; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Arc<Admission>,
    client: IpAddr,
}

/// The map has at most as many entries as there are open connections.
#[derive(Debug, Default)]
struct Open {
    total: usize,
    clients: BTreeMap<IpAddr, usize>,
}

impl Admission {
    pub(super) fn new(max: usize, max_per_client: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            max_per_client,
            open: Mutex::default(),
        })
    }

    /// A place for a connection from this address.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admitted, Refused> {
        let client = client(address);
        let mut open = self.open();
        if open.total >= self.max {
            return Err(Refused::Total);
        }
        let from_client = open.clients.entry(client).or_default();
        if *from_client >= self.max_per_client {
            return Err(Refused::Client);
        }
        *from_client += 1;
        open.total += 1;
        Ok(Admitted {
            admission: Arc::clone(self),
            client,
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Two counters cannot be left half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.admission.open();
        open.total -= 1;
        if let Some(count) = open.clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.clients.remove(&self.client);
            }
        }
    }
}

/// Whom an address is counted for: a /64 is one subscriber, who may use all of its addresses.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("the test's addresses are well-formed")
    }

    #[test]
    fn both_bounds_hold_and_a_place_is_free_again_after_its_connection() {
        let admission = Admission::new(3, 2);
        let one = admission.admit(ip("192.0.2.1"));
        let two = admission.admit(ip("::ffff:192.0.2.1"));
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(
            admission.admit(ip("192.0.2.1")).err(),
            Some(Refused::Client)
        );
        let other = admission.admit(ip("192.0.2.2"));
        assert!(other.is_ok());
        assert_eq!(admission.admit(ip("192.0.2.3")).err(), Some(Refused::Total));
        drop(one);
        assert!(admission.admit(ip("192.0.2.1")).is_ok());
        drop((two, other));
        assert!(admission.open().clients.is_empty());
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let admission = Admission::new(10, 1);
        let _one = admission.admit(ip("2001:db8::1"));
        assert_eq!(
            admission.admit(ip("2001:db8::ffff")).err(),
            Some(Refused::Client)
        );
        assert!(admission.admit(ip("2001:db8:0:1::1")).is_ok());
    }
}
