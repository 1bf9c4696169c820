//! `koorde top` on a real terminal: however it ends, the terminal is as it was.
#![allow(clippy::disallowed_methods, reason = "tests start tasks")]

mod support;

use std::process::Stdio;

use support::{settings, start};
use tokio::process::Command;

/// Runs `koorde top` on a terminal of its own, ends it in this way, and tells what was left.
async fn ended_by(how: &str) -> serde_json::Value {
    let app = start(settings()).await;
    let mut terminal = Command::new("python3");
    terminal.args(["-c", include_str!("support/terminal.py"), how]);
    terminal.args([env!("CARGO_BIN_EXE_koorde"), "top", "--admin"]);
    terminal.arg(format!("http://{}", app.addresses().admin));
    terminal.stderr(Stdio::inherit()).kill_on_drop(true);
    let told = terminal.output().await.expect("Python runs");
    assert!(told.status.success(), "{told:?}");
    app.shutdown().await;
    serde_json::from_slice(&told.stdout).expect("JSON")
}

#[tokio::test]
async fn a_terminal_is_given_back_whatever_signal_ends_it() {
    for (signal, number) in [("HUP", 1), ("INT", 2), ("QUIT", 3), ("TERM", 15)] {
        let told = ended_by(signal).await;
        assert_eq!(told["was_raw"], true, "SIG{signal}: {told}");
        assert_eq!(told["is_given_back"], true, "SIG{signal}: {told}");
        assert_eq!(told["code"], 128 + number, "SIG{signal}: {told}");
        assert_eq!(told["after"], "", "SIG{signal}: {told}");
    }
}

#[tokio::test]
async fn a_terminal_is_given_back_when_a_key_ends_it() {
    // q, and Ctrl-C, which is a key as long as the terminal is taken.
    for key in ["key:q", "key:\u{3}"] {
        let told = ended_by(key).await;
        assert_eq!(told["is_given_back"], true, "{key}: {told}");
        assert_eq!((&told["code"], &told["was_raw"]), (&0.into(), &true.into()));
    }
}
