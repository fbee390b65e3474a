//! Kinds of nodes: found by what makes them one, counted, and given back when no node is of them.

use core::hash::{Hash as _, Hasher};

use crate::records::{ClassKey, ClassRecord, NONE};

/// A hash that is the same on every machine and in every run.
#[derive(Debug)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0_u8; 8];
            for (slot, byte) in word.iter_mut().zip(chunk) {
                *slot = *byte;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // The multiplier of Fibonacci hashing; the fold carries high bits down.
        let mixed = (self.0 ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 29;
    }
}

/// Which classes are in use.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ClassState {
    free: u32,
    /// Records from here on were never used.
    pub(crate) fresh: u32,
    /// Buckets laid out; the table may have grown since.
    buckets: u32,
}

impl Default for ClassState {
    fn default() -> Self {
        Self { free: NONE, fresh: 0, buckets: 0 }
    }
}

impl ClassState {
    /// The first free record.
    pub(crate) fn free(&self) -> u32 {
        self.free
    }
}

/// Counts a node in the class with this key, which is made if there is none. `None`: the table is full.
pub(crate) fn enter(
    state: &mut ClassState,
    classes: &mut [ClassRecord],
    key: &ClassKey,
) -> Option<u32> {
    let mut mix = Mix(0);
    key.hash(&mut mix);
    let hash = mix.finish();
    if (state.buckets as usize) < classes.len() {
        lay_out(state, classes);
    }
    let bucket = bucket(state, hash);
    let mut at = classes.get(bucket as usize)?.bucket;
    while let Some(class) = classes.get_mut(at as usize) {
        if class.hash == hash && class.key == *key {
            class.nodes += 1;
            return Some(at);
        }
        at = class.next;
    }
    let new = if state.free == NONE {
        let fresh = state.fresh;
        classes.get(fresh as usize)?;
        state.fresh += 1;
        fresh
    } else {
        let free = state.free;
        state.free = classes.get(free as usize)?.next;
        free
    };
    let first = classes.get(bucket as usize)?.bucket;
    let class = classes.get_mut(new as usize)?;
    let own = class.bucket;
    *class = ClassRecord {
        key: *key,
        nodes: 1,
        next: first,
        bucket: own,
        hash,
        ..ClassRecord::default()
    };
    classes.get_mut(bucket as usize)?.bucket = new;
    Some(new)
}

/// A node is no longer of this class.
pub(crate) fn leave(state: &mut ClassState, classes: &mut [ClassRecord], at: u32) {
    let Some(class) = classes.get_mut(at as usize) else { return };
    class.nodes = class.nodes.saturating_sub(1);
    if class.nodes != 0 {
        return;
    }
    let (hash, after) = (class.hash, class.next);
    class.next = state.free;
    state.free = at;
    let bucket = bucket(state, hash);
    let Some(head) = classes.get_mut(bucket as usize) else { return };
    if head.bucket == at {
        head.bucket = after;
        return;
    }
    let mut one = head.bucket;
    while let Some(class) = classes.get_mut(one as usize) {
        if class.next == at {
            class.next = after;
            return;
        }
        one = class.next;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a remainder of a u32")]
fn bucket(state: &ClassState, hash: u64) -> u32 {
    (hash % u64::from(state.buckets.max(1))) as u32
}

/// Chains all classes anew over as many buckets as there are records.
fn lay_out(state: &mut ClassState, classes: &mut [ClassRecord]) {
    state.buckets = u32::try_from(classes.len()).unwrap_or(u32::MAX);
    for class in classes.iter_mut() {
        class.bucket = NONE;
    }
    for at in 0..state.fresh {
        let Some(class) = classes.get(at as usize).filter(|class| class.nodes != 0) else {
            continue;
        };
        let bucket = bucket(state, class.hash) as usize;
        let first = classes.get(bucket).map_or(NONE, |head| head.bucket);
        if let Some(class) = classes.get_mut(at as usize) {
            class.next = first;
        }
        if let Some(head) = classes.get_mut(bucket) {
            head.bucket = at;
        }
    }
}
