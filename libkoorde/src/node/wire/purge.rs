//! Purges ↔ protobuf.

use std::{net::SocketAddr, sync::Arc};

use koorde_proto::peer::v1::{self as proto, failed::Kind, purge_entry::Class as ProtoClass};

use super::VERSION;
use crate::{
    error::Quoted,
    id::Id,
    node::{
        invalidate::Stale,
        purge::{Sync, SyncReply},
    },
    policy::{key::MAX_TENANT_LEN, target::MAX_TARGET_LEN},
    purge::{Class, Entry, Horizon, Known, ScopeKey, log::PAGE},
};

/// Issuers in one message, at most: more than a vector has.
const MAX_ISSUERS: usize = 4096;
/// Members in one message, at most.
const MAX_MEMBERS: usize = 8192;
/// Numbers of issuers and purges beyond these are nobody's, and would leave no room above them.
const MAX_ISSUER: u64 = u64::MAX - (1 << 22);
const MAX_PURGES: u64 = 1 << 48;
/// URLs of one invalidation, at most: the target's and two that the response names.
pub(crate) const MAX_URLS: usize = 16;

fn bounded<T>(what: &str, list: Vec<T>, most: usize) -> Result<Vec<T>, String> {
    if list.len() > most {
        return Err(format!("{} {what}, at most {most}", list.len()));
    }
    Ok(list)
}

pub(crate) fn behind() -> proto::Failed {
    proto::Failed {
        kind: Kind::Behind.into(),
        message: "this node lacks purges that the asker knows".to_owned(),
        milliseconds: 0,
    }
}

pub(crate) fn is_behind(failed: &proto::Failed) -> bool {
    failed.kind() == Kind::Behind
}

fn entry(entry: &Entry) -> proto::PurgeEntry {
    let class = match entry.scope.class {
        Class::All => ProtoClass::All,
        Class::Host => ProtoClass::Host,
        Class::Url => ProtoClass::Url,
        Class::Prefix => ProtoClass::Prefix,
        Class::Tag => ProtoClass::Tag,
        Class::Group => ProtoClass::Group,
        Class::Folded => ProtoClass::Folded,
    };
    proto::PurgeEntry {
        issuer: entry.issuer,
        n: entry.n,
        hard: entry.hard,
        class: class.into(),
        tenant: entry.scope.tenant,
        digest: entry.scope.digest.to_le_bytes().to_vec().into(),
        length: entry.scope.length,
    }
}

fn read_entry(entry: &proto::PurgeEntry) -> Result<Entry, String> {
    let class = match entry.class() {
        ProtoClass::All => Class::All,
        ProtoClass::Host => Class::Host,
        ProtoClass::Url => Class::Url,
        ProtoClass::Prefix => Class::Prefix,
        ProtoClass::Tag => Class::Tag,
        ProtoClass::Group => Class::Group,
        // A newer peer may purge by what we do not know: everything is not less than that.
        ProtoClass::Folded | ProtoClass::Unspecified => Class::Folded,
    };
    let digest = entry.digest[..].try_into();
    let digest = digest.map_err(|_| format!("digest of {} bytes", entry.digest.len()))?;
    numbers(entry.issuer, entry.n)?;
    if entry.n == 0 || entry.issuer == 0 {
        return Err(format!("purge {} of issuer {}", entry.n, entry.issuer));
    }
    let scope = ScopeKey {
        class,
        tenant: entry.tenant && class != Class::Folded,
        length: entry.length,
        digest: u128::from_le_bytes(digest),
    };
    Ok(Entry {
        issuer: entry.issuer,
        n: entry.n,
        scope,
        hard: entry.hard,
    })
}

fn numbers(issuer: u64, purges: u64) -> Result<(), String> {
    if issuer > MAX_ISSUER || purges > MAX_PURGES {
        return Err(format!("{purges} purges of issuer {issuer}"));
    }
    Ok(())
}

fn read_entries(entries: Vec<proto::PurgeEntry>) -> Result<Vec<Entry>, String> {
    let entries = bounded("purges", entries, PAGE)?;
    entries.iter().map(read_entry).collect()
}

