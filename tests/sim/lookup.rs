use koorde_tests::sim::experiments::{balance, moved_on_join, quiet};
use koorde_tests::sim::fixed::Fixed;
use libkoorde::ring::RingConfig;

use crate::seeds;

#[test]
fn up_to_129_members_every_look_up_takes_one_hop() {
    for seed in seeds(2) {
        for n in [2, 3, 10, 50, 129] {
            let tally = quiet(seed, RingConfig::default(), n, 500);
            assert_eq!((tally.failed, tally.wrong), (0, 0), "SEED={seed} n={n}");
            assert!(
                tally.max_hops <= 1,
                "SEED={seed} n={n}: {} hops",
                tally.max_hops
            );
        }
    }
}

#[test]
fn beyond_the_view_koorde_finds_every_key() {
    for seed in seeds(2) {
        for (n, neighbors) in [(20, 4), (60, 8), (200, 16)] {
            let config = RingConfig {
                neighbors,
                ..RingConfig::default()
            };
            let tally = quiet(seed, config, n, 500);
            assert_eq!((tally.failed, tally.wrong), (0, 0), "SEED={seed} n={n}");
            assert!(
                tally.mean_hops() <= 3.0,
                "SEED={seed} n={n}: {}",
                tally.mean_hops()
            );
        }
    }
}

#[test]
fn koorde_alone_takes_log_k_n_hops() {
    for seed in seeds(2) {
        for n in [50, 1000, 10_000, 100_000] {
            let hops = Fixed::new(seed, n, 16, 16).hops(seed, 5000);
            let log = (n as f64).ln() / 16_f64.ln();
            assert!(
                hops.mean() <= log + 0.1,
                "SEED={seed} n={n}: mean {}",
                hops.mean()
            );
            let up = log.ceil() as u32;
            assert!(
                hops.quantile(0.99) <= up + 2,
                "SEED={seed} n={n}: p99 {}",
                hops.quantile(0.99)
            );
            assert!(
                hops.max() <= up + 4,
                "SEED={seed} n={n}: max {}",
                hops.max()
            );
        }
    }
}

#[test]
fn every_degree_finds_every_key() {
    for degree in [2, 4, 8, 16, 32, 64] {
        for n in [10, 100, 3000] {
            let hops = Fixed::new(9, n, degree, 8).hops(9, 1000);
            let log = (n as f64).ln() / f64::from(degree).ln();
            // With eight neighbours each way a high degree must thin its cover more than they reach.
            let slack = if degree > 16 { 1.5 } else { 1.0 };
            assert!(
                hops.mean() <= log + slack,
                "degree {degree} n={n}: mean {}",
                hops.mean()
            );
        }
    }
}

#[test]
fn thirty_two_nodes_of_degree_eight_take_less_than_one_and_a_half_hops() {
    assert!(Fixed::new(1, 32, 8, 8).hops(1, 20_000).mean() <= 1.5);
}

#[test]
fn members_own_even_shares_and_a_join_moves_no_more_than_it_must() {
    for seed in seeds(2) {
        for n in [5, 50] {
            let share = balance(seed, n, 50_000, 128, 0);
            assert!(
                share <= 1.12,
                "SEED={seed} n={n}: max / mean {share}, sampling noise included"
            );
            let moved = moved_on_join(seed, n, 50_000, 128);
            assert!(
                (moved - 1.0).abs() < 0.1,
                "SEED={seed} n={n}: {moved} of the ideal"
            );
        }
    }
}
