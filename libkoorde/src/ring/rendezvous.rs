//! Which of the candidates owns a key: weighted rendezvous hashing (Thaler & Ravishankar 1998).
//!
//! Every candidate draws a number for the key; the best draw owns it and the next ones are its
//! replicas. Even shares, failures spread over everybody, least movement, no virtual points.
//! With weights the score is −w / ln u; we compare −log2(u) / w, least first, in integers: a `ln`
//! of another libm could let two nodes choose different owners.

use super::protocol::Member;
use super::rng::mix;

/// What a candidate draws from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    /// Hash of the member's id.
    hash: u64,
    /// 2^24 / weight.
    per_weight: u64,
}

impl Draw {
    pub(super) fn of(member: &Member) -> Self {
        let weight = member.weight.clamp(1, Member::MAX_WEIGHT);
        Self {
            hash: mix(member.id.0 ^ 0x6b6f_6f72_6465_0001),
            per_weight: (1 << 24) / u64::from(weight),
        }
    }

    pub(super) const fn weighs_as(self, other: Self) -> bool {
        self.per_weight == other.per_weight
    }

    /// Uniform draw for a key, larger is better; comparable between candidates of one weight.
    pub(super) const fn plain(self, low: u64) -> u64 {
        mix(low ^ self.hash)
    }

    /// Cost for a key, smaller is better. Orders candidates of one weight as [`Self::plain`] does,
    /// up to ties in the 24th bit.
    pub(super) const fn cost(self, low: u64) -> u64 {
        minus_log2(self.plain(low)) * self.per_weight
    }
}

/// −log2(u / 2^64) in units of 2^-24, at most 64 × 2^24.
const fn minus_log2(u: u64) -> u64 {
    if u == 0 {
        return 64 << 24;
    }
    let zeros = u.leading_zeros();
    let mantissa = u << zeros; // 1.63 bits: log2 in [0, 1)
    let index = ((mantissa >> 55) & 0xff) as usize;
    let rest = (mantissa >> 31) & 0xff_ffff;
    let low = LOG2[index] as u64;
    let high = LOG2[index + 1] as u64;
    let log = low + (((high - low) * rest) >> 24);
    ((zeros as u64 + 1) << 24) - log
}

/// log2(1 + i / 256) in units of 2^-24. Interpolated linearly the error stays below 3 × 10^-6.
static LOG2: [u32; 257] = log2_table();

const fn log2_table() -> [u32; 257] {
    let mut table = [0; 257];
    let mut i = 0;
    while i < 256 {
        // Squaring a number in [1, 2) doubles its logarithm: one bit of it a round.
        let mut x = (256 + i as u128) << 54;
        let mut log = 0;
        let mut bit = 0;
        while bit < 25 {
            x = (x * x) >> 62;
            log <<= 1;
            if x >= 1 << 63 {
                log |= 1;
                x >>= 1;
            }
            bit += 1;
        }
        table[i] = (log + 1) >> 1;
        i += 1;
    }
    table[256] = 1 << 24;
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integer_logarithm_is_close_to_the_real_one() {
        for u in [
            1,
            2,
            3,
            1 << 20,
            12_345_678_901,
            u64::MAX / 3,
            u64::MAX / 2,
            u64::MAX,
        ] {
            let real = 64.0 - (u as f64).log2();
            let ours = minus_log2(u) as f64 / f64::from(1 << 24);
            assert!((real - ours).abs() < 5e-6, "{u}: {real} {ours}");
        }
    }

    #[test]
    fn a_better_draw_never_costs_more() {
        let mut u = 1_u64;
        let mut last = minus_log2(u);
        while let Some(next) = u.checked_add(u / 97 + 1) {
            assert!(minus_log2(next) <= last);
            (u, last) = (next, minus_log2(next));
        }
    }
}