fn known(known: &Known) -> (Vec<proto::PurgesKnown>, proto::PurgeHorizon) {
    let vector = known.vector.iter();
    let vector = vector.map(|&(issuer, n)| proto::PurgesKnown { issuer, n });
    let horizon = proto::PurgeHorizon {
        issuer: known.horizon.issuer,
        // A sum of many may be more than any of them; nobody would take it.
        purges: known.horizon.purges.min(MAX_PURGES),
        hard: known.horizon.hard,
    };
    (vector.collect(), horizon)
}

fn read_known(
    vector: Vec<proto::PurgesKnown>,
    horizon: Option<proto::PurgeHorizon>,
) -> Result<Known, String> {
    let vector = bounded("issuers", vector, MAX_ISSUERS)?;
    let horizon = horizon.unwrap_or_default();
    numbers(horizon.issuer, horizon.purges)?;
    for one in &vector {
        numbers(one.issuer, one.n)?;
    }
    Ok(Known {
        vector: vector.iter().map(|one| (one.issuer, one.n)).collect(),
        horizon: Horizon {
            issuer: horizon.issuer,
            purges: horizon.purges,
            hard: horizon.hard,
        },
    })
}

pub(crate) fn sync(cluster: &str, sync: &Sync) -> proto::PurgeSync {
    let (vector, horizon) = known(sync.known.as_ref().unwrap_or(&Known::default()));
    proto::PurgeSync {
        version: VERSION,
        cluster: cluster.to_owned(),
        digest: sync.digest,
        full: sync.known.is_some(),
        known: vector,
        horizon: sync.known.is_some().then_some(horizon),
        entries: sync.entries.iter().map(entry).collect(),
        asked: sync.asked.iter().map(|id| id.0).collect(),
    }
}

pub(crate) fn synced(sync: proto::PurgeSync) -> Result<Sync, String> {
    let known = sync
        .full
        .then(|| read_known(sync.known, sync.horizon))
        .transpose()?;
    let asked = bounded("members", sync.asked, MAX_MEMBERS)?;
    Ok(Sync {
        digest: sync.digest,
        known,
        entries: read_entries(sync.entries)?,
        asked: asked.into_iter().map(Id).collect(),
    })
}

/// A member that the asker may not know.
pub(super) fn other((id, name, addr): &(Id, Arc<str>, SocketAddr)) -> proto::PurgeMember {
    proto::PurgeMember {
        id: id.0,
        name: name.to_string(),
        address: addr.to_string(),
    }
}

/// The same, read.
pub(super) fn member(one: proto::PurgeMember) -> Result<(Id, Arc<str>, SocketAddr), String> {
    let address = one.address.parse();
    let address = address.map_err(|_| format!("address {}", Quoted(&one.address)))?;
    if one.name.len() > 253 {
        return Err(format!("name of {} bytes", one.name.len()));
    }
    Ok((Id(one.id), one.name.into(), address))
}

pub(crate) fn answer_sync(reply: SyncReply) -> proto::PurgeSyncReply {
    let (vector, horizon) = known(reply.known.as_ref().unwrap_or(&Known::default()));
    proto::PurgeSyncReply {
        digest: reply.digest,
        generation: reply.generation,
        known: vector,
        horizon: reply.known.is_some().then_some(horizon),
        entries: reply.entries.iter().map(entry).collect(),
        others: reply.others.iter().map(other).collect(),
    }
}

pub(crate) fn sync_reply(reply: proto::PurgeSyncReply) -> Result<SyncReply, String> {
    let known = reply
        .horizon
        .is_some()
        .then(|| read_known(reply.known, reply.horizon))
        .transpose()?;
    let others = bounded("members", reply.others, MAX_MEMBERS)?;
    Ok(SyncReply {
        digest: reply.digest,
        generation: reply.generation,
        known,
        entries: read_entries(reply.entries)?,
        others: others
            .into_iter()
            .map(member)
            .collect::<Result<_, String>>()?,
    })
}

pub(crate) fn invalidate(cluster: &str, stale: &Stale) -> proto::InvalidateRequest {
    proto::InvalidateRequest {
        version: VERSION,
        cluster: cluster.to_owned(),
        tenant: stale.tenant.clone(),
        urls: stale.urls.iter().map(|url| url.clone().into()).collect(),
    }
}

