//! Who may be reached.
//!
//! The guard sits in the connector, behind name resolution and in front of `connect`: it judges
//! the very address that is then connected to, on every connect, redirects and IP literals
//! included. Checking a URL earlier and resolving it again later is the classic mistake (DNS
//! rebinding), and a filter in the resolver alone is skipped for literals.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use ipnet::IpNet;

/// Networks that are not public, each with the reason's word. First match counts, so the narrow
/// ones stand first. Sources: IANA's special-purpose registries; AWS's metadata endpoints.
const REFUSED: [(&str, &str); 31] = [
    ("169.254.169.254/32", "metadata"),
    ("169.254.170.2/32", "metadata"),
    ("169.254.170.23/32", "metadata"),
    ("fd00:ec2::/32", "metadata"),
    ("0.0.0.0/8", "unspecified"),
    ("127.0.0.0/8", "loopback"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "private"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("169.254.0.0/16", "link-local"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "reserved"),
    ("192.88.99.0/24", "reserved"),
    ("198.18.0.0/15", "reserved"),
    ("198.51.100.0/24", "reserved"),
    ("203.0.113.0/24", "reserved"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
    ("2001:db8::/32", "reserved"),
    ("2001::/23", "reserved"),
    ("3fff::/20", "reserved"),
    ("5f00::/16", "reserved"),
    ("100::/64", "reserved"),
    ("64:ff9b:1::/48", "private"),
];

/// The word of a refusal that a peer made: one of ours, so that labels stay a closed set.
pub(crate) fn reason(word: &str) -> &'static str {
    let known = REFUSED.iter().map(|(_, reason)| *reason).chain(["own"]);
    known
        .into_iter()
        .find(|reason| *reason == word)
        .unwrap_or("refused")
}

/// Why a target is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{target} is refused: {reason}")]
pub(crate) struct Denied {
    /// A closed set: the words of the table, and `own`.
    pub(crate) reason: &'static str,
    /// The host, and the address it resolved to.
    pub(crate) target: String,
}

/// One entry of `egress.allow`, with an optional port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allow {
    what: What,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Net(IpNet),
    Host(String),
    /// `*.suffix`: kept as `.suffix`.
    Suffix(String),
}

impl FromStr for Allow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.rsplit_once(':') {
            // An IPv6 address has colons of its own; with a port it stands in brackets.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (
                host,
                Some(
                    port.parse()
                        .map_err(|_| format!("{text:?}: {port:?} is no port"))?,
                ),
            ),
            _ => (text, None),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let base = bare.split('/').next().unwrap_or_default();
        // `010.0.0.0/8` is 8.0.0.0/8 to whoever takes a leading zero for octal.
        let plain = base.parse::<IpAddr>().is_ok();
        let what = if let Some(net) = bare.parse::<IpNet>().ok().filter(|_| plain) {
            What::Net(net)
        } else if let Ok(address) = bare.parse::<IpAddr>() {
            What::Net(IpNet::from(address))
        } else if bare.contains('/') || bare.is_empty() {
            return Err(format!(
                "{text:?} is neither a network such as 10.0.0.0/8 nor a host name"
            ));
        } else if let Some(suffix) = bare.strip_prefix('*') {
            if !suffix.starts_with('.') || suffix.len() < 2 || suffix[1..].contains('*') {
                return Err(format!("{text:?}: a wildcard is written *.suffix"));
            }
            What::Suffix(suffix.to_ascii_lowercase())
        } else if bare.contains('*') {
            return Err(format!("{text:?}: a wildcard is written *.suffix"));
        } else {
            What::Host(bare.trim_end_matches('.').to_ascii_lowercase())
        };
        Ok(Self { what, port })
    }
}

impl Allow {
    fn admits(&self, host: &str, address: SocketAddr) -> bool {
        let port_fits = self.port.is_none_or(|port| port == address.port());
        port_fits
            && match &self.what {
                What::Net(net) => net.contains(&canonical(address.ip())),
                What::Host(name) => name == host,
                What::Suffix(suffix) => host.ends_with(suffix.as_str()),
            }
    }
}

fn parsed(key: &str, entries: &[String]) -> Result<Vec<Allow>, String> {
    let entry = |entry: &String| entry.parse().map_err(|error| format!("{key}: {error}"));
    entries.iter().map(entry).collect()
}

/// The rules of one node.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    allow: Vec<Allow>,
    refused: Vec<(IpNet, &'static str)>,
    /// Listeners of this process. A fetch of our own door would be a loop, so an entry must name
    /// the port to allow one.
    own: Arc<Mutex<BTreeSet<SocketAddr>>>,
}

