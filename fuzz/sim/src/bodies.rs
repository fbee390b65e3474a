//! Fuzz bodies: functions of bytes, with a model beside them where there is one. libFuzzer drives them from `fuzz/`,
//! `cargo test` from seeds. `store_against_model` is coracle-store's own.

use std::sync::Arc;

use coracle_api::decode;
use coracle_control_logic::call::{Body, Call, HttpRequest};
use sched_core::{
    Amounts, Ask, Error, NodeIndex, NodeOffer, NodeRecord, Placement, PodHandle, PodRecord, Reason,
    Resource, Taints,
};

/// Nodes and pods of one history: few, so that they fill.
const NODES: usize = 6;
const PODS: usize = 24;
/// Soft taints and hard taints are drawn from so many bits.
const TAINTS: u8 = 3;

/// Decodes the bytes as a body of each media type. Whatever is read must be JSON again and read the same.
pub fn decode_body(data: &[u8]) {
    for media_type in decode::MEDIA_TYPES {
        if let Ok(decoded) = decode::body(media_type, data) {
            let again = decode::json(decoded.value.to_string().as_bytes());
            let again = again.unwrap_or_else(|status| {
                panic!("what was read cannot be read again: {} ({media_type})", status.message)
            });
            assert_eq!(again.value, decoded.value, "read differently ({media_type})");
        }
    }
}

/// Reads the bytes as a request: method, path, query and headers, each on a line. Refused or read, never a panic.
pub fn call_parse(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default().to_owned();
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let method = next();
    let known = method.bytes().next().and_then(|first| methods.get(usize::from(first % 6)));
    let method = known.map_or(method.clone(), |known| (*known).to_owned());
    let (path, query) = (next(), next());
    let path = if path.starts_with("/ap") { path } else { format!("/api/v1/{path}") };
    let headers = ["accept", "content-type", "authorization", "impersonate-user", "user-agent"]
        .map(|name| (name.to_owned(), next()));
    let request = HttpRequest {
        method,
        path,
        query,
        headers: headers.into(),
        body: Body::default(),
        peer: None,
    };
    if let Err(status) = Call::parse(Arc::new(request)) {
        assert!((400..500).contains(&status.code), "{} {}", status.code, status.message);
        assert!(!status.message.is_empty(), "a refusal without words");
    }
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.next().unwrap_or(0) % bound
    }

    fn amounts(&mut self) -> Amounts {
        Amounts {
            cpu_milli: u64::from(self.below(16)) * 250,
            memory_bytes: u64::from(self.below(16)) << 26,
            storage_bytes: u64::from(self.below(3)) << 30,
            pods: 1,
            ..Amounts::ZERO
        }
    }

    fn taints(&mut self) -> Taints {
        let mut taints = Taints::EMPTY;
        let bits = self.below(1 << TAINTS);
        for bit in (0..TAINTS).filter(|bit| bits & (1 << bit) != 0) {
            assert!(taints.insert(usize::from(bit)));
        }
        taints
    }

    fn offer(&mut self) -> NodeOffer {
        let mut allocatable = self.amounts();
        allocatable.pods = u64::from(self.below(6));
        let flags = self.below(16);
        NodeOffer {
            unschedulable: flags == 0,
            allocatable,
            taints: if flags == 1 { self.taints() } else { Taints::EMPTY },
            soft_taints: if flags == 2 { self.taints() } else { Taints::EMPTY },
            ..NodeOffer::default()
        }
    }

    fn ask(&mut self) -> Ask {
        let requests = self.amounts();
        let flags = self.below(8);
        Ask {
            requests,
            tolerates: if flags == 0 { self.taints() } else { Taints::EMPTY },
            tolerates_unschedulable: flags == 1,
            ..Ask::default()
        }
    }
}

/// What the naive scheduler knows of a pod.
#[derive(Clone, Debug)]
struct Placed {
    node: NodeIndex,
    requests: Amounts,
    handle: PodHandle,
    assumed: bool,
}

