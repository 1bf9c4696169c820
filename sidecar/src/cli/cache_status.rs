//! Reading Cache-Status (RFC 9211): one member a cache, origin side first.

use serde::Serialize;

/// What one cache says about its part in a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Member {
    /// The cache's name.
    pub(crate) cache: String,
    /// Its parameters in order; one without value is `true`.
    pub(crate) parameters: Vec<(String, String)>,
}

/// The members of a field value. Lenient: what makes no sense is passed over, since this is only
/// shown to people.
pub(crate) fn parse(value: &str) -> Vec<Member> {
    split(value, ',')
        .into_iter()
        .filter_map(|member| Member::parse(&member))
        .collect()
}

/// Splits at `separator`, but not inside quotes (RFC 8941 §3.3.3).
fn split(value: &str, separator: char) -> Vec<String> {
    let (mut parts, mut part, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in value.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if c == separator && !quoted => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts
}

/// A token as it is, a string without quotes and escapes.
fn bare(item: &str) -> String {
    let item = item.trim();
    let Some(inner) = item
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return item.to_owned();
    };
    let (mut text, mut escaped) = (String::with_capacity(inner.len()), false);
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            text.push(c);
        }
    }
    text
}

impl Member {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = split(text, ';').into_iter();
        let cache = bare(&parts.next()?);
        let parameters = parts
            .map(|part| match part.split_once('=') {
                Some((name, value)) => (name.trim().to_ascii_lowercase(), bare(value)),
                None => (part.trim().to_ascii_lowercase(), "true".to_owned()),
            })
            .filter(|(name, _)| !name.is_empty())
            .collect();
        (!cache.is_empty()).then_some(Self { cache, parameters })
    }

    /// The value of parameter `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    fn is(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| !matches!(value, "?0" | "false"))
    }

    /// The cache's name, and what it adds to it.
    pub(crate) fn name(&self) -> String {
        match self.get("detail") {
            Some(detail) => format!("{} ({detail})", self.cache),
            None => self.cache.clone(),
        }
    }

    /// The member in words: `answered from its store, fresh for 57 s more`.
    pub(crate) fn words(&self) -> String {
        let mut said = Vec::new();
        if self.is("hit") {
            said.push("answered from its store".to_owned());
        }
        if let Some(reason) = self.get("fwd") {
            said.push(format!("went further because {}", reason_in_words(reason)));
        }
        if let Some(status) = self.get("fwd-status") {
            said.push(format!("was answered {status}"));
        }
        if self.is("collapsed") {
            said.push("shared one request with others".to_owned());
        }
        if self.is("stored") {
            said.push("stored the response".to_owned());
        }
        match self.get("ttl").and_then(|ttl| ttl.parse::<i64>().ok()) {
            Some(ttl) if ttl < 0 => said.push(format!("stale for {} s", ttl.unsigned_abs())),
            Some(ttl) => said.push(format!("fresh for {ttl} s more")),
            None => {}
        }
        if said.is_empty() {
            "took part".to_owned()
        } else {
            said.join(", ")
        }
    }
}

/// The `fwd` reasons of RFC 9211 §2.2.
pub(crate) fn reason_in_words(reason: &str) -> &str {
    match reason {
        "bypass" => "it was not to answer this request itself",
        "method" => "a cache cannot answer this method",
        "uri-miss" => "nothing was stored for the URL",
        "vary-miss" => "what was stored is for other request fields (Vary)",
        "miss" => "nothing was stored that fits",
        "request" => "the request itself asks for a newer response",
        "stale" => "what was stored is stale",
        "partial" => "only a part was stored",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_apart_at_commas_outside_quotes() {
        let members = parse(
            r#"koorde; fwd=uri-miss; fwd-status=200; stored; detail=owner, "a, \"b\""; hit; ttl=57"#,
        );
        assert_eq!(members.len(), 2);
        assert_eq!(members[0].name(), "koorde (owner)");
        assert_eq!(
            members[0].words(),
            "went further because nothing was stored for the URL, was answered 200, stored the response"
        );
        assert_eq!(members[1].cache, r#"a, "b""#);
        assert_eq!(
            members[1].words(),
            "answered from its store, fresh for 57 s more"
        );
    }

    #[test]
    fn a_stale_hit_says_for_how_long() {
        assert_eq!(
            parse("koorde;hit;ttl=-3")[0].words(),
            "answered from its store, stale for 3 s"
        );
    }

    #[test]
    fn nonsense_is_passed_over() {
        assert_eq!(parse(""), []);
        assert_eq!(parse(", ;;, ;hit"), []);
        assert_eq!(parse("cdn; =; \"")[0].cache, "cdn");
        assert_eq!(parse("cdn")[0].words(), "took part");
    }
}
