//! What operators ask of one node: `/debug/*` and `/purge` of the admin listener.

use http::{Method, Request, StatusCode};

use crate::http::{
    Accept, State,
    cache::library_request,
    respond::{self, Answer},
};

mod purge;
mod token;

pub(crate) use purge::purge;
pub use token::{Token, TokenError};

/// `/debug/explain?url=`: why the next request for a URL would be a hit or a miss. The request's own
/// fields count, so a variant is asked for as it would be fetched.
pub(crate) async fn explain<B>(state: &State, request: Request<B>, accept: &Accept) -> Answer {
    let mut request = match library_request(request) {
        Ok(request) => request,
        Err(failure) => return failure.answer(accept),
    };
    request.method = Method::GET;
    respond::json(StatusCode::OK, &state.node.explain(&request).await)
}
