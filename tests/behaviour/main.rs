//! The behaviour tables, played through the pure functions and through real koorde processes in each
//! door. `BEHAVIOUR='part of a title' cargo test -p koorde-tests --test behaviour` plays one story.

use std::sync::Arc;

use koorde_tests::behaviour::{
    chosen,
    exceptions::exceptions,
    koorde::Koorde,
    origin::Origin,
    parse, report,
    run::{Outcome, through, through_model},
    tables,
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

/// The same through the layer of the client, where what exceptions.txt explains may fail.
async fn play_mode(mode: &str) {
    let origin = Arc::new(Origin::start().await);
    let koorde = Koorde::start(mode, origin.address).await;
    let koorde = koorde.unwrap_or_else(|why| panic!("{why}"));
    let mut outcomes = through(&koorde.target, &origin, &chosen()).await;
    println!("{}", report::summary(&koorde.target.name, &outcomes));
    let exceptions = exceptions();
    let is_explained = |o: &Outcome| exceptions.iter().any(|e| e.holds(mode, &o.story));
    outcomes.retain(|outcome| !is_explained(outcome));
    assert_all(
        &format!("{} but for exceptions", koorde.target.name),
        &outcomes,
    );
}

#[test]
fn each_exception_is_about_a_story() {
    let stories: Vec<_> = tables().into_iter().flat_map(|t| t.stories).collect();
    for exception in exceptions() {
        let is_there = stories.iter().any(|story| exception.names(story));
        assert!(is_there, "exceptions.txt:{}: no such story", exception.line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layer_does_as_the_tables_say_in_delegate_mode() {
    play_mode("delegate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layer_does_as_the_tables_say_in_look_aside_mode() {
    play_mode("look-aside").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layer_does_as_the_tables_say_in_embedded_mode() {
    play_mode("embedded").await;
}

#[test]
fn a_story_that_is_not_so_fails_at_its_line() {
    let story = "== It is fresh\n> GET\n< 200\n< Cache-Control: max-age=1\n= 200 from origin\n\
                 wait 2s\n> GET\n= 200 from cache\n";
    let table = parse::table("story", story).expect("a table");
    let outcomes = through_model(&table.stories);
    let lines: Vec<_> = outcomes[0].wrong.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [8], "{}", outcomes[0].explain());
}

#[test]
fn a_line_that_makes_no_sense_is_named() {
    for line in ["= soon", "< Foo: 1", "~ GET", "> GET\n= 200 from somewhere"] {
        let refused = parse::table("story", &format!("== A title\n{line}\n"));
        let why = refused.expect_err("it makes no sense");
        assert!(why.starts_with("story.txt:"), "{why}");
    }
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
