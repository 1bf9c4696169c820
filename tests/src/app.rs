//! An app that looks aside: it asks a node, makes the request itself where it is told to, and puts
//! what came.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use libkoorde::{Aside, Body, BodyError, Lease, Node, Put, Request};

/// The fields that a lease's conditions stand in for.
const CONDITIONS: [HeaderName; 5] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
];

/// How an app came by its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was stored, or another's.
    Answered,
    /// It asked the origin, under a lease, and all of it was stored.
    Stored,
    /// It asked the origin, under a lease, and keeps it for itself.
    NotStored,
    /// What was stored stands in for what it put.
    StoodIn,
    /// It lost its lease, and keeps what it has.
    Lost,
    /// It asked the origin alone.
    Alone,
}

/// What an app has in the end.
#[derive(Debug)]
pub struct Had {
    /// How it came by it.
    pub how: How,
    /// The response.
    pub response: Response<Bytes>,
    /// The right to renew it.
    pub renews: Option<Lease>,
}

/// Looks aside, and does what it is told.
///
/// # Errors
/// There is no response, and why.
pub async fn look_aside(node: &Node, request: Request) -> Result<Had, String> {
    let asked = node.look_aside(request.clone()).await;
    match asked.map_err(|error| error.to_string())? {
        Aside::Answer(response, renews) => Ok(Had {
            how: How::Answered,
            response: whole(response).await?,
            renews,
        }),
        Aside::Alone(_) => {
            let response = ask(&request, None).await?;
            Ok(had(How::Alone, read(response).await?))
        }
        Aside::Lease(lease) => under(lease, &request, None).await,
    }
}

/// Makes the request that a lease is for and puts what comes.
///
/// # Errors
/// There is no response, and why.
pub async fn under(
    lease: Lease,
    request: &Request,
    lifetime: Option<Duration>,
) -> Result<Had, String> {
    let response = match ask(request, Some(lease.conditions())).await {
        Ok(response) => response,
        Err(why) => {
            let stands_in = lease.fail().await.ok_or(why)?;
            return Ok(had(How::StoodIn, whole(stands_in).await?));
        }
    };
    let (head, mut body) = response.into_parts();
    let mut put = Response::new(());
    *put.status_mut() = head.status;
    *put.headers_mut() = head.headers.clone();
    let (mut sink, mut how) = match lease.put(put, lifetime).await {
        Put::Answer(response) => return Ok(had(How::StoodIn, whole(response).await?)),
        Put::Body(body) => (Some(body), How::NotStored),
        Put::Unwanted => (None, How::NotStored),
        Put::Lost => (None, How::Lost),
    };
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let chunk = frame.map_err(|error| error.to_string())?;
        let chunk = chunk.into_data().unwrap_or_default();
        bytes.extend_from_slice(&chunk);
        if let Some(open) = &mut sink
            && open.write(chunk).await.is_err()
        {
            sink = None;
        }
    }
    if let Some(sink) = sink
        && sink.end().await
    {
        how = How::Stored;
    }
    Ok(had(how, Response::from_parts(head, bytes.into())))
}

fn had(how: How, response: Response<Bytes>) -> Had {
    Had {
        how,
        response,
        renews: None,
    }
}

/// The app's own client: it knows nothing of caches.
///
/// # Errors
/// The origin's.
pub async fn ask(
    request: &Request,
    conditions: Option<&HeaderMap>,
) -> Result<Response<Incoming>, String> {
    let mut outgoing = http::Request::new(Empty::<Bytes>::new());
    *outgoing.method_mut() = request.method.clone();
    *outgoing.uri_mut() = request.target.uri().clone();
    *outgoing.headers_mut() = request.fields.clone();
    if let Some(conditions) = conditions {
        for name in CONDITIONS {
            outgoing.headers_mut().remove(name);
        }
        outgoing.headers_mut().extend(conditions.clone());
    }
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(outgoing).await;
    response.map_err(|error| error.to_string())
}

/// A response of a node, read to its end.
///
/// # Errors
/// Its body is incomplete.
pub async fn whole(response: Response<Body>) -> Result<Response<Bytes>, String> {
    let (head, body) = response.into_parts();
    let body = body.collect().await;
    let body = body.map_err(|error: BodyError| error.to_string())?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

async fn read(response: Response<Incoming>) -> Result<Response<Bytes>, String> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
