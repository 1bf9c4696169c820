//! Whether what came is what the story says.

use super::{
    client::Response,
    play::{Asked, NUMBER},
    story::{Exchange, Expected, Seen, Source, Value, What},
    wire::{self, joined},
    words::Words,
};

/// What there is to judge of one exchange.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What the client got.
    pub response: Result<&'a Response, &'a str>,
    /// All that the origin was asked so far.
    pub asked: &'a [Asked],
    /// How much of it before this step.
    pub before: usize,
    /// Whether no other request was sent meanwhile.
    pub is_alone: bool,
    /// What words in braces mean.
    pub words: &'a Words,
    /// Whether koorde's own promises count.
    pub is_koorde: bool,
}

/// Everything that is not as it has to be, with its line.
pub fn judge(exchange: &Exchange, evidence: &Evidence<'_>) -> Vec<(usize, String)> {
    let mut wrong = Vec::new();
    for (line, seen) in &exchange.seen {
        if let Err(why) = origin_saw(seen, evidence) {
            wrong.push((*line, why));
        }
    }
    let response = match evidence.response {
        Ok(response) => response,
        Err(_) if exchange.expected.is_empty() || expects_cut(exchange) => return wrong,
        Err(why) => {
            wrong.push((exchange.line, format!("the client got no response: {why}")));
            return wrong;
        }
    };
    for expected in &exchange.expected {
        if expected.koorde_only && !evidence.is_koorde {
            continue;
        }
        if let Err(why) = client_saw(exchange, expected, response, evidence) {
            wrong.push((expected.line, why));
        }
    }
    wrong
}

fn expects_cut(exchange: &Exchange) -> bool {
    let is_cut = |expected: &Expected| matches!(expected.what, What::Result(_, Some(Source::Cut)));
    exchange.expected.iter().any(is_cut)
}

fn origin_saw(seen: &Seen, evidence: &Evidence<'_>) -> Result<(), String> {
    let now = &evidence.asked[evidence.before..];
    if let Seen::Times(times) = seen {
        return same(&now.len().to_string(), &times.to_string());
    }
    let first = now.first().ok_or("the origin was not asked")?;
    match seen {
        Seen::Field(name, value) => is_value(&first.fields, name, value, evidence.words),
        Seen::NoField(name) => is_absent(&first.fields, name),
        Seen::Body(body) => same(&first.body, body),
        Seen::Method(method) => same(&first.method, method),
        Seen::Suffix(suffix) => same(&first.suffix, suffix),
        Seen::Times(_) => Ok(()),
    }
}

fn client_saw(
    exchange: &Exchange,
    expected: &Expected,
    response: &Response,
    evidence: &Evidence<'_>,
) -> Result<(), String> {
    let words = evidence.words;
    match &expected.what {
        What::Field(name, value) => is_value(&response.fields, name, value, words),
        What::NoField(name) => is_absent(&response.fields, name),
        What::Body(body) => {
            let body = words.expand(body, |_| String::new());
            same(&wire::text(&response.body), &body)
        }
        What::BodyNot(body) => match wire::text(&response.body) == *body {
            true => Err("but it is".to_owned()),
            false => Ok(()),
        },
        What::Interim(status, field) => {
            let found = response.interims.iter().find(|(other, _)| other == status);
            let (_, head) = found.ok_or_else(|| format!("no interim {status} came"))?;
            match field {
                Some((name, value)) => is_value(&head.fields, name, value, words),
                None => Ok(()),
            }
        }
        What::NoInterim => match response.interims.first() {
            Some((status, _)) => Err(format!("an interim {status} came")),
            None => Ok(()),
        },
        What::Result(statuses, source) => {
            let got = response.status.to_string();
            let fits = |pattern: &String| {
                let mut pairs = pattern.chars().zip(got.chars());
                pairs.all(|(pattern, digit)| pattern == 'x' || pattern == digit)
            };
            if !statuses.iter().any(fits) {
                return Err(format!("but it is {got}{}", whence(response, evidence)));
            }
            match source {
                Some(source) => is_source(*source, exchange, response, evidence),
                None => Ok(()),
            }
        }
    }
}

