//! Making authorities and certificates.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{
    Lifetimes,
    facts::{Authority, BACKDATED, Kept, Step},
};

/// Takes a step.
///
/// # Errors
/// A name that no certificate can have, or an authority's key that cannot be read.
pub(super) fn take(
    step: Step,
    kept: &mut Kept,
    now: i64,
    names: &[String],
    lifetimes: &Lifetimes,
) -> Result<(), rcgen::Error> {
    match step {
        Step::Keep => {}
        Step::NewAuthority => {
            kept.authorities
                .insert(0, authority(now, lifetimes.authority)?);
        }
        Step::NewCert(signer) => {
            if let Some(signer) = kept.authorities.get(signer) {
                let (cert, key) = certificate(signer, now, names, lifetimes.cert)?;
                (kept.cert, kept.key) = (cert, key);
            }
        }
    }
    Ok(())
}

fn authority(now: i64, lifetime: Duration) -> Result<Authority, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("koorde injector CA {now}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, lifetime);
    let cert = params.self_signed(&key)?;
    Ok(Authority {
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

fn certificate(
    signer: &Authority,
    now: i64,
    names: &[String],
    lifetime: Duration,
) -> Result<(String, String), rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(&signer.cert, KeyPair::from_pem(&signer.key)?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "koorde injector");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, now, lifetime);
    let cert = params.signed_by(&key, &issuer)?;
    Ok((cert.pem(), key.serialize_pem()))
}

fn valid(params: &mut CertificateParams, now: i64, lifetime: Duration) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now.max(0).unsigned_abs());
    params.not_before = now - Duration::from_secs(BACKDATED.unsigned_abs());
    params.not_after = now + lifetime;
}
