//! Who a node is when it starts: its name as others see it, its ring, its address.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use tokio::{net::UdpSocket, time};

use super::clock;
use crate::{
    config::{Config, Role},
    error::StartError,
    id::Hasher,
    policy::{self, Now},
    ring::{self, Ring, RingConfig},
};

/// Pods of two clusters may have one name, but not one address too.
pub(super) fn sign(hasher: &Hasher, name: &str, address: SocketAddr) -> policy::Hop {
    let node = hasher.node_id(&format!("{name} {address}"));
    policy::Hop::new("koorde", &format!("{:016x}", node.0)).expect("hexadecimal digits are a token")
}

pub(super) fn millis_since_epoch(now: Now) -> u64 {
    let since = now.wall.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn start_ring(
    config: &Config,
    hasher: &Hasher,
    address: SocketAddr,
) -> Result<Ring, StartError> {
    let now = clock::now();
    let ring = RingConfig {
        degree: config.ring.degree,
        neighbors: config.ring.neighbors,
        stabilize: config.ring.stabilize,
        // The node ends sooner, when it has handed over what it has stored.
        leave_grace: Duration::from_secs(60),
        ..RingConfig::default()
    };
    ring.check().map_err(StartError::Config)?;
    let since_epoch = now
        .wall
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let incarnation = millis_since_epoch(now);
    let me = ring::Member {
        id: hasher.node_id(&config.node.name),
        name: config.node.name.as_str().into(),
        addr: address,
        incarnation,
        weight: config.node.weight,
        role: match config.node.role {
            Role::Member => ring::Role::Member,
            Role::Edge => ring::Role::Edge,
        },
    };
    // Jitter only: nanoseconds of the start differ from pod to pod.
    let seed =
        u64::try_from(since_epoch.as_nanos() % u128::from(u64::MAX)).unwrap_or_default() ^ me.id.0;
    Ok(Ring::new(ring, me, seed, now.instant))
}

/// What peers are told: as configured, else where we listen, else the interface that leads to the
/// first seed.
pub(super) async fn advertised(config: &Config, bound: SocketAddr) -> SocketAddr {
    if let Some(advertise) = config.ring.advertise {
        return advertise;
    }
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let ip = async {
        // Connecting a datagram socket sends nothing: it only asks the kernel for a route.
        let socket = UdpSocket::bind(("0.0.0.0", 0)).await.ok()?;
        let to = config
            .ring
            .seeds
            .first()
            .map_or("192.0.2.1:9", String::as_str);
        time::timeout(Duration::from_secs(2), socket.connect(to))
            .await
            .ok()?
            .ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    let loopback = std::net::Ipv4Addr::LOCALHOST.into();
    SocketAddr::new(ip.await.unwrap_or(loopback), bound.port())
}
