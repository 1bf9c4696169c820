//! The house rules that no lint knows: sizes, arrows between rooms, words that must not be left in.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines of a Rust file, at most.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
        .to_owned()
}

/// Every Rust file under a folder of the workspace, with its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)
            .expect("a folder of the workspace")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a readable file");
                let name = path
                    .strip_prefix(root())
                    .expect("inside")
                    .display()
                    .to_string();
                found.push((name, text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} has no Rust files");
    found
}

fn all_sources() -> Vec<(String, String)> {
    ["proto", "libkoorde", "sidecar", "client", "tests"]
        .into_iter()
        .flat_map(sources)
        .collect()
}

/// Code without comments and without its unit tests, which may use what they like.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    text[..end]
        .lines()
        .filter(|line| !is_comment(line))
        .collect::<Vec<_>>()
        .join("\n")
}

fn assert_none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_one_can_read() {
    let long: Vec<_> = all_sources()
        .into_iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert_none(&long, "split by what they do");
}

#[test]
fn imports_follow_the_arrows_between_rooms() {
    // Room, and what it may not name. The arrows are in libkoorde/ARCHITECTURE.md.
    let rooms: [(&str, &[&str]); 6] = [
        (
            "libkoorde/src/ring",
            &[
                "tokio",
                "tonic",
                "hyper",
                "http::",
                "crate::policy",
                "crate::node",
                "crate::store",
                "std::net::Tcp",
                "std::env",
                "std::thread",
            ],
        ),
        (
            "libkoorde/src/policy",
            &[
                "tokio",
                "tonic",
                "hyper",
                "crate::ring",
                "crate::node",
                "crate::store",
                "crate::id",
                "std::net",
                "std::env",
                "std::thread",
            ],
        ),
        ("libkoorde/src/id.rs", &["crate::", "tokio", "http"]),
        (
            "libkoorde/src/store.rs",
            &["crate::node", "crate::ring", "tokio"],
        ),
        ("libkoorde/src/flight.rs", &["crate::", "tokio", "http::"]),
        ("sidecar/src", &["koorde_proto"]),
    ];
    let files = all_sources();
    let mut wrong = Vec::new();
    for (room, forbidden) in rooms {
        for (name, text) in files.iter().filter(|(name, _)| name.starts_with(room)) {
            let code = code(text);
            for word in forbidden.iter().filter(|word| names(&code, word)) {
                wrong.push(format!("{name} names {word}"));
            }
        }
    }
    assert_none(&wrong, "against the arrows");
}

/// Whether the code names this path, as a whole word.
fn names(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + path.len()..].chars().next();
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let starts = !is_word(before) && before != Some('"');
        starts && (path.ends_with("::") || !is_word(after))
    })
}

#[test]
fn only_the_wire_names_protobuf_and_ours_together() {
    let allowed = [
        "wire",
        // The calls to peers, and how their answers are read.
        "node/peers",
        "service.rs",
        "owners.rs",
        "explain.rs",
        // The ends of calls for look-aside: to the owner, from a peer, from a client.
        "aside/borrow.rs",
        "aside/peer.rs",
        "aside/door",
        // Both ends of a hand-off.
        "handoff",
    ];
    let wrong: Vec<_> = sources("libkoorde/src")
        .into_iter()
        .filter(|(name, text)| {
            names(&code(text), "koorde_proto") && !allowed.iter().any(|a| name.contains(a))
        })
        .map(|(name, _)| name)
        .collect();
    assert_none(&wrong, "generated types belong behind node/wire.rs");
}

#[test]
fn nothing_is_left_open() {
    let words = [
        "todo!",
        "unimplemented!",
        "#[ignore",
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        "dbg!(",
    ];
    let wrong: Vec<_> = all_sources()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("tests/tidy"))
        .flat_map(|(name, text)| {
            let hits = words
                .iter()
                .filter(|word| text.contains(**word))
                .collect::<Vec<_>>();
            hits.into_iter()
                .map(|word| format!("{name}: {word}"))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_none(&wrong, "finish it");
}

#[test]
fn unsafe_code_is_forbidden_and_lints_are_the_workspaces() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    assert!(manifest.contains("unsafe_code = \"forbid\""));
    for member in ["libkoorde", "sidecar", "client", "tests"] {
        let manifest =
            fs::read_to_string(root().join(member).join("Cargo.toml")).expect("a manifest");
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{member} has lints of its own"
        );
    }
}

#[test]
fn architecture_names_files_that_exist() {
    let map = fs::read_to_string(root().join("libkoorde/ARCHITECTURE.md")).expect("the map");
    let mut seen = 0;
    for word in map.split(['`', ' ', '\n', '(', ')', ',', '|']) {
        let is_path = word.contains('/') && word.ends_with(".rs") && !word.contains('*');
        if is_path {
            let candidates = [root().join(word), root().join("libkoorde/src").join(word)];
            assert!(
                candidates.iter().any(|path| path.exists()),
                "{word} is on the map but not there"
            );
            seen += 1;
        }
    }
    assert!(seen >= 10, "the map names only {seen} files");
}
