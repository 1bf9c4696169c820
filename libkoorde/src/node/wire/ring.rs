//! The ring's messages: protobuf ↔ `ring::protocol`, one to one.

use std::{net::SocketAddr, time::Duration};

use koorde_proto::ring::v1::{self as proto, change, envelope::Message as Part, lookup};

use super::VERSION;
use crate::{
    id::{Id, KeyId},
    ring::{
        Change, Digest, DownReason, Found, Gone, Imaginary, Lookup, LookupId, Member, Message,
        Purpose, Role, Sync,
    },
};

/// Members of one message, at most: a full exchange with the largest `ring.neighbors`.
const MAX_MEMBERS: usize = 2 * 1024 + 1;
const MAX_NAME: usize = 253;

/// How a stream of ring messages begins: who sends it, and in which cluster.
pub(crate) fn hello(cluster: &str, from: SocketAddr) -> proto::Envelope {
    proto::Envelope {
        version: VERSION,
        cluster: cluster.to_owned(),
        from: Some(endpoint(from)),
        message: None,
    }
}

/// The address that a stream's sender gives as its own.
pub(crate) fn sender(hello: proto::Envelope) -> Result<SocketAddr, String> {
    address(hello.from)
}

/// One message of a stream.
pub(crate) fn envelope(message: &Message) -> proto::Envelope {
    proto::Envelope {
        message: Some(part(message)),
        ..proto::Envelope::default()
    }
}

/// The message in an envelope.
pub(crate) fn message(envelope: proto::Envelope) -> Result<Message, String> {
    Ok(
        match envelope.message.ok_or("an envelope without a message")? {
            Part::Lookup(lookup) => Message::Lookup(Box::new(read_lookup(lookup)?)),
            Part::Ack(ack) => Message::Ack { hop: ack.hop },
            Part::Found(found) => Message::Found(Box::new(read_found(found)?)),
            Part::Stabilize(it) => Message::Stabilize {
                me: member(it.me)?,
                digest: digest(it.digest)?,
            },
            Part::Stabilized(it) => Message::Stabilized {
                agree: it.agree,
                between: members(it.between, 2)?,
                changes: changes(it.changes, Message::MAX_RECENT)?,
            },
            Part::Changes(it) => Message::Changes(changes(it.changes, Message::MAX_CHANGES)?),
            Part::Sync(it) => Message::Sync(Box::new(Sync {
                members: members(it.members, MAX_MEMBERS)?,
                gone: bounded(it.gone, 128)?
                    .into_iter()
                    .map(gone)
                    .collect::<Result<_, _>>()?,
                complete: it.complete,
                answer: it.answer,
            })),
            Part::Ping(it) => Message::Ping { nonce: it.nonce },
            Part::Pong(it) => Message::Pong { nonce: it.nonce },
            Part::PingFor(it) => Message::PingFor {
                target: address(it.target)?,
                nonce: it.nonce,
            },
            Part::Suspect(it) => Message::Suspect {
                id: Id(it.id),
                incarnation: it.incarnation,
            },
            Part::Dead(it) => Message::Dead {
                incarnation: it.incarnation,
            },
            Part::List(it) => Message::List {
                nonce: it.nonce,
                forward: it.forward,
                count: usize::try_from(it.count).unwrap_or(Message::MAX_LISTED),
            },
            Part::Listed(it) => Message::Listed {
                nonce: it.nonce,
                members: members(it.members, Message::MAX_LISTED)?,
            },
        },
    )
}

