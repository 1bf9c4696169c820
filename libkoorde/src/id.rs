//! Points on the circle of 2^64, and the keyed hashes that put members and cache keys on it.
//!
//! Everything that compares positions does it here, in native integers: wrapping subtraction *is*
//! the clockwise distance, so no operation needs a case for "past zero".

use std::fmt;

/// A point on the circle of 2^64: where a member sits, or where a key falls.
///
/// `Ord` is the order of the integers, for tables; on the circle only [`Id::distance`] and
/// [`Id::is_within`] mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

impl Id {
    /// Bits of an id.
    pub const BITS: u32 = u64::BITS;

    /// How far `to` lies clockwise of `self`; 0 only for itself.
    #[must_use]
    pub const fn distance(self, to: Self) -> u64 {
        to.0.wrapping_sub(self.0)
    }

    /// Whether `self` lies in the half-open interval (`after`, `through`] going clockwise.
    ///
    /// (a, a] is the whole circle, as in Chord: a node alone is home to every key.
    #[must_use]
    pub const fn is_within(self, after: Self, through: Self) -> bool {
        after.distance(self).wrapping_sub(1) <= after.distance(through).wrapping_sub(1)
    }

    /// One de Bruijn step: moves every digit up by one place and puts `digit` last.
    ///
    /// `digit_bits` is log2 of the degree, 1..=6; `digit` must be less than the degree.
    #[must_use]
    pub const fn shift(self, digit_bits: u32, digit: u64) -> Self {
        Self((self.0 << digit_bits) | digit)
    }

    /// Digit number `index` counted from the last one, in base 2^`digit_bits`.
    ///
    /// Past the top the digits are zero, so a degree whose bits do not divide 64 works as well.
    #[must_use]
    pub const fn digit(self, digit_bits: u32, index: u32) -> u64 {
        let up = digit_bits * index;
        if up >= Self::BITS {
            return 0;
        }
        (self.0 >> up) & ((1 << digit_bits) - 1)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The keyed 128-bit hash of a cache key.
///
/// The high half is its place on the ring; all of it identifies the key; the low half draws the
/// rendezvous scores, so that two keys of one arc still choose different owners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u128);

impl KeyId {
    /// Where the key falls on the ring.
    #[must_use]
    pub const fn place(self) -> Id {
        Id((self.0 >> 64) as u64)
    }

    /// The half that rendezvous scores are drawn from.
    #[must_use]
    pub const fn low(self) -> u64 {
        self.0 as u64
    }

    /// The key that falls exactly on `id`: used to look up a place rather than a cache key.
    #[must_use]
    pub const fn at(id: Id) -> Self {
        Self((id.0 as u128) << 64)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Hashes names and cache keys onto the circle, under the cluster's secret.
///
/// Without the secret nobody can craft URLs that all fall on one pod. Names, keys and the
/// fingerprint are hashed under separate keys (BLAKE3 `derive_key`), so that no cache key can be
/// made to hash like a member's name.
#[derive(Clone)]
pub struct Hasher {
    names: [u8; 32],
    keys: [u8; 32],
    fingerprint: [u8; 32],
}

impl Hasher {
    /// A hasher for the cluster that shares `secret`; any length, also empty (then ids are public).
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self {
            names: blake3::derive_key("koorde ring v1 member name", secret),
            keys: blake3::derive_key("koorde ring v1 cache key", secret),
            fingerprint: blake3::derive_key("koorde ring v1 fingerprint", secret),
        }
    }

    /// The id of the member with this stable name (a pod's name, not its address): a pod that
    /// restarts comes back to its place.
    #[must_use]
    pub fn node_id(&self, stable_name: &str) -> Id {
        Id((first_128(&self.names, stable_name.as_bytes()) >> 64) as u64)
    }

    /// The hash of a canonical cache key.
    #[must_use]
    pub fn key_id(&self, cache_key: &[u8]) -> KeyId {
        KeyId(first_128(&self.keys, cache_key))
    }

    /// A short tag of the secret, safe to send and to log: equal tags mean one cluster.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", first_128(&self.fingerprint, b"") >> 64)
    }
}

impl fmt::Debug for Hasher {
    /// Never prints the derived keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

fn first_128(key: &[u8; 32], bytes: &[u8]) -> u128 {
    let hash = blake3::keyed_hash(key, bytes);
    hash.as_bytes()[..16]
        .iter()
        .fold(0, |sum, &byte| (sum << 8) | u128::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_half_open_and_pass_zero() {
        let (a, b) = (Id(u64::MAX - 5), Id(10));
        assert!(Id(3).is_within(a, b));
        assert!(b.is_within(a, b));
        assert!(!a.is_within(a, b));
        assert!(!Id(11).is_within(a, b));
        assert!(Id(77).is_within(a, a), "(a, a] is the whole circle");
        assert!(a.is_within(a, a));
    }

    #[test]
    fn shifting_in_all_digits_of_a_key_arrives_at_the_key() {
        for digit_bits in 1..=6 {
            let key = Id(0x0123_4567_89ab_cdef);
            let mut at = Id(0xdead_beef_0bad_cafe);
            for index in (0..Id::BITS.div_ceil(digit_bits)).rev() {
                at = at.shift(digit_bits, key.digit(digit_bits, index));
            }
            assert_eq!(at, key, "{digit_bits} bits a digit");
        }
    }

    /// These values are on the wire of every cluster: a change here splits rings and empties caches.
    #[test]
    fn hashes_are_the_same_in_every_version() {
        let hasher = Hasher::new(b"secret");
        assert_eq!(hasher.node_id("koorde-0").to_string(), "d257bed842e884b2");
        assert_eq!(
            hasher.key_id(b"GET http example.org /").to_string(),
            "ad332a92c7e94c5d46df935cca48c8bd"
        );
        assert_eq!(hasher.fingerprint(), "f73c907019c1a4a1");
        assert_ne!(
            Hasher::new(b"").node_id("koorde-0"),
            hasher.node_id("koorde-0")
        );
    }

    #[test]
    fn a_name_and_a_key_with_the_same_bytes_do_not_meet() {
        let hasher = Hasher::new(b"secret");
        assert_ne!(hasher.key_id(b"a").place(), hasher.node_id("a"));
    }
}
