//! `POST /purge` and `DELETE /purge`: what is named there is purged on every node; the answer is a
//! receipt.

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use libkoorde::{Kind, PurgeRequest, Quoted, Scope, policy::Target};
use tracing::{info, warn};

use crate::http::{
    Accept, State, decode,
    respond::{self, Answer, Failure},
};

/// Answers `/purge`: 200 with a receipt if every member has acknowledged, 202 if some could not be
/// reached. The query says what: one of `url=`, `tag=`, `group=` with `origin=`, `prefix=`, `host=`
/// (beside `tag=`: only of that host), `all=true`; and `hard=true`, `tenant=`.
pub(crate) async fn purge<B>(state: &State, request: &Request<B>, accept: &Accept) -> Answer {
    let asked = asked(state, request);
    carry_out(state, request.method(), asked, accept).await
}

/// Answers the method PURGE at a client's door: the target is purged on every node, every variant
/// of it; of a client's `tenant` only, unless that is empty. `Koorde-Purge: hard` makes it a hard one;
/// `invalidate` does what an unsafe request would (RFC 9111 §4.4), and so needs no token: 204.
pub(crate) async fn method(
    state: &State,
    target: Target,
    tenant: &str,
    fields: &HeaderMap,
    accept: &Accept,
) -> Answer {
    let kind = match fields.get("koorde-purge").map(HeaderValue::as_bytes) {
        Some(b"invalidate") => {
            let done = state.node.invalidate(&[target], tenant).await;
            return match done {
                Ok(()) => invalidated(),
                Err(message) => refused(&Failure::bad_request(message), accept),
            };
        }
        None | Some(b"soft") => Ok(Kind::Soft),
        Some(b"hard") => Ok(Kind::Hard),
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            let message = format!(
                "Koorde-Purge: {}: must be soft, hard or invalidate",
                Quoted(&other)
            );
            Err(Failure::bad_request(message))
        }
    };
    let asked = permitted(state, fields).and(kind).map(|kind| PurgeRequest {
        tenant: (!tenant.is_empty()).then(|| state.node.tenant(&target, tenant)),
        scope: Scope::Url(target),
        kind,
    });
    let purge = Method::from_bytes(b"PURGE").expect("a token");
    carry_out(state, &purge, asked, accept).await
}

fn invalidated() -> Answer {
    let mut answer = respond::text(StatusCode::NO_CONTENT, String::new());
    let fields = answer.headers_mut();
    fields.remove(header::CONTENT_TYPE);
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Whether these fields have what a purge needs.
pub(crate) fn may_purge(state: &State, fields: &HeaderMap) -> bool {
    permitted(state, fields).is_ok()
}

async fn carry_out(
    state: &State,
    method: &Method,
    asked: Result<PurgeRequest, Failure>,
    accept: &Accept,
) -> Answer {
    let mut answer = match asked {
        Ok(purge) => {
            let mut audit = Audit {
                method,
                purge: &purge,
                is_written: false,
            };
            let receipt = state.node.purge(&purge).await;
            audit.is_written = true;
            // Who did what, and who took part: for whoever asks later.
            info!(
                audit = "purge",
                method = method.as_str(),
                scope = receipt.scope,
                kind = receipt.kind.as_str(),
                generation = receipt.generation,
                asked = receipt.asked.len(),
                unreachable = ?receipt.unreachable,
                "Purged on request."
            );
            let status = if receipt.is_complete() {
                StatusCode::OK
            } else {
                StatusCode::ACCEPTED
            };
            respond::json(status, &receipt)
        }
        Err(failure) => {
            warn!(
                audit = "purge",
                status = failure.status.as_u16(),
                "Purge refused."
            );
            refused(&failure, accept)
        }
    };
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Says who did what although the client was gone before there was a receipt: the purge goes on.
struct Audit<'a> {
    method: &'a Method,
    purge: &'a PurgeRequest,
    is_written: bool,
}

impl Drop for Audit<'_> {
    fn drop(&mut self) {
        if !self.is_written {
            info!(
                audit = "purge",
                method = self.method.as_str(),
                scope = %self.purge.scope,
                tenant = self.purge.tenant,
                kind = self.purge.kind.as_str(),
                "Purged on request; the client left before the receipt."
            );
        }
    }
}

fn refused(failure: &Failure, accept: &Accept) -> Answer {
    let mut answer = failure.answer(accept);
    let (name, value) = match failure.status {
        StatusCode::METHOD_NOT_ALLOWED => (header::ALLOW, "POST, DELETE"),
        StatusCode::UNAUTHORIZED => (header::WWW_AUTHENTICATE, "Bearer"),
        _ => return answer,
    };
    answer
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
    answer
}

fn asked<B>(state: &State, request: &Request<B>) -> Result<PurgeRequest, Failure> {
    let method = request.method();
    if *method != Method::POST && *method != Method::DELETE {
        let message = format!("{method} is not served here; POST and DELETE are");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Failure::new(status, "method", message));
    }
    super::same_site(request, &state.admin_hosts)?;
    permitted(state, request.headers())?;
    read(request.uri().query().unwrap_or_default()).map_err(Failure::bad_request)
}

fn permitted(state: &State, fields: &HeaderMap) -> Result<(), Failure> {
    match &state.token {
        _ if !state.takes_purges => {
            let message =
                "admin.purge = false: this node takes no purges; ask one of the ring's own"
                    .to_owned();
            Err(Failure::new(StatusCode::FORBIDDEN, "purge", message))
        }
        Some(token) if !token.is_in(fields) => {
            let message = "a purge needs the token of admin.token_file".to_owned();
            Err(Failure::new(StatusCode::UNAUTHORIZED, "token", message))
        }
        _ => Ok(()),
    }
}

