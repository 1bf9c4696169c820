//! `koorde.cache.v1` ↔ ours: what clients in any language say.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use koorde_proto::cache::v1::{self as proto, failed::Kind, purge_request};

use super::{MAX_FIELDS, put_head};
use crate::{
    error::{FetchError, Quoted},
    node::{Overrides, Request},
    policy::Target,
    purge::Scope,
};

/// URLs of one purge, at most.
const MAX_URLS: usize = 16;
/// Bytes of a whole tenant's name, at most.
const MAX_TENANT: usize = 318;

/// What a client asks for.
pub(crate) fn request(target: Option<proto::Target>) -> Result<Request, String> {
    let asked = target.ok_or("there is no target")?;
    let target = self::target(&asked.url)?;
    let method = match asked.method.as_str() {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        other => return Err(format!("method {}: must be GET or HEAD", Quoted(other))),
    };
    let overrides = Overrides::new(&target, &asked.tenant, &asked.stored_as, None)?;
    let mut request = Request::new(method, target, field_map(asked.fields)?);
    request.version = http::Version::HTTP_2;
    request.overrides = overrides;
    Ok(request)
}

fn target(url: &str) -> Result<Target, String> {
    Target::parse(url).map_err(|error| format!("url {}: {error}", Quoted(url)))
}

fn field_map(fields: Vec<proto::Field>) -> Result<HeaderMap, String> {
    if fields.len() > MAX_FIELDS {
        return Err(format!("{} fields, at most {MAX_FIELDS}", fields.len()));
    }
    let mut map = HeaderMap::with_capacity(fields.len());
    for proto::Field { name, value } in fields {
        let field = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("field name {}", Quoted(&name)))?;
        let value =
            HeaderValue::from_maybe_shared(value).map_err(|_| format!("value of field {field}"))?;
        map.append(field, value);
    }
    Ok(map)
}

pub(crate) fn fields(fields: &HeaderMap) -> Vec<proto::Field> {
    let field = |(name, value): (&HeaderName, &HeaderValue)| proto::Field {
        name: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    fields.iter().map(field).collect()
}

pub(crate) fn head<B>(response: &Response<B>) -> proto::Head {
    proto::Head {
        status: response.status().as_u16().into(),
        fields: fields(response.headers()),
    }
}

pub(crate) fn failure(error: &FetchError) -> proto::Failed {
    let kind = match error {
        FetchError::Overloaded(_) | FetchError::Stopping => Kind::Overloaded,
        _ => Kind::LeaseLost,
    };
    failed(kind, error.to_string())
}

pub(crate) fn failed(kind: Kind, message: String) -> proto::Failed {
    proto::Failed {
        kind: kind.into(),
        message,
    }
}

/// What is put: under which lease, the head (none: no response came), its lifetime.
pub(crate) struct PutHead {
    pub(crate) lease: Bytes,
    pub(crate) head: Option<Response<()>>,
    pub(crate) lifetime: Option<Duration>,
}

pub(crate) fn put(head: proto::PutHead) -> Result<PutHead, String> {
    let lifetime = Some(head.lifetime_ms).filter(|ms| *ms > 0);
    Ok(PutHead {
        lease: head.lease,
        head: put_head(head.status, field_map(head.fields)?)?,
        lifetime: lifetime.map(Duration::from_millis),
    })
}

/// What is to be purged: each with the whole name of a tenant, or URLs with a client's.
#[derive(Debug)]
pub(crate) enum Purged {
    Urls(Vec<Target>),
    Scope(Scope),
}

pub(crate) fn purged(scope: Option<purge_request::Scope>, tenant: &str) -> Result<Purged, String> {
    if tenant.len() > MAX_TENANT {
        return Err(format!("tenant of {} bytes", tenant.len()));
    }
    Ok(match scope.ok_or("there is no scope")? {
        purge_request::Scope::Urls(proto::Urls { urls }) => {
            if urls.is_empty() || urls.len() > MAX_URLS {
                return Err(format!("{} URLs: must be 1 to {MAX_URLS}", urls.len()));
            }
            let targets = urls.iter().map(|url| target(url));
            Purged::Urls(targets.collect::<Result<_, _>>()?)
        }
        purge_request::Scope::Tag(tag) => Purged::Scope(Scope::tag(&tag, None)?),
        purge_request::Scope::Prefix(prefix) => Purged::Scope(Scope::Prefix(target(&prefix)?)),
        purge_request::Scope::Host(host) => Purged::Scope(Scope::host(&host)?),
        purge_request::Scope::All(true) => Purged::Scope(Scope::All),
        purge_request::Scope::All(false) => return Err("all: must be true".to_owned()),
        purge_request::Scope::Group(group) => {
            Purged::Scope(Scope::group(target(&group.origin)?, &group.name)?)
        }
    })
}

/// A deadline as gRPC says it: up to eight digits and a unit.
pub(crate) fn timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_read_as_grpc_writes_it() {
        for (value, read) in [
            ("100m", Some(Duration::from_millis(100))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("1S", Some(Duration::from_secs(1))),
            ("S", None),
            ("", None),
            ("1", None),
            ("-1S", None),
            ("1\u{b5}", None),
            ("123456789S", None),
        ] {
            assert_eq!(timeout(value), read, "{value}");
        }
    }
}
