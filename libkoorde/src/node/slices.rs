//! Large objects in slices: each a key of its own, so that a body of any size is spread over the
//! ring, a seek fetches what it needs, and no node ever holds more of one answer than two slices.
//!
//! A slice is an ordinary request with a Range, stored as an ordinary part under its own key. What
//! belongs together is told by one strong validator (RFC 9110 §15.3.7.3): a body whose slices turn
//! out to be of two representations is cut, never mixed.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::Body as _;
use tracing::{Instrument, Span};

use super::{Inner, Request, answer::Answer, body::Body, clock, fetch::Hop, routes::Route};
use crate::{
    error::{BodyError, FetchError},
    policy::{
        CacheKey, Carried, Part, Selecting, StoredHead,
        fields::cache_control::RequestDirectives,
        precondition,
        range::{self, Satisfy},
        reuse,
    },
};

type Fetching = Pin<Box<dyn Future<Output = Result<Answer, FetchError>> + Send>>;

impl Inner {
    /// Answers a request from slices; `None` if this one, as it is left, is better answered as a
    /// whole.
    pub(crate) async fn sliced(
        self: &Arc<Self>,
        request: &mut Request,
        hop: Hop,
        timeout: Duration,
    ) -> Option<Result<Answer, FetchError>> {
        let route = self.routes.find(&request.target);
        let size = route
            .slice
            .filter(|_| hop == Hop::Client && may_slice(request))?;
        let key = self.key(request);
        if self.memo.is_whole(&key) {
            return None;
        }
        let first = range::first_byte(&request.fields).unwrap_or(0) / size;
        let answer = match self.slice(request, first, size, false, timeout).await {
            Ok(answer) => answer,
            Err(FetchError::NotSliced) => {
                self.memo.mark_whole(&key);
                // The origin ignores it; here it would only keep apart who could wait for one.
                request.fields.remove(header::RANGE);
                request.fields.remove(header::IF_RANGE);
                return None;
            }
            Err(error) => return Some(Err(error)),
        };
        if answer.status != StatusCode::PARTIAL_CONTENT {
            if answer.status == StatusCode::OK {
                // The origin does not answer Range: from now on as a whole.
                self.memo.mark_whole(&key);
            }
            // Beyond the end, or empty: what that means depends on the client's conditions and on
            // whether it asked for a range at all.
            let is_beyond = answer.status == StatusCode::RANGE_NOT_SATISFIABLE;
            return (!is_beyond).then_some(Ok(answer));
        }
        let Some(of) = Of::read(&answer.fields, first, size) else {
            self.memo.mark_whole(&key);
            return None;
        };
        Some(Ok(self.compose(request, route, of, answer, timeout)))
    }

    /// Makes a request the one for the first slice that it needs, if it is answered from slices.
    pub(crate) fn slice_of(&self, request: &mut Request) {
        let size = self.routes.find(&request.target).slice;
        if let Some(size) = size.filter(|_| may_slice(request))
            && !self.memo.is_whole(&self.key(request))
        {
            let number = range::first_byte(&request.fields).unwrap_or(0) / size;
            ask_for(request, number, size, false);
        }
    }

    /// Remembers that what this slice is of does not come in slices.
    pub(crate) fn mark_whole(&self, slice: &Request) {
        self.memo.mark_whole(&self.whole_key(slice));
    }

    /// Whether this is for a slice of what is known not to come in slices.
    pub(crate) fn comes_whole(&self, request: &Request) -> bool {
        request.slice.is_some() && self.memo.is_whole(&self.whole_key(request))
    }

    fn whole_key(&self, slice: &Request) -> CacheKey {
        let mut whole = slice.clone();
        whole.slice = None;
        self.key(&whole)
    }

    /// Asks for one slice, as a client would ask for a range.
    fn slice(
        self: &Arc<Self>,
        request: &Request,
        number: u64,
        size: u64,
        anew: bool,
        timeout: Duration,
    ) -> Fetching {
        let mut request = request.clone();
        ask_for(&mut request, number, size, anew);
        let node = Arc::clone(self);
        let answering = async move { node.answer(request, Hop::Client, timeout).await };
        Box::pin(answering.in_current_span())
    }

