//! The wire of koorde: code generated from `proto/koorde/*`, and nothing else.
//!
//! Only `libkoorde`'s `node/wire.rs` names these types beside its own. Field numbers are never
//! reused; a field is removed by reserving its number; a new field must be one that an older
//! reader may ignore. Anything else is a new package (`v2`).
//!
//! ```
//! let ping = koorde_proto::cache::v1::Chunk { data: "body".into() };
//! assert_eq!(ping.data.len(), 4);
//! ```
#![allow(missing_docs, unreachable_pub, clippy::all)]

/// `koorde.ring`: what the ring says to itself.
pub mod ring {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("koorde.ring.v1");
    }
}

/// `koorde.peer`: a fetch between peers.
pub mod peer {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("koorde.peer.v1");
    }
}

/// `koorde.cache`: the cache for clients in any language.
pub mod cache {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("koorde.cache.v1");
    }
}
