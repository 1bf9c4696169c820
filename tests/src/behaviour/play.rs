//! The origin's side of a story while it is played: pure, whoever carries the messages.

use std::time::{Duration, SystemTime};

use super::{
    story::{Answer, Body},
    wire::{self, joined},
    words::{self, Words},
};

/// The field that says which of the origin's answers this is. An end-to-end field like any other,
/// so a cache stores it and an answer tells where it comes from. A 304 has none.
pub const NUMBER: &str = "Answer-Number";

/// The origin of one story.
#[derive(Debug)]
pub struct Play {
    /// What words in braces mean.
    pub words: Words,
    /// Every request that came, in order.
    pub asked: Vec<Asked>,
    script: Vec<Answer>,
    next: usize,
}

/// A request that reached the origin, and what it was answered.
#[derive(Clone, Debug)]
pub struct Asked {
    /// As it was on the wire.
    pub method: String,
    /// What follows the story's path.
    pub suffix: String,
    /// As they came.
    pub fields: Vec<(String, String)>,
    /// As far as it came.
    pub body: String,
    /// The final status sent; none: no answer.
    pub answered: Option<u16>,
    /// The body sent, without what HEAD and 304 leave out.
    pub answer_body: Vec<u8>,
}

/// What the origin sends.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// Before anything is sent.
    pub delay: Duration,
    /// Interim responses.
    pub interims: Vec<(u16, Vec<(String, String)>)>,
    /// Status and reason; none: the connection ends.
    pub status: Option<(u16, String)>,
    /// All fields.
    pub fields: Vec<(String, String)>,
    /// The bytes after the head, chunks and all.
    pub body: Vec<u8>,
    /// Whether the connection ends after it.
    pub closes: bool,
}

impl Play {
    /// Before the first request.
    pub fn new(words: Words) -> Self {
        Self {
            words,
            asked: Vec::new(),
            script: Vec::new(),
            next: 0,
        }
    }

    /// What is answered from now on.
    pub fn script(&mut self, answers: Vec<Answer>) {
        (self.script, self.next) = (answers, 0);
    }

    /// Answers a request; the body sent is noted in `asked`.
    pub fn answer(&mut self, mut asked: Asked, now: SystemTime) -> Reply {
        let number = self.asked.len() + 1;
        let last = self.script.len().saturating_sub(1);
        let unexpected = || Answer {
            status: Some((200, "Unexpected".to_owned())),
            fields: vec![("Cache-Control".to_owned(), "no-store".to_owned())],
            ..Answer::default()
        };
        let scripted = self.script.get(self.next.min(last)).cloned();
        self.next += 1;
        let mut answer = scripted.unwrap_or_else(unexpected);
        let is_conditional = ["if-none-match", "if-modified-since"]
            .into_iter()
            .any(|name| joined(&asked.fields, name).is_some());
        if let Some((status @ 304, _)) = &mut answer.status
            && !is_conditional
        {
            *status = 200;
        }
        let expand = |text: &str| {
            self.words
                .expand(text, |name| joined(&asked.fields, name).unwrap_or_default())
        };
        let mut reply = reply(&answer, number, &asked, &expand);
        if !answer.no_date && reply.status.is_some() && !has(&reply.fields, "date") {
            reply.fields.push(("Date".to_owned(), words::imf(now)));
        }
        asked.answered = reply.status.as_ref().map(|(status, _)| *status);
        asked.answer_body = match &answer.body {
            Some(Body::Chunked(chunks)) => wire::bytes(&expand(&chunks.concat())),
            _ => reply.body.clone(),
        };
        let is_bodiless = matches!(asked.answered, Some(204 | 304));
        if is_bodiless {
            asked.answer_body.clear();
        }
        if is_bodiless || asked.method == "HEAD" {
            reply.body.clear();
        }
        self.asked.push(asked);
        reply
    }
}

fn has(fields: &[(String, String)], name: &str) -> bool {
    joined(fields, name).is_some()
}

