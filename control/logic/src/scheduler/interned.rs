//! Words that have a number: the core knows taints, requirements, ports and terms as small numbers only.

use alloc::vec::Vec;

/// Numbered words, at most `max` at one time.
///
/// A number stays while somebody holds it. One that nobody holds keeps its meaning until it is needed for another word;
/// what was wanted in the present round is not taken.
#[derive(Debug)]
pub(crate) struct Interned<T> {
    slots: Vec<Option<Slot<T>>>,
    max: usize,
    round: u64,
}

#[derive(Debug)]
struct Slot<T> {
    word: T,
    holders: u32,
    used: u64,
}

/// A number that was asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// It had this meaning before.
    Known(usize),
    /// It has this meaning from now on: whoever has bits of it must look again.
    New(usize),
}

impl<T: PartialEq> Interned<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { slots: Vec::new(), max, round: 0 }
    }

    /// A new question: what earlier ones wanted may give way.
    pub(crate) fn begin(&mut self) {
        self.round += 1;
    }

    /// The number of a word, if it has one.
    pub(crate) fn find(&self, word: &T) -> Option<usize> {
        self.iter().find(|(_, known)| *known == word).map(|(at, _)| at)
    }

    /// The number of a word, which gets one if it has none. `None`: all are held or wanted.
    pub(crate) fn want(&mut self, word: T) -> Option<Number> {
        if let Some(at) = self.find(&word) {
            self.touch(at);
            return Some(Number::Known(at));
        }
        let at = self.room()?;
        let slot = Some(Slot { word, holders: 0, used: self.round });
        match self.slots.get_mut(at) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        Some(Number::New(at))
    }

    /// Where a new word would go.
    pub(crate) fn room(&self) -> Option<usize> {
        if let Some(free) = self.slots.iter().position(Option::is_none) {
            return Some(free);
        }
        if self.slots.len() < self.max {
            return Some(self.slots.len());
        }
        let idle = (0..self.slots.len()).filter(|at| self.is_idle(*at));
        idle.min_by_key(|at| self.slot(*at).map(|slot| slot.used))
    }

    /// Nobody holds it, and it was not wanted in this round.
    pub(crate) fn is_idle(&self, at: usize) -> bool {
        self.slot(at).is_none_or(|slot| slot.holders == 0 && slot.used != self.round)
    }

    pub(crate) fn hold(&mut self, at: usize) {
        if let Some(slot) = self.slot_mut(at) {
            slot.holders = slot.holders.saturating_add(1);
        }
    }

    pub(crate) fn release(&mut self, at: usize) {
        if let Some(slot) = self.slot_mut(at) {
            slot.holders = slot.holders.saturating_sub(1);
        }
    }

    /// Takes the meaning of a number that nobody needs.
    pub(crate) fn forget(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = None;
        }
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.slot(at).map(|slot| &slot.word)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(at, slot)| Some((at, &slot.as_ref()?.word)))
    }

    fn touch(&mut self, at: usize) {
        let round = self.round;
        if let Some(slot) = self.slot_mut(at) {
            slot.used = round;
        }
    }

    fn slot(&self, at: usize) -> Option<&Slot<T>> {
        self.slots.get(at).and_then(Option::as_ref)
    }

    fn slot_mut(&mut self, at: usize) -> Option<&mut Slot<T>> {
        self.slots.get_mut(at).and_then(Option::as_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_nobody_holds_give_way_to_new_words() {
        let mut words = Interned::new(2);
        assert_eq!(words.want("a"), Some(Number::New(0)));
        assert_eq!(words.want("b"), Some(Number::New(1)));
        assert_eq!(words.want("a"), Some(Number::Known(0)));
        assert_eq!(words.want("c"), None, "both are wanted in this round");
        words.begin();
        words.hold(0);
        assert_eq!(words.want("c"), Some(Number::New(1)), "nobody holds b");
        assert_eq!(words.want("d"), None);
        words.begin();
        words.release(0);
        assert_eq!(words.want("d"), Some(Number::New(0)), "a was wanted longest ago");
        assert_eq!(words.find(&"a"), None);
    }
}
