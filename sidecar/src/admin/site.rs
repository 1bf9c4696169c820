//! Requests that a browser makes for somebody else's page.
//!
//! The admin listener asks for no name, and an operator's browser reaches it: without this any page
//! that is open in it could purge the cache.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::http::respond::Failure;

/// Refuses what another site's page asks for. Nobody but a browser says so: all others pass.
pub(crate) fn same_site(fields: &HeaderMap) -> Result<(), Failure> {
    let text = |value: Option<&HeaderValue>| {
        let value = value.and_then(|value| value.to_str().ok());
        value.map(str::to_ascii_lowercase)
    };
    let is_same = match text(fields.get("sec-fetch-site")) {
        // `none`: typed, or a bookmark.
        Some(site) => matches!(&*site, "same-origin" | "none"),
        None => match text(fields.get(header::ORIGIN)) {
            Some(origin) => {
                let host = origin.split_once("://").map(|(_, host)| host.to_owned());
                host.is_some() && host == text(fields.get(header::HOST))
            }
            None => true,
        },
    };
    if is_same {
        return Ok(());
    }
    let message = "a browser asks for this on behalf of another site's page".to_owned();
    Err(Failure::new(StatusCode::FORBIDDEN, "site", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_sites_page_is_refused() {
        for (fields, is_same) in [
            (&[][..], true),
            (&[("host", "a:1")], true),
            (
                &[("sec-fetch-site", "same-origin"), ("origin", "https://x")],
                true,
            ),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("host", "a:1"), ("origin", "http://a:1")], true),
            (&[("host", "a:1"), ("origin", "http://A:1")], true),
            (&[("host", "a:1"), ("origin", "http://a:2")], false),
            (&[("host", "a:1"), ("origin", "null")], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(same_site(&map).is_ok(), is_same, "{fields:?}");
        }
    }
}