/// The origin's answer that was served, if one was.
fn number(response: &Response) -> Option<usize> {
    joined(&response.fields, NUMBER)?.parse().ok()
}

fn whence(response: &Response, evidence: &Evidence<'_>) -> String {
    let asked = evidence.asked.len() - evidence.before;
    let times = match asked {
        0 => "the origin was not asked".to_owned(),
        1 => "the origin was asked".to_owned(),
        more => format!("the origin was asked {more} times"),
    };
    match number(response) {
        Some(number) if number <= evidence.before => format!(" (a stored answer; {times})"),
        Some(_) => format!(" (the origin's answer to this; {times})"),
        None => format!(" ({times})"),
    }
}

fn is_source(
    source: Source,
    exchange: &Exchange,
    response: &Response,
    evidence: &Evidence<'_>,
) -> Result<(), String> {
    let asked = &evidence.asked[evidence.before..];
    // One request is one request, however many nodes it passes.
    if evidence.is_koorde && evidence.is_alone && exchange.answers.len() < 2 && asked.len() > 1 {
        return Err(format!("but the origin was asked {} times", asked.len()));
    }
    let number = number(response);
    let is_stored = number.is_none_or(|number| number <= evidence.before);
    let is_new = number.is_none_or(|number| number > evidence.before);
    let is_right = match source {
        Source::Origin => is_new && !asked.is_empty(),
        Source::Cache => is_stored && asked.is_empty(),
        Source::Validated => is_stored && asked.iter().any(|asked| asked.answered == Some(304)),
        Source::StaleOnError => is_stored,
        Source::ThenRefreshed => is_stored && !asked.is_empty(),
        Source::Cut => !response.is_whole || response.status >= 500,
    };
    if !is_right {
        return Err(format!("but{}", whence(response, evidence)));
    }
    if source != Source::Cut && !response.is_whole {
        return Err("the body broke off".to_owned());
    }
    // Unless the story says what the body is, it is the one of the answer that was served.
    let says_body = |expected: &Expected| matches!(expected.what, What::Body(_));
    let served = number.and_then(|number| evidence.asked.get(number.checked_sub(1)?));
    let Some(served) = served.filter(|served| served.answered == Some(response.status)) else {
        return Ok(());
    };
    let is_head = exchange.request.method == "HEAD" || served.method == "HEAD";
    let skips = is_head || source == Source::Cut || exchange.expected.iter().any(says_body);
    if skips || response.status == 206 {
        return Ok(());
    }
    same(
        &wire::text(&response.body),
        &wire::text(&served.answer_body),
    )
    .map_err(|why| format!("the body is not the one that was sent: {why}"))
}

fn is_absent(fields: &[(String, String)], name: &str) -> Result<(), String> {
    match joined(fields, name) {
        Some(value) => Err(format!("but there is {name}: {value}")),
        None => Ok(()),
    }
}

fn is_value(
    fields: &[(String, String)],
    name: &str,
    value: &Value,
    words: &Words,
) -> Result<(), String> {
    let got = joined(fields, name).ok_or_else(|| format!("there is no {name}"))?;
    let expand = |text: &String| words.expand(text, |_| String::new());
    let is_right = match value {
        Value::Any => true,
        Value::Is(wanted) => got == expand(wanted),
        Value::Contains(part) => got.contains(&expand(part)),
        Value::Between(low, high) => got
            .parse::<u64>()
            .is_ok_and(|got| (*low..=*high).contains(&got)),
    };
    if is_right {
        Ok(())
    } else {
        Err(format!("but it is {got}"))
    }
}

fn same(got: &str, wanted: &str) -> Result<(), String> {
    if got == wanted {
        return Ok(());
    }
    let short: String = got.chars().take(120).collect();
    Err(format!("but it is {short:?}"))
}
