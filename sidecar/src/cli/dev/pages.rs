//! The pages of the demo origin: each shows one thing that a response can tell a cache.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use super::origin::plain;
use crate::cli::loopback::Body;

/// The field that counts the origin's answers, page by page.
pub(super) const ANSWER: &str = "x-origin-answer";

const ETAG: &str = "\"v1\"";
const DATE: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

/// `/big` is this many pieces of [`PIECE`] bytes, one every [`PAUSE`]: slow enough to see waiters
/// stream what is still coming.
const PIECES: usize = 64;
const PIECE: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(50);

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) path: &'static str,
    /// What it sends, and so what it shows.
    fields: &'static [(&'static str, &'static str)],
    /// What a cache does with it.
    says: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Only its text.
    Plain,
    /// The list of all pages.
    Index,
    /// Fails while the origin is broken.
    Breakable,
    /// One text for each language.
    Languages,
    /// Some MiB, slowly.
    Big,
    /// Always a 500.
    Failing,
}

const fn page(
    path: &'static str,
    kind: Kind,
    fields: &'static [(&'static str, &'static str)],
    says: &'static str,
) -> Page {
    Page {
        path,
        fields,
        says,
        kind,
    }
}

/// All pages, in the order in which to try them.
static PAGES: [Page; 12] = [
    page(
        "/",
        Kind::Index,
        &[("cache-control", "max-age=60")],
        "this list",
    ),
    page(
        "/page",
        Kind::Plain,
        &[("cache-control", "max-age=60"), ("etag", ETAG)],
        "fresh for 60 s: a hit on every node; then validated by its ETag",
    ),
    page(
        "/short",
        Kind::Breakable,
        &[
            (
                "cache-control",
                "max-age=5, stale-while-revalidate=30, stale-if-error=300",
            ),
            ("etag", ETAG),
        ],
        "fresh for 5 s; then stale at once and refreshed behind your back; stale while /break lasts",
    ),
    page(
        "/vary",
        Kind::Languages,
        &[("cache-control", "max-age=60"), ("vary", "Accept-Language")],
        "one response for each language: de, en, fr, it",
    ),
    page(
        "/etag",
        Kind::Plain,
        &[("cache-control", "no-cache"), ("etag", ETAG)],
        "stored, but the origin is asked each time: 304 if unchanged",
    ),
    page(
        "/last-modified",
        Kind::Plain,
        &[("cache-control", "max-age=10"), ("last-modified", DATE)],
        "fresh for 10 s; then validated by its date",
    ),
    page(
        "/big",
        Kind::Big,
        &[("cache-control", "max-age=60")],
        "4 MiB in 3 s: ask all nodes at once and all stream the one answer",
    ),
    page(
        "/private",
        Kind::Plain,
        &[("cache-control", "private, max-age=60")],
        "for one user: never shared",
    ),
    page(
        "/no-store",
        Kind::Plain,
        &[("cache-control", "no-store")],
        "never stored",
    ),
    page(
        "/cookie",
        Kind::Plain,
        &[
            ("cache-control", "max-age=60"),
            ("set-cookie", "session=secret; HttpOnly"),
        ],
        "sets a cookie and does not say public: not shared",
    ),
    page(
        "/error",
        Kind::Failing,
        &[("cache-control", "no-store")],
        "500: not stored",
    ),
    page(
        "/plain",
        Kind::Plain,
        &[],
        "says nothing at all about caching",
    ),
];

