//! What the sidecar adds to a response for browsers, and no app has asked for.

use http::{HeaderMap, HeaderName, header::Entry};

/// The field that names what was added.
const ADDED: &str = "koorde-added";
/// Names read of it; the sidecar adds two.
const MAX_NAMES: usize = 8;

/// Takes the last line of each field that is named away again.
pub(crate) fn take_away(fields: &mut HeaderMap) {
    let Some(added) = fields.remove(ADDED) else {
        return;
    };
    let names = added.to_str().unwrap_or_default().split(',');
    let names = names.filter_map(|name| name.trim().parse::<HeaderName>().ok());
    for name in names.take(MAX_NAMES) {
        let Entry::Occupied(lines) = fields.entry(&name) else {
            continue;
        };
        let (name, lines) = lines.remove_entry_mult();
        let lines: Vec<_> = lines.collect();
        for line in &lines[..lines.len() - 1] {
            fields.append(&name, line.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_was_added_goes_and_what_the_origin_said_stays() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("content-security-policy", "default-src 'self'"),
            ("content-security-policy", "sandbox"),
            ("x-content-type-options", "nosniff"),
            ("etag", "\"1\""),
        ] {
            fields.append(name, HeaderValue::from_static(value));
        }
        let added = "content-security-policy, x-content-type-options, absent";
        fields.insert(ADDED, HeaderValue::from_static(added));
        take_away(&mut fields);
        let shown: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        let policy = HeaderValue::from_static("default-src 'self'");
        assert_eq!(
            fields
                .get_all("content-security-policy")
                .iter()
                .collect::<Vec<_>>(),
            [&policy]
        );
        assert_eq!(shown.len(), 2, "{shown:?}");
    }
}
