//! CONNECT (RFC 9110 §9.3.6): refused, or the connection becomes a tunnel.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, StatusCode, Version, header, uri::Authority};
use http_body_util::{BodyExt, Empty};
use tracing::debug;

use super::{
    Accept, State, proxy,
    respond::{Answer, Failure},
    tunnel::{Tunnel, TunnelSlot},
};

/// Answers CONNECT. What goes through the tunnel is never looked at, so never stored.
pub(super) async fn answer<B>(
    state: &State,
    authority: &Authority,
    mut request: Request<B>,
    accept: &Accept,
) -> Answer {
    match open(state, authority, &mut request).await {
        Ok(answer) => answer,
        Err(failure) => {
            failure.log();
            let mut answer = proxy::refused(&failure, accept, request.version());
            if failure.status == StatusCode::METHOD_NOT_ALLOWED {
                // RFC 9110 §15.5.6 wants the field. No method is allowed for a bare authority.
                let none = HeaderValue::from_static("");
                answer.headers_mut().insert(header::ALLOW, none);
            }
            answer
        }
    }
}

async fn open<B>(
    state: &State,
    authority: &Authority,
    request: &mut Request<B>,
) -> Result<Answer, Failure> {
    let refused = |message: &str| {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Failure::new(status, "connect", message.to_owned())
    };
    if !state.http.connect {
        return Err(refused("CONNECT is not served here: http.connect is false"));
    }
    let slot = request.extensions_mut().remove::<TunnelSlot>();
    let Some(slot) = slot.filter(|_| request.version() < Version::HTTP_2) else {
        return Err(refused("CONNECT is served over HTTP/1.1 only"));
    };
    let place = Arc::clone(&state.tunnels).try_acquire_owned();
    let place =
        place.map_err(|_| Failure::of(&libkoorde::FetchError::Overloaded("http.max_tunnels")))?;
    let connected = state.node.connect(authority).await;
    let remote = connected.map_err(|error| Failure::of(&error))?;
    debug!("A tunnel begins.");
    slot.put(Tunnel {
        client: hyper::upgrade::on(request),
        remote,
        place,
        open: state.metrics.tunnel(),
    });
    let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut answer = Response::new(nothing);
    proxy::not_cached(&mut answer, "koorde; fwd=method; detail=tunnel");
    Ok(answer)
}
