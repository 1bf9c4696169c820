//! Plays a story through the pure functions of the policy, in virtual time: what a cache does that
//! consists of nothing else.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, response};
use libkoorde::policy::{
    Exchange as Timing, HeadUpdate, NotStored, Now, Reuse, Settings, StoredHead, Target,
    fields::connection, invalidation, parts, precondition, reuse, storing, validation,
};
use serve::serve;

use super::{
    client::Response,
    judge::{Evidence, judge},
    play::{Asked, Play},
    story::{Exchange, Step, Story},
    wire,
    words::Words,
};

mod serve;

const ORIGIN: &str = "http://origin.test";

/// A cache of one URL space, made of pure functions.
#[derive(Debug)]
pub struct Model {
    settings: Settings,
    stored: BTreeMap<String, Vec<Kept>>,
    start: SystemTime,
    epoch: Instant,
    elapsed: Duration,
}

#[derive(Clone, Debug)]
struct Kept {
    head: StoredHead,
    body: Vec<u8>,
}

/// An answer before it is a [`Response`].
struct Plain {
    status: StatusCode,
    fields: HeaderMap,
    body: Vec<u8>,
}

/// A request as the policy sees it.
struct Asking {
    method: Method,
    suffix: String,
    fields: HeaderMap,
    body: String,
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Model {
    /// With an empty store.
    pub fn new() -> Self {
        let targets = vec![header::CDN_CACHE_CONTROL];
        Self {
            settings: Settings {
                targets,
                ..Settings::default()
            },
            stored: BTreeMap::new(),
            start: super::origin::wall(),
            epoch: crate::process::now(),
            elapsed: Duration::ZERO,
        }
    }

    /// Plays a story; what went wrong, by line.
    pub fn play(&mut self, story: &Story) -> Vec<(usize, String)> {
        let words = Words {
            began: self.start,
            path: "/story".to_owned(),
            origin: ORIGIN.to_owned(),
        };
        let mut play = Play::new(words.clone());
        let mut wrong = Vec::new();
        for step in &story.steps {
            match step {
                Step::Wait(time) => self.elapsed += *time,
                Step::Together(group) => {
                    let exchange = &group[0];
                    let before = play.asked.len();
                    play.script(exchange.answers.clone());
                    let response = self.exchange(exchange, &mut play);
                    let evidence = Evidence {
                        response: response.as_ref().map_err(String::as_str),
                        asked: &play.asked,
                        before,
                        is_alone: true,
                        words: &words,
                        is_koorde: false,
                    };
                    wrong.extend(judge(exchange, &evidence));
                }
            }
        }
        wrong
    }

    fn now(&self) -> Now {
        Now {
            wall: self.start + self.elapsed,
            instant: self.epoch + self.elapsed,
        }
    }

    fn exchange(&mut self, exchange: &Exchange, play: &mut Play) -> Result<Response, String> {
        let request = &exchange.request;
        let words = play.words.clone();
        let pairs = request.fields.iter().map(|(name, value)| {
            let value = words.expand(value, |_| String::new());
            (name.clone(), value)
        });
        let mut fields = map(pairs)?;
        if let Some(body) = &request.body {
            fields.insert(header::CONTENT_LENGTH, body.len().into());
        }
        let asking = Asking {
            method: request.method.parse().map_err(|_| "no method")?,
            suffix: request.suffix.clone(),
            fields,
            body: request.body.clone().unwrap_or_default(),
        };
        let answer = self.answer(&asking, play)?;
        let fields = answer
            .fields
            .iter()
            .map(|(name, value)| (name.to_string(), wire::text(value.as_bytes())));
        Ok(Response {
            interims: Vec::new(),
            status: answer.status.as_u16(),
            fields: fields.collect(),
            body: answer.body,
            is_whole: true,
        })
    }

    fn answer(&mut self, asking: &Asking, play: &mut Play) -> Result<Plain, String> {
        let kept = self.stored.get(&asking.suffix).cloned().unwrap_or_default();
        let heads = kept.iter().map(|kept| &kept.head);
        let now = self.now();
        match reuse::decide(&asking.method, &asking.fields, heads, now.instant) {
            Reuse::Fresh { index } => Ok(serve(asking, &kept[index], now)),
            Reuse::StaleWhileRevalidate { index } => {
                let answer = serve(asking, &kept[index], now);
                // Behind the client's back.
                let _refreshed = self.ask(asking, Some(&kept[index]), play);
                Ok(answer)
            }
            Reuse::Validate { index, .. } => self.ask(asking, Some(&kept[index]), play),
            Reuse::Forward(_) => self.ask(asking, None, play),
            Reuse::OnlyIfCached => Ok(Plain {
                status: StatusCode::GATEWAY_TIMEOUT,
                fields: HeaderMap::new(),
                body: Vec::new(),
            }),
        }
    }

    fn ask(
        &mut self,
        asking: &Asking,
        stale: Option<&Kept>,
        play: &mut Play,
    ) -> Result<Plain, String> {
        let mut fields = asking.fields.clone();
        connection::strip_request(&mut fields);
        let stale_for_get = stale.filter(|_| asking.method == Method::GET);
        let is_conditional =
            stale_for_get.is_some_and(|stale| validation::conditional(&mut fields, &stale.head));
        let request_sent = self.now().instant;
        let reply = play.answer(asked(asking, &fields), self.now().wall);
        self.elapsed += reply.delay;
        let now = self.now();
        let timing = Timing {
            request_sent,
            response_received: now,
        };
        let Some((status, _)) = reply.status else {
            return match stale {
                Some(stale)
                    if reuse::may_serve_stale_on_error(
                        &asking.fields,
                        &stale.head,
                        now.instant,
                    ) =>
                {
                    Ok(serve(asking, stale, now))
                }
                _ => Ok(Plain {
                    status: StatusCode::BAD_GATEWAY,
                    fields: HeaderMap::new(),
                    body: Vec::new(),
                }),
            };
        };
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = StatusCode::from_u16(status).map_err(|_| "no status")?;
        parts.headers = map(reply.fields.into_iter())?;
        let body = match play.asked.last() {
            Some(asked) if asking.method != Method::HEAD => asked.answer_body.clone(),
            _ => Vec::new(),
        };
        if let Some(stale) = stale {
            if is_conditional && parts.status == StatusCode::NOT_MODIFIED {
                return self.freshen(asking, stale, &parts, &timing, play);
            }
            let (fields, head) = (&asking.fields, &stale.head);
            if reuse::may_serve_stale_on_status(fields, head, now.instant, parts.status) {
                return Ok(serve(asking, stale, now));
            }
        }
        self.invalidate(asking, &parts);
        self.head(asking, &parts, &timing);
        Ok(self.keep(asking, parts, body, &timing))
    }

    fn freshen(
        &mut self,
        asking: &Asking,
        stale: &Kept,
        parts: &response::Parts,
        timing: &Timing,
        play: &mut Play,
    ) -> Result<Plain, String> {
        let fresh = validation::freshen(&stale.head, &asking.fields, parts, timing, &self.settings);
        let Some(head) = fresh else {
            return self.ask(asking, None, play);
        };
        let refused = head.refused();
        let kept = Kept {
            head,
            body: stale.body.clone(),
        };
        match refused {
            None => self.put(asking, kept.clone()),
            Some(rule) if !rule.is_of_request() => {
                self.stored.remove(&asking.suffix);
            }
            Some(_) => (),
        }
        Ok(serve(asking, &kept, self.now()))
    }

    fn invalidate(&mut self, asking: &Asking, parts: &response::Parts) {
        let base = format!("{ORIGIN}/story");
        let Ok(target) = Target::parse(&format!("{base}{}", asking.suffix)) else {
            return;
        };
        let (status, fields) = (parts.status, &parts.headers);
        let gone = invalidation::invalidated(&asking.method, &target, status, fields);
        self.stored.retain(|suffix, _| {
            let target = Target::parse(&format!("{base}{suffix}"));
            target.is_ok_and(|target| !gone.contains(&target))
        });
    }

    fn head(&mut self, asking: &Asking, parts: &response::Parts, timing: &Timing) {
        if asking.method != Method::HEAD {
            return;
        }
        let settings = &self.settings;
        let Some(kept) = self.stored.get_mut(&asking.suffix) else {
            return;
        };
        let chosen = kept
            .iter_mut()
            .find(|kept| kept.head.selected_by(&asking.fields));
        let Some(chosen) = chosen else { return };
        match validation::head_update(&chosen.head, &asking.fields, parts, timing, settings) {
            HeadUpdate::Freshen(head) if head.refused().is_none() => chosen.head = head,
            HeadUpdate::Freshen(head) if head.refused().is_some_and(NotStored::is_of_request) => {}
            HeadUpdate::Freshen(_) | HeadUpdate::Invalidate => kept.clear(),
            HeadUpdate::Nothing => (),
        }
    }

    fn keep(
        &mut self,
        asking: &Asking,
        parts: response::Parts,
        body: Vec<u8>,
        timing: &Timing,
    ) -> Plain {
        let (method, fields) = (&asking.method, &asking.fields);
        let storable = storing::decide(method, fields, &parts, timing, &self.settings);
        let mut fields = parts.headers;
        connection::strip_response(&mut fields);
        let now = self.now();
        if let Ok(head) = storable {
            if head.current_age(now.instant).as_secs() > 0 {
                fields.insert(header::AGE, head.age_field(now.instant));
            }
            let not_modified = precondition::evaluate(method, &asking.fields, &head, now);
            let body = body.clone();
            self.put(asking, Kept { head, body });
            if let Some(fields) = not_modified {
                return Plain {
                    status: StatusCode::NOT_MODIFIED,
                    fields,
                    body: Vec::new(),
                };
            }
        }
        Plain {
            status: parts.status,
            fields,
            body,
        }
    }

    fn put(&mut self, asking: &Asking, kept: Kept) {
        let all = self.stored.entry(asking.suffix.clone()).or_default();
        let combined = all
            .iter()
            .find_map(|stored| combine(stored, &kept, &self.settings));
        all.retain(|other| other.head.selecting != kept.head.selecting);
        all.push(combined.unwrap_or(kept));
    }
}

/// Two parts as one, if they certainly are of one representation.
fn combine(stored: &Kept, new: &Kept, settings: &Settings) -> Option<Kept> {
    let (old, fresh) = (stored.head.part?, new.head.part?);
    let combined = parts::combine(&stored.head, &new.head, settings)?;
    let mut body = Vec::new();
    for piece in combined.pieces {
        let (start, bytes) = match piece.of {
            parts::Source::Stored => (old.start, &stored.body),
            parts::Source::New => (fresh.start, &new.body),
        };
        // Both are within a body that is in memory.
        body.extend_from_slice(
            bytes.get((piece.start - start) as usize..(piece.end - start) as usize)?,
        );
    }
    let head = combined.head;
    Some(Kept { head, body })
}

fn asked(asking: &Asking, fields: &HeaderMap) -> Asked {
    let pair = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), wire::text(value.as_bytes()))
    };
    Asked {
        method: asking.method.to_string(),
        suffix: asking.suffix.clone(),
        fields: fields.iter().map(pair).collect(),
        body: asking.body.clone(),
        answered: None,
        answer_body: Vec::new(),
    }
}

fn map(fields: impl Iterator<Item = (String, String)>) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let parsed = HeaderName::try_from(&name).map_err(|_| format!("no field name: {name}"))?;
        let value = HeaderValue::from_bytes(&wire::bytes(&value))
            .map_err(|_| format!("no value of {name}: {value}"))?;
        map.append(parsed, value);
    }
    Ok(map)
}
