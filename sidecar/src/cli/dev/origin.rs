//! The demo origin: slow, and counting what it is really asked for.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use super::pages::{self, Page};
use crate::cli::{
    Failure,
    loopback::{Body, Loopback, body},
};

/// The port that the examples name.
const PORT: u16 = 9000;

/// A running demo origin; ends when dropped.
#[derive(Debug)]
pub(super) struct Demo {
    server: Loopback,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    delay: Duration,
    /// Requests by page; a path that is no page is not counted, so the map is as small as the table.
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// Whether `/short` fails, to show stale-if-error.
    broken: AtomicBool,
}

impl Demo {
    /// Starts it on port 9000, or on a free one if that is taken.
    pub(super) async fn start(delay: Duration) -> Result<Self, Failure> {
        let state = Arc::new(State {
            delay,
            counts: Mutex::default(),
            broken: AtomicBool::new(false),
        });
        let shared = state.clone();
        let handler = move |request| answer(shared.clone(), request);
        let server = Loopback::start_near(PORT, handler).await.map_err(|error| {
            Failure::Work(format!(
                "the demo origin could not listen on loopback: {error}"
            ))
        })?;
        Ok(Self { server, state })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// How often `page` was asked for.
    pub(super) fn count(&self, page: &str) -> u64 {
        self.state.counts().get(page).copied().unwrap_or_default()
    }
}

impl State {
    fn counts(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, u64>> {
        // A count is right at every instant, also where a holder ended badly.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, page: &'static str) -> u64 {
        let mut counts = self.counts();
        let count = counts.entry(page).or_default();
        *count += 1;
        *count
    }

    /// The switches and the counter: answered at once and not counted.
    fn control(&self, path: &str) -> Option<Response<Body>> {
        let text = match path {
            "/count" => serde_json::to_string_pretty(&*self.counts()).unwrap_or_default(),
            "/break" | "/mend" => {
                let broken = path == "/break";
                self.broken.store(broken, Ordering::Relaxed);
                format!(
                    "/short {}",
                    if broken {
                        "answers 500 until you ask for /mend"
                    } else {
                        "is well again"
                    }
                )
            }
            _ => return None,
        };
        let kind = if path == "/count" {
            "application/json"
        } else {
            "text/plain"
        };
        Some(plain(
            StatusCode::OK,
            &[("cache-control", "no-store"), ("content-type", kind)],
            text,
        ))
    }
}

/// Answers one request: who it is for, how often that was, and then, slowly, the page.
async fn answer(state: Arc<State>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(
            StatusCode::METHOD_NOT_ALLOWED,
            &[("allow", "GET, HEAD")],
            String::new(),
        );
    }
    if let Some(response) = state.control(path) {
        return response;
    }
    let Some(page) = Page::find(path) else {
        return plain(
            StatusCode::NOT_FOUND,
            &[("cache-control", "max-age=5")],
            format!("{path} is no page; see /"),
        );
    };
    let count = state.add(page.path);
    tracing::debug!(path, count, "The demo origin is asked.");
    tokio::time::sleep(state.delay).await;
    let broken = state.broken.load(Ordering::Relaxed);
    let mut response = page.answer(request.headers(), broken);
    // Tells which request made the response that a cache hands out, and leaves the body as it is.
    response
        .headers_mut()
        .insert(pages::ANSWER, HeaderValue::from(count));
    response
}

/// A small response with the fields given.
pub(super) fn plain(
    status: StatusCode,
    fields: &[(&'static str, &'static str)],
    text: String,
) -> Response<Body> {
    let mut response = Response::new(body(Full::new(Bytes::from(text + "\n"))));
    *response.status_mut() = status;
    for (name, value) in fields {
        response.headers_mut().append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Empty};

    use super::*;
    use crate::cli::client::Client;

    async fn ask(
        demo: &Demo,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> (Response<()>, String) {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = format!("http://{}{path}", demo.address())
            .parse()
            .expect("valid");
        for (name, value) in fields {
            request
                .headers_mut()
                .insert(*name, value.parse().expect("valid"));
        }
        let response = Client::for_reports()
            .expect("client")
            .send(request)
            .await
            .expect("it answers");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("complete").to_bytes();
        (
            Response::from_parts(head, ()),
            String::from_utf8_lossy(&body).into_owned(),
        )
    }

    #[tokio::test]
    async fn requests_are_counted_by_page_and_the_counter_is_not() {
        let demo = Demo::start(Duration::ZERO).await.expect("loopback");
        ask(&demo, "/page", &[]).await;
        let (response, _) = ask(&demo, "/page", &[]).await;
        assert_eq!(response.headers()[pages::ANSWER], "2");
        ask(&demo, "/nowhere", &[]).await;
        let (_, counts) = ask(&demo, "/count", &[]).await;
        assert_eq!(
            serde_json::from_str::<BTreeMap<String, u64>>(&counts)
                .expect("JSON")
                .len(),
            1
        );
        assert_eq!(demo.count("/page"), 2);
    }

    #[tokio::test]
    async fn an_etag_that_still_holds_is_answered_304() {
        let demo = Demo::start(Duration::ZERO).await.expect("loopback");
        for path in ["/page", "/etag"] {
            let (first, _) = ask(&demo, path, &[]).await;
            let etag = first.headers()["etag"].to_str().expect("text");
            let (second, body) = ask(&demo, path, &[("if-none-match", etag)]).await;
            assert_eq!(
                (second.status(), body.as_str()),
                (StatusCode::NOT_MODIFIED, ""),
                "{path}"
            );
            let (other, _) = ask(&demo, path, &[("if-none-match", "\"old\"")]).await;
            assert_eq!(other.status(), StatusCode::OK, "{path}");
        }
        let (first, _) = ask(&demo, "/last-modified", &[]).await;
        let date = first.headers()["last-modified"].to_str().expect("text");
        let (second, _) = ask(&demo, "/last-modified", &[("if-modified-since", date)]).await;
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
    }

    #[tokio::test]
    async fn the_short_page_breaks_and_mends() {
        let demo = Demo::start(Duration::ZERO).await.expect("loopback");
        for (switch, status) in [("/break", 500), ("/mend", 200)] {
            ask(&demo, switch, &[]).await;
            assert_eq!(
                ask(&demo, "/short", &[]).await.0.status().as_u16(),
                status,
                "{switch}"
            );
        }
    }

    #[tokio::test]
    async fn a_language_is_chosen_and_named_in_vary() {
        let demo = Demo::start(Duration::ZERO).await.expect("loopback");
        for (asked, given) in [("de", "de"), ("fr-CH, en;q=0.5", "fr"), ("xx", "en")] {
            let (response, _) = ask(&demo, "/vary", &[("accept-language", asked)]).await;
            assert_eq!(response.headers()["content-language"], given, "{asked}");
            assert_eq!(response.headers()["vary"], "Accept-Language");
        }
    }
}