impl Guard {
    /// Reads the allow-list.
    ///
    /// # Errors
    /// The first entry that is neither a host, a `*.suffix`, an address nor a network.
    pub(crate) fn new(allow: &[String]) -> Result<Self, String> {
        let allow = parsed("egress.allow", allow)?;
        let parse = |net: &str| {
            net.parse()
                .expect("the table holds networks; a test parses it")
        };
        let refused = REFUSED
            .iter()
            .map(|(net, reason)| (parse(net), *reason))
            .collect();
        Ok(Self {
            allow,
            refused,
            own: Arc::default(),
        })
    }

    /// The same, which also allows what `egress.own` names.
    ///
    /// # Errors
    /// As [`Guard::new`].
    pub(crate) fn and(&self, own: &[String]) -> Result<Self, String> {
        let mut both = self.clone();
        both.allow.extend(parsed("egress.own", own)?);
        Ok(both)
    }

    /// Adds listeners of this process.
    pub(crate) fn add_own(&self, own: &[SocketAddr]) {
        self.own
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(own);
    }

    /// Judges what `host` resolved to. If any of its addresses is refused, all are: an attacker's
    /// name must not get a second throw of the dice.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) fn check(&self, host: &str, addresses: &[SocketAddr]) -> Result<(), Denied> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        for address in addresses {
            if let Some(reason) = self.refusal(&host, *address) {
                let ip = address.ip();
                let literal = host.parse::<IpAddr>().is_ok_and(|literal| literal == ip);
                let target = if literal {
                    host
                } else {
                    format!("{host} ({ip})")
                };
                return Err(Denied { reason, target });
            }
        }
        Ok(())
    }

    fn refusal(&self, host: &str, address: SocketAddr) -> Option<&'static str> {
        let entries = || {
            self.allow
                .iter()
                .filter(|entry| entry.admits(host, address))
        };
        if self.is_own(address) {
            return entries().all(|entry| entry.port.is_none()).then_some("own");
        }
        if entries().next().is_some() {
            return None;
        }
        let ip = canonical(address.ip());
        self.refused
            .iter()
            .find(|(net, _)| net.contains(&ip))
            .map(|(_, reason)| *reason)
    }

    fn is_own(&self, address: SocketAddr) -> bool {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let ip = canonical(address.ip());
        own.iter().any(|listener| {
            let same_ip = canonical(listener.ip()) == ip;
            // Whoever listens on 0.0.0.0 listens on every loopback address too.
            let any = listener.ip().is_unspecified() && (ip.is_loopback() || ip.is_unspecified());
            listener.port() == address.port() && (same_ip || any)
        })
    }
}

/// The IPv4 address inside an IPv6 one that only wraps it (mapped, translated, NAT64, 6to4), else the
/// address.
fn canonical(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    embedded(v6).map_or(ip, IpAddr::from)
}

