//! What koorde's caching decisions have to be, as tables beside the RFCs.
//!
//! The tables are the `.txt` files of this folder. They can be read, and argued
//! with, by somebody who knows HTTP and not Rust:
//!
//! * [`scenario`] runs those that tell a story: requests, responses, waiting, and
//!   what the cache has to do (`freshness.txt`, `reuse.txt` …). Its words are
//!   explained in `README.txt`.
//! * [`rows`] runs those that map a value to a value (`dates.txt`, `key.txt` …).
//! * [`route_rows`] does so for the rules of a route (`key_rules.txt`, `forwarding.txt` …).
//! * [`properties`] holds what must be true of any bytes whatever, [`part_properties`]
//!   what must be of ranges and parts, [`route_properties`] of the rules of a route.
//! * [`reuse_properties`]: nothing is reused which [`reference`], a slow and careful
//!   reading of the same rules, says must not be.

mod part_properties;
mod properties;
mod reference;
mod reuse_properties;
mod route_properties;
mod route_rows;
mod route_settings;
mod rows;
mod scenario;

macro_rules! scenarios {
    ($($name:ident: $file:literal),* $(,)?) => {$(
        #[test]
        fn $name() {
            scenario::run($file, include_str!($file));
        }
    )*};
}

scenarios! {
    what_may_be_stored: "storing.txt",
    how_long_a_response_is_fresh: "freshness.txt",
    how_old_a_response_is: "age.txt",
    what_a_request_may_reuse: "reuse.txt",
    which_variant_a_request_selects: "vary.txt",
    how_a_stored_response_is_validated: "validation.txt",
    when_stale_may_be_served: "stale.txt",
    what_the_client_has_already: "precondition.txt",
    which_part_the_client_wants: "range.txt",
    what_may_be_done_with_parts: "parts.txt",
    targeted_fields: "targeted.txt",
    what_the_rules_of_a_route_change: "rules.txt",
}

#[test]
fn every_story_that_the_map_names_is_there() {
    let (_, map) = include_str!("README.txt")
        .split_once("\nThe map: ")
        .expect("README.txt has a map");
    let named: Vec<&str> = map.lines().filter_map(|l| l.strip_prefix("    ")).collect();
    assert!(named.len() > 50, "the map names stories");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    for entry in named {
        let (table, title) = entry.split_once(": ").expect("a table and a title");
        let text = std::fs::read_to_string(folder.join(format!("{table}.txt")))
            .expect("the map names tables that are there");
        let is_title = |line: &str| {
            let title_of = line.strip_prefix("== ").or(line.strip_prefix("# "));
            title_of.is_some_and(|found| found.trim_matches('"') == title)
        };
        assert!(text.lines().any(is_title), "{table}.txt has no {title:?}");
    }
}

#[test]
fn what_is_a_date() {
    rows::run("dates.txt", include_str!("dates.txt"), rows::date);
}

#[test]
fn what_is_a_target_and_its_key() {
    rows::run("key.txt", include_str!("key.txt"), rows::key);
}

#[test]
fn what_an_unsafe_request_invalidates() {
    rows::run(
        "invalidation.txt",
        include_str!("invalidation.txt"),
        rows::invalidation,
    );
}

#[test]
fn what_of_a_request_is_in_its_key() {
    let table = include_str!("key_rules.txt");
    rows::run("key_rules.txt", table, route_rows::key_rules);
}

#[test]
fn which_requests_go_past_the_cache() {
    let table = include_str!("bypass.txt");
    rows::run("bypass.txt", table, route_rows::bypass);
}

#[test]
fn by_which_names_a_response_is_purged() {
    rows::run("tags.txt", include_str!("tags.txt"), route_rows::tags);
}

#[test]
fn which_content_codings_are_asked_for() {
    let table = include_str!("encoding.txt");
    rows::run("encoding.txt", table, route_rows::encoding);
}

#[test]
fn what_a_gateway_changes() {
    let table = include_str!("forwarding.txt");
    rows::run("forwarding.txt", table, route_rows::forwarding);
}

#[test]
fn how_cache_status_is_written() {
    rows::run(
        "cache_status.txt",
        include_str!("cache_status.txt"),
        rows::cache_status,
    );
}

/// Some moment: nothing here depends on which, since time is an argument.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made in another way"
)]
fn some_moment() -> std::time::Instant {
    std::time::Instant::now()
}
