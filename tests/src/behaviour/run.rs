//! Plays stories, all at once, and says what went wrong.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{sync::Semaphore, task::JoinSet, time};

use super::{
    client::{self, Response},
    judge::{Evidence, judge},
    layer::Layered,
    model::Model,
    origin::Origin,
    play::Play,
    story::{Exchange, Level, Request, Source, Step, Story, What},
    target::Target,
    words::Words,
};
use crate::process::now;

/// Stories under way at once.
const AT_ONCE: usize = 128;
/// Between requests that are sent together.
const MOMENT: Duration = Duration::from_millis(60);
/// How long what an app has read may take to be stored: that happens behind its back.
const PUT: Duration = Duration::from_millis(300);
/// How long a refresh behind the client's back may take to begin.
const REFRESH: Duration = Duration::from_secs(3);
/// How much longer than scripted a story may take before its ages prove nothing.
const SLACK: Duration = Duration::from_millis(700);
/// The table that is played last.
const AFTER: &str = "broken";
/// Times a story is played that the machine was too slow for.
const TRIES: usize = 4;

/// What came of one story.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The story.
    pub story: Story,
    /// What went wrong, by line; empty if all is right.
    pub wrong: Vec<(usize, String)>,
    /// Whether it was left out, being none for this target.
    pub skipped: bool,
}

impl Outcome {
    /// Where it stands and what went wrong, for people.
    pub fn explain(&self) -> String {
        let Story {
            table, line, title, ..
        } = &self.story;
        let mut text = format!("{table}.txt:{line}: {title}\n");
        for (line, why) in &self.wrong {
            text.push_str(&format!("    line {line}: {why}\n"));
        }
        text
    }
}

/// Plays the stories through the pure functions, in virtual time.
pub fn through_model(stories: &[Story]) -> Vec<Outcome> {
    let play = |story: &Story| {
        let skipped = story.messages_only || is_concurrent(story);
        let wrong = if skipped {
            Vec::new()
        } else {
            Model::new().play(story)
        };
        Outcome {
            story: story.clone(),
            wrong,
            skipped,
        }
    };
    stories.iter().map(play).collect()
}

fn is_concurrent(story: &Story) -> bool {
    let more = |step: &Step| matches!(step, Step::Together(group) if group.len() > 1);
    story.steps.iter().any(more)
}

