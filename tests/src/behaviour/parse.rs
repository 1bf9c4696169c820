//! Reads a table.

use std::time::Duration;

use super::story::{
    Answer, Body, Exchange, Expected, Level, Request, Seen, Source, Step, Story, Table, Value, What,
};

/// Reads all stories of a table.
///
/// # Errors
/// The line that makes no sense, and why.
pub fn table(name: &'static str, text: &str) -> Result<Table, String> {
    let mut stories = Vec::new();
    let mut block: Vec<(usize, &str)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("==") {
            stories.extend(read_block(name, &block)?);
            block.clear();
        }
        // What is indented or a comment is for the reader.
        if !line.trim().is_empty() && !line.starts_with([' ', '#']) {
            block.push((index + 1, line));
        }
    }
    stories.extend(read_block(name, &block)?);
    Ok(Table { name, stories })
}

/// The story of one title, or one for each of its `each` lines.
fn read_block(name: &'static str, block: &[(usize, &str)]) -> Result<Vec<Story>, String> {
    let Some(&(line, first)) = block.first() else {
        return Ok(Vec::new());
    };
    let at = |line: usize, text: &str, why: &str| format!("{name}.txt:{line}: {why}\n    {text}");
    let title = first.strip_prefix("==");
    let title = title.ok_or_else(|| at(line, first, "a line before the first title"))?;
    let (each, lines): (Vec<_>, Vec<_>) = block[1..]
        .iter()
        .partition(|(_, line)| line.starts_with("each "));
    let mut cases: Vec<(usize, Vec<&str>)> = each
        .iter()
        .map(|(number, text)| (*number, text[5..].split('|').map(str::trim).collect()))
        .collect();
    if cases.is_empty() {
        cases.push((line, Vec::new()));
    }
    let mut stories = Vec::new();
    for (number, parts) in cases {
        let fill = |text: &str| {
            let parts = parts.iter().zip(1..);
            parts.fold(text.to_owned(), |text, (part, place)| {
                text.replace(&format!("${place}"), part)
            })
        };
        let mut story = Story {
            table: name,
            line: number,
            title: fill(title.trim()),
            level: Level::Required,
            messages_only: false,
            steps: Vec::new(),
        };
        for (number, text) in &lines {
            let text = fill(text);
            read_line(&mut story, *number, &text).map_err(|why| at(*number, &text, &why))?;
        }
        if story.steps.is_empty() {
            return Err(at(number, &story.title, "nothing happens in it"));
        }
        stories.push(story);
    }
    Ok(stories)
}

fn read_line(story: &mut Story, number: usize, line: &str) -> Result<(), String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    match word {
        "required" | "optimal" | "koorde" => {
            story.level = match word {
                "required" => Level::Required,
                "optimal" => Level::Optimal,
                _ => Level::Koorde,
            };
            story.messages_only = match rest {
                "" => false,
                "(messages)" => true,
                other => return Err(format!("no such mark: {other}")),
            };
        }
        "wait" => story.steps.push(Step::Wait(duration(rest)?)),
        ">" if is_start(rest) => {
            let exchange = Exchange {
                line: number,
                request: request(rest),
                ..Exchange::default()
            };
            story.steps.push(Step::Together(vec![exchange]));
        }
        "&" => {
            let Some(Step::Together(group)) = story.steps.last_mut() else {
                return Err("together with what?".to_owned());
            };
            group.push(Exchange {
                line: number,
                request: request(rest),
                ..Exchange::default()
            });
        }
        _ => {
            let Some(Step::Together(group)) = story.steps.last_mut() else {
                return Err("it belongs to no request".to_owned());
            };
            let exchange = group.last_mut().ok_or("it belongs to no request")?;
            match word {
                ">" => request_line(&mut exchange.request, rest)?,
                "<" => answer_line(&mut exchange.answers, rest)?,
                "@" => exchange.seen.push((number, seen(rest)?)),
                "=" => exchange.expected.push(expected(number, rest)?),
                _ => return Err(format!("no such word: {word}")),
            }
        }
    }
    Ok(())
}

/// Neither `(word) …` nor `Name: value`.
fn is_start(text: &str) -> bool {
    !text.starts_with('(') && field(text).is_none()
}

/// `Name: value`; the value may be empty.
fn field(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once(':')?;
    let is_name = !name.is_empty() && !name.contains([' ', '?', '/', '(']);
    is_name.then(|| (name.to_owned(), value.trim().to_owned()))
}

/// `(word) rest`
fn directive(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = text.strip_prefix('(')?.split_once(')')?;
    Some((word, rest.strip_prefix(' ').unwrap_or(rest)))
}

fn request(text: &str) -> Request {
    let (method, suffix) = text.split_once(' ').unwrap_or((text, ""));
    Request {
        method: method.to_owned(),
        suffix: suffix.to_owned(),
        ..Request::default()
    }
}

fn request_line(request: &mut Request, text: &str) -> Result<(), String> {
    match directive(text) {
        Some(("body", body)) => request.body = Some(body.to_owned()),
        Some((word, _)) => return Err(format!("a request has no ({word})")),
        None => request.fields.push(field(text).ok_or("not a field")?),
    }
    Ok(())
}

