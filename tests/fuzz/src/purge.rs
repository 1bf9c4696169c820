//! The query of `/purge`: a slip must purge nothing, and what is accepted can be said again.

use koorde_sidecar::admin::fuzzing::{decoded, purge};
use libkoorde::{Kind, PurgeRequest, Scope};

pub fn run(bytes: &[u8]) {
    let Ok(query) = std::str::from_utf8(bytes) else {
        return;
    };
    match purge(query) {
        Ok(asked) => accepted(query, &asked),
        // It is shown to whoever asked: bounded, whatever was sent.
        Err(message) => assert!((1..2048).contains(&message.len()), "{message}"),
    }
}

fn accepted(query: &str, asked: &PurgeRequest) {
    let mut parameters: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    assert!(!parameters.is_empty(), "nothing was named");
    assert_eq!(asked.scope == Scope::All, names(&parameters, "all=true"));
    assert_eq!(asked.kind == Kind::Hard, names(&parameters, "hard=true"));
    assert!(
        asked
            .tenant
            .as_ref()
            .is_none_or(|tenant| tenant.len() <= 253)
    );
    // In any order it means the same; twice, it is refused.
    parameters.reverse();
    let again = purge(&parameters.join("&")).expect("the same parameters");
    assert_eq!(again.scope, asked.scope);
    assert_eq!((again.kind, &again.tenant), (asked.kind, &asked.tenant));
    assert!(purge(&format!("{query}&{}", parameters[0])).is_err());
    // What is not understood is not left out.
    assert!(purge(&format!("{query}&colour=blue")).is_err());
}

fn names(parameters: &[&str], one: &str) -> bool {
    let is_it = |pair: &&str| decoded(pair).as_deref() == Some(one);
    parameters.iter().any(is_it)
}
