//! Runs the tables that tell stories; their words are in `README.txt`.

mod parts;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, response};
use libkoorde::policy::fields::date::HttpDate;
use libkoorde::policy::{
    Exchange, HeadUpdate, Now, Reuse, SetCookie, Settings, StoredHead, precondition, reuse,
    storing, validation,
};
use std::time::{Duration, Instant, SystemTime};

/// Runs every story of a table, and fails with all that went wrong.
pub(crate) fn run(file: &str, table: &str) {
    let mut wrong = Vec::new();
    let mut stories = 0;
    let mut story = None;
    for (number, line) in table.lines().enumerate() {
        if let Some(title) = line.strip_prefix("==") {
            stories += 1;
            story = Some(Story::new(title.trim()));
            continue;
        }
        // What is indented or a comment is for the reader.
        if line.trim().is_empty() || line.starts_with([' ', '#']) {
            continue;
        }
        let Some(story) = &mut story else {
            panic!("{file}:{}: a line before the first title", number + 1);
        };
        if let Err(why) = story.line(line) {
            wrong.push(format!(
                "{file}:{}: {}\n    {line}\n    {why}",
                number + 1,
                story.title
            ));
        }
    }
    assert!(stories > 0, "{file} has no stories");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

type Outcome = Result<(), String>;

/// One cache, one client, one origin.
struct Story {
    title: String,
    settings: Settings,
    start: SystemTime,
    epoch: Instant,
    elapsed: Duration,
    delay: Duration,
    method: Method,
    request: HeaderMap,
    response: response::Parts,
    in_response: bool,
    stored: Vec<StoredHead>,
    chosen: usize,
    length: u64,
    /// Where the bytes of the last combined body came from.
    pieces: String,
}

impl Story {
    fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            settings: Settings::default(),
            // Sun, 06 Nov 1994 08:49:37 GMT
            start: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
            epoch: super::some_moment(),
            elapsed: Duration::ZERO,
            delay: Duration::ZERO,
            method: Method::GET,
            request: HeaderMap::new(),
            response: Response::new(()).into_parts().0,
            in_response: false,
            stored: Vec::new(),
            chosen: 0,
            length: 0,
            pieces: String::new(),
        }
    }

    fn now(&self) -> Now {
        Now {
            wall: self.start + self.elapsed,
            instant: self.epoch + self.elapsed,
        }
    }

    fn line(&mut self, line: &str) -> Outcome {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "settings:" => rest.split(", ").try_for_each(|pair| self.set(pair)),
            "now:" => self.set_now(rest),
            "delay:" => duration(rest).map(|delay| self.delay = delay),
            "wait" => duration(rest).map(|time| self.elapsed += time),
            ">" => self.request_line(rest),
            "<" => self.response_line(rest),
            "stored" => self.store().map_err(|rule| format!("not stored: {rule}")),
            "not" if rest == "selected" => self.not_selected(),
            "not" => match self.store() {
                Ok(()) => Err("it was stored".to_owned()),
                Err(rule) => expect(&format!("stored: {rule}"), rest),
            },
            "=" => self.reuse(rest),
            "age" => expect(text(&self.chosen()?.age_field(self.now().instant)), rest),
            "ttl" => expect(&self.chosen()?.ttl(self.now().instant).to_string(), rest),
            "has" => has(&self.chosen()?.fields, rest),
            "on" => self.on_error(rest),
            "asks" => {
                let mut fields = self.request.clone();
                validation::conditional(&mut fields, self.chosen()?);
                has(&fields, rest)
            }
            "freshened" | "freshened," => self.freshen(rest),
            "head:" => self.head(rest),
            "answers" => {
                let answer = match self.precondition()? {
                    Some(_) => "304",
                    None => "in full",
                };
                expect(answer, rest)
            }
            "304" => {
                let fields = self.precondition()?.ok_or("it is no 304")?;
                has(&fields, rest.strip_prefix("has ").ok_or("304 has what?")?)
            }
            "length" => rest.parse().map(|length| self.length = length).map_err(bad),
            "range" => self.range(rest),
            "part" => self.part(rest),
            "combine" => self.combine(rest),
            "from" => expect(&self.pieces, rest),
            "collapse:" => {
                let may = reuse::may_collapse(&self.method, &self.request);
                expect(if may { "yes" } else { "no" }, rest)
            }
            _ => Err(format!("no such word: {word}")),
        }
    }

    fn set(&mut self, pair: &str) -> Outcome {
        let settings = &mut self.settings;
        match pair {
            "store-set-cookie=explicit-freshness" => {
                settings.store_set_cookie = SetCookie::ExplicitFreshness;
            }
            "heuristic=off" => settings.heuristic.percent = 0,
            "heuristic-errors=off" => {
                settings.heuristic.errors = false;
            }
            "s-maxage-revalidates=no" => settings.s_maxage_revalidates = false,
            _ => {
                let names = pair.strip_prefix("targets=").ok_or("no such setting")?;
                for name in names.split(' ') {
                    settings.targets.push(name.parse().map_err(bad)?);
                }
            }
        }
        Ok(())
    }

    fn set_now(&mut self, date: &str) -> Outcome {
        let date = HttpDate::parse(date.as_bytes(), self.start).ok_or("not a date")?;
        let since = u64::try_from(date.timestamp()).map_err(bad)?;
        self.start = SystemTime::UNIX_EPOCH + Duration::from_secs(since);
        Ok(())
    }

    fn request_line(&mut self, rest: &str) -> Outcome {
        match rest.split_once(':') {
            Some(_) => append(&mut self.request, rest),
            None => {
                self.method = rest.parse().map_err(bad)?;
                self.request.clear();
                self.in_response = false;
                Ok(())
            }
        }
    }

    fn response_line(&mut self, rest: &str) -> Outcome {
        if rest.contains(':') {
            return append(&mut self.response.headers, rest);
        }
        self.response = Response::new(()).into_parts().0;
        self.response.status = rest.parse().map_err(bad)?;
        self.in_response = true;
        Ok(())
    }

    /// The response comes now; the request was sent `delay` before.
    fn exchange(&mut self) -> Exchange {
        let request_sent = self.now().instant;
        self.elapsed += std::mem::take(&mut self.delay);
        Exchange {
            request_sent,
            response_received: self.now(),
        }
    }

    fn store(&mut self) -> Result<(), &'static str> {
        let exchange = self.exchange();
        let head = storing::decide(
            &self.method,
            &self.request,
            &self.response,
            &exchange,
            &self.settings,
        )
        .map_err(|rule| rule.as_str())?;
        self.chosen = self.stored.len();
        self.stored.push(head);
        Ok(())
    }

    fn chosen(&self) -> Result<&StoredHead, String> {
        self.stored
            .get(self.chosen)
            .ok_or_else(|| "nothing is stored".to_owned())
    }

    fn reuse(&mut self, expected: &str) -> Outcome {
        let reuse = reuse::decide(
            &self.method,
            &self.request,
            &self.stored,
            self.now().instant,
        );
        let (mut got, index) = match reuse {
            Reuse::Fresh { index } => ("fresh".to_owned(), Some(index)),
            Reuse::StaleWhileRevalidate { index } => {
                ("stale-while-revalidate".to_owned(), Some(index))
            }
            Reuse::Validate { index, forward } => {
                (format!("validate {}", forward.as_str()), Some(index))
            }
            Reuse::Forward(forward) => (format!("forward {}", forward.as_str()), None),
            Reuse::OnlyIfCached => ("504".to_owned(), None),
        };
        if let Some(index) = index {
            self.chosen = index;
            if expected.contains('#') {
                got.push_str(&format!(" #{}", index + 1));
            }
        }
        expect(&got, expected)
    }

    fn on_error(&self, rest: &str) -> Outcome {
        let (error, expected) = rest.split_once(": ").ok_or("on what: what?")?;
        let (stored, now) = (self.chosen()?, self.now().instant);
        let serves = match error {
            "error" => reuse::may_serve_stale_on_error(&self.request, stored, now),
            status => {
                let status: StatusCode = status.parse().map_err(bad)?;
                reuse::may_serve_stale_on_status(&self.request, stored, now, status)
            }
        };
        expect(if serves { "serve" } else { "fail" }, expected)
    }

    fn freshened(&mut self) -> Result<Option<StoredHead>, String> {
        let exchange = self.exchange();
        let stored = self.chosen()?;
        let mut request = self.request.clone();
        validation::conditional(&mut request, stored);
        Ok(validation::freshen(
            stored,
            &request,
            &self.response,
            &exchange,
            &self.settings,
        ))
    }

    fn freshen(&mut self, expected: &str) -> Outcome {
        let head = self.freshened()?.ok_or("not selected")?;
        let got = head
            .refused()
            .map(|rule| format!("refused: {}", rule.as_str()));
        let (index, of_request) = (
            self.chosen,
            head.refused().is_some_and(|r| r.is_of_request()),
        );
        if !of_request {
            // A refused one stays in this list on purpose: nothing may choose it.
            self.stored[index] = head;
        }
        expect(&got.unwrap_or_default(), expected)
    }

    fn not_selected(&mut self) -> Outcome {
        match self.freshened()? {
            Some(_) => Err("it was freshened".to_owned()),
            None => Ok(()),
        }
    }

    fn head(&mut self, expected: &str) -> Outcome {
        let exchange = self.exchange();
        let update = validation::head_update(
            self.chosen()?,
            &self.request,
            &self.response,
            &exchange,
            &self.settings,
        );
        let got = match update {
            HeadUpdate::Freshen(head) => {
                let index = self.chosen;
                self.stored[index] = head;
                "freshened"
            }
            HeadUpdate::Invalidate => "invalidates",
            HeadUpdate::Nothing => "nothing",
        };
        expect(got, expected)
    }

    fn precondition(&self) -> Result<Option<HeaderMap>, String> {
        let stored = self.chosen()?;
        Ok(precondition::evaluate(
            &self.method,
            &self.request,
            stored,
            self.now(),
        ))
    }
}

