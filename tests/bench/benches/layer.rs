//! What one request costs through each layer: `cargo bench --manifest-path tests/bench/Cargo.toml`.

use std::{cell::Cell, time::Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use koorde_bench::Case;

fn layers(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut group = criterion.benchmark_group("layer");
    for case in Case::ALL {
        group.bench_function(case.name(), |bench| {
            bench.iter_custom(|requests| {
                let began = Cell::new(Instant::now());
                runtime.block_on(case.run(requests, || began.set(Instant::now())));
                began.get().elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, layers);
criterion_main!(benches);
