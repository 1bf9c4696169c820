//! The page `/ui/`: a few files in the binary, made for a browser that trusts nobody.

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};

use crate::http::{
    Accept,
    respond::{self, Answer, Failure},
};

/// What the page may do: run its own scripts, look like its own style, ask this node. Nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($path:literal: $file:literal, $kind:expr;)*) => {
        /// Path, type and text of each file.
        const FILES: &[(&str, &str, &str)] = &[
            $(($path, $kind, include_str!(concat!("ui/", $file))),)*
        ];
    };
}

files! {
    "/ui/": "index.html", HTML;
    "/ui/style.css": "style.css", CSS;
    "/ui/app.js": "app.js", SCRIPT;
    "/ui/ask.js": "ask.js", SCRIPT;
    "/ui/charts.js": "charts.js", SCRIPT;
    "/ui/dom.js": "dom.js", SCRIPT;
    "/ui/explain.js": "explain.js", SCRIPT;
    "/ui/members.js": "members.js", SCRIPT;
    "/ui/purge.js": "purge.js", SCRIPT;
    "/ui/ring.js": "ring.js", SCRIPT;
    "/ui/units.js": "units.js", SCRIPT;
}

/// Answers `/ui` and everything below it but the events.
pub(crate) fn file<B>(request: &Request<B>, accept: &Accept) -> Answer {
    let path = request.uri().path();
    if path == "/ui" {
        return with_slash();
    }
    let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == path) else {
        let message = format!("the page has no {path:?}");
        return Failure::new(StatusCode::NOT_FOUND, "not-found", message).answer(accept);
    };
    let tag = tag(text);
    let is_known = request
        .headers()
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || known.trim().trim_start_matches("W/") == tag);
    let (status, text) = if is_known {
        (StatusCode::NOT_MODIFIED, "")
    } else {
        (StatusCode::OK, *text)
    };
    let mut answer = respond::typed(status, HeaderValue::from_static(kind), text.to_owned());
    let fields = answer.headers_mut();
    let tag = HeaderValue::try_from(tag).expect("hexadecimal digits in quotes");
    fields.insert(header::ETAG, tag);
    guard(fields);
    answer
}

/// The files are named relative to the page, so that it also works behind a prefix: that needs the
/// slash.
fn with_slash() -> Answer {
    let mut answer = respond::text(StatusCode::PERMANENT_REDIRECT, String::new());
    let fields = answer.headers_mut();
    fields.insert(header::LOCATION, HeaderValue::from_static("ui/"));
    guard(fields);
    answer
}

fn guard(fields: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // It is asked about each time: after an upgrade the next look is at the new page.
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
}

/// FNV-1a, 64 bits: tells one version of a file from another, and need do no more.
fn tag(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("\"{hash:016x}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_no_file_that_is_not_there_and_nobody_else() {
        for (path, kind, text) in FILES {
            for quote in ['"', '\''] {
                let named = text.split(quote).skip(1).step_by(2);
                for name in named.filter(|name| name.ends_with(".js") || name.ends_with(".css")) {
                    let known = format!("/ui/{}", name.trim_start_matches("./"));
                    assert!(
                        FILES.iter().any(|(path, ..)| *path == known),
                        "{path}: {name}"
                    );
                }
            }
            // The name of a language, and what an empty field shows: nobody is asked there.
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            let elsewhere = elsewhere.replace("url(#", "");
            let elsewhere = elsewhere.replace("placeholder=\"https://example.com/page\"", "");
            for scheme in [
                "\"http:",
                "\"https:",
                "'http:",
                "'https:",
                "url(",
                "innerHTML",
            ] {
                assert!(!elsewhere.contains(scheme), "{path} has {scheme}");
            }
            if *kind == HTML {
                for inline in ["<style", " style=", "<script>", " onclick", "javascript:"] {
                    assert!(
                        !text.contains(inline),
                        "{path} has {inline}: its policy forbids it"
                    );
                }
            }
        }
    }
}
