//! The webhook's certificate: where it is from, and how it is kept valid.
//!
//! **self**: an authority of our own, in one Secret that all replicas share. Each looks at it once a minute;
//! what is due is made by whoever writes first (the others get a conflict and read again). A new authority
//! is made when a third of its life is left, and is trusted, beside the old one, long before it signs
//! anything; a replica serves a certificate only after it has told the API server to trust its issuer.
//! **files**: somebody else's (cert-manager's), read again when they change.

mod facts;
mod issue;
mod served;

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::{Value, json};
use tracing::{debug, info, warn};

pub(crate) use facts::{blocks as pem_blocks, is_signed_by, names_of, validity};
pub(super) use served::Served;

use self::facts::{Kept, Step};
use super::{ApiError, api::Api, clock, metrics::InjectorMetrics};

/// Where the certificate is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Made by the injector itself.
    Own(OwnCertificates),
    /// Two PEM files.
    Files {
        /// The chain, leaf first.
        cert: PathBuf,
        /// The leaf's private key.
        key: PathBuf,
    },
}

/// Certificates of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCertificates {
    /// Namespace of the Secret.
    pub namespace: String,
    /// The Secret that replicas share.
    pub secret: String,
    /// DNS names of the webhook's Service.
    pub names: Vec<String>,
    /// The MutatingWebhookConfiguration whose `caBundle` is set.
    pub configuration: String,
    /// The webhooks in it.
    pub webhooks: Vec<String>,
    /// How long certificates are valid.
    pub lifetimes: Lifetimes,
}

impl OwnCertificates {
    /// Checks what would leave a time without a valid certificate.
    ///
    /// # Errors
    /// The message names the flags and their values.
    pub(super) fn check(&self) -> Result<(), String> {
        let Lifetimes { authority, cert } = self.lifetimes;
        if cert < Duration::from_secs(3) || authority < cert * 3 {
            return Err(format!(
                "--authority-lifetime = {authority:?}, --cert-lifetime = {cert:?}: must be at least 3 s, and an \
                 authority has to live three times as long as what it signs"
            ));
        }
        for name in &self.names {
            let is_address = name.parse::<std::net::IpAddr>().is_ok();
            if is_address || rustls_pki_types::DnsName::try_from(name.as_str()).is_err() {
                return Err(format!("--dns-name = {name:?}: must be a DNS name"));
            }
        }
        Ok(())
    }
}

/// How long certificates of our own are valid; each is renewed when a third is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// The authority's.
    pub authority: Duration,
    /// The certificate's that is served.
    pub cert: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            authority: Duration::from_secs(365 * 86_400),
            cert: Duration::from_secs(7 * 86_400),
        }
    }
}

/// Between two looks at certificates of our own, at most.
const LOOK: Duration = Duration::from_secs(60);
/// Between two looks at files.
const LOOK_AT_FILES: Duration = Duration::from_secs(1);
/// After a failure: as long as nothing is served, and later.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps something valid served, for ever.
pub(super) async fn run(
    source: Source,
    api: Option<Api>,
    served: Arc<Served>,
    metrics: Arc<InjectorMetrics>,
) {
    match (source, api) {
        (Source::Files { cert, key }, _) => files(cert, key, &served, &metrics).await,
        (Source::Own(own), Some(api)) => {
            let mut keeper = Keeper {
                own,
                api,
                served,
                serving: String::new(),
                told: Vec::new(),
            };
            // So that a certificate of seconds, as tests have, is renewed in time.
            let look = LOOK.min(keeper.own.lifetimes.cert / 12);
            loop {
                let pause = match keeper.look().await {
                    Ok(result) => {
                        metrics.renewal(result);
                        look
                    }
                    Err(reason) => {
                        metrics.renewal("failed");
                        warn!(
                            reason,
                            "The webhook's certificate could not be looked after; what is served stays."
                        );
                        RETRY.min(look)
                    }
                };
                tokio::time::sleep(pause).await;
            }
        }
        (Source::Own(_), None) => warn!("There is no API server to keep a certificate at."),
    }
}

struct Keeper {
    own: OwnCertificates,
    api: Api,
    served: Arc<Served>,
    /// What is served by now.
    serving: String,
    /// Authorities that the API server was last told to trust, and for how many more looks they stay.
    told: Vec<(String, u8)>,
}

/// Looks for which an authority is trusted that is no longer in the Secret. Whoever empties it, all replicas serve
/// what the old one has signed until they have looked again.
const LINGERS: u8 = 2;

