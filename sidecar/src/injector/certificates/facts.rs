//! The certificates in the injector's Secret, and what is to be done about them: pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::Lifetimes;

/// What the Secret keeps. The first authority is the newest; keys are in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Authorities, PEM each: what the API server trusts is all of them.
    pub(super) authorities: Vec<Authority>,
    /// The chain that is served, PEM; empty if there is none.
    pub(super) cert: String,
    /// Its private key, PEM.
    pub(super) key: String,
}

/// An authority of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) cert: String,
    pub(super) key: String,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Keep,
    /// A new authority, which the API server has to trust before it signs anything.
    NewAuthority,
    /// A new certificate, signed by the authority at this index.
    NewCert(usize),
}

/// From when to when a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: i64,
    pub(crate) until: i64,
}

/// How far back certificates are dated, for API servers whose clock is behind ours; seconds.
pub(super) const BACKDATED: i64 = 300;

impl Kept {
    /// From a Secret's `data`. What cannot be read is not there: it is made anew.
    pub(super) fn of(secret: &Value) -> Self {
        let field = |name: &str| {
            let bytes = STANDARD.decode(secret["data"][name].as_str()?).ok()?;
            String::from_utf8(bytes).ok()
        };
        let field = |name: &str| field(name).unwrap_or_default();
        let certs = blocks(&field("ca.crt"));
        let keys = blocks(&field("ca.key"));
        let pairs = certs.into_iter().zip(keys);
        let authorities = pairs.map(|(cert, key)| Authority { cert, key });
        Self {
            authorities: authorities
                .filter(|authority| validity(&authority.cert).is_some())
                .collect(),
            cert: field("tls.crt"),
            key: field("tls.key"),
        }
    }

    /// As a Secret's `data`.
    pub(super) fn data(&self) -> Value {
        let all =
            |part: fn(&Authority) -> &str| self.authorities.iter().map(part).collect::<String>();
        json!({
            "ca.crt": STANDARD.encode(self.bundle()),
            "ca.key": STANDARD.encode(all(|authority| &authority.key)),
            "tls.crt": STANDARD.encode(&self.cert),
            "tls.key": STANDARD.encode(&self.key),
        })
    }

    /// What the API server has to trust.
    pub(super) fn bundle(&self) -> String {
        self.authorities
            .iter()
            .map(|authority| authority.cert.as_str())
            .collect()
    }

    /// Authorities that are no longer valid go.
    pub(super) fn prune(&mut self, now: i64) {
        self.authorities.retain(|authority| {
            validity(&authority.cert).is_some_and(|validity| validity.until > now)
        });
    }

    /// What to do at this time.
    pub(super) fn next(&self, now: i64, names: &[String], lifetimes: &Lifetimes) -> Step {
        let authorities: Vec<_> = self
            .authorities
            .iter()
            .filter_map(|one| validity(&one.cert))
            .collect();
        let ca_third = seconds(lifetimes.authority) / 3;
        let newest = authorities.first();
        if newest.is_none_or(|newest| newest.until - now <= ca_third) {
            return Step::NewAuthority;
        }
        // A new authority waits until all API servers have heard of it, unless there is no other.
        let wait = seconds(lifetimes.cert) / 24;
        let is_known =
            |validity: &Validity| now - (validity.from + BACKDATED) >= wait && validity.until > now;
        let signer = authorities.iter().position(is_known);
        let signer = signer.unwrap_or(authorities.len() - 1);
        let third = seconds(lifetimes.cert) / 3;
        let is_good = validity(&self.cert)
            .is_some_and(|cert| cert.from <= now && cert.until - now > third)
            && is_pair(&self.cert, &self.key)
            && names_of(&self.cert).as_deref() == Some(names)
            && self
                .authorities
                .iter()
                .any(|authority| is_signed_by(&self.cert, &authority.cert));
        if is_good {
            Step::Keep
        } else {
            Step::NewCert(signer)
        }
    }
}

/// The blocks of a PEM file, each with its line end.
pub(crate) fn blocks(pem: &str) -> Vec<String> {
    const END: &str = "-----END ";
    let mut blocks = Vec::new();
    let mut block = String::new();
    for line in pem.lines() {
        block += line;
        block.push('\n');
        if line.starts_with(END) {
            blocks.push(std::mem::take(&mut block));
        }
    }
    blocks
}

fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Calls `read` with the first certificate of a PEM text.
fn with_cert<T>(
    pem: &str,
    read: impl FnOnce(&x509_parser::certificate::X509Certificate<'_>) -> Option<T>,
) -> Option<T> {
    let der = rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, cert) = x509_parser::parse_x509_certificate(&der).ok()?;
    read(&cert)
}

/// When a certificate (the first of a chain) is valid.
pub(crate) fn validity(pem: &str) -> Option<Validity> {
    with_cert(pem, |cert| {
        let validity = cert.validity();
        Some(Validity {
            from: validity.not_before.timestamp(),
            until: validity.not_after.timestamp(),
        })
    })
}

