//! The webhook's certificate: whether API servers trust it, for how long, and for which name.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    cluster::{Cluster, Release, items, name, text},
    finding::Finding,
    webhook::{category, flag, webhooks},
};
use crate::injector::{is_signed_by, names_of, pem_blocks, validity};

/// It should have been renewed by then: so many seconds before its end, at least.
const SOON: i64 = 86_400;

/// The Secret that has the certificate: the injector's own, or what it mounts.
pub(super) fn secret(injector: &Value) -> Option<&str> {
    flag(injector, "--secret").or_else(|| {
        let volumes = items(injector, "/spec/template/spec/volumes").iter();
        let mut named = volumes.map(|volume| text(volume, "/secret/secretName"));
        named.find(|name| !name.is_empty())
    })
}

/// One release's certificate; nothing if it has no webhook.
pub(super) fn check(cluster: &Cluster, release: &Release<'_>, now: i64) -> Vec<Finding> {
    let category = category(release);
    let (Some(injector), Some(configuration)) = (release.injector, webhooks(cluster, release))
    else {
        return Vec::new();
    };
    let secret = secret(injector).unwrap_or_default();
    let key = (release.namespace.to_owned(), secret.to_owned());
    let Some(cert) = cluster.certificates.get(&key) else {
        let text = format!("secret/{secret}: the certificate could not be read");
        return vec![Finding::warning(&category, text)];
    };
    let again = format!(
        "kubectl -n {} rollout restart deployment/{}",
        release.namespace,
        name(injector)
    );
    let logs = format!(
        "kubectl -n {} logs deployment/{}",
        release.namespace,
        name(injector)
    );
    let Some(valid) = validity(cert) else {
        let text = format!("secret/{secret} has no certificate");
        return vec![
            Finding::failed(&category, text)
                .hint("The injector makes one when it starts; cert-manager when its Certificate is ready.")
                .mend(logs),
        ];
    };
    let left = valid.until - now;
    let soon = SOON.min((valid.until - valid.from) / 6);
    let until = time(valid.until);
    let mut findings = vec![match () {
        () if left <= 0 || valid.from > now => {
            let text = format!(
                "the certificate is not valid now: from {} until {until}",
                time(valid.from)
            );
            Finding::failed(&category, text)
                .mend(logs)
                .mend(again.clone())
        }
        () if left < soon => {
            let text = format!("the certificate ends at {until} and was not renewed");
            Finding::warning(&category, text)
                .hint(
                    "It is renewed when a third of its life is left: something keeps it from that.",
                )
                .mend(logs)
        }
        () => Finding::ok(&category, format!("the certificate is valid until {until}")),
    }];
    findings.push(trusted(&category, configuration, cert, &again));
    findings.push(named(&category, configuration, cert));
    findings
}

/// Whether every webhook's `caBundle` has whoever signed it.
fn trusted(category: &str, configuration: &Value, cert: &str, again: &str) -> Finding {
    let configured = format!("mutatingwebhookconfiguration/{}", name(configuration));
    let is_lacking = |entry: &&Value| {
        let bundle = STANDARD
            .decode(text(entry, "/clientConfig/caBundle"))
            .unwrap_or_default();
        let bundle = String::from_utf8(bundle).unwrap_or_default();
        !pem_blocks(&bundle)
            .iter()
            .any(|authority| is_signed_by(cert, authority))
    };
    let entries = items(configuration, "/webhooks").iter();
    let lacking: Vec<String> = entries
        .filter(is_lacking)
        .map(|entry| text(entry, "/name").to_owned())
        .collect();
    if lacking.is_empty() {
        return Finding::ok(category, "caBundle has the authority of the certificate");
    }
    Finding::failed(
        category,
        format!("{configured}: caBundle does not have the authority of the certificate"),
    )
    .about(lacking)
    .hint("API servers do not trust the webhook, and pods come without their sidecar.")
    .mend(again)
}

/// Whether it is for the name by which API servers call it.
fn named(category: &str, configuration: &Value, cert: &str) -> Finding {
    let service = &configuration["webhooks"][0]["clientConfig"]["service"];
    let wanted = format!(
        "{}.{}.svc",
        text(service, "/name"),
        text(service, "/namespace")
    );
    let names = names_of(cert).unwrap_or_default();
    if names.contains(&wanted) {
        return Finding::ok(category, format!("the certificate is for {wanted}"));
    }
    Finding::failed(category, format!("the certificate is not for {wanted}"))
        .about(names)
        .hint("API servers call the webhook by this name. It is --dns-name, or the Certificate's dnsNames.")
}

fn time(unix: i64) -> String {
    let since = std::time::Duration::from_secs(unix.max(0).unsigned_abs());
    humantime_serde::re::humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since)
        .to_string()
}

#[cfg(test)]
mod tests;