    /// The answer that begins with this slice.
    fn compose(
        self: &Arc<Self>,
        request: &Request,
        route: &Route,
        of: Of,
        first: Answer,
        timeout: Duration,
    ) -> Answer {
        let now = clock::now();
        let carried = first.carried.unwrap_or(Carried {
            age: Duration::ZERO,
            lifetime: Duration::ZERO,
        });
        let age = first.fields.get(header::AGE).cloned();
        let mut fields = first.fields;
        range::forget_content(&mut fields);
        let mut answer = Answer {
            status: StatusCode::OK,
            fields: HeaderMap::new(),
            body: Body::empty(),
            outcome: first.outcome,
            carried: None,
            cache_status: first.cache_status,
        };
        let selecting = Selecting::default();
        let ok = StatusCode::OK;
        let head = StoredHead::from_peer(
            ok,
            fields.clone(),
            selecting,
            carried,
            now.instant,
            &route.policy,
        );
        if let Some(fields) = precondition::evaluate(&request.method, &request.fields, &head, now) {
            (answer.status, answer.fields) = (StatusCode::NOT_MODIFIED, fields);
            return answer;
        }
        let complete = of.complete;
        let (start, end) = match range::decide(&request.method, &request.fields, &head, complete) {
            Satisfy::Unsatisfiable => {
                fields.insert(header::CONTENT_RANGE, range::unsatisfied_range(complete));
                fields.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
                (answer.status, answer.fields) = (StatusCode::RANGE_NOT_SATISFIABLE, fields);
                return answer;
            }
            Satisfy::Part { start, end } => {
                let range = range::content_range(start, end, Some(complete));
                fields.insert(header::CONTENT_RANGE, range);
                answer.status = StatusCode::PARTIAL_CONTENT;
                (start, end)
            }
            // Several ranges: "a server MAY ignore the Range header field" (RFC 9110 §14.2).
            Satisfy::Whole | Satisfy::Parts(_) => (0, complete),
        };
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
        if let Some(age) = age {
            fields.insert(header::AGE, age);
        }
        answer.fields = fields;
        let wanted = start / of.size;
        answer.body = Body::slices(Slices {
            node: Arc::clone(self),
            request: request.clone(),
            timeout,
            // A range may begin elsewhere than was guessed: a suffix is known only now.
            current: (wanted == of.number).then_some(first.body),
            skip: start - wanted * of.size,
            left: end - start,
            in_slice: if wanted == of.number { of.length() } else { 0 },
            next: None,
            first: of.number,
            number: wanted,
            span: Span::current(),
            again: false,
            of,
        });
        answer
    }
}

/// Makes a request one for slice `number`, past the stores if it shall be had `anew`.
fn ask_for(request: &mut Request, number: u64, size: u64, anew: bool) {
    for name in [
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_RANGE,
    ] {
        request.fields.remove(name);
    }
    let (start, end) = (
        number.saturating_mul(size),
        number.saturating_add(1).saturating_mul(size),
    );
    let range = format!("bytes={start}-{}", end.saturating_sub(1));
    let range = HeaderValue::try_from(range).expect("digits are a value");
    request.fields.insert(header::RANGE, range);
    if anew {
        let anew = HeaderValue::from_static("no-cache");
        request.fields.append(header::CACHE_CONTROL, anew);
    }
    request.slice = Some(number);
}

/// Whether the answer to this request is the whole where a slice was asked for: its origin does not
/// answer Range.
pub(crate) fn is_whole(request: &Request, status: StatusCode) -> bool {
    request.slice.is_some() && status == StatusCode::OK
}

/// What can be answered by ranges of a response that all may share.
fn may_slice(request: &Request) -> bool {
    request.slice.is_none()
        && request.method == Method::GET
        && reuse::may_collapse(&request.method, &without_range(&request.fields))
        && !RequestDirectives::read(&request.fields).only_if_cached
}

fn without_range(fields: &HeaderMap) -> HeaderMap {
    let mut fields = fields.clone();
    fields.remove(header::RANGE);
    fields.remove(header::IF_RANGE);
    fields
}

/// What a slice is of.
#[derive(Clone, Debug)]
struct Of {
    number: u64,
    size: u64,
    complete: u64,
    /// The strong validator: an entity tag, or nothing for what is one slice only.
    etag: Option<HeaderValue>,
}

impl Of {
    /// Reads the head of a slice; `None` if it is not what was asked for, or if it can't be told
    /// what other slices belong to it.
    fn read(fields: &HeaderMap, number: u64, size: u64) -> Option<Self> {
        let part = Part::read(fields)?;
        let complete = part.complete?;
        let etag = fields.get(header::ETAG).cloned();
        let is_strong = etag
            .as_ref()
            .is_some_and(|etag| etag.as_bytes().starts_with(b"\""));
        let of = Self {
            number,
            size,
            complete,
            etag: etag.filter(|_| is_strong),
        };
        let is_it = part.start == number * size && part.end == part.start + of.length();
        (is_it && (is_strong || complete <= size)).then_some(of)
    }

    /// The length of its own bytes.
    fn length(&self) -> u64 {
        let start = self.number.saturating_mul(self.size);
        self.complete.saturating_sub(start).min(self.size)
    }

    /// Whether this is the head of slice `number` of the same representation.
    fn is_followed_by(&self, fields: &HeaderMap, number: u64) -> bool {
        Self::read(fields, number, self.size)
            .is_some_and(|next| next.complete == self.complete && next.etag == self.etag)
    }
}

