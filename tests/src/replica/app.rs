//! What runs in a replica: reads commands from its standard input and answers each with one line of
//! JSON.
//!
//! - `burst N URL`: N calls at once; `{"answered", "failed", "slowest_ms"}`.
//! - `load RATE MILLISECONDS KEYS URL`: so many calls a second for `URL0` … `URLn`, and a quarter as
//!   many past the layer; a list of `[sent at, in µs; took, in µs; letter]`.
//!
//! The letters: `h` a stored response, `m` fetched by somebody for this, `o` failed open, `x` failed;
//! `f` past the layer (the floor), `y` failed there.

use std::{io::Write, time::Duration};

use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Collected, Empty};
use koorde_client::{CacheResult, CacheStatus, Koorde, KoordeLayer};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time};
use tower::{Layer, ServiceExt};

use crate::process::{Client, client, now};

/// The field that names who asks.
pub const NAME: &str = "replica";
/// What the upstream answers.
pub const BODY: &str = "body";
/// One call in so many is made past the layer, too.
const FLOOR: u64 = 4;

/// The replica's own client, and the same behind the layer.
#[derive(Clone)]
struct App {
    name: HeaderValue,
    layered: Koorde<Client>,
    plain: Client,
}

/// Runs until its input ends. Arguments: its name, `delegate` or `look-aside`, and its sidecar.
///
/// # Errors
/// What it does not understand.
pub async fn run(arguments: &[String]) -> Result<(), String> {
    let [name, mode, endpoint] = arguments else {
        return Err("app NAME MODE ENDPOINT".to_owned());
    };
    let layer = KoordeLayer::new(endpoint).map_err(|error| error.to_string())?;
    let layer = match mode.as_str() {
        "delegate" => layer,
        "look-aside" => layer.look_aside().map_err(|error| error.to_string())?,
        _ => return Err(format!("no such mode: {mode}")),
    };
    let app = App {
        name: name.parse().map_err(|_| format!("no name: {name}"))?,
        layered: layer.layer(client()),
        plain: client(),
    };
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let said = match line.split(' ').collect::<Vec<_>>()[..] {
            ["burst", calls, url] => app.burst(number(calls)?, url).await,
            ["load", rate, milliseconds, keys, url] => {
                let lasts = Duration::from_millis(number(milliseconds)?);
                app.load(number(rate)?, lasts, number(keys)?, url).await
            }
            _ => return Err(format!("no such command: {line}")),
        };
        // Who asked may have gone.
        let _nobody_reads = writeln!(std::io::stdout(), "{said}");
    }
    Ok(())
}

fn number(word: &str) -> Result<u64, String> {
    let number = word.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("no number: {word}"))
}

impl App {
    async fn burst(&self, calls: u64, url: &str) -> Value {
        let mut calling = JoinSet::new();
        for _ in 0..calls {
            let (app, url) = (self.clone(), url.to_owned());
            calling.spawn(async move {
                let sent = now();
                (app.call(&url).await, sent.elapsed())
            });
        }
        let calls = calling.join_all().await;
        let failed = calls.iter().filter(|(letter, _)| *letter == 'x').count();
        let slowest = calls.iter().map(|(_, took)| took.as_millis()).max();
        json!({
            "answered": calls.len() - failed,
            "failed": failed,
            "slowest_ms": u64::try_from(slowest.unwrap_or_default()).unwrap_or(u64::MAX),
        })
    }

    async fn load(&self, rate: u64, lasts: Duration, keys: u64, url: &str) -> Value {
        let began = now();
        let mut ticks = time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap_or(1));
        let (mut calling, mut samples) = (JoinSet::new(), Vec::new());
        for n in 0.. {
            ticks.tick().await;
            if began.elapsed() >= lasts {
                break;
            }
            for is_floor in [false, true] {
                if is_floor && n % FLOOR != 0 {
                    continue;
                }
                let (app, url) = (self.clone(), format!("{url}{}", n % keys));
                calling.spawn(async move {
                    let sent = now();
                    let letter = match is_floor {
                        true => app.past(&url).await,
                        false => app.call(&url).await,
                    };
                    json!([micros(sent - began), micros(sent.elapsed()), letter])
                });
            }
            while let Some(Ok(sample)) = calling.try_join_next() {
                samples.push(sample);
            }
        }
        samples.extend(calling.join_all().await);
        Value::Array(samples)
    }

    /// A call through the layer: its letter.
    async fn call(&self, url: &str) -> char {
        let Some(request) = self.request(url) else {
            return 'x';
        };
        let Ok(response) = self.layered.clone().oneshot(request).await else {
            return 'x';
        };
        let said = response.extensions().get::<CacheStatus>();
        let letter = match said.map(|said| said.result) {
            Some(CacheResult::Hit | CacheResult::Stale) => 'h',
            Some(CacheResult::FailOpen) => 'o',
            _ => 'm',
        };
        let is_ok = response.status() == 200;
        let body = response.into_body().collect().await;
        let body = body.map(Collected::to_bytes);
        match body {
            Ok(body) if is_ok && body == BODY => letter,
            _ => 'x',
        }
    }

    /// The same past it.
    async fn past(&self, url: &str) -> char {
        let Some(request) = self.request(url) else {
            return 'y';
        };
        let Ok(response) = self.plain.request(request).await else {
            return 'y';
        };
        let body = response.into_body().collect().await;
        match body.map(Collected::to_bytes) {
            Ok(body) if body == BODY => 'f',
            _ => 'y',
        }
    }

    fn request(&self, url: &str) -> Option<Request<Empty<bytes::Bytes>>> {
        let request = Request::get(url).header(NAME, self.name.clone());
        request.body(Empty::new()).ok()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
