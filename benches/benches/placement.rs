//! Decisions by shape, and by the number of nodes: `cargo bench -p coracle-benches --bench placement`.

use std::time::Duration;

use coracle_benches::placement::{SHAPES, Shape, measure};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// The time of so many decisions: a round decides more, of which this is the share.
fn time(shape: Shape, nodes: usize, decisions: u64) -> Duration {
    let wanted = usize::try_from(decisions).expect("criterion counts in memory");
    let figures = measure(shape, nodes, wanted, 0).expect("the core agrees with itself");
    figures.total.mul_f64(wanted as f64 / figures.decisions as f64)
}

fn placement(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("5000 nodes");
    for (name, shape, _) in SHAPES {
        group.bench_function(name, |bencher| bencher.iter_custom(|iters| time(shape, 5000, iters)));
    }
    group.finish();
    let mut group = criterion.benchmark_group("basic");
    for nodes in [5, 50, 500, 5000, 16_000] {
        group.bench_with_input(BenchmarkId::from_parameter(nodes), &nodes, |bencher, nodes| {
            bencher.iter_custom(|iters| time(Shape::Basic, *nodes, iters));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    // A round makes a cluster: few samples of many decisions each.
    config = Criterion::default().sample_size(10);
    targets = placement
}
criterion_main!(benches);