/// Plays the stories through a running cache, all at once, and returns them in the given order.
///
/// Those of `AFTER` come one by one when the others have ended: what they leave on a connection to
/// the origin may cost the next request on it an error, and that request should be their own.
pub async fn through(target: &Target, origin: &Arc<Origin>, stories: &[Story]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (is_after, at_once) in [(false, AT_ONCE), (true, 1)] {
        let seats = Arc::new(Semaphore::new(at_once));
        let mut playing = JoinSet::new();
        for (index, story) in stories.iter().enumerate() {
            if (story.table == AFTER) != is_after {
                continue;
            }
            let (target, origin) = (target.clone(), Arc::clone(origin));
            let (story, seats) = (story.clone(), Arc::clone(&seats));
            playing.spawn(async move {
                let _seat = seats.acquire().await;
                (index, one(&target, &origin, story, index).await)
            });
        }
        outcomes.extend(playing.join_all().await);
    }
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

async fn one(target: &Target, origin: &Origin, story: Story, index: usize) -> Outcome {
    let skipped = story.level == Level::Koorde && !target.is_koorde;
    let mut wrong = Vec::new();
    // Nodes that starve take each other for dead: then a key has two owners for a moment, which may
    // cost one more fetch and never a wrong answer.
    let may_move = target.addresses.len() > 1 && story.level == Level::Optimal;
    for attempt in 0..if skipped { 0 } else { TRIES } {
        let segment = format!("{}-{index}-{attempt}", token(&target.name));
        let stage = Stage::new(target, origin, &segment, index);
        let (found, is_late) = stage.play(&story).await;
        wrong = found;
        if wrong.is_empty() || !(is_late || may_move) {
            break;
        }
    }
    Outcome {
        story,
        wrong,
        skipped,
    }
}

fn token(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// One story between one client, one cache and one origin.
struct Stage<'a> {
    target: &'a Target,
    origin: &'a Origin,
    words: Words,
    play: Arc<Mutex<Play>>,
    app: Option<Layered>,
    seed: usize,
}

impl<'a> Stage<'a> {
    fn new(target: &'a Target, origin: &'a Origin, segment: &str, seed: usize) -> Self {
        let words = Words {
            began: super::origin::wall(),
            path: format!("/{segment}"),
            origin: target.door.origin(origin.address),
        };
        let play = origin.add(segment, Play::new(words.clone()));
        Self {
            target,
            origin,
            words,
            play,
            app: target
                .app
                .as_ref()
                .map(|app| app.client().expect("an endpoint")),
            seed,
        }
    }

    /// What went wrong, and whether it took longer than it should have.
    async fn play(&self, story: &Story) -> (Vec<(usize, String)>, bool) {
        let mut wrong = Vec::new();
        let mut is_late = false;
        for (number, step) in story.steps.iter().enumerate() {
            match step {
                Step::Wait(time) => time::sleep(*time).await,
                Step::Together(group) => {
                    let began = now();
                    wrong.extend(self.together(number, group).await);
                    is_late |= began.elapsed() > SLACK + scripted(group);
                    // How much of it was the refresh, which nobody should have waited for, is not
                    // to be told apart: who has to wait does so at every try.
                    is_late |= group.iter().any(expects_refresh);
                }
            }
        }
        // What an app has read is put behind its back; whether it was in time, nobody can see.
        is_late |= self.app.is_some();
        (wrong, is_late)
    }

    async fn together(&self, step: usize, group: &[Exchange]) -> Vec<(usize, String)> {
        let answers = group.iter().flat_map(|exchange| exchange.answers.clone());
        let before = self.with_play(|play| {
            play.script(answers.collect());
            play.asked.len()
        });
        let asking = group
            .iter()
            .enumerate()
            .map(|(place, exchange)| async move {
                time::sleep(MOMENT * u32::try_from(place).unwrap_or(u32::MAX)).await;
                self.ask(&exchange.request, step + place).await
            });
        let responses = join_all(asking).await;
        if group.iter().any(expects_refresh) {
            self.refreshed(before).await;
        }
        if self.app.is_some() {
            time::sleep(PUT).await;
        }
        let asked = self.with_play(|play| play.asked.clone());
        let mut wrong = Vec::new();
        for (exchange, response) in group.iter().zip(&responses) {
            let evidence = Evidence {
                response: response.as_ref().map_err(String::as_str),
                asked: &asked,
                before,
                is_alone: group.len() == 1,
                words: &self.words,
                is_koorde: self.target.is_koorde,
            };
            wrong.extend(judge(exchange, &evidence));
        }
        wrong
    }

    async fn ask(&self, request: &Request, number: usize) -> Result<Response, String> {
        let mut request = request.clone();
        for (_, value) in &mut request.fields {
            *value = self.words.expand(value, |_| String::new());
        }
        let path = format!("{}{}", self.words.path, request.suffix);
        if let Some(app) = &self.app {
            return app
                .ask(&format!("http://{}{path}", self.origin.address), &request)
                .await;
        }
        // A different one for every request, the same in every run.
        let addresses = &self.target.addresses;
        let chance = (self.seed * 31 + number).wrapping_mul(0x9E37_79B9) >> 16;
        let address = addresses[chance % addresses.len()];
        let door = self.target.door;
        let (target, host) = door.request(self.origin.address, &path, address);
        client::ask(address, &target, &host, &request).await
    }

    /// Waits until the origin was asked once more, and a moment for its answer to be stored.
    async fn refreshed(&self, before: usize) {
        let began: Instant = now();
        while self.with_play(|play| play.asked.len()) == before && began.elapsed() < REFRESH {
            time::sleep(Duration::from_millis(10)).await;
        }
        time::sleep(Duration::from_millis(200)).await;
    }

    fn with_play<T>(&self, look: impl FnOnce(&mut Play) -> T) -> T {
        look(&mut self.play.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn expects_refresh(exchange: &Exchange) -> bool {
    exchange
        .expected
        .iter()
        .any(|expected| matches!(expected.what, What::Result(_, Some(Source::ThenRefreshed))))
}

/// How long the group takes if the machine is quick.
fn scripted(group: &[Exchange]) -> Duration {
    let delays = group.iter().flat_map(|exchange| &exchange.answers);
    let delay: Duration = delays.map(|answer| answer.delay).sum();
    let refresh = group.iter().any(expects_refresh);
    delay + MOMENT * 4 + if refresh { REFRESH } else { Duration::ZERO }
}
