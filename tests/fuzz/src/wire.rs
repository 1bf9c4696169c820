//! Each message that a peer can send: read or refused; and what is read is, when it is written again,
//! read as the same.
//!
//! The first byte says which message the others are.

use koorde_proto::cache::v1 as cache;
use koorde_proto::peer::v1 as peer;
use koorde_proto::ring::v1::Envelope;
use libkoorde::node::fuzzing;
use libkoorde::policy::target::MAX_TARGET_LEN;
use prost::Message;
use std::fmt::Debug;

/// Fields of one message, at most.
const MAX_FIELDS: usize = 1024;

pub fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 17 {
        0 => read(bytes, fetch_request),
        1 => read(bytes, fetch_reply),
        2 => read(bytes, inspect_request),
        3 => again(bytes, |sync| fuzzing::purge_sync("cluster", sync)),
        4 => again(bytes, fuzzing::purge_sync_reply),
        5 => again(bytes, fuzzing::invalidate),
        6 => again(bytes, |asked| fuzzing::lease_request(&asked)),
        7 => again(bytes, fuzzing::lease_reply),
        8 => again(bytes, |envelope: Envelope| {
            let _ = fuzzing::sender(envelope.clone());
            fuzzing::message(envelope).map(|message| fuzzing::envelope(&message))
        }),
        9 => merge(bytes),
        10 => again(bytes, fuzzing::offer_head),
        11 => read(bytes, cache_target),
        12 => read(bytes, cache_put),
        13 => read(bytes, |asked: cache::PurgeRequest| {
            if let Err(reason) = fuzzing::cache_purge(asked) {
                assert_reason(&reason);
            }
        }),
        14 => read(bytes, |handed: peer::HandedOver| {
            let key = handed.key.clone();
            match fuzzing::handed_over(handed) {
                Ok((read, fields)) => {
                    assert_eq!(read, key);
                    assert!(fields <= MAX_FIELDS + 1);
                }
                Err(reason) => assert_reason(&reason),
            }
        }),
        15 => again(bytes, fuzzing::stats_reply),
        _ => {
            let _ = fuzzing::deadline(&String::from_utf8_lossy(bytes));
        }
    }
}

fn read<M: Message + Default>(bytes: &[u8], look: fn(M)) {
    if let Ok(message) = M::decode(bytes) {
        look(message);
    }
}

/// Reads, writes, sends, reads and writes: the second time nothing changes any more.
fn again<M: Message + Default + Clone + PartialEq + Debug>(
    bytes: &[u8],
    through: impl Fn(M) -> Result<M, String>,
) {
    let Ok(message) = M::decode(bytes) else {
        return;
    };
    let once = match through(message) {
        Ok(once) => once,
        Err(reason) => return assert_reason(&reason),
    };
    let sent = M::decode(&once.encode_to_vec()[..]).expect("our own words");
    assert_eq!(sent, once);
    let twice = through(sent).expect("what we say ourselves is not refused");
    assert_eq!(twice, once);
}

fn assert_reason(reason: &str) {
    assert!(!reason.is_empty());
}

fn fetch_request(asked: peer::FetchRequest) {
    let (method, slice) = (asked.method.clone(), asked.slice);
    match fuzzing::fetch_request(asked) {
        Ok((request, number)) => {
            assert_eq!(request.method.as_str(), method);
            assert_eq!(number, slice.checked_sub(1));
            assert!(request.target.to_string().len() <= MAX_TARGET_LEN);
            assert!(request.fields.len() <= MAX_FIELDS);
        }
        Err(reason) => assert_reason(&reason),
    }
}

fn inspect_request(asked: peer::InspectRequest) {
    match fuzzing::inspect_request(asked) {
        Ok(request) => assert!(request.fields.len() <= MAX_FIELDS),
        Err(reason) => assert_reason(&reason),
    }
}

fn cache_target(target: cache::Target) {
    let (method, tenant) = (target.method.clone(), target.tenant.clone());
    match fuzzing::cache_target(target) {
        Ok(request) => {
            assert_eq!(request.method.as_str(), method);
            assert_eq!(request.overrides.tenant(), tenant);
            assert!(request.fields.len() <= MAX_FIELDS);
            let place = request.overrides.stored_as();
            assert!(place.is_none_or(|place| place.same_origin(&request.target)));
        }
        Err(reason) => assert_reason(&reason),
    }
}

fn cache_put(head: cache::PutHead) {
    let status = head.status;
    match fuzzing::cache_put(head) {
        Ok((read, fields)) => {
            assert_eq!(u32::from(read), status);
            assert!(fields <= MAX_FIELDS);
        }
        Err(reason) => assert_reason(&reason),
    }
}

fn fetch_reply(reply: peer::FetchReply) {
    use peer::fetch_reply::Part;
    match reply.part {
        Some(Part::Head(head)) => {
            let (status, members) = (head.status, head.cache_status.len());
            match fuzzing::head(head) {
                Ok((read, fields, known)) => {
                    assert_eq!(u32::from(read.as_u16()), status);
                    assert!(fields.len() <= MAX_FIELDS && known == members);
                }
                Err(reason) => assert_reason(&reason),
            }
        }
        Some(Part::Interim(one)) => {
            let Ok(once) = fuzzing::interim(one) else {
                return;
            };
            let Some(Part::Interim(sent)) = once.part.clone() else {
                panic!("an interim response becomes {once:?}");
            };
            assert!((100..200).contains(&sent.status));
            assert_eq!(fuzzing::interim(sent).expect("our own words"), once);
        }
        Some(Part::Granted(granted)) => {
            let Ok(once) = fuzzing::granted(granted) else {
                return;
            };
            let Some(Part::Granted(sent)) = once.part.clone() else {
                panic!("a lease becomes {once:?}");
            };
            assert!(sent.lease.len() <= 64 && sent.conditions.len() <= MAX_FIELDS);
            assert_eq!(fuzzing::granted(sent).expect("our own words"), once);
        }
        Some(Part::Failed(failed)) => {
            let once = fuzzing::failed(&failed);
            assert_eq!(fuzzing::failed(&once), once);
        }
        Some(Part::Chunk(_) | Part::End(_)) | None => {}
    }
}

/// Several, each behind two bytes of its length.
fn merge(mut bytes: &[u8]) {
    let mut heard = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (one, rest) = rest.split_at(length);
        bytes = rest;
        heard.extend(peer::PurgeSync::decode(one));
    }
    for missing in fuzzing::merged(heard) {
        assert!(missing <= 1024 + 4096, "{missing} purges in one message");
    }
}
