//! Requests that a browser makes for somebody else's page.
//!
//! The admin listener asks for no name, and an operator's browser reaches it: without this any page
//! that is open in it could purge the cache. To the browser also a page is of this site whose name
//! was pointed at this address after it had been loaded (DNS rebinding), so the name has to be one
//! that nobody else can point anywhere.

use std::net::{IpAddr, Ipv6Addr};

use http::{Request, StatusCode, header};
use libkoorde::Quoted;

use crate::http::respond::Failure;

/// Refuses what another site's page asks for; `hosts` are names of ours, as `admin.hosts` has them.
/// Nobody but a browser says so: all others pass.
pub(crate) fn same_site<B>(request: &Request<B>, hosts: &[String]) -> Result<(), Failure> {
    let text = |name: &str| {
        let value = request.headers().get(name)?;
        value.to_str().ok().map(str::to_ascii_lowercase)
    };
    let authority = request.uri().authority();
    let authority = authority.map(|authority| authority.as_str().to_ascii_lowercase());
    let host = text(header::HOST.as_str()).or(authority);
    let is_same = match (text("sec-fetch-site"), text(header::ORIGIN.as_str())) {
        // Typed, or a bookmark: no page asks.
        (Some(site), _) if site == "none" => return Ok(()),
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => {
            let of_page = origin.split_once("://").map(|(_, host)| host);
            of_page.is_some() && of_page == host.as_deref()
        }
        (None, None) => return Ok(()),
    };
    if !is_same {
        let message = "a browser asks for this on behalf of another site's page".to_owned();
        return Err(Failure::new(StatusCode::FORBIDDEN, "site", message));
    }
    let host = host.unwrap_or_default();
    if is_ours(&host, hosts) {
        return Ok(());
    }
    let name = Quoted(&host);
    let message = format!("a browser asks for this as {name}: is that name in admin.hosts?");
    Err(Failure::new(StatusCode::FORBIDDEN, "site", message))
}

/// Whether a host, maybe with a port, is an address, a name that only this machine or this cluster
/// can resolve, or one of `hosts`.
fn is_ours(host: &str, hosts: &[String]) -> bool {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let inside = [".localhost", ".svc", ".svc.cluster.local"];
    !name.is_empty()
        && (name.parse::<IpAddr>().is_ok()
            || !name.contains('.')
            || inside.iter().any(|suffix| name.ends_with(suffix))
            || hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(fields: &[(&str, &str)]) -> bool {
        let mut request = Request::post("/purge");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("well-formed");
        same_site(&request, &["Koorde.example".to_owned()]).is_ok()
    }

    #[test]
    fn only_another_sites_page_is_refused() {
        for (fields, is_same) in [
            (&[][..], true),
            (&[("host", "a:1")], true),
            (&[("host", "a.example:1")], true),
            (
                &[
                    ("host", "a:1"),
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "https://x"),
                ],
                true,
            ),
            (&[("host", "a.example"), ("sec-fetch-site", "none")], true),
            (&[("host", "a:1"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "a:1"), ("sec-fetch-site", "same-site")], false),
            (&[("host", "a:1"), ("origin", "http://a:1")], true),
            (&[("host", "a:1"), ("origin", "http://A:1")], true),
            (&[("host", "a:1"), ("origin", "http://a:2")], false),
            (&[("host", "a:1"), ("origin", "null")], false),
        ] {
            assert_eq!(passes(fields), is_same, "{fields:?}");
        }
    }

    #[test]
    fn a_name_that_somebody_else_can_point_at_this_address_is_refused() {
        for (host, is_ours) in [
            ("127.0.0.1:9090", true),
            ("10.1.2.3", true),
            ("[::1]:9090", true),
            ("localhost:9090", true),
            ("koorde.localhost:9090", true),
            ("koorde:9090", true),
            ("koorde.web.svc:9090", true),
            ("koorde.web.svc.cluster.local:9090", true),
            ("koorde.example:9090", true),
            ("evil.example:9090", false),
            ("koorde.example.evil.example", false),
            ("web.svc.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("[evil.example]", false),
            ("", false),
        ] {
            let origin = format!("http://{host}");
            for asks in [("origin", &*origin), ("sec-fetch-site", "same-origin")] {
                assert_eq!(passes(&[("host", host), asks]), is_ours, "{host} {asks:?}");
            }
        }
    }
}