fn part(message: &Message) -> Part {
    match message {
        Message::Lookup(lookup) => Part::Lookup(write_lookup(lookup)),
        Message::Ack { hop } => Part::Ack(proto::Ack { hop: *hop }),
        Message::Found(found) => Part::Found(write_found(found)),
        Message::Stabilize { me, digest } => Part::Stabilize(proto::Stabilize {
            me: Some(write_member(me)),
            digest: Some(write_digest(digest)),
        }),
        Message::Stabilized {
            agree,
            between,
            changes,
        } => Part::Stabilized(proto::Stabilized {
            agree: *agree,
            between: between.iter().map(write_member).collect(),
            changes: changes.iter().map(write_change).collect(),
        }),
        Message::Changes(changes) => Part::Changes(proto::Changes {
            changes: changes.iter().map(write_change).collect(),
        }),
        Message::Sync(sync) => Part::Sync(proto::Sync {
            members: sync.members.iter().map(write_member).collect(),
            gone: sync.gone.iter().map(write_gone).collect(),
            complete: sync.complete,
            answer: sync.answer,
        }),
        Message::Ping { nonce } => Part::Ping(proto::Ping { nonce: *nonce }),
        Message::Pong { nonce } => Part::Pong(proto::Pong { nonce: *nonce }),
        Message::PingFor { target, nonce } => Part::PingFor(proto::PingFor {
            target: Some(endpoint(*target)),
            nonce: *nonce,
        }),
        Message::Suspect { id, incarnation } => Part::Suspect(proto::Suspect {
            id: id.0,
            incarnation: *incarnation,
        }),
        Message::Dead { incarnation } => Part::Dead(proto::Dead {
            incarnation: *incarnation,
        }),
        Message::List {
            nonce,
            forward,
            count,
        } => Part::List(proto::List {
            nonce: *nonce,
            forward: *forward,
            count: u32::try_from(*count).unwrap_or(u32::MAX),
        }),
        Message::Listed { nonce, members } => Part::Listed(proto::Listed {
            nonce: *nonce,
            members: members.iter().map(write_member).collect(),
        }),
    }
}

fn endpoint(address: SocketAddr) -> proto::Endpoint {
    proto::Endpoint {
        address: address.to_string(),
    }
}

fn address(endpoint: Option<proto::Endpoint>) -> Result<SocketAddr, String> {
    parse_address(&endpoint.ok_or("an address is missing")?.address)
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| format!("address {text:?}"))?;
    // Nobody can be reached there, and a ring that tried would only talk to itself.
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err(format!("address {text:?}"));
    }
    Ok(address)
}

fn bounded<T>(items: Vec<T>, most: usize) -> Result<Vec<T>, String> {
    if items.len() > most {
        Err(format!("{} items, at most {most}", items.len()))
    } else {
        Ok(items)
    }
}

fn small(value: u32, what: &str) -> Result<u8, String> {
    u8::try_from(value).map_err(|_| format!("{what} {value}, at most 255"))
}

fn write_member(member: &Member) -> proto::Member {
    proto::Member {
        id: member.id.0,
        name: member.name.to_string(),
        address: member.addr.to_string(),
        incarnation: member.incarnation,
        weight: member.weight.into(),
        role: match member.role {
            Role::Member => proto::Role::Member,
            Role::Edge => proto::Role::Edge,
        }
        .into(),
    }
}

fn member(member: Option<proto::Member>) -> Result<Member, String> {
    read_member(member.ok_or("a member is missing")?)
}

fn read_member(member: proto::Member) -> Result<Member, String> {
    let role = match member.role() {
        proto::Role::Member => Role::Member,
        proto::Role::Edge => Role::Edge,
    };
    if member.name.len() > MAX_NAME {
        return Err(format!(
            "a name of {} bytes, at most {MAX_NAME}",
            member.name.len()
        ));
    }
    let weight = u16::try_from(member.weight)
        .unwrap_or(Member::MAX_WEIGHT)
        .min(Member::MAX_WEIGHT);
    Ok(Member {
        id: Id(member.id),
        addr: parse_address(&member.address)?,
        name: member.name.into(),
        incarnation: member.incarnation,
        weight: if weight == 0 { 100 } else { weight },
        role,
    })
}

fn members(members: Vec<proto::Member>, most: usize) -> Result<Vec<Member>, String> {
    bounded(members, most)?
        .into_iter()
        .map(read_member)
        .collect()
}

fn write_digest(digest: &Digest) -> proto::Digest {
    proto::Digest {
        after: digest.after.0,
        through: digest.through.0,
        sum: digest.sum,
    }
}

fn digest(digest: Option<proto::Digest>) -> Result<Digest, String> {
    let digest = digest.ok_or("a digest is missing")?;
    Ok(Digest {
        after: Id(digest.after),
        through: Id(digest.through),
        sum: digest.sum,
    })
}

fn write_gone(gone: &Gone) -> proto::Gone {
    proto::Gone {
        member: Some(write_member(&gone.member)),
        left: gone.reason == DownReason::Left,
    }
}

fn gone(gone: proto::Gone) -> Result<Gone, String> {
    let reason = if gone.left {
        DownReason::Left
    } else {
        DownReason::Dead
    };
    Ok(Gone {
        member: member(gone.member)?,
        reason,
    })
}

