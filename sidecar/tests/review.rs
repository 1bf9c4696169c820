//! What the fuzz target `review` demands of any bytes, demanded of its corpus and of the same pods with pieces
//! of each other in them, every day.

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::Value;

#[path = "../../tests/fuzz/src/review.rs"]
#[allow(unreachable_pub, reason = "it is public where it is a target's")]
mod review;

fn corpus() -> Vec<Vec<u8>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/review");
    let files = fs::read_dir(tests).expect("the corpus is there");
    let mut paths: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("readable"))
        .collect()
}

#[test]
fn the_corpus_holds() {
    let corpus = corpus();
    assert!(corpus.len() >= 5);
    for bytes in corpus {
        review::run(&bytes);
    }
}

/// Paths of everything inside a value.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                places(value, &format!("{path}/{}", escaped(key)), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn pieces_of_pods_in_other_places_hold(
        files in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let corpus = corpus();
        let read = |file: &prop::sample::Index| -> Value {
            serde_json::from_slice(&corpus[file.index(corpus.len())]).expect("the corpus is JSON")
        };
        let (mut pod, other) = (read(&files.0), read(&files.1));
        for (to, from) in swaps {
            let (mut here, mut there) = (Vec::new(), Vec::new());
            places(&pod, "", &mut here);
            places(&other, "", &mut there);
            let piece = other.pointer(&there[from.index(there.len())]).cloned().unwrap_or_default();
            if let Some(place) = pod.pointer_mut(&here[to.index(here.len())]) {
                *place = piece;
            }
        }
        review::run(pod.to_string().as_bytes());
    }
}
