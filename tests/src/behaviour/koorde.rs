//! koorde in each of its doors: real processes.

use std::{io::Write, net::SocketAddr, path::PathBuf};

use tokio::task::JoinSet;

use super::target::{Door, HOST, Target};
use crate::process::Process;

/// Every way to koorde that the stories go.
pub const DOORS: [&str; 5] = ["cache", "reverse", "forward", "path", "ring"];

/// One or more running processes and how to ask them. They end when dropped.
#[derive(Debug)]
pub struct Koorde {
    /// What to ask.
    pub target: Target,
    _processes: Vec<Process>,
}

impl Koorde {
    /// Starts what one of the [`DOORS`] needs.
    ///
    /// # Errors
    /// Why it does not start; the first lines of its log are on standard error.
    pub async fn start(door: &str, origin: SocketAddr) -> Result<Self, String> {
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
            name: format!("koorde {door}"),
            addresses: processes.iter().map(|process| process.http).collect(),
            door: match door {
                "reverse" => Door::Reverse,
                "forward" => Door::Forward,
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
