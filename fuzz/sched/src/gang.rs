//! Body `sched_gang`: all of a group, or none.

use sched_core::{Error, GangError, PodState, Table};

use crate::{
    bytes::Bytes,
    naive::{NOBODY, Naive},
    ops,
    pair::Pair,
    spec::AskSpec,
};

const OPS_MAX: usize = 24;
const NODES: usize = 6;
const PODS: usize = 40;
const GANG_MAX: usize = 8;

/// Plays the bytes and holds each gang against the model, which places one pod after the other in the documented
/// orders: the same nodes, or nothing is left of any of them.
pub fn sched_gang(bytes: &[u8]) {
    ops::rounds(bytes, OPS_MAX, (NODES, PODS), gang);
}

fn gang(pair: &mut Pair, bytes: &mut Bytes<'_>, room: usize) {
    let what = bytes.byte();
    let size = usize::from(what & 7) + 1;
    if PODS < pair.naive.pods.len() + size {
        return;
    }
    let mut gang: Vec<AskSpec> = Vec::with_capacity(GANG_MAX);
    for _ in 0..size {
        // Pods of one kind are what gangs are made of.
        let same = gang.last().filter(|_| what & 8 == 8).cloned();
        gang.push(same.unwrap_or_else(|| pair.draw(bytes)));
    }
    let asks: Vec<_> = gang.iter().map(AskSpec::ask).collect();
    let mut out =
        vec![None; if what & 0xF0 == 0xF0 { size - 1 } else { size + usize::from(what >> 7) }];
    let answer = pair.core.assume_gang(&asks, &mut out);
    if out.len() < size {
        assert_eq!(answer, Err(GangError::TooLong));
        return;
    }
    let by_size = all_or_none(&pair.naive, &gang, &pair.naive.by_size(&gang), room);
    let expected = by_size.or_else(|_| {
        let as_given: Vec<usize> = (0..size).collect();
        all_or_none(&pair.naive, &gang, &as_given, room)
    });
    match expected {
        Ok(nodes) => {
            assert_eq!(answer, Ok(()), "the model finds {nodes:?}");
            for (index, at) in nodes {
                let Some(handle) = out[index] else {
                    panic!("pod {index} of a gang has no handle")
                };
                assert_eq!(pair.core.pod(handle).map(|(at, _)| at.0), Some(at));
                let devices = pair.naive.devices_for(at, &gang[index]);
                pair.naive.put(handle, at, gang[index].clone(), PodState::Assumed, devices);
            }
        }
        Err(error) => {
            assert_eq!(answer, Err(error));
            assert!(out.iter().all(Option::is_none), "a handle of a gang that has no place");
        }
    }
}

/// Where each pod goes, in the order in which they are placed; each counts for those after it.
fn all_or_none(
    naive: &Naive,
    gang: &[AskSpec],
    order: &[usize],
    room: usize,
) -> Result<Vec<(usize, u32)>, GangError> {
    let mut world = naive.clone();
    let mut nodes = Vec::new();
    // Any handle will do: the model only needs to tell pods apart by their place in its list.
    let handle = sched_core::Move::default().pod;
    for index in order {
        let ask = &gang[*index];
        let Some(at) = world.place(ask) else { return Err(GangError::NoNode { index: *index }) };
        assert_eq!(world.reason(at, ask, NOBODY), None);
        if room <= world.pods.len() {
            return Err(GangError::Table(Error::Full(Table::Pods)));
        }
        let devices = world.devices_for(at, ask);
        world.put(handle, at, ask.clone(), PodState::Assumed, devices);
        nodes.push((*index, at));
    }
    Ok(nodes)
}

impl Naive {
    /// The largest first: by thousandths of devices, then by the larger share of the largest node's CPU and memory, in
    /// millionths.
    pub(crate) fn by_size(&self, asks: &[AskSpec]) -> Vec<usize> {
        let largest = |size: fn(&crate::spec::Sizes) -> u128| {
            self.all_nodes().map(|(_, node)| size(&node.sizes)).max().unwrap_or(0).max(1)
        };
        let cpu = largest(|sizes| sizes.cpu.into());
        let memory = largest(|sizes| sizes.memory.into());
        let size = |ask: &AskSpec| {
            let (sizes, (count, milli)) = (&ask.pod.sizes, ask.pod.devices);
            let share = (u128::from(sizes.cpu) * 1_000_000 / cpu)
                .max(u128::from(sizes.memory) * 1_000_000 / memory);
            (u32::from(count) * u32::from(milli), share)
        };
        let mut order: Vec<usize> = (0..asks.len()).collect();
        // A stable sort: of equals the first comes first.
        order.sort_by_key(|index| std::cmp::Reverse(size(&asks[*index])));
        order
    }
}
