//! A service in replicas that share their upstream's responses: real processes, each with a client
//! behind the koorde layer and a sidecar of its own. [`app`] is what runs in them, [`Replica`] one
//! of them seen from outside, [`stampede`] and [`outage`] are what is tried.

pub mod app;
pub mod outage;
pub mod stampede;

use std::{path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::process::Process;

/// A running replica. Killed when dropped.
#[derive(Debug)]
pub struct Replica {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Replica {
    /// Starts `program app`: a replica of this name that asks upstream through `sidecar`, in a mode
    /// that [`app`] knows.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(program: &Path, name: &str, mode: &str, sidecar: &Process) -> Self {
        let endpoint = format!("http://{}", sidecar.http);
        let mut command = Command::new(program);
        command
            .args(["app", name, mode, &endpoint])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the replica starts");
        let input = child.stdin.take().expect("piped");
        let output = child.stdout.take().expect("piped");
        Self {
            child,
            input,
            output: BufReader::new(output).lines(),
        }
    }

    /// Tells it what to do.
    ///
    /// # Panics
    /// If it is dead.
    pub async fn tell(&mut self, command: &str) {
        let line = format!("{command}\n");
        let told = self.input.write_all(line.as_bytes()).await;
        told.expect("the replica reads");
    }

    /// What it says when it has done it; none if it died.
    pub async fn said(&mut self) -> Option<serde_json::Value> {
        let line = self.output.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    /// `kill -9`, and waits for its end.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }
}
