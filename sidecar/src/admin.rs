//! What operators ask of one node: `/debug/*` and `/purge` of the admin listener.

use http::{Method, Request, StatusCode};
use libkoorde::{Quoted, policy::Target};

use crate::http::{
    Accept, State,
    respond::{self, Answer, Failure},
    target,
};

#[cfg(fuzzing)]
pub mod fuzzing;
mod purge;
mod token;

pub(crate) use purge::{may_purge, method as purge_method, purge};
pub use token::{Token, TokenError};

/// `/debug/explain?url=`: why the next request for a URL would be a hit or a miss. The request's own
/// fields count, so a variant is asked for as it would be fetched.
pub(crate) async fn explain<B>(state: &State, request: Request<B>, accept: &Accept) -> Answer {
    let target = match of_query(request.uri().query()) {
        Ok(target) => target,
        Err(failure) => return failure.answer(accept),
    };
    let (head, _) = request.into_parts();
    let request = libkoorde::Request::new(Method::GET, target, head.headers);
    respond::json(StatusCode::OK, &state.node.explain(&request).await)
}

fn of_query(query: Option<&str>) -> Result<Target, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::bad_request(error.to_string());
    let url = target::url(query).map_err(|e| bad(&e))?;
    Target::parse(&url).map_err(|e| bad(&format_args!("url {}: {e}", Quoted(&url))))
}