fn embedded(ip: Ipv6Addr) -> Option<[u8; 4]> {
    let octets = ip.octets();
    let tail = [octets[12], octets[13], octets[14], octets[15]];
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(tail),
        // IPv4-translated (RFC 2765 §2.1), obsolete, but a stateless translator may still know it.
        [0, 0, 0, 0, 0xffff, 0, ..] => Some(tail),
        // IPv4-compatible, deprecated, but some stacks still route it. `::` and `::1` are their own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => Some(tail),
        [0x2002, ..] => Some([octets[2], octets[3], octets[4], octets[5]]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[&str]) -> Guard {
        Guard::new(&allow.iter().map(ToString::to_string).collect::<Vec<_>>())
            .expect("entries are valid")
    }

    fn verdict(guard: &Guard, host: &str, ip: &str) -> Result<(), &'static str> {
        let address = SocketAddr::new(ip.parse().expect("an address"), 80);
        guard
            .check(host, &[address])
            .map_err(|denied| denied.reason)
    }

    #[test]
    fn what_is_not_public_is_refused_with_its_reason() {
        let guard = guard(&[]);
        for (ip, reason) in [
            ("127.0.0.1", "loopback"),
            ("127.8.8.8", "loopback"),
            ("0.0.0.0", "unspecified"),
            ("10.1.2.3", "private"),
            ("100.64.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("169.254.1.1", "link-local"),
            ("169.254.169.254", "metadata"),
            ("169.254.170.23", "metadata"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("198.18.0.1", "reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("fd00:ec2::254", "metadata"),
            ("fd12::1", "private"),
            ("fe80::1", "link-local"),
            ("ff02::1", "multicast"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "metadata"),
            ("::7f00:1", "loopback"),
            ("64:ff9b::7f00:1", "loopback"),
            ("64:ff9b::a9fe:a9fe", "metadata"),
            ("2002:7f00:1::", "loopback"),
            ("2002:a9fe:a9fe::1", "metadata"),
        ] {
            assert_eq!(verdict(&guard, "name.example", ip), Err(reason), "{ip}");
        }
    }

    #[test]
    fn an_address_translated_from_ipv4_is_judged_as_that() {
        for (ip, expected) in [
            ("::ffff:0:7f00:1", Err("loopback")),
            ("::ffff:0:169.254.169.254", Err("metadata")),
            ("::ffff:0:1.1.1.1", Ok(())),
        ] {
            assert_eq!(verdict(&guard(&[]), "name.example", ip), expected, "{ip}");
        }
    }

    #[test]
    fn public_addresses_are_reached() {
        let guard = guard(&[]);
        for ip in [
            "1.1.1.1",
            "93.184.216.34",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
        ] {
            assert_eq!(verdict(&guard, "name.example", ip), Ok(()), "{ip}");
        }
    }

    #[test]
    fn one_refused_address_refuses_the_name() {
        let addresses = ["1.1.1.1:80", "10.0.0.1:80"].map(|a| a.parse().expect("an address"));
        let denied = guard(&[])
            .check("Rebind.Example.", &addresses)
            .expect_err("one is private");
        assert_eq!(
            denied.to_string(),
            "rebind.example (10.0.0.1) is refused: private"
        );
    }

    #[test]
    fn an_entry_allows_by_host_suffix_address_or_network() {
        for (entry, host, ip) in [
            ("10.0.0.0/8", "x", "10.2.3.4"),
            ("10.2.3.4", "x", "10.2.3.4"),
            ("10.2.3.4:80", "x", "10.2.3.4"),
            ("[::1]:80", "x", "::1"),
            ("::1", "x", "::1"),
            ("fd00::/8", "x", "fd00::9"),
            ("127.0.0.1", "x", "::ffff:127.0.0.1"),
            ("api.internal", "API.internal.", "10.2.3.4"),
            ("*.svc.cluster.local", "a.b.svc.cluster.local", "10.2.3.4"),
        ] {
            assert_eq!(
                verdict(&guard(&[entry]), host, ip),
                Ok(()),
                "{entry} {host} {ip}"
            );
        }
        for (entry, host, ip) in [
            ("10.0.0.0/8", "x", "192.168.0.1"),
            ("10.2.3.4:81", "x", "10.2.3.4"),
            ("api.internal", "evil-api.internal", "10.2.3.4"),
            ("*.cluster.local", "cluster.local", "10.2.3.4"),
            ("*.cluster.local", "evilcluster.local", "10.2.3.4"),
        ] {
            assert!(
                verdict(&guard(&[entry]), host, ip).is_err(),
                "{entry} {host} {ip}"
            );
        }
    }

    #[test]
    fn own_listeners_need_an_entry_with_their_port() {
        let own = ["0.0.0.0:80".parse().expect("an address")];
        for (entry, allowed) in [
            ("127.0.0.1", false),
            ("127.0.0.0/8", false),
            ("127.0.0.1:80", true),
        ] {
            let guard = guard(&[entry]);
            guard.add_own(&own);
            let expected = if allowed { Ok(()) } else { Err("own") };
            assert_eq!(verdict(&guard, "x", "127.0.0.1"), expected, "{entry}");
        }
    }

    #[test]
    fn an_entry_that_can_be_read_as_two_networks_is_refused() {
        let error = Guard::new(&["010.0.0.0/8".to_owned()]).expect_err("10/8 or 8/8");
        assert_eq!(
            error,
            r#"egress.allow: "010.0.0.0/8" is neither a network such as 10.0.0.0/8 nor a host name"#
        );
    }

    #[test]
    fn a_wrong_entry_is_named() {
        for entry in [
            "10.0.0.0/33",
            "",
            "*",
            "*foo",
            "a.*.b",
            "host:port",
            "1.2.3.4/",
        ] {
            let error = Guard::new(&[entry.to_owned()]).expect_err(entry);
            assert!(
                error.starts_with(&format!("egress.allow: {entry:?}")),
                "{error}"
            );
        }
    }
}
