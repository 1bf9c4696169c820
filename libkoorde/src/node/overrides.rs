//! What a request says of its response's place in the cache, beside what its URL and fields say.

use std::time::Duration;

use crate::{error::Quoted, policy::Target};

/// Longest tenant that a request may name, in bytes.
const MAX_TENANT: usize = 64;
/// Longest lifetime that a request may name: a year.
const MAX_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a request says of its response's place in the cache. The default says nothing.
///
/// Whoever may say it decides what others read: a door takes it only from whom it trusts to store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    tenant: String,
    stored_as: Option<Target>,
    lifetime: Option<Duration>,
}

impl Overrides {
    /// For a request for `target`: of this tenant, below the one of its route (at most 64 bytes of
    /// letters, digits, `-`, `_` and `.`; empty for none), stored as if it were for this URL (of the
    /// same origin; empty for its own), with this freshness lifetime in place of what its fields say
    /// (at most a year; less than a millisecond is none). No lifetime makes what says `no-store` or `private` storable.
    ///
    /// # Errors
    /// Names what is wrong, and its value.
    pub fn new(
        target: &Target,
        tenant: &str,
        stored_as: &str,
        lifetime: Option<Duration>,
    ) -> Result<Self, String> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if tenant.len() > MAX_TENANT || !tenant.bytes().all(is_word) {
            return Err(format!(
                "tenant {}: must be at most {MAX_TENANT} letters, digits, '-', '_' and '.'",
                Quoted(tenant)
            ));
        }
        if let Some(lifetime) = lifetime.filter(|lifetime| *lifetime > MAX_LIFETIME) {
            return Err(format!("lifetime {lifetime:?}: must be at most a year"));
        }
        let stored_as = match stored_as {
            "" => None,
            url => Some(same_origin(target, url)?),
        };
        Ok(Self {
            tenant: tenant.to_owned(),
            stored_as,
            // Between nodes it travels in milliseconds, 0 for none.
            lifetime: lifetime.filter(|lifetime| lifetime.as_millis() > 0),
        })
    }

    /// The tenant, below the one of its route; empty for none.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// What it is stored as.
    #[must_use]
    pub fn stored_as(&self) -> Option<&Target> {
        self.stored_as.as_ref()
    }

    /// The target under which a response to a request for `target` is stored: never of another
    /// origin.
    pub(crate) fn place<'a>(&'a self, target: &'a Target) -> &'a Target {
        let stored_as = self.stored_as.as_ref();
        let stored_as = stored_as.filter(|stored_as| stored_as.same_origin(target));
        stored_as.unwrap_or(target)
    }

    /// Its freshness lifetime.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }
}

fn same_origin(target: &Target, url: &str) -> Result<Target, String> {
    let stored_as =
        Target::parse(url).map_err(|error| format!("stored as {}: {error}", Quoted(url)))?;
    if stored_as.same_origin(target) {
        Ok(stored_as)
    } else {
        Err(format!(
            "stored as {}: not of the origin of {}",
            Quoted(url),
            Quoted(&target.to_string())
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(tenant: &str, stored_as: &str, seconds: u64) -> Result<Overrides, String> {
        let target = Target::parse("https://a.example/x?y").expect("a URL");
        Overrides::new(
            &target,
            tenant,
            stored_as,
            Some(Duration::from_secs(seconds)),
        )
    }

    #[test]
    fn a_lifetime_of_zero_is_what_its_fields_say_on_every_node() {
        let lifetime = |seconds| new("", "", seconds).expect("all is well").lifetime();
        assert_eq!(lifetime(0), None);
        assert_eq!(lifetime(1), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_could_reach_anothers_place_is_refused() {
        for (tenant, stored_as, seconds, why) in [
            ("a/b", "", 1, "tenant"),
            (&"a".repeat(65), "", 1, "tenant"),
            ("\u{e4}", "", 1, "tenant"),
            ("", "https://b.example/x", 1, "not of the origin"),
            ("", "http://a.example/x", 1, "not of the origin"),
            ("", "https://a.example:444/x", 1, "not of the origin"),
            ("", "/x", 1, "not an absolute URL"),
            ("", "", 31_536_001, "a year"),
        ] {
            let error = new(tenant, stored_as, seconds).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
        let taken = new("team-1", "https://A.example:443/z#f", 5).expect("all is well");
        let stored_as = taken.stored_as().map(Target::to_string);
        assert_eq!(
            (taken.tenant(), stored_as.as_deref()),
            ("team-1", Some("https://a.example/z"))
        );
    }
}