pub(crate) fn invalidated(asked: proto::InvalidateRequest) -> Result<Stale, String> {
    if asked.tenant.len() > MAX_TENANT_LEN {
        return Err(format!("tenant of {} bytes", asked.tenant.len()));
    }
    let urls = bounded("URLs", asked.urls, MAX_URLS)?;
    if let Some(long) = urls.iter().find(|url| url.len() > 2 * MAX_TARGET_LEN) {
        return Err(format!("URL of {} bytes", long.len()));
    }
    Ok(Stale {
        tenant: asked.tenant,
        urls: urls.iter().map(|url| url.to_vec()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::purge::{Bounds, Purges, Scope};

    fn purges() -> Purges {
        Purges::new(Bounds { scopes: 8, log: 8 })
    }

    /// Numbers at the ends of their range as often as others.
    fn extreme() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..4u64,
            any::<u64>(),
            (u64::MAX - 3)..=u64::MAX,
            MAX_ISSUER - 2..=MAX_ISSUER,
            MAX_PURGES - 2..=MAX_PURGES
        ]
    }

    fn any_entry() -> impl Strategy<Value = proto::PurgeEntry> {
        let length = proptest::sample::select(vec![0usize, 15, 16]);
        (
            extreme(),
            extreme(),
            any::<(bool, bool, u32)>(),
            0..9i32,
            length,
        )
            .prop_map(|(issuer, n, (hard, tenant, length), class, bytes)| {
                proto::PurgeEntry {
                    issuer,
                    n,
                    hard,
                    class,
                    tenant,
                    digest: vec![7; bytes].into(),
                    length,
                }
            })
    }

    proptest! {
        #[test]
        fn nothing_that_a_peer_says_of_purges_makes_it_panic(
            syncs in proptest::collection::vec(
                (
                    proptest::collection::vec(any_entry(), 0..6),
                    proptest::collection::vec((extreme(), extreme()), 0..6),
                    (extreme(), extreme(), any::<bool>()),
                ),
                1..8,
            ),
        ) {
            let node = purges();
            for (entries, known, (issuer, purges, hard)) in syncs {
                let known = known.into_iter();
                let asked = proto::PurgeSync {
                    full: true,
                    known: known.map(|(issuer, n)| proto::PurgesKnown { issuer, n }).collect(),
                    horizon: Some(proto::PurgeHorizon { issuer, purges, hard }),
                    entries,
                    ..Default::default()
                };
                let Ok(sync) = synced(asked) else { continue };
                let known = sync.known.unwrap_or_default();
                node.merge(&sync.entries, known.horizon);
                let missing = node.missing(&known);
                prop_assert!(missing.len() <= PAGE + MAX_ISSUERS);
                let all = ScopeKey::new(&Scope::All, None, &[]);
                node.issue(&[all], false, (1, 1));
                node.generation();
            }
        }
    }

    #[test]
    fn a_sum_of_forgotten_purges_is_never_more_than_a_peer_takes() {
        let said = Known {
            vector: Vec::new(),
            horizon: Horizon {
                issuer: 7,
                purges: u64::MAX,
                hard: true,
            },
        };
        let (vector, horizon) = known(&said);
        let heard = read_known(vector, Some(horizon)).expect("within bounds");
        assert_eq!(heard.horizon.purges, MAX_PURGES);
    }

    #[test]
    fn what_is_told_arrives_as_it_was_said() {
        let node = purges();
        let scope = Scope::tag("a", None).expect("valid");
        let key = ScopeKey::new(&scope, Some("t"), &[]);
        let said = Sync {
            digest: 7,
            entries: node.issue(&[key, key], true, (3, 3)),
            known: Some(node.known()),
            asked: vec![Id(1), Id(u64::MAX)],
        };
        let heard = synced(sync("c", &said)).expect("our own words");
        assert_eq!(heard.digest, said.digest);
        assert_eq!(heard.entries, said.entries);
        assert_eq!(heard.known, said.known);
        assert_eq!(heard.asked, said.asked);
        let reply = SyncReply {
            digest: 8,
            generation: 9,
            known: said.known,
            entries: said.entries,
            others: vec![(Id(3), "name".into(), ([127, 0, 0, 1], 5).into())],
        };
        let heard = sync_reply(answer_sync(reply.clone())).expect("our own words");
        assert_eq!(heard.known, reply.known);
        assert_eq!(heard.entries, reply.entries);
        assert_eq!(heard.others, reply.others);
    }
}