type Table = Placement<Vec<NodeRecord>, Vec<PodRecord>>;

/// The naive scheduler: lists, and sums made anew for every question.
#[derive(Debug, Default)]
struct Naive {
    nodes: Vec<Option<NodeOffer>>,
    pods: Vec<Placed>,
}

impl Naive {
    fn used(&self, at: NodeIndex) -> Amounts {
        let there = self.pods.iter().filter(|pod| pod.node == at);
        there.fold(Amounts::ZERO, |sum, pod| sum.saturating_add(&pod.requests))
    }

    /// The score in words of its documentation: how full CPU and memory get, less half of how unevenly.
    fn score(&self, at: NodeIndex, offer: &NodeOffer, ask: &Ask) -> i128 {
        let used = self.used(at);
        let share = |used: u64, ask: u64, assumed: u64, total: u64| -> i128 {
            let ask = if ask == 0 { assumed } else { ask };
            if total == 0 {
                return 1000;
            }
            ((i128::from(used) + i128::from(ask)) * 1000 / i128::from(total)).min(1000)
        };
        let have = &offer.allocatable;
        let cpu = share(used.cpu_milli, ask.requests.cpu_milli, 100, have.cpu_milli);
        let memory =
            share(used.memory_bytes, ask.requests.memory_bytes, 200 << 20, have.memory_bytes);
        let soft = offer.soft_taints.count_missing_from(&ask.tolerates_soft);
        cpu + memory - (cpu - memory).abs() / 2 - i128::from(soft) * 10_000
    }

    fn refuses(&self, at: NodeIndex, offer: &NodeOffer, ask: &Ask) -> Option<Reason> {
        if offer.unschedulable && !ask.tolerates_unschedulable {
            return Some(Reason::Unschedulable);
        }
        let hurts = |bit: &usize| offer.taints.contains(*bit) && !ask.tolerates.contains(*bit);
        if let Some(bit) = (0..usize::from(TAINTS)).find(hurts) {
            return Some(Reason::Taint(bit));
        }
        let used = self.used(at);
        let short = |ask: u64, used: u64, have: u64| ask > 0 && have.saturating_sub(used) < ask;
        let (ask, have) = (&ask.requests, &offer.allocatable);
        let checks = [
            (Resource::Pods, short(ask.pods, used.pods, have.pods)),
            (Resource::Cpu, short(ask.cpu_milli, used.cpu_milli, have.cpu_milli)),
            (Resource::Memory, short(ask.memory_bytes, used.memory_bytes, have.memory_bytes)),
            (
                Resource::EphemeralStorage,
                short(ask.storage_bytes, used.storage_bytes, have.storage_bytes),
            ),
        ];
        checks.into_iter().find(|(_, short)| *short).map(|(what, _)| Reason::Insufficient(what))
    }

    fn place(&self, ask: &Ask) -> Option<NodeIndex> {
        let nodes = (0_u32..).zip(&self.nodes);
        let nodes = nodes.filter_map(|(at, offer)| Some((NodeIndex(at), offer.as_ref()?)));
        let fits = nodes.filter(|(at, offer)| self.refuses(*at, offer, ask).is_none());
        let scored = fits.map(|(at, offer)| (self.score(at, offer, ask), at));
        // Of equals the lowest index.
        scored.max_by(|(a, at), (b, bt)| a.cmp(b).then(bt.cmp(at))).map(|(_, at)| at)
    }
}