/// The DNS names that it is for.
pub(crate) fn names_of(pem: &str) -> Option<Vec<String>> {
    use x509_parser::extensions::GeneralName;
    with_cert(pem, |cert| {
        let names = cert.subject_alternative_name().ok()??;
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        };
        Some(names.value.general_names.iter().filter_map(dns).collect())
    })
}

/// Whether a certificate can be served with a key: both load, and belong together.
fn is_pair(cert: &str, key: &str) -> bool {
    super::served::certified(cert, key).is_ok()
}

/// Whether a certificate names that authority as its issuer, by name and key.
pub(crate) fn is_signed_by(cert: &str, authority: &str) -> bool {
    let issuer = with_cert(cert, |cert| {
        Some((cert.issuer().to_string(), key_id(cert, true)?))
    });
    let subject = with_cert(authority, |cert| {
        Some((cert.subject().to_string(), key_id(cert, false)?))
    });
    issuer.is_some() && issuer == subject
}

fn key_id(
    cert: &x509_parser::certificate::X509Certificate<'_>,
    of_issuer: bool,
) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension;
    cert.extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) if of_issuer => {
                Some(id.key_identifier.as_ref()?.0.to_vec())
            }
            ParsedExtension::SubjectKeyIdentifier(id) if !of_issuer => Some(id.0.to_vec()),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::issue, *};

    const DAY: i64 = 86_400;
    /// Some day in 2026.
    const NOW: i64 = 1_780_000_000;

    fn names() -> Vec<String> {
        vec!["koorde-injector.web.svc".into()]
    }

    fn lifetimes() -> Lifetimes {
        Lifetimes::default()
    }

    /// Does what is to be done until there is nothing left.
    fn settle(kept: &mut Kept, now: i64) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let step = kept.next(now, &names(), &lifetimes());
            steps.push(step);
            assert!(steps.len() < 5, "{steps:?}");
            if step == Step::Keep {
                return steps;
            }
            issue::take(step, kept, now, &names(), &lifetimes()).expect("it can be made");
        }
    }

    #[test]
    fn years_of_renewals_never_serve_what_the_api_server_does_not_trust_yet() {
        let mut kept = Kept::default();
        assert_eq!(
            settle(&mut kept, NOW),
            [Step::NewAuthority, Step::NewCert(0), Step::Keep]
        );
        let (mut certs, mut authorities, mut trusted) = (0, 0, kept.bundle());
        for hour in (6..3 * 365 * 24).step_by(6) {
            let now = NOW + hour * 3600;
            let (before, former) = (kept.clone(), trusted);
            settle(&mut kept, now);
            kept.prune(now);
            // What was trusted six hours ago knows the issuer of what is served now.
            let known = blocks(&former)
                .iter()
                .any(|authority| is_signed_by(&kept.cert, authority));
            assert!(known, "after {hour} h");
            let served = validity(&kept.cert).expect("a certificate");
            assert!(
                served.until - now > DAY && served.from < now,
                "after {hour} h"
            );
            certs += usize::from(before.cert != kept.cert);
            authorities += usize::from(before.authorities.first() != kept.authorities.first());
            assert!(kept.authorities.len() <= 2, "after {hour} h");
            trusted = kept.bundle();
        }
        // Every 4.67 days; every 8 months.
        assert!(
            (230..240).contains(&certs) && authorities == 4,
            "{certs} {authorities}"
        );
    }

    #[test]
    fn a_secret_is_read_as_it_was_written_and_damage_is_mended() {
        let mut kept = Kept::default();
        settle(&mut kept, NOW);
        let secret = json!({"data": kept.data()});
        assert_eq!(Kept::of(&secret), kept);
        for key in ["ca.crt", "ca.key", "tls.crt", "tls.key"] {
            for damage in [json!(null), json!("!"), json!(STANDARD.encode("nonsense"))] {
                let mut secret = secret.clone();
                secret["data"][key] = damage;
                let mut read = Kept::of(&secret);
                assert_ne!(read.next(NOW, &names(), &lifetimes()), Step::Keep, "{key}");
                settle(&mut read, NOW);
            }
        }
        // A key of another certificate, and a certificate of a clock that was wrong.
        let mut other = Kept::default();
        settle(&mut other, NOW);
        other.cert.clone_from(&kept.cert);
        other.authorities.clone_from(&kept.authorities);
        assert_eq!(other.next(NOW, &names(), &lifetimes()), Step::NewCert(0));
        let mut early = kept.clone();
        let before = NOW - 3600;
        assert_ne!(early.next(before, &names(), &lifetimes()), Step::Keep);
        settle(&mut early, before);
        // The service was renamed.
        let other = ["other.web.svc".to_owned()];
        assert_eq!(kept.next(NOW, &other, &lifetimes()), Step::NewCert(0));
        assert_eq!(Kept::of(&Value::Null), Kept::default());
        let short = Lifetimes {
            authority: Duration::from_secs(60),
            cert: Duration::from_secs(30),
        };
        assert_eq!(
            Kept::default().next(NOW, &names(), &short),
            Step::NewAuthority
        );
    }
}
