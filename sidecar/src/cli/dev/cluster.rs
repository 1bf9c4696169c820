//! The nodes of `koorde dev`: real ones, each with its own sockets, in one process.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use libkoorde::config::ByteSize;
use serde::Serialize;

use crate::{
    app::App,
    cli::{Failure, bench},
    settings::Settings,
};

/// Longest wait until all nodes know each other; it takes a fraction of a second.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks at the rings.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Running nodes.
pub(super) struct Cluster {
    apps: Vec<App>,
}

/// A node as the banner shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct NodeRow {
    pub(super) name: String,
    /// Its HTTP listener.
    pub(super) url: String,
    /// Its admin listener.
    pub(super) admin: String,
    /// Where peers reach it.
    pub(super) peer: SocketAddr,
    /// Its place on the ring: 16 hexadecimal digits.
    pub(super) id: String,
    /// Its part of all keys.
    pub(super) share: f64,
}

impl Cluster {
    /// Starts `count` nodes, the first at the ports given, the others at those that follow, or at free
    /// ones where a port is taken. Of all that is on loopback they may reach `origin` and the origin of
    /// `koorde bench`: any page of any web site can have a browser here ask these nodes.
    pub(super) async fn start(
        count: u16,
        http: u16,
        admin: u16,
        origin: SocketAddr,
    ) -> Result<Self, Failure> {
        let mut apps: Vec<App> = Vec::with_capacity(usize::from(count));
        let secret = format!("koorde dev {}", std::process::id());
        for index in 0..count {
            let mut settings = Settings::default();
            settings.node.name = format!("koorde-{index}");
            settings.ring.listen = loopback(0);
            settings.ring.seeds = apps
                .first()
                .map(|first| first.addresses().peer.to_string())
                .into_iter()
                .collect();
            // Two clusters of one machine that meet by chance are two clusters.
            settings.ring.secret.clone_from(&secret);
            settings.ring.stabilize = Duration::from_millis(250);
            settings.store.capacity = ByteSize::mib(64);
            settings.egress.allow =
                vec![origin.to_string(), loopback(bench::ORIGIN_PORT).to_string()];
            settings.http.listen = loopback(free_port(http, index));
            settings.admin.listen = loopback(free_port(admin, index));
            super::leave_quickly(&mut settings);
            let name = settings.node.name.clone();
            let app = App::start(settings).await;
            apps.push(
                app.map_err(|error| Failure::Work(format!("{name} did not start: {error}")))?,
            );
        }
        Ok(Self { apps })
    }

    /// Waits until every node is ready and knows every other; false if that took too long.
    pub(super) async fn settled(&self) -> bool {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let settled = async {
            while !self.apps.iter().all(|app| self.knows_all(app)) {
                look.tick().await;
            }
        };
        tokio::time::timeout(SETTLE_TIMEOUT, settled).await.is_ok()
    }

    fn knows_all(&self, app: &App) -> bool {
        let node = app.node();
        node.is_ready() && node.ring().members.len() == self.apps.len()
    }

    /// The nodes, by name.
    pub(super) fn rows(&self) -> Vec<NodeRow> {
        let row = |app: &App| {
            let (addresses, ring) = (app.addresses(), app.node().ring());
            let share = ring
                .members
                .iter()
                .find(|member| member.name == ring.node)
                .map_or(0.0, |member| member.share);
            NodeRow {
                name: ring.node,
                url: format!("http://{}", addresses.http),
                admin: format!("http://{}", addresses.admin),
                peer: addresses.peer,
                id: ring.id,
                share,
            }
        };
        self.apps.iter().map(row).collect()
    }

    /// Lets all nodes leave, all at once, as a whole Deployment does.
    pub(super) async fn stop(self) {
        join_all(self.apps.into_iter().map(App::shutdown)).await;
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The port `index` after `first`, or 0, which lets the system choose, if that is taken. Between this
/// look and the node's own somebody may take it; then the node says so and `dev` ends.
fn free_port(first: u16, index: u16) -> u16 {
    let wanted = if first == 0 {
        None
    } else {
        first.checked_add(index)
    };
    wanted
        .filter(|port| std::net::TcpListener::bind(loopback(*port)).is_ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_left_to_the_system() {
        let taken = std::net::TcpListener::bind(loopback(0)).expect("loopback");
        let port = taken.local_addr().expect("bound").port();
        assert_eq!(free_port(port, 0), 0);
        assert_eq!(free_port(0, 3), 0);
        assert_eq!(free_port(u16::MAX, 1), 0);
    }
}
