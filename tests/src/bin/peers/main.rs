//! Plays the behaviour tables through koorde and through the caches that people use today, in front
//! of the same origin, and prints a Markdown table.
//!
//! `peers [--install] [--only NAME,…] [--failures NAME]`; names: koorde (in its reverse door), each
//! `koorde DOOR` or mode of the layer, model, nginx, varnish, squid. `$BEHAVIOUR` chooses stories by a part of their
//! title, or a table.

use std::{process::ExitCode, sync::Arc};

use koorde_tests::behaviour::{
    self, Story,
    koorde::{DOORS, Koorde, MODES},
    origin::Origin,
    peers::PEERS,
    report,
    run::{Outcome, through, through_model},
};

#[derive(Default)]
struct Options {
    install: bool,
    only: Vec<String>,
    failures: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("peers: {why}\nusage: peers [--install] [--only NAME,…] [--failures NAME]");
            return ExitCode::from(2);
        }
    };
    if options.install && !install() {
        eprintln!("peers: apt-get could not install them; going on with what is there");
    }
    let stories = behaviour::chosen();
    let mut columns = Vec::new();
    for name in names(&options) {
        match play(&name, &stories).await {
            Ok(outcomes) => {
                eprintln!("{}", report::summary(&name, &outcomes));
                columns.push((name, outcomes));
            }
            Err(why) => eprintln!("{name}: left out: {why}"),
        }
    }
    let tables: Vec<_> = behaviour::tables().iter().map(|table| table.name).collect();
    println!("Stories that go as told, required · optimal · koorde's own promises.\n");
    println!("{}", report::markdown(&columns, &tables));
    for (name, outcomes) in &columns {
        if options.failures.contains(name) {
            println!("\n## {name} fails\n");
            let failed = outcomes.iter().filter(|outcome| !outcome.wrong.is_empty());
            failed.for_each(|outcome| println!("{:?} {}", outcome.story.level, outcome.explain()));
        }
    }
    ExitCode::SUCCESS
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        let mut names = || {
            let names = arguments.next().ok_or(format!("{argument} needs a name"))?;
            Ok::<_, String>(names.split(',').map(str::to_owned).collect())
        };
        match argument.as_str() {
            "--install" => options.install = true,
            "--only" => options.only = names()?,
            "--failures" => options.failures = names()?,
            other => return Err(format!("no such option: {other}")),
        }
    }
    Ok(options)
}

fn names(options: &Options) -> Vec<String> {
    if !options.only.is_empty() {
        return options.only.clone();
    }
    let peers = PEERS.iter().map(|peer| peer.name.to_owned());
    std::iter::once("koorde".to_owned()).chain(peers).collect()
}

fn install() -> bool {
    let apt = |arguments: &[&str]| {
        let status = std::process::Command::new("apt-get")
            .args(arguments)
            .status();
        status.is_ok_and(|status| status.success())
    };
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(PEERS.iter().map(|peer| peer.name));
    apt(&["update"]) && apt(&arguments)
}

async fn play(name: &str, stories: &[Story]) -> Result<Vec<Outcome>, String> {
    if name == "model" {
        return Ok(through_model(stories));
    }
    let origin = Arc::new(Origin::start().await);
    let door = match name {
        "koorde" => Some("reverse"),
        _ => name.strip_prefix("koorde "),
    };
    if let Some(door) = door {
        if !DOORS.contains(&door) && !MODES.contains(&door) {
            let (doors, modes) = (DOORS.join(", "), MODES.join(", "));
            return Err(format!("no such door; there is {doors}, {modes}"));
        }
        let koorde = Koorde::start(door, origin.address).await?;
        return Ok(through(&koorde.target, &origin, stories).await);
    }
    let peer = PEERS.iter().find(|peer| peer.name == name);
    let peer = peer.ok_or("no such peer")?;
    if !peer.is_installed() {
        return Err("not installed; --install does it".to_owned());
    }
    let running = peer.start(origin.address).await?;
    Ok(through(&running.target, &origin, stories).await)
}
