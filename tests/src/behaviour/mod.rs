//! Plain-text tables at the level of HTTP messages, played through any cache: koorde in each of its
//! doors, the pure functions of its policy, and the caches it is compared with.
//!
//! A table (`tests/behaviour/*.txt`, words in its README.txt) tells stories: exchanges between one
//! client and one origin with the cache between them, on a URL of their own. [`parse`] reads them,
//! [`play`] is the origin's side, [`run`] sends the client's requests and [`judge`] compares. All
//! stories run at once, so that waiting for a response to become stale costs little.

pub mod client;
pub mod exceptions;
pub mod judge;
pub mod koorde;
pub mod layer;
pub mod model;
pub mod origin;
pub mod parse;
pub mod peers;
pub mod play;
pub mod report;
pub mod run;
pub mod story;
pub mod target;
pub mod wire;
pub mod words;

pub use story::{Level, Story, Table};

macro_rules! tables {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../behaviour/", $name, ".txt")))),*]
    };
}

/// Every table: its name and its text.
const TABLES: [(&str, &str); 20] = tables![
    "freshness",
    "heuristics",
    "dates",
    "age",
    "directives",
    "storing",
    "targeted",
    "vary",
    "validation",
    "conditions",
    "stale",
    "ranges",
    "invalidation",
    "head",
    "requests",
    "interim",
    "messages",
    "broken",
    "collapsing",
    "cache_status",
];

/// All tables.
///
/// # Panics
/// If one cannot be read: its line and why.
pub fn tables() -> Vec<Table> {
    let mut tables = Vec::new();
    for (name, text) in TABLES {
        match parse::table(name, text) {
            Ok(table) => tables.push(table),
            Err(why) => panic!("{why}"),
        }
    }
    tables
}

/// The stories to play: all, or those that `$BEHAVIOUR` names by a part of their title or by their
/// table.
#[expect(clippy::disallowed_methods, reason = "how one story is run alone")]
pub fn chosen() -> Vec<Story> {
    let wanted = std::env::var("BEHAVIOUR").unwrap_or_default();
    let all = tables().into_iter().flat_map(|table| table.stories);
    all.filter(|story| story.title.contains(&wanted) || story.table == wanted)
        .collect()
}
