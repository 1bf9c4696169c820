//! What operators ask of one node: `/debug/*`, `/purge` and the page `/ui/` of the admin listener.

use http::{HeaderValue, Method, Request, StatusCode, header};
use libkoorde::{Quoted, policy::Target};

use crate::http::{
    Accept, State,
    respond::{self, Answer, Failure},
    target,
};

#[cfg(fuzzing)]
pub mod fuzzing;
mod purge;
mod site;
pub mod snapshot;
mod token;
mod ui;
mod watch;

pub(crate) use purge::{may_purge, method as purge_method, purge};
pub(crate) use site::same_site;
pub use token::{Token, TokenError};
pub(crate) use ui::file;
pub(crate) use watch::events;
pub use watch::{MAX_VIEWERS, Watch, run as poll};

/// `/debug/explain?url=`: why the next request for a URL would be a hit or a miss. The request's own
/// fields count, so a variant is asked for as it would be fetched.
pub(crate) async fn explain<B>(state: &State, request: Request<B>, accept: &Accept) -> Answer {
    let target = match of_query(request.uri().query()) {
        Ok(target) => target,
        Err(failure) => return failure.answer(accept),
    };
    let (head, _) = request.into_parts();
    let request = libkoorde::Request::new(Method::GET, target, head.headers);
    let mut answer = respond::json(StatusCode::OK, &state.node.explain(&request).await);
    let fields = answer.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn of_query(query: Option<&str>) -> Result<Target, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::bad_request(error.to_string());
    let url = target::url(query).map_err(|e| bad(&e))?;
    Target::parse(&url).map_err(|e| bad(&format_args!("url {}: {e}", Quoted(&url))))
}