impl Page {
    /// The page at `path`.
    pub(super) fn find(path: &str) -> Option<&'static Self> {
        PAGES.iter().find(|page| page.path == path)
    }

    /// Its response to a request with these fields.
    pub(super) fn answer(&self, request: &HeaderMap, broken: bool) -> Response<Body> {
        if self.kind == Kind::Failing || (broken && self.kind == Kind::Breakable) {
            return plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                &[("cache-control", "no-store")],
                "broken".to_owned(),
            );
        }
        if self.holds(request) {
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().extend(self.head());
            return response;
        }
        let mut response = match self.kind {
            Kind::Big => big(PAUSE),
            Kind::Index => plain(StatusCode::OK, &[], index()),
            Kind::Languages => languages(request),
            Kind::Plain | Kind::Breakable | Kind::Failing => {
                plain(StatusCode::OK, &[], self.text())
            }
        };
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        response.headers_mut().extend(self.head());
        response
    }

    fn head(&self) -> HeaderMap {
        let fields = self.fields.iter().map(|(name, value)| {
            (
                header::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        fields.collect()
    }

    /// Whether what the client has is still right (RFC 9110 §13.1). There is one version of each page
    /// for ever, so comparing bytes is enough.
    fn holds(&self, request: &HeaderMap) -> bool {
        let sends = |name| self.fields.iter().any(|(n, _)| *n == name);
        let asked = |name| request.get(name).and_then(|value| value.to_str().ok());
        match asked("if-none-match") {
            Some(tags) => {
                sends("etag")
                    && tags
                        .split(',')
                        .any(|tag| matches!(tag.trim(), ETAG | "*" | "W/\"v1\""))
            }
            None => sends("last-modified") && asked("if-modified-since") == Some(DATE),
        }
    }

    fn text(&self) -> String {
        let fields: Vec<String> = self
            .fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        format!("{}: {}\n{}", self.path, self.says, fields.join("\n"))
    }
}

/// The list of pages.
fn index() -> String {
    let mut lines = vec![
        "The demo origin of koorde. Every page takes a while, so a hit is easily told from a miss."
            .to_owned(),
        format!(
            "The field {ANSWER} counts a page's answers: the same number twice is the same answer."
        ),
        String::new(),
    ];
    for page in &PAGES {
        let caching = page
            .fields
            .iter()
            .find(|(name, _)| *name == "cache-control")
            .map_or("-", |(_, value)| value);
        lines.push(format!("{:<16}{}", page.path, page.says));
        lines.push(format!("{:<16}cache-control: {caching}", ""));
    }
    lines.push(format!(
        "{:<16}how often each page was really asked for (ask the origin itself)",
        "/count"
    ));
    lines.push(format!(
        "{:<16}/short fails, and works again (ask the origin itself)",
        "/break, /mend"
    ));
    lines.join("\n")
}

/// The first language of the request that there is, else English.
fn languages(request: &HeaderMap) -> Response<Body> {
    const TEXTS: [(&str, &str); 4] = [
        ("en", "Good day"),
        ("de", "Guten Tag"),
        ("fr", "Bonjour"),
        ("it", "Buongiorno"),
    ];
    let asked = request
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let wanted = asked.split(',').find_map(|range| {
        let language = range.trim().split([';', '-']).next()?;
        TEXTS
            .iter()
            .find(|(tag, _)| tag.eq_ignore_ascii_case(language))
    });
    let (tag, text) = wanted.unwrap_or(&TEXTS[0]);
    let mut response = plain(StatusCode::OK, &[], (*text).to_owned());
    response
        .headers_mut()
        .insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(tag));
    response
}

/// Much, slowly.
fn big(pause: Duration) -> Response<Body> {
    let piece = Bytes::from_static(&[b'.'; PIECE]);
    let pieces = stream::unfold(0, move |sent| {
        let piece = piece.clone();
        async move {
            if sent == PIECES {
                return None;
            }
            if sent > 0 {
                tokio::time::sleep(pause).await;
            }
            Some((Ok::<_, io::Error>(Frame::data(piece)), sent + 1))
        }
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed());
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(PIECES * PIECE));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_listed_once_and_answers() {
        for page in &PAGES {
            assert_eq!(
                PAGES.iter().filter(|other| other.path == page.path).count(),
                1,
                "{}",
                page.path
            );
            assert!(index().contains(page.path));
            let status = page.answer(&HeaderMap::new(), false).status().as_u16();
            assert_eq!(
                status,
                if page.path == "/error" { 500 } else { 200 },
                "{}",
                page.path
            );
        }
    }

    #[tokio::test]
    async fn the_big_page_is_as_long_as_it_says() {
        let response = big(Duration::ZERO);
        let said = response.headers()[header::CONTENT_LENGTH]
            .to_str()
            .expect("digits")
            .to_owned();
        let body = response
            .into_body()
            .collect()
            .await
            .expect("complete")
            .to_bytes();
        assert_eq!(said, body.len().to_string());
    }
}
