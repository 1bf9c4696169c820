//! Every spelling of an address: what is not public is refused, by a second reading of IANA's
//! registries, and an entry of the allow-list opens what it names and nothing else.
//!
//! A line with a URL, a line with an entry of `egress.allow`, and the bytes of an address that the
//! URL's name resolves to.

use crate::input::{Input, text};
use libkoorde::node::fuzzing::egress;
use libkoorde::policy::Target;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (url, entry, address) = (text(input.line()), text(input.line()), input.rest());
    let resolved = address_of(address);
    if let Ok(target) = Target::parse(url) {
        let host = target
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        // The standard's own reading of the URL: how a browser, or an origin's code, spells it.
        let parsed = url::Url::parse(url).expect("a target is a URL");
        let literal = match parsed.host().expect("a target has a host") {
            url::Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
            url::Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
            url::Host::Domain(_) => None,
        };
        assert_eq!(
            host.parse::<IpAddr>().ok(),
            literal,
            "{url:?} is read in two ways"
        );
        let ip = literal.unwrap_or(resolved);
        assert_judged(&host, SocketAddr::new(ip, target.port()), entry);
    }
    assert_judged("name.example", SocketAddr::new(resolved, 80), entry);
}

fn address_of(bytes: &[u8]) -> IpAddr {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Ipv4Addr::from(four).into();
    }
    if let Ok(ip) = text(bytes).trim().parse() {
        return ip;
    }
    let mut all = [0; 16];
    for (to, from) in all.iter_mut().zip(bytes) {
        *to = *from;
    }
    Ipv6Addr::from(all).into()
}

fn assert_judged(host: &str, address: SocketAddr, entry: &str) {
    let plain = egress(&[], host, &[address]).expect("nothing to read");
    if !is_public(address.ip()) {
        assert!(plain.is_err(), "{host} {address} is reached");
    }
    // A refused address takes all others of its name with it.
    let public = SocketAddr::new(Ipv4Addr::new(1, 1, 1, 1).into(), 80);
    for all in [[address, public], [public, address]] {
        let both = egress(&[], host, &all).expect("nothing to read");
        assert_eq!(both.is_ok(), plain.is_ok());
    }
    match egress(&[entry.to_owned()], host, &[address]) {
        Err(error) => assert!(error.starts_with("egress.allow: ") && !error.contains('\n')),
        Ok(allowed) => {
            assert!(
                plain.is_err() || allowed.is_ok(),
                "an entry only ever allows"
            );
            if plain.is_err() && allowed.is_ok() {
                assert!(
                    is_named(entry, host, address),
                    "{entry:?} opens {host} {address}"
                );
            }
        }
    }
    if let Err(message) = plain {
        assert!(
            !message.contains('\n') && message.contains(" is refused: "),
            "{message}"
        );
    }
}

/// Whether an entry has to do with an address, generously.
fn is_named(entry: &str, host: &str, address: SocketAddr) -> bool {
    let without_port = entry
        .rsplit_once(':')
        .filter(|(_, port)| port.parse() == Ok(address.port()))
        .map(|(name, _)| name);
    [Some(entry), without_port]
        .into_iter()
        .flatten()
        .any(|entry| {
            let bare = entry
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_ascii_lowercase();
            let named =
                bare.trim_end_matches('.') == host.trim_end_matches('.').to_ascii_lowercase();
            let suffix = bare.strip_prefix('*').is_some_and(|suffix| {
                suffix.len() > 1
                    && host
                        .trim_end_matches('.')
                        .to_ascii_lowercase()
                        .ends_with(suffix)
            });
            named || suffix || is_within(&bare, address.ip())
        })
}

/// Whether an address, or the IPv4 address in it, is in a network.
fn is_within(net: &str, ip: IpAddr) -> bool {
    let (base, bits) = net.split_once('/').unwrap_or((net, ""));
    let Ok(base) = base.parse::<IpAddr>() else {
        return false;
    };
    let mut all = vec![ip];
    if let IpAddr::V6(v6) = ip {
        all.extend(embedded(v6).map(IpAddr::V4));
    }
    all.into_iter().any(|ip| match (base, ip) {
        (IpAddr::V4(base), IpAddr::V4(ip)) => {
            let bits = bits.parse().unwrap_or(32_u32).min(32);
            (u64::from(u32::from(base) ^ u32::from(ip)) << bits) >> 32 == 0
        }
        (IpAddr::V6(base), IpAddr::V6(ip)) => {
            let bits = bits.parse().unwrap_or(128_u32).min(128);
            let differs = u128::from(base) ^ u128::from(ip);
            bits == 0 || differs >> (128 - bits) == 0
        }
        _ => false,
    })
}

/// Whether anybody on the Internet can be reached there. What only wraps an IPv4 address is as
/// public as that.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip) && embedded(ip).is_none_or(is_public_v4),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && b & 0xc0 == 64;
    let protocols = (a, b, c) == (192, 0, 0) || (a, b, c) == (192, 88, 99);
    let benchmark = a == 198 && b & 0xfe == 18;
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || shared
        || protocols
        || benchmark)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let unique_local = s[0] & 0xfe00 == 0xfc00;
    let link_or_site = s[0] & 0xff80 == 0xfe80;
    let documentation = s[0] == 0x2001 && s[1] == 0xdb8 || s[0] == 0x3fff && s[1] < 0x1000;
    let protocols = s[0] == 0x2001 && s[1] < 0x200;
    let discard = s[..4] == [0x100, 0, 0, 0];
    let local_nat64 = s[..3] == [0x64, 0xff9b, 1];
    !(ip.is_unspecified()
        || ip.is_loopback()
        || ip.is_multicast()
        || unique_local
        || link_or_site
        || documentation
        || protocols
        || discard
        || local_nat64
        || s[0] == 0x5f00)
}

/// Mapped (RFC 4291 §2.5.5.2), compatible (§2.5.5.1), translated (RFC 2765 §2.1), NAT64 (RFC 6052),
/// 6to4 (RFC 3056).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = ip.octets();
    let at = |start: usize| {
        <[u8; 4]>::try_from(&octets[start..start + 4])
            .ok()
            .map(Ipv4Addr::from)
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => at(12),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => at(12),
        [0, 0, 0, 0, 0, 0, high, low] if high > 0 || low > 1 => at(12),
        [0x2002, ..] => at(2),
        _ => None,
    }
}
