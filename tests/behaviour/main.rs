//! The behaviour tables, played through the pure functions and through real koorde processes in each
//! door. `BEHAVIOUR='part of a title' cargo test -p koorde-tests --test behaviour` plays one story.

use std::sync::Arc;

use koorde_tests::behaviour::{
    chosen,
    koorde::Koorde,
    origin::Origin,
    report,
    run::{Outcome, through, through_model},
};

fn assert_all(name: &str, outcomes: &[Outcome]) {
    let summary = report::summary(name, outcomes);
    println!("{summary}");
    let failed: Vec<_> = outcomes.iter().filter(|o| !o.wrong.is_empty()).collect();
    let explained: String = failed.iter().map(|outcome| outcome.explain()).collect();
    assert!(failed.is_empty(), "{summary}\n{explained}");
}

async fn play(door: &str) {
    let origin = Arc::new(Origin::start().await);
    let koorde = Koorde::start(door, origin.address).await;
    let koorde = koorde.unwrap_or_else(|why| panic!("{why}"));
    let outcomes = through(&koorde.target, &origin, &chosen()).await;
    assert_all(&koorde.target.name, &outcomes);
}

#[test]
fn the_pure_functions_do_as_the_tables_say() {
    assert_all("model", &through_model(&chosen()));
}

#[tokio::test(flavor = "multi_thread")]
async fn koorde_does_as_the_tables_say_by_cache_url() {
    play("cache").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn koorde_does_as_the_tables_say_as_a_reverse_proxy() {
    play("reverse").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn koorde_does_as_the_tables_say_as_a_forward_proxy() {
    play("forward").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn koorde_does_as_the_tables_say_by_path() {
    play("path").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn koorde_does_as_the_tables_say_through_any_of_five_nodes() {
    play("ring").await;
}