fn write_change(change: &Change) -> proto::Change {
    let change = match change {
        Change::Alive(member) => change::Change::Alive(write_member(member)),
        Change::Gone(gone) => change::Change::Gone(write_gone(gone)),
    };
    proto::Change {
        change: Some(change),
    }
}

fn changes(changes: Vec<proto::Change>, most: usize) -> Result<Vec<Change>, String> {
    let read = |change: proto::Change| match change.change.ok_or("an empty change")? {
        change::Change::Alive(member) => Ok(Change::Alive(read_member(member)?)),
        change::Change::Gone(it) => Ok(Change::Gone(gone(it)?)),
    };
    bounded(changes, most)?.into_iter().map(read).collect()
}

fn write_lookup(it: &Lookup) -> proto::Lookup {
    let purpose = match &it.purpose {
        Purpose::Find => lookup::Purpose::Find(proto::Find {}),
        Purpose::Join { me, digest } => lookup::Purpose::Join(proto::Join {
            me: Some(write_member(me)),
            digest: Some(write_digest(digest)),
        }),
        Purpose::Pointers { through } => {
            lookup::Purpose::Pointers(proto::Pointers { through: through.0 })
        }
    };
    proto::Lookup {
        id: it.id.0,
        asker: Some(endpoint(it.asker)),
        purpose: Some(purpose),
        key: Some(proto::Key {
            high: it.key.place().0,
            low: it.key.low(),
        }),
        imaginary: it.imaginary.map(|i| proto::Imaginary {
            digits: i.digits.into(),
            node: i.node.0,
        }),
        direct: it.direct,
        redirects: it.redirects.into(),
        ttl: it.ttl.into(),
        hops: it.hops.into(),
        hop: it.hop,
        remaining_ms: u32::try_from(it.remaining.as_millis()).unwrap_or(u32::MAX),
        avoid: it.avoid.iter().map(|id| id.0).collect(),
        trace: it.path.is_some(),
        path: it.path.iter().flatten().map(|id| id.0).collect(),
    }
}

fn read_lookup(it: proto::Lookup) -> Result<Lookup, String> {
    let purpose = match it.purpose.ok_or("a look-up without a purpose")? {
        lookup::Purpose::Find(_) => Purpose::Find,
        lookup::Purpose::Join(join) => Purpose::Join {
            me: member(join.me)?,
            digest: digest(join.digest)?,
        },
        lookup::Purpose::Pointers(pointers) => Purpose::Pointers {
            through: Id(pointers.through),
        },
    };
    let key = it.key.ok_or("a look-up without a key")?;
    let imaginary = it.imaginary.map(|i| {
        let digits = small(i.digits, "digits")?;
        if digits > 64 {
            Err(format!("digits {digits}, at most 64"))
        } else {
            Ok(Imaginary {
                digits,
                node: Id(i.node),
            })
        }
    });
    Ok(Lookup {
        id: LookupId(it.id),
        asker: address(it.asker)?,
        purpose,
        key: KeyId(u128::from(key.high) << 64 | u128::from(key.low)),
        imaginary: imaginary.transpose()?,
        direct: it.direct,
        redirects: small(it.redirects, "redirects")?,
        ttl: small(it.ttl, "ttl")?,
        hops: small(it.hops, "hops")?,
        hop: it.hop,
        remaining: Duration::from_millis(it.remaining_ms.into()),
        avoid: ids(it.avoid, Lookup::MAX_AVOID)?,
        path: if it.trace {
            Some(ids(it.path, 255)?)
        } else {
            None
        },
    })
}

fn ids(ids: Vec<u64>, most: usize) -> Result<Vec<Id>, String> {
    Ok(bounded(ids, most)?.into_iter().map(Id).collect())
}

fn write_found(found: &Found) -> proto::Found {
    proto::Found {
        id: found.id.0,
        owners: found.owners.iter().map(write_member).collect(),
        home: Some(write_member(&found.home)),
        predecessor: Some(write_member(&found.predecessor)),
        hops: found.hops.into(),
        path: found.path.iter().map(|id| id.0).collect(),
    }
}

fn read_found(found: proto::Found) -> Result<Found, String> {
    let owners = members(found.owners, 4)?;
    if owners.is_empty() {
        return Err("a look-up found nobody".to_owned());
    }
    Ok(Found {
        id: LookupId(found.id),
        owners,
        home: member(found.home)?,
        predecessor: member(found.predecessor)?,
        hops: small(found.hops, "hops")?,
        path: ids(found.path, 255)?,
    })
}

#[cfg(test)]
mod tests;