fn expect(got: &str, expected: &str) -> Outcome {
    if got == expected {
        Ok(())
    } else {
        Err(format!("but it is: {got}"))
    }
}

/// `name: value`, where the value may be empty.
fn append(fields: &mut HeaderMap, line: &str) -> Outcome {
    let (name, value) = line.split_once(':').ok_or("a field needs a colon")?;
    let name: HeaderName = name.parse().map_err(bad)?;
    fields.append(name, value.trim().parse().map_err(bad)?);
    Ok(())
}

fn has(fields: &HeaderMap, expected: &str) -> Outcome {
    if let Some(name) = expected.strip_prefix("no ") {
        return match fields.get(name) {
            Some(value) => Err(format!("but it has: {}", text(value))),
            None => Ok(()),
        };
    }
    let (name, value) = expected.split_once(':').ok_or("a field needs a colon")?;
    let lines: Vec<&str> = fields.get_all(name).iter().map(text).collect();
    expect(&lines.join(", "), value.trim())
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("(not ASCII)")
}

fn duration(value: &str) -> Result<Duration, String> {
    if let Some(millis) = value.strip_suffix("ms") {
        return millis.parse().map(Duration::from_millis).map_err(bad);
    }
    let seconds = value
        .strip_suffix('s')
        .ok_or("a duration ends in s or ms")?;
    seconds.parse().map(Duration::from_secs).map_err(bad)
}

fn bad(error: impl std::fmt::Display) -> String {
    error.to_string()
}