impl Keeper {
    /// One look: reads the Secret, does what is due, has the API server trust it, and only then serves it.
    async fn look(&mut self) -> Result<&'static str, String> {
        let secret = self.api.secret(&self.own.namespace, &self.own.secret).await;
        let found = secret.map_err(text)?;
        let is_gone = found.is_none();
        let mut secret = found.unwrap_or_else(|| self.empty());
        let mut kept = Kept::of(&secret);
        let (now, own) = (clock::unix(), &self.own);
        let mut is_changed = false;
        // An authority and a certificate are the most that can be due.
        for _ in 0..3 {
            let step = kept.next(now, &own.names, &own.lifetimes);
            if step == Step::Keep {
                break;
            }
            info!(?step, "The webhook's certificates are renewed.");
            let names = &own.names;
            issue::take(step, &mut kept, now, names, &own.lifetimes)
                .map_err(|error| error.to_string())?;
            is_changed = true;
        }
        if is_changed {
            kept.prune(now);
            secret["data"] = kept.data();
            match self.api.write_secret(&secret).await {
                Ok(()) => {}
                // Another replica was faster; what it wrote is read the next time, which is soon.
                Err(error) if error.is(StatusCode::CONFLICT) => {
                    debug!("Another replica has renewed the certificates.");
                    return Err("another replica has just renewed it".into());
                }
                // The chart gives no right to make Secrets, which cannot be bounded by a name.
                Err(error) if is_gone && error.is(StatusCode::FORBIDDEN) => {
                    let name = format!("{}/{}", own.namespace, own.secret);
                    return Err(format!(
                        "the Secret {name} was deleted, and may only be updated: helm upgrade makes it again ({error})"
                    ));
                }
                Err(error) => return Err(text(error)),
            }
        }
        let bundle = trusted(&mut self.told, &kept.bundle());
        self.api
            .apply_ca_bundle(&own.configuration, &own.webhooks, &bundle)
            .await
            .map_err(text)?;
        if self.serving == kept.cert {
            return Ok("kept");
        }
        self.served.serve(&kept.cert, &kept.key)?;
        self.serving = kept.cert;
        Ok("renewed")
    }

    fn empty(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self.own.secret, "namespace": self.own.namespace},
            "type": "Opaque",
        })
    }
}

/// What the API server is to trust: what is kept, and what was kept a moment ago.
fn trusted(told: &mut Vec<(String, u8)>, kept: &str) -> String {
    let kept = facts::blocks(kept);
    told.retain_mut(|(authority, looks)| {
        *looks = looks.saturating_sub(1);
        *looks > 0 && !kept.contains(authority)
    });
    let lingering = told.iter().map(|(authority, _)| authority.as_str());
    let bundle = kept.iter().map(String::as_str).chain(lingering).collect();
    told.extend(kept.into_iter().map(|authority| (authority, LINGERS + 1)));
    bundle
}

fn text(error: ApiError) -> String {
    error.to_string()
}

async fn files(cert: PathBuf, key: PathBuf, served: &Served, metrics: &InjectorMetrics) {
    let mut last = None;
    loop {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let both = read(&cert).and_then(|cert| Ok((cert, read(&key)?)));
        if last.as_ref() != Some(&both) {
            let done = both.as_ref().map_err(Clone::clone);
            let done = done.and_then(|(cert, key)| served.serve(cert, key));
            match done {
                Ok(()) => {
                    metrics.renewal("renewed");
                    info!(cert = %cert.display(), "The webhook's certificate was read.");
                }
                // One of two files may be written before the other.
                Err(reason) => {
                    metrics.renewal("failed");
                    warn!(
                        reason,
                        "The webhook's certificate cannot be used; what is served stays."
                    );
                }
            }
            last = Some(both);
        }
        tokio::time::sleep(LOOK_AT_FILES).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_was_emptied_away_is_trusted_for_two_more_looks() {
        let pem = |name: &str| {
            format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n")
        };
        let (old, new) = (pem("old"), pem("new"));
        let mut told = Vec::new();
        assert_eq!(trusted(&mut told, &old), old);
        assert_eq!(trusted(&mut told, &old), old);
        assert_eq!(trusted(&mut told, &new), format!("{new}{old}"));
        assert_eq!(trusted(&mut told, &new), format!("{new}{old}"));
        assert_eq!(trusted(&mut told, &new), new);
        assert_eq!(told.len(), 1, "it does not grow");
    }
}
