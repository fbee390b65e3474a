//! A hash of everything that happened: the same seed gives the same.

use crate::wire::News;

/// FNV-1a over what was played, eight bytes at a time.
#[derive(Clone, Debug)]
pub struct Trace {
    /// So far.
    pub hash: u64,
    /// Events that were noted.
    pub events: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0 }
    }
}

impl Trace {
    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.hash ^= self.hash >> 32;
    }

    /// An event.
    pub fn note(&mut self, now_ms: u64, kind: &str, words: &[u64]) {
        self.events += 1;
        self.mix(now_ms);
        self.bytes(kind.as_bytes());
        words.iter().for_each(|word| self.mix(*word));
    }

    /// Bytes that belong to the event that was noted last.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.mix(u64::from_le_bytes(word));
        }
    }

    /// News.
    pub fn news(&mut self, now_ms: u64, news: &News) {
        let (kind, code, bytes): (&str, u16, &[u8]) = match news {
            News::Answer(_, code, bytes) => ("answer", *code, bytes),
            News::Lost(_) => ("lost", 0, &[]),
            News::Opened(_) => ("opened", 0, &[]),
            News::Bytes(_, bytes) => ("bytes", 0, bytes),
            News::Closed(_) => ("closed", 0, &[]),
            News::Timer(_) => ("timer", 0, &[]),
        };
        self.note(now_ms, kind, &[news.tag(), code.into()]);
        self.bytes(bytes);
    }
}
