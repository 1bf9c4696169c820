//! Peers to meet first: the names of `ring.seeds`, resolved again for ever.
//!
//! Behind a name there is usually a headless Service, whose addresses change with every pod. Names
//! that do not resolve are no reason to end: the node serves alone until they do.

use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use libkoorde::Node;
use tokio::time::Instant;
use tracing::{debug, warn};

/// Between two rounds while no peer is known.
const ALONE: Duration = Duration::from_secs(1);

/// Between two rounds once there are peers, ± 10 % so that pods started together do not ask the
/// name server together.
const SETTLED: Duration = Duration::from_secs(10);

/// Between two lines in the log about names that do not resolve.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Resolves the seeds and tells the node, for ever. Own addresses among them are the ring's
/// business.
pub async fn run(seeds: Vec<String>, node: Node) {
    if seeds.is_empty() {
        return;
    }
    let literals: Vec<SocketAddr> = seeds.iter().filter_map(|seed| seed.parse().ok()).collect();
    if !literals.is_empty() {
        node.seeds(literals);
    }
    let mut last_log: Option<Instant> = None;
    loop {
        let (found, failed) = resolve(&seeds).await;
        if !found.is_empty() {
            debug!(count = found.len(), "Seeds resolved.");
            node.seeds(found);
        }
        if let Some((seed, error)) = failed
            && last_log.is_none_or(|at| at.elapsed() >= LOG_EVERY)
        {
            warn!(%seed, %error, "A seed does not resolve; trying for ever.");
            last_log = Some(Instant::now());
        }
        let alone = node.stats().members <= 1;
        tokio::time::sleep(pause(alone, RandomState::new().hash_one(()))).await;
    }
}

/// All addresses of all seeds, and the first failure. One after the other: the system's resolver
/// blocks a thread each, and no name is more urgent than another.
pub async fn resolve(seeds: &[String]) -> (Vec<SocketAddr>, Option<(String, String)>) {
    let (mut found, mut failed) = (Vec::new(), None);
    for seed in seeds {
        match tokio::net::lookup_host(seed).await {
            Ok(addresses) => found.extend(addresses),
            Err(error) if failed.is_none() => failed = Some((seed.clone(), error.to_string())),
            Err(_) => {}
        }
    }
    found.sort();
    found.dedup();
    (found, failed)
}

/// The address of the interface that leads to `peer`; loopback if there is none. Nothing is sent:
/// connecting a datagram socket only asks the routing table.
#[must_use]
pub fn interface_to(peer: SocketAddr) -> IpAddr {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let ask = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(peer)?;
        socket.local_addr()
    };
    let found = ask()
        .map(|address| address.ip())
        .ok()
        .filter(|ip| !ip.is_unspecified());
    found.unwrap_or(Ipv4Addr::LOCALHOST.into())
}

fn pause(alone: bool, random: u64) -> Duration {
    let around = if alone { ALONE } else { SETTLED };
    // 900 to 1100 thousandths.
    let thousandths = 900 + u32::try_from(random % 201).expect("less than 201");
    around * thousandths / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literals_resolve_to_themselves_and_a_bad_name_stops_nobody() {
        let seeds = ["127.0.0.1:1", "no port", "[::1]:2", "127.0.0.1:1"].map(String::from);
        let (found, failed) = resolve(&seeds).await;
        let expected = ["127.0.0.1:1", "[::1]:2"].map(|text| text.parse().expect("an address"));
        assert_eq!(found, expected);
        assert_eq!(failed.map(|(seed, _)| seed).as_deref(), Some("no port"));
    }

    #[test]
    fn pauses_differ_by_a_tenth_either_way() {
        assert_eq!(pause(true, 0), Duration::from_millis(900));
        assert_eq!(pause(false, 200), Duration::from_secs(11));
        assert_eq!(pause(false, 100), SETTLED);
    }

    #[test]
    fn the_way_to_loopback_is_loopback() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 4000));
        assert_eq!(interface_to(peer), IpAddr::from([127, 0, 0, 1]));
    }
}