/// The parameters of a query, each at most once.
#[derive(Debug, Default)]
struct Parameters {
    url: Option<String>,
    tag: Option<String>,
    group: Option<String>,
    origin: Option<String>,
    prefix: Option<String>,
    host: Option<String>,
    all: Option<String>,
    hard: Option<String>,
    tenant: Option<String>,
}

const NAMES: &str = "url, tag, group, origin, prefix, host, all, hard, tenant";

impl Parameters {
    fn read(query: &str) -> Result<Self, String> {
        let mut read = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, encoded) = pair.split_once('=').unwrap_or((pair, ""));
            let value = match name {
                "url" => &mut read.url,
                "tag" => &mut read.tag,
                "group" => &mut read.group,
                "origin" => &mut read.origin,
                "prefix" => &mut read.prefix,
                "host" => &mut read.host,
                "all" => &mut read.all,
                "hard" => &mut read.hard,
                "tenant" => &mut read.tenant,
                // Most likely the rest of a URL whose `&` was not encoded.
                other => {
                    return Err(format!(
                        "there is no parameter {}; there is {NAMES}; if it belongs to a URL, percent-encode the URL",
                        Quoted(other)
                    ));
                }
            };
            let decoded = decode(encoded).ok_or_else(|| {
                format!("{name} = {}: not percent-encoded UTF-8", Quoted(encoded))
            })?;
            if value.replace(decoded).is_some() {
                return Err(format!("the query has the parameter {name} more than once"));
            }
        }
        Ok(read)
    }
}

fn target(name: &str, url: &str) -> Result<Target, String> {
    Target::parse(url).map_err(|error| format!("{name} = {}: {error}", Quoted(url)))
}

fn flag(name: &str, value: Option<String>) -> Result<bool, String> {
    match value.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!("{name} = {}: must be true or false", Quoted(other))),
    }
}

/// What a query asks for. Exactly one scope has to be named: a slip must not empty the cache.
pub(super) fn read(query: &str) -> Result<PurgeRequest, String> {
    let asked = Parameters::read(query)?;
    let all = flag("all", asked.all)?;
    let kind = if flag("hard", asked.hard)? {
        Kind::Hard
    } else {
        Kind::Soft
    };
    if asked
        .tenant
        .as_deref()
        .is_some_and(|tenant| tenant.len() > 253)
    {
        return Err("tenant: must be at most 253 bytes".to_owned());
    }
    let scope = match (
        asked.url,
        asked.tag,
        (asked.group, asked.origin),
        asked.prefix,
        asked.host,
        all,
    ) {
        (Some(url), None, (None, None), None, None, false) => Scope::Url(target("url", &url)?),
        (None, Some(tag), (None, None), None, host, false) => Scope::tag(&tag, host.as_deref())?,
        (None, None, (Some(group), Some(origin)), None, None, false) => {
            Scope::group(target("origin", &origin)?, &group)?
        }
        (None, None, (Some(_), None), None, None, false) => {
            return Err("group needs origin=, a URL of its origin".to_owned());
        }
        (None, None, (None, None), Some(prefix), None, false) => {
            Scope::Prefix(target("prefix", &prefix)?)
        }
        (None, None, (None, None), None, Some(host), false) => Scope::host(&host)?,
        (None, None, (None, None), None, None, true) => Scope::All,
        _ => {
            return Err(
                "name one of url=, tag= (with host= if only of one host), group= with origin=, prefix=, host=, all=true"
                    .to_owned(),
            );
        }
    };
    Ok(PurgeRequest {
        scope,
        kind,
        tenant: asked.tenant,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_one_scope() {
        for (query, scope, kind, tenant) in [
            (
                "url=http://a/%3Fx%3D1",
                "url http://a/?x=1",
                Kind::Soft,
                None,
            ),
            ("tag=a+b&hard=true", "tag a+b", Kind::Hard, None),
            ("tag=a&host=H", "tag a of h", Kind::Soft, None),
            (
                "group=g&origin=https://a/x",
                "group g of https://a",
                Kind::Soft,
                None,
            ),
            ("prefix=http://a/b/", "prefix http://a/b/", Kind::Soft, None),
            ("host=a:8080&tenant=t", "host a:8080", Kind::Soft, Some("t")),
            ("all=true&hard=false", "all", Kind::Soft, None),
        ] {
            let asked = read(query).expect(query);
            assert_eq!(asked.scope.to_string(), scope);
            assert_eq!((asked.kind, asked.tenant.as_deref()), (kind, tenant));
        }
    }

    #[test]
    fn a_query_that_could_mean_something_else_is_refused() {
        for (query, why) in [
            ("", "name one of"),
            ("hard=true", "name one of"),
            ("all=false", "name one of"),
            ("all=yes", "all = \"yes\""),
            ("url=http://a/&tag=b", "name one of"),
            ("url=http://a/&all=true", "name one of"),
            ("url=/a", "url = \"/a\""),
            ("url=http://a/?x=1&y=2", "no parameter \"y\""),
            ("tag=a&tag=b", "more than once"),
            ("tag=", "tag of 0 bytes"),
            ("tag=%f", "not percent-encoded"),
            ("group=g", "group needs origin="),
            ("host=a/b", "host = \"a/b\""),
        ] {
            let error = read(query).expect_err(query);
            assert!(error.contains(why), "{query}: {error}");
        }
    }
}