/// A body made of slices, fetched one ahead.
pub(crate) struct Slices {
    node: Arc<Inner>,
    request: Request,
    timeout: Duration,
    of: Of,
    /// The slice that the answer began with.
    first: u64,
    /// The slice that is read, or that comes next if there is no `current`.
    number: u64,
    current: Option<Body>,
    /// Bytes of it to leave out, and bytes of it that have to come still.
    skip: u64,
    in_slice: u64,
    /// Bytes of the answer left.
    left: u64,
    next: Option<Next>,
    /// Whether slice `number` was asked for a second time, past the stores.
    again: bool,
    /// That of the request: who reads a body reads it within none.
    span: Span,
}

enum Next {
    Fetching(Fetching),
    Here(Box<Result<Answer, FetchError>>),
}

impl Slices {
    /// Bytes that are still to come.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            if self.current.is_none()
                && let Err(error) = ready!(self.poll_slice(cx))
            {
                self.left = 0;
                return Poll::Ready(Some(Err(error)));
            }
            self.poll_ahead(cx);
            let Some(current) = &mut self.current else {
                continue;
            };
            match ready!(Pin::new(current).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    if let Some(data) = self.take(data) {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if self.in_slice > 0 => {
                    let short = format!("slice {} ended early", self.number);
                    self.left = 0;
                    return Poll::Ready(Some(Err(BodyError::Cut(short))));
                }
                None => {
                    (self.current, self.again) = (None, false);
                    self.number += 1;
                }
            }
        }
    }

    /// What of this chunk belongs to the answer.
    fn take(&mut self, mut data: Bytes) -> Option<Bytes> {
        self.in_slice = self.in_slice.saturating_sub(data.len() as u64);
        let skip = self.skip.min(data.len() as u64);
        self.skip -= skip;
        // It fits: no more than the chunk is long.
        let mut data = data.split_off(skip as usize);
        data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= data.len() as u64;
        (!data.is_empty()).then_some(data)
    }

    /// Brings in the head of slice `number`.
    fn poll_slice(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let next = self
            .next
            .take()
            .unwrap_or_else(|| self.fetch(self.number, false));
        let answer = match next {
            Next::Here(answer) => *answer,
            Next::Fetching(mut fetching) => match fetching.as_mut().poll(cx) {
                Poll::Ready(answer) => answer,
                Poll::Pending => {
                    self.next = Some(Next::Fetching(fetching));
                    return Poll::Pending;
                }
            },
        };
        let cut = |why: String| Poll::Ready(Err(BodyError::Cut(why)));
        let answer = match answer {
            Ok(answer) => Some(answer),
            Err(FetchError::NotSliced) => None,
            Err(error) => return cut(format!("slice {}: {error}", self.number)),
        };
        let follows = |answer: &Answer| {
            answer.status == StatusCode::PARTIAL_CONTENT
                && self.of.is_followed_by(&answer.fields, self.number)
        };
        let Some(answer) = answer.filter(follows) else {
            if !self.again {
                // A store may hold a slice of what was there before: ask past it, once.
                self.again = true;
                self.next = Some(self.fetch(self.number, true));
                return self.poll_slice(cx);
            }
            self.heal();
            return cut("it changed at the origin while it was read".to_owned());
        };
        self.of.number = self.number;
        self.in_slice = self.of.length();
        self.current = Some(answer.body);
        Poll::Ready(Ok(()))
    }

    /// Drives the slice after this one, so that it is there when it is wanted.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        if self.left <= self.in_slice.saturating_sub(self.skip) {
            return;
        }
        let next = self
            .next
            .take()
            .unwrap_or_else(|| self.fetch(self.number + 1, false));
        self.next = Some(match next {
            Next::Fetching(mut fetching) => match fetching.as_mut().poll(cx) {
                Poll::Ready(answer) => Next::Here(Box::new(answer)),
                Poll::Pending => Next::Fetching(fetching),
            },
            here => here,
        });
    }

    /// Has the slice that the answer began with asked for anew, so that the next answer does not
    /// begin with what is no more.
    fn heal(&self) {
        let (request, size) = (&self.request, self.of.size);
        let _in_it = self.span.enter();
        let fetching = self
            .node
            .slice(request, self.first, size, true, self.timeout);
        self.node.tasks.spawn(async move {
            let _stored_or_not = fetching.await;
        });
    }

    fn fetch(&self, number: u64, anew: bool) -> Next {
        let (request, size) = (&self.request, self.of.size);
        let _in_it = self.span.enter();
        Next::Fetching(self.node.slice(request, number, size, anew, self.timeout))
    }
}

impl fmt::Debug for Slices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slices")
            .field("of", &self.of)
            .field("number", &self.number)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
