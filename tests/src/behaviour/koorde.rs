//! koorde in each of its doors, and behind the layer in each of its modes: real processes, and a node
//! in this one.

use std::{io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use http::HeaderName;
use libkoorde::{Config, Metrics, Node};
use tokio::task::JoinSet;

use super::{
    layer::App,
    target::{Door, HOST, Target},
};
use crate::process::Process;

/// Every way to koorde that the stories go.
pub const DOORS: [&str; 5] = ["cache", "reverse", "forward", "path", "ring"];

/// Every mode of the client's layer that the stories go through.
pub const MODES: [&str; 3] = ["delegate", "look-aside", "embedded"];

/// One or more running processes and how to ask them. They end when dropped.
#[derive(Debug)]
pub struct Koorde {
    /// What to ask.
    pub target: Target,
    _processes: Vec<Process>,
}

impl Koorde {
    /// Starts what one of the [`DOORS`] or [`MODES`] needs.
    ///
    /// # Errors
    /// Why it does not start; the first lines of its log are on standard error.
    pub async fn start(door: &str, origin: SocketAddr) -> Result<Self, String> {
        if door == "embedded" {
            return embedded().await;
        }
        let n = if door == "ring" { 5 } else { 1 };
        let config = config(door, origin).map_err(|error| error.to_string())?;
        // A task of its own, because a process that does not start is a panic in there.
        let mut starting = JoinSet::new();
        starting.spawn(async move {
            let path = config.display().to_string();
            let processes = Process::ring(n, &["--config", &path]).await;
            // It was read when they started; whether it can be deleted does not matter.
            let _gone = std::fs::remove_file(config);
            processes
        });
        let processes = match starting.join_next().await {
            Some(Ok(processes)) => processes,
            _ => return Err(format!("koorde did not start for the door {door:?}")),
        };
        let target = Target {
            app: app(door, &processes[0]),
            name: format!("koorde {door}"),
            addresses: processes.iter().map(|process| process.http).collect(),
            door: match door {
                "reverse" => Door::Reverse,
                "forward" | "delegate" | "look-aside" => Door::Forward,
                "path" => Door::Path,
                _ => Door::Query,
            },
            is_koorde: true,
        };
        Ok(Self {
            target,
            _processes: processes,
        })
    }
}

/// An app with the layer, in a mode that needs a sidecar.
fn app(mode: &str, sidecar: &Process) -> Option<App> {
    let endpoint = format!("http://{}", sidecar.http);
    match mode {
        "delegate" => Some(App::Delegate(endpoint)),
        "look-aside" => Some(App::LookAside(endpoint)),
        _ => None,
    }
}

/// An app that is a node itself, in this process. It may reach nobody: its app does.
async fn embedded() -> Result<Koorde, String> {
    let mut config = Config::default();
    config.node.name = "app".to_owned();
    config.ring.listen = ([127, 0, 0, 1], 0).into();
    config.cache.targets = vec![HeaderName::from_static("cdn-cache-control")];
    let metrics = Metrics::new(&mut Default::default());
    let node = Node::start(config, metrics, Default::default()).await;
    let node = node.map_err(|error| error.to_string())?;
    while !node.is_ready() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let target = Target {
        name: "koorde embedded".to_owned(),
        addresses: Vec::new(),
        door: Door::Forward,
        is_koorde: true,
        app: Some(App::Embedded(node)),
    };
    let _processes = Vec::new();
    Ok(Koorde { target, _processes })
}

/// A configuration file such as an operator writes.
fn config(door: &str, origin: SocketAddr) -> std::io::Result<PathBuf> {
    let name = format!(
        "koorde-behaviour-{door}-{}-{}.toml",
        std::process::id(),
        origin.port()
    );
    let path = std::env::temp_dir().join(name);
    let mut file = std::fs::File::create(&path)?;
    // The tables of targeted fields take koorde for a CDN of the origin.
    writeln!(file, "[cache]\ntargets = [\"cdn-cache-control\"]\n")?;
    if door == "reverse" {
        writeln!(
            file,
            "[[routes]]\nhost = \"{HOST}\"\nupstream = \"origin\"\n\n\
             [upstreams.origin]\nservers = [\"http://{origin}\"]"
        )?;
    }
    Ok(path)
}
