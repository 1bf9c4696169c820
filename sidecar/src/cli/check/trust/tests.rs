use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use super::{super::finding::Level, *};

/// Some day in 2026.
const NOW: i64 = 1_780_000_000;
const DAY: i64 = 86_400;

/// An authority, and a certificate of it for a name that is valid for some seconds around [`NOW`].
fn signed(name: &str, from: i64, until: i64) -> [String; 2] {
    let at = |unix: i64| {
        rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(unix.unsigned_abs())
    };
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("an authority");
    let issuer = Issuer::from_ca_cert_pem(&authority.pem(), key).expect("an issuer");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (at(NOW + from), at(NOW + until));
    let cert = params.signed_by(&key, &issuer).expect("a certificate");
    [cert.pem(), authority.pem()]
}

fn cluster(cert: Option<String>, bundle: &str) -> Cluster {
    let labels = json!({
        "app.kubernetes.io/part-of": "koorde", "app.kubernetes.io/instance": "koorde",
        "app.kubernetes.io/component": "injector",
    });
    let webhook = json!({
        "name": "pod.koorde.dev",
        "clientConfig": {
            "caBundle": STANDARD.encode(bundle), "service": {"name": "koorde-injector", "namespace": "web"},
        },
    });
    let key = ("web".to_owned(), "koorde-injector-certs".to_owned());
    Cluster {
        objects: vec![
            json!({
                "kind": "Deployment",
                "metadata": {"name": "koorde-injector", "namespace": "web", "labels": labels},
                "spec": {"template": {"spec": {"containers": [{"args": ["--secret", key.1]}]}}},
            }),
            json!({
                "kind": "MutatingWebhookConfiguration", "metadata": {"name": "koorde-injector", "labels": labels},
                "webhooks": [webhook],
            }),
        ],
        certificates: cert.map(|cert| (key, cert)).into_iter().collect(),
        ..Cluster::default()
    }
}

fn levels(cluster: &Cluster) -> Vec<Level> {
    let findings = check(cluster, &cluster.releases()[0], NOW).into_iter();
    findings.map(|finding| finding.level).collect()
}

const NAME: &str = "koorde-injector.web.svc";

#[test]
fn a_certificate_that_ends_soon_or_has_ended_is_told() {
    for (from, until, level) in [
        (-DAY, 6 * DAY, Level::Ok),
        (-7 * DAY, DAY / 2, Level::Warning),
        (-7 * DAY, -1, Level::Failed),
        (1, 7 * DAY, Level::Failed),
        // One of an hour is not told of for all of its life.
        (-60, 3600, Level::Ok),
    ] {
        let [cert, authority] = signed(NAME, from, until);
        let cluster = cluster(Some(cert), &authority);
        assert_eq!(
            levels(&cluster),
            [level, Level::Ok, Level::Ok],
            "{from} {until}"
        );
    }
}

#[test]
fn a_bundle_without_the_authority_is_a_failure_whoever_wrote_it() {
    let [cert, authority] = signed(NAME, -DAY, 6 * DAY);
    let [_, other] = signed(NAME, -DAY, 6 * DAY);
    let (ok, failed) = (Level::Ok, Level::Failed);
    for (bundle, level) in [
        (authority.clone(), ok),
        (other.clone() + &authority, ok),
        (other, failed),
        (String::new(), failed),
    ] {
        let cluster = cluster(Some(cert.clone()), &bundle);
        assert_eq!(levels(&cluster), [ok, level, ok], "{bundle}");
    }
}

#[test]
fn another_name_no_certificate_and_an_unread_secret_are_told_apart() {
    let [cert, authority] = signed("other.web.svc", -DAY, 6 * DAY);
    let named = cluster(Some(cert), &authority);
    assert_eq!(levels(&named), [Level::Ok, Level::Ok, Level::Failed]);
    let empty = cluster(Some(String::new()), "");
    assert_eq!(levels(&empty), [Level::Failed]);
    assert_eq!(levels(&cluster(None, "")), [Level::Warning]);
}

#[test]
fn the_secret_is_the_injectors_own_or_what_it_mounts() {
    let mounted = json!({"spec": {"template": {"spec": {"volumes": [
        {"name": "settings", "configMap": {"name": "koorde-injector"}},
        {"name": "certs", "secret": {"secretName": "webhook-tls"}},
    ]}}}});
    assert_eq!(secret(&mounted), Some("webhook-tls"));
    assert_eq!(secret(&json!({})), None);
}
