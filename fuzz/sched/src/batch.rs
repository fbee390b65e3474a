//! Body `sched_batch`: pending pods looked at together.

use sched_core::{Error, PodState, Table};

use crate::{bytes::Bytes, ops, pair::Pair, spec::AskSpec};

const OPS_MAX: usize = 20;
const NODES: usize = 6;
const PODS: usize = 48;
const BATCH_MAX: usize = 12;

/// Plays the bytes and holds each batch against the model, which places its pods one by one in the documented order,
/// higher priorities first and of those the largest: each where the model puts it, and none left out that has a place.
pub fn sched_batch(bytes: &[u8]) {
    ops::rounds(bytes, OPS_MAX, (NODES, PODS), batch);
}

fn batch(pair: &mut Pair, bytes: &mut Bytes<'_>, room: usize) {
    let what = bytes.byte();
    let size = usize::from(what & 15).min(BATCH_MAX);
    if PODS < pair.naive.pods.len() + size {
        return;
    }
    let batch: Vec<AskSpec> = (0..size).map(|_| pair.draw(bytes)).collect();
    let asks: Vec<_> = batch.iter().map(AskSpec::ask).collect();
    // Pods beyond the answer's length are left alone.
    let seen = if what & 0xF0 == 0xF0 { size / 2 } else { size };
    let mut out = vec![None; seen];
    let answer = pair.core.assume_batch(&asks, &mut out);

    let batch = &batch[..seen];
    let mut order = pair.naive.by_size(batch);
    order.sort_by_key(|index| std::cmp::Reverse(batch[*index].pod.priority));
    let (mut placed, mut full) = (0, false);
    for index in order {
        let ask = &batch[index];
        let at = if full { None } else { pair.naive.place(ask) };
        full |= at.is_some() && room <= pair.naive.pods.len();
        match (at.filter(|_| !full), out[index]) {
            (None, handle) => assert_eq!(handle, None, "pod {index} has a place: {ask:?}"),
            (Some(at), None) => panic!("pod {index} has no place, should be on {at}: {ask:?}"),
            (Some(at), Some(handle)) => {
                assert_eq!(pair.core.pod(handle).map(|(at, _)| at.0), Some(at), "{ask:?}");
                let devices = pair.naive.devices_for(at, ask);
                pair.naive.put(handle, at, ask.clone(), PodState::Assumed, devices);
                placed += 1;
            }
        }
    }
    let expected = if full { Err(Error::Full(Table::Pods)) } else { Ok(placed) };
    assert_eq!(answer, expected);
}