/// Plays the bytes on the placement core and on a naive scheduler: the same place (P3), the same refusals (P4), nothing
/// assumed beyond what a node has (P1), no bound pod forgotten (P2).
pub fn sched_place(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut table: Table =
        Placement::new(vec![NodeRecord::default(); NODES], vec![PodRecord::default(); PODS]);
    let mut naive = Naive { nodes: vec![None; NODES], pods: Vec::new() };
    while let Some(op) = bytes.next() {
        match op {
            0..=39 => add_node(&mut table, &mut naive, bytes.offer()),
            40..=59 => update_node(&mut table, &mut naive, bytes.below(6), bytes.offer()),
            60..=69 => remove_node(&mut table, &mut naive, bytes.below(6)),
            70..=189 => place(&mut table, &mut naive, &bytes.ask()),
            190..=199 => add_bound(&mut table, &mut naive, bytes.below(6), &bytes.amounts()),
            200..=255 => end_pod(&mut table, &mut naive, bytes.below(24), bytes.below(3)),
        }
        for (at, node) in table.nodes() {
            assert_eq!(*node.used(), naive.used(at), "sums differ at {at:?}");
        }
    }
}

fn add_node(table: &mut Table, naive: &mut Naive, offer: NodeOffer) {
    let free = (0_u32..).zip(&mut naive.nodes).find(|(_, slot)| slot.is_none());
    match (table.add_node(offer.clone()), free) {
        (Ok(NodeIndex(at)), Some((free, slot))) => {
            assert_eq!(at, free);
            *slot = Some(offer);
        }
        (got, free) => assert!(got == Err(Error::Full) && free.is_none(), "{got:?} {free:?}"),
    }
}

fn update_node(table: &mut Table, naive: &mut Naive, at: u8, offer: NodeOffer) {
    let known = naive.nodes.get_mut(usize::from(at)).and_then(Option::as_mut);
    let got = table.update_node(NodeIndex(at.into()), offer.clone());
    assert_eq!(got.is_ok(), known.is_some());
    if let Some(known) = known {
        *known = offer;
    }
}

fn remove_node(table: &mut Table, naive: &mut Naive, at: u8) {
    let known = naive.nodes.get_mut(usize::from(at)).and_then(Option::take);
    let index = NodeIndex(at.into());
    assert_eq!(table.remove_node(index).is_ok(), known.is_some());
    naive.pods.retain(|pod| {
        let gone = pod.node == index;
        if gone {
            assert_eq!(table.confirm(pod.handle), Err(Error::Stale), "a handle outlived its node");
        }
        !gone
    });
}

fn place(table: &mut Table, naive: &mut Naive, ask: &Ask) {
    let want = naive.place(ask);
    let at = match table.place(ask) {
        Ok(at) => {
            assert_eq!(Some(at), want, "another place for {ask:?}");
            at
        }
        Err(refusal) => {
            assert_eq!(want, None, "refused: {refusal:?}");
            let nodes = naive.nodes.iter().flatten().count();
            assert_eq!(usize::try_from(refusal.nodes), Ok(nodes), "not every node is told of");
            return;
        }
    };
    for (index, offer) in (0_u32..).map(NodeIndex).zip(&naive.nodes) {
        if let Some(offer) = offer {
            assert_eq!(table.why_not(index, ask), Ok(naive.refuses(index, offer, ask)));
        }
    }
    match table.assume(ask, at) {
        Ok(handle) => {
            let requests = ask.requests;
            naive.pods.push(Placed { node: at, requests, handle, assumed: true });
        }
        Err(error) => {
            assert_eq!(error, Error::Full);
            assert_eq!(naive.pods.len(), PODS);
            return;
        }
    }
    let node = table.node(at).map(|node| (*node.used(), node.offer().allocatable));
    let (used, have) = node.unwrap_or_default();
    // Only what was asked for: a node may be over in what this pod does not need.
    let over = ask.requests.each().zip(used.each().zip(have.each()));
    for ((resource, asked), ((_, used), (_, have))) in over {
        assert!(asked == 0 || used <= have, "P1: {resource:?} of {at:?}: {used} of {have}");
    }
}

fn add_bound(table: &mut Table, naive: &mut Naive, at: u8, requests: &Amounts) {
    let known = naive.nodes.get(usize::from(at)).is_some_and(Option::is_some);
    let node = NodeIndex(at.into());
    match table.add_bound(requests, node) {
        Ok(handle) => {
            assert!(known && naive.pods.len() < PODS);
            naive.pods.push(Placed { node, requests: *requests, handle, assumed: false });
        }
        Err(_) => assert!(!known || naive.pods.len() == PODS, "refused without reason"),
    }
}

