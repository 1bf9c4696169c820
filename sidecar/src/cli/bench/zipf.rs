//! Zipf-distributed ranks: how often the web asks for its n-th most wanted page.

/// A small generator of good bits (SplitMix64). Not for secrets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    /// The generator of request `index` in the workload of `seed`: a request's URL depends on these
    /// two alone, whatever order the requests end up in.
    pub(crate) fn of_request(seed: u64, index: u64) -> Self {
        let mut mixed = Self(seed);
        let stream = mixed.next();
        Self(stream ^ index.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1, from the 53 bits that a float holds.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Ranks 1..=n with probability proportional to rank^-exponent; exponent 0 is uniform.
///
/// Rejection-inversion (Hörmann and Derflinger 1996): exact, constant memory and about one try a
/// sample whatever n is, where a table of the distribution would need n numbers. It samples the
/// continuous h(x) = x^-exponent through its integral H and takes back what rounding adds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zipf {
    n: f64,
    exponent: f64,
    /// H(1.5) − 1: the upper end of the integral, rank 1 taken in whole.
    h_first: f64,
    /// H(n + 0.5): the lower end.
    h_last: f64,
    /// Closer to its rank than this, a sample is accepted without computing h.
    accept: f64,
}

impl Zipf {
    /// The distribution over 1..=`n`, which is at least 1; `exponent` is not negative.
    pub(crate) fn new(n: u64, exponent: f64) -> Self {
        let mut zipf = Self {
            n: n as f64,
            exponent,
            h_first: 0.0,
            h_last: 0.0,
            accept: 0.0,
        };
        zipf.h_first = zipf.integral(1.5) - 1.0;
        zipf.h_last = zipf.integral(zipf.n + 0.5);
        zipf.accept = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.h(2.0));
        zipf
    }

    /// A rank.
    pub(crate) fn sample(&self, random: &mut SplitMix64) -> u64 {
        loop {
            let u = self.h_last + random.unit() * (self.h_first - self.h_last);
            let x = self.inverse(u);
            let rank = x.round().clamp(1.0, self.n);
            if rank - x <= self.accept || u >= self.integral(rank + 0.5) - self.h(rank) {
                return rank as u64;
            }
        }
    }

    /// h(x) = x^-exponent.
    fn h(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// H(x) = (x^(1-exponent) − 1) / (1 − exponent), and ln x at exponent 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        expm1_over((1.0 - self.exponent) * log) * log
    }

    /// The inverse of H.
    fn inverse(&self, y: f64) -> f64 {
        // Below −1 only by rounding, where the logarithm would end.
        let t = (y * (1.0 - self.exponent)).max(-1.0);
        (ln1p_over(t) * y).exp()
    }
}

/// (e^x − 1) / x, by its series where the quotient loses its digits.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.exp_m1() / x
    } else {
        1.0 + x / 2.0 * (1.0 + x / 3.0)
    }
}

/// ln(1 + x) / x, likewise.
fn ln1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.ln_1p() / x
    } else {
        1.0 - x * (0.5 - x / 3.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of ranks 1..=n, counted.
    fn counts(n: u64, exponent: f64, samples: u64) -> Vec<u64> {
        let zipf = Zipf::new(n, exponent);
        let mut counts = vec![0; n as usize + 1];
        for index in 0..samples {
            counts[zipf.sample(&mut SplitMix64::of_request(7, index)) as usize] += 1;
        }
        counts
    }

    #[test]
    fn ranks_come_as_often_as_zipf_says() {
        const SAMPLES: u64 = 200_000;
        for (n, exponent) in [
            (50, 0.0),
            (50, 0.7),
            (50, 1.0),
            (50, 1.3),
            (10, 3.0),
            (2, 0.99),
            (1, 1.0),
        ] {
            let weight = |rank: u64| (rank as f64).powf(-exponent);
            let total: f64 = (1..=n).map(weight).sum();
            let counts = counts(n, exponent, SAMPLES);
            assert_eq!(counts[0], 0);
            let chi_square: f64 = (1..=n)
                .map(|rank| {
                    let expected = SAMPLES as f64 * weight(rank) / total;
                    (counts[rank as usize] as f64 - expected).powi(2) / expected
                })
                .sum();
            // Mean n − 1, deviation √(2(n − 1)): five deviations would be one seed in millions.
            let bound = n as f64 - 1.0 + 5.0 * (2.0 * n as f64).sqrt();
            assert!(
                chi_square < bound,
                "n {n}, exponent {exponent}: chi² {chi_square:.1} of {bound:.1}"
            );
        }
    }

    #[test]
    fn a_billion_urls_need_no_table() {
        let zipf = Zipf::new(1_000_000_000, 0.9);
        let ranks: Vec<u64> = (0..10_000)
            .map(|i| zipf.sample(&mut SplitMix64::of_request(1, i)))
            .collect();
        assert!(ranks.iter().all(|rank| (1..=1_000_000_000).contains(rank)));
        assert!(
            ranks.iter().any(|rank| *rank > 1_000_000),
            "the tail is asked too"
        );
    }

    #[test]
    fn a_seed_repeats_its_workload_and_another_does_not() {
        let zipf = Zipf::new(1000, 0.9);
        let ranks = |seed| {
            (0..100)
                .map(|i| zipf.sample(&mut SplitMix64::of_request(seed, i)))
                .collect::<Vec<_>>()
        };
        assert_eq!(ranks(1), ranks(1));
        assert_ne!(ranks(1), ranks(2));
    }
}