fn answer_line(answers: &mut Vec<Answer>, text: &str) -> Result<(), String> {
    if is_start(text) || text == "(drop)" {
        return start_answer(answers, text);
    }
    let answer = answers.last_mut().ok_or("of which answer?")?;
    let Some((word, rest)) = directive(text) else {
        let fields = match answer.interims.last_mut() {
            Some((_, fields)) if answer.status.is_none() => fields,
            _ => &mut answer.fields,
        };
        fields.push(field(text).ok_or("not a field")?);
        return Ok(());
    };
    match word {
        "delay" => answer.delay = duration(rest)?,
        "no date" => answer.no_date = true,
        "whole" => answer.whole = Some(rest.to_owned()),
        "body" => answer.body = Some(Body::Plain(rest.to_owned())),
        "until close" => answer.body = Some(Body::UntilClose(rest.to_owned())),
        "cut" => answer.body = Some(Body::Cut(rest.to_owned())),
        "cut chunked" => answer.body = Some(Body::CutChunked(rest.to_owned())),
        "chunked" => {
            answer.body = Some(Body::Chunked(rest.split('|').map(str::to_owned).collect()));
        }
        _ => return Err(format!("an answer has no ({word})")),
    }
    Ok(())
}

fn start_answer(answers: &mut Vec<Answer>, text: &str) -> Result<(), String> {
    // An interim response belongs to the final one after it.
    let continues = |answer: &&mut Answer| answer.status.is_none() && !answer.interims.is_empty();
    let mut fresh = Answer::default();
    let existing = answers.last_mut().filter(continues);
    let is_new = existing.is_none();
    let answer = existing.unwrap_or(&mut fresh);
    if text != "(drop)" {
        let (status, reason) = text.split_once(' ').unwrap_or((text, "Said"));
        let status: u16 = status.parse().map_err(|_| format!("no status: {status}"))?;
        if (100..200).contains(&status) {
            answer.interims.push((status, Vec::new()));
        } else {
            answer.status = Some((status, reason.to_owned()));
        }
    }
    if is_new {
        answers.push(fresh);
    }
    Ok(())
}

fn seen(text: &str) -> Result<Seen, String> {
    if let Some(name) = text.strip_prefix("no ") {
        return Ok(Seen::NoField(name.to_owned()));
    }
    if let Some((word, rest)) = directive(text) {
        return Ok(match word {
            "body" => Seen::Body(rest.to_owned()),
            "method" => Seen::Method(rest.to_owned()),
            "suffix" => Seen::Suffix(rest.to_owned()),
            "times" => Seen::Times(rest.parse().map_err(|_| "how many times?")?),
            _ => return Err(format!("the origin sees no ({word})")),
        });
    }
    let (name, wanted) = field(text).ok_or("not a field")?;
    Ok(Seen::Field(name, value(&wanted)?))
}

fn expected(line: usize, text: &str) -> Result<Expected, String> {
    let (koorde_only, text) = match text.strip_prefix("(koorde) ") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let what = if let Some(name) = text.strip_prefix("no ") {
        What::NoField(name.to_owned())
    } else if let Some((word, rest)) = directive(text) {
        match word {
            "body" => What::Body(rest.to_owned()),
            "body not" => What::BodyNot(rest.to_owned()),
            "no interim" => What::NoInterim,
            "interim" => interim(rest)?,
            _ => return Err(format!("a response has no ({word})")),
        }
    } else if let Some((name, wanted)) = field(text) {
        What::Field(name, value(&wanted)?)
    } else {
        result(text)?
    };
    Ok(Expected {
        line,
        koorde_only,
        what,
    })
}

fn interim(text: &str) -> Result<What, String> {
    let (status, rest) = text.split_once(' ').unwrap_or((text, ""));
    let status = status.parse().map_err(|_| "which status?")?;
    let wanted = match field(rest) {
        Some((name, wanted)) => Some((name, value(&wanted)?)),
        None => None,
    };
    Ok(What::Interim(status, wanted))
}

fn result(text: &str) -> Result<What, String> {
    let (statuses, source) = text.split_once(' ').unwrap_or((text, ""));
    let is_status =
        |status: &&str| status.len() == 3 && status.chars().all(|c| c.is_ascii_digit() || c == 'x');
    let statuses: Vec<_> = statuses.split('/').collect();
    if !statuses.iter().all(is_status) {
        return Err("neither a status nor a field".to_owned());
    }
    let source = match source {
        "" => None,
        "from origin" => Some(Source::Origin),
        "from cache" => Some(Source::Cache),
        "validated" => Some(Source::Validated),
        "stale on error" => Some(Source::StaleOnError),
        "from cache then refreshed" => Some(Source::ThenRefreshed),
        "cut" => Some(Source::Cut),
        _ => return Err(format!("no such source: {source}")),
    };
    let statuses = statuses.into_iter().map(str::to_owned).collect();
    Ok(What::Result(statuses, source))
}

fn value(text: &str) -> Result<Value, String> {
    if text == "*" {
        return Ok(Value::Any);
    }
    if let Some(part) = text.strip_prefix('~') {
        return Ok(Value::Contains(part.to_owned()));
    }
    let bound = |text: &str, open: u64| match text {
        "" => Some(open),
        digits => digits.parse().ok(),
    };
    if let Some((low, high)) = text.split_once("..")
        && let (Some(low), Some(high)) = (bound(low, 0), bound(high, u64::MAX))
    {
        return Ok(Value::Between(low, high));
    }
    Ok(Value::Is(text.to_owned()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let read = |digits: &str| {
        digits
            .parse::<u64>()
            .map_err(|_| format!("no duration: {text}"))
    };
    if let Some(millis) = text.strip_suffix("ms") {
        return read(millis).map(Duration::from_millis);
    }
    read(text.strip_suffix('s').unwrap_or("")).map(Duration::from_secs)
}