fn end_pod(table: &mut Table, naive: &mut Naive, which: u8, how: u8) {
    let at = usize::from(which);
    let Some(pod) = naive.pods.get_mut(at) else { return };
    match how {
        0 => {
            assert_eq!(table.confirm(pod.handle), Ok(()));
            pod.assumed = false;
        }
        1 if !pod.assumed => {
            assert_eq!(
                table.forget(pod.handle),
                Err(Error::Stale),
                "P2: a bound pod was forgotten"
            );
        }
        1 => {
            assert_eq!(table.forget(pod.handle), Ok(()));
            naive.pods.remove(at);
        }
        _ => {
            let handle = pod.handle;
            assert_eq!(table.remove_pod(handle), Ok(()));
            assert_eq!(table.remove_pod(handle), Err(Error::Stale), "removed twice");
            naive.pods.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{call_parse, decode_body, sched_place};
    use crate::rng::Rng;

    fn noise(rng: &mut Rng, most: u64) -> Vec<u8> {
        (0..rng.below(most)).map(|_| rng.draw().to_le_bytes()[0]).collect()
    }

    /// Real input with some bytes changed, dropped or doubled.
    fn bent(rng: &mut Rng, from: &[u8]) -> Vec<u8> {
        let mut bytes = from.to_vec();
        for _ in 0..rng.below(6) {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            match rng.below(4) {
                0 => bytes[at] = rng.draw().to_le_bytes()[0],
                1 => bytes.truncate(at + 1),
                2 => bytes.insert(at, bytes[at]),
                _ => {
                    let rest = bytes.split_off(at);
                    bytes.extend(rest.iter().rev());
                }
            }
        }
        bytes
    }

    fn play(body: fn(&[u8]), seeds: u64, real: &[&[u8]]) {
        for seed in 0..seeds {
            let mut rng = Rng::new(seed);
            body(&noise(&mut rng, 600));
            for real in real {
                body(&bent(&mut rng, real));
            }
        }
    }

    #[test]
    fn places_like_a_naive_scheduler() {
        play(sched_place, 400, &[]);
    }

    #[test]
    fn bodies_are_read_or_refused() {
        let deployment = crate::client::deployment().to_string();
        // Envelope of a Pod: TypeMeta, raw metadata with a name and a label.
        let protobuf = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x10\x0a\x0e\x0a\x03web\x5a\x07\x0a\x03app\x12\x00\x1a\0\x22\0";
        let real: [&[u8]; 4] = [
            deployment.as_bytes(),
            protobuf,
            b"[[[[{\"a\":[1e400,-0,\"\\ud800\"]}]]]]",
            b"{\"a\":1,\"a\":2}",
        ];
        for (media_type, real) in
            coracle_api::decode::MEDIA_TYPES.iter().zip([real[0], real[0], real[1]])
        {
            let read = coracle_api::decode::body(media_type, real);
            assert!(read.is_ok(), "{media_type}: {read:?}");
        }
        play(decode_body, 300, &real);
        decode_body("[".repeat(100_000).as_bytes());
    }

    #[test]
    fn requests_are_read_or_refused() {
        let real: [&[u8]; 4] = [
            b"G\nnamespaces/default/pods/web/log\nfollow=true&tailLines=5&limitBytes=-1\n*/*\n",
            b"G\n/apis/apps/v1/deployments\nwatch=1&labelSelector=a%20in%20(b%2Cc)%2C!d&fieldSelector=metadata.name%3Dx\n",
            b"P\n/apis/apps/v1beta1/namespaces/a/deployments/b/rollback\ndryRun=All&fieldManager=%00\n\napplication/json\nBearer x\n",
            b"D\nnodes\npropagationPolicy=Orphan&gracePeriodSeconds=99999999999999999999\n",
        ];
        play(call_parse, 300, &real);
    }
}
