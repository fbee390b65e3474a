//! A hash of everything that happened: the same seed gives the same.

use std::collections::VecDeque;

use crate::{limits::BEGIN_MS, wire::News};

/// Of a body, so much is in a line.
const LINE_CHARS_MAX: usize = 300;

/// FNV-1a over what was played, eight bytes at a time.
#[derive(Clone, Debug)]
pub struct Trace {
    /// So far.
    pub hash: u64,
    /// Events that were noted.
    pub events: u64,
    /// The newest lines of what happened, if anybody wants to read them.
    lines: Option<VecDeque<String>>,
    lines_max: usize,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines: None, lines_max: 0 }
    }
}

impl Trace {
    /// One that keeps the newest lines for people.
    pub fn with_lines(lines_max: usize) -> Self {
        Self { lines: Some(VecDeque::new()), lines_max, ..Self::default() }
    }

    /// Writes a line down, if lines are kept; it is no part of the fingerprint.
    pub fn say(&mut self, now_ms: u64, line: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        if self.lines_max <= lines.len() {
            lines.pop_front();
        }
        let ms = now_ms.saturating_sub(BEGIN_MS);
        lines.push_back(format!("{:>6}.{:03} {}", ms / 1000, ms % 1000, line()));
    }

    /// The lines, oldest first.
    pub fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().map(Vec::from).unwrap_or_default()
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.hash ^= self.hash >> 32;
    }

    /// An event.
    pub fn note(&mut self, now_ms: u64, kind: &str, words: &[u64]) {
        self.events += 1;
        self.mix(now_ms);
        self.bytes(kind.as_bytes());
        if self.lines.is_some() && !matches!(kind, "arrive" | "answer" | "bytes" | "timer" | "pull")
        {
            self.say(now_ms, || format!("{kind} {words:?}"));
        }
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
        if !bytes.is_empty() && self.lines.is_some() {
            let text = String::from_utf8_lossy(bytes);
            let text: String = text.chars().take(LINE_CHARS_MAX).collect();
            self.say(now_ms, || format!("{kind} {} {code} {}", news.tag(), text.trim_end()));
        }
    }
}