fn reply(answer: &Answer, number: usize, asked: &Asked, expand: &impl Fn(&str) -> String) -> Reply {
    let all = |fields: &[(String, String)]| -> Vec<(String, String)> {
        let pair = |(name, value): &(String, String)| (name.clone(), expand(value));
        fields.iter().map(pair).collect()
    };
    let mut reply = Reply {
        delay: answer.delay,
        status: answer.status.clone(),
        fields: all(&answer.fields),
        ..Reply::default()
    };
    let interim = |(status, fields): &(u16, Vec<_>)| (*status, all(fields));
    reply.interims = answer.interims.iter().map(interim).collect();
    let Some((status, _)) = reply.status else {
        reply.closes = true;
        return reply;
    };
    // Only who asks for a part is given one, however it is scripted.
    let has_range = has(&asked.fields, "range");
    if matches!(status, 206 | 416) && !has_range {
        reply.status = Some((200, "OK".to_owned()));
        reply.fields.retain(|(name, _)| name != "Content-Range");
    }
    if status != 304 {
        reply.fields.push((NUMBER.to_owned(), number.to_string()));
    }
    match &answer.body {
        Some(Body::Chunked(chunks)) => {
            let chunk = |chunk: &String| {
                let chunk = expand(chunk);
                format!("{:x}\r\n{chunk}\r\n", chunk.len())
            };
            let text: String = chunks.iter().map(chunk).collect();
            reply.body = wire::bytes(&format!("{text}0\r\n\r\n"));
            chunked(&mut reply);
        }
        Some(Body::CutChunked(text)) => {
            let text = expand(text);
            reply.body = wire::bytes(&format!("{:x}\r\n{text}\r\n", text.len()));
            reply.closes = true;
            chunked(&mut reply);
        }
        Some(Body::Cut(text)) => {
            reply.body = wire::bytes(&expand(text));
            reply.closes = true;
        }
        Some(Body::UntilClose(text)) => {
            reply.body = wire::bytes(&expand(text));
            reply.closes = true;
            reply
                .fields
                .push(("Connection".to_owned(), "close".to_owned()));
        }
        Some(Body::Plain(text)) if has_range || answer.whole.is_none() => {
            plain(&mut reply, expand(text));
        }
        Some(Body::Plain(_)) | None if answer.whole.is_some() => {
            let whole = expand(answer.whole.as_deref().unwrap_or_default());
            part(&mut reply, asked, &whole);
        }
        Some(Body::Plain(_)) | None => plain(&mut reply, format!("answer {number}")),
    }
    reply
}

fn chunked(reply: &mut Reply) {
    let field = ("Transfer-Encoding".to_owned(), "chunked".to_owned());
    reply.fields.push(field);
}

fn plain(reply: &mut Reply, text: String) {
    let status = reply.status.as_ref().map(|(status, _)| *status);
    reply.body = wire::bytes(&text);
    if !matches!(status, Some(204 | 304)) && !has(&reply.fields, "content-length") {
        let length = reply.body.len().to_string();
        reply.fields.push(("Content-Length".to_owned(), length));
    }
}

/// The part that the request asks for, if it is one range; else the whole.
fn part(reply: &mut Reply, asked: &Asked, whole: &str) {
    let complete = whole.len();
    let range = joined(&asked.fields, "range").unwrap_or_default();
    let wanted = range.strip_prefix("bytes=").and_then(|spec| {
        let (first, last) = spec.split_once('-')?;
        let positions = match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) => (first, last.min(complete.checked_sub(1)?)),
            (Ok(first), Err(_)) if last.is_empty() => (first, complete.checked_sub(1)?),
            (Err(_), Ok(suffix)) => (complete.saturating_sub(suffix), complete.checked_sub(1)?),
            _ => return None,
        };
        (positions.0 <= positions.1).then_some(positions)
    });
    let Some((first, last)) = wanted else {
        reply.status = Some((200, "OK".to_owned()));
        return plain(reply, whole.to_owned());
    };
    reply.status = Some((206, "Partial Content".to_owned()));
    if !has(&reply.fields, "content-range") {
        let value = format!("bytes {first}-{last}/{complete}");
        reply.fields.push(("Content-Range".to_owned(), value));
    }
    plain(reply, whole[first..=last].to_owned());
}
