//! Container output into CRI log files: `2026-11-23T15:39:00.123456789Z stdout F line`, rotated by size.
//!
//! A line that is longer than a record, or that the container has not ended when it ends itself, is written in parts
//! with the tag `P`: reading the parts one after the other gives exactly what was written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use coracle_runtime::LogSpec;
use coracle_runtime::limits::LOG_PART_BYTES;

/// One of a container's two outputs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A log file being written.
#[derive(Debug)]
pub(crate) struct Log {
    spec: LogSpec,
    file: Option<File>,
    bytes: u64,
    /// Records that could not be written (a full disk), to be told when writing works again.
    lost: u64,
}

impl Log {
    /// Opens or goes on with the file. A failure (a full disk) is tried again with each record.
    pub(crate) fn open(spec: LogSpec) -> Self {
        let mut log = Self { spec, file: None, bytes: 0, lost: 0 };
        log.reopen();
        log
    }

    fn reopen(&mut self) {
        let mut options = OpenOptions::new();
        self.file = options.create(true).append(true).mode(0o640).open(&self.spec.path).ok();
        let length = self.file.as_ref().and_then(|file| file.metadata().ok());
        self.bytes = length.map_or(0, |meta| meta.len());
    }

    /// Writes one record: `content` has no newline in it. `whole`: its line ends here.
    pub(crate) fn record(&mut self, now: (u64, u32), stream: Stream, whole: bool, content: &[u8]) {
        if self.lost > 0 {
            let text = format!("coracle: {} log records were lost, the disk was full", self.lost);
            if self.write(now, Stream::Stderr, true, text.as_bytes()).is_ok() {
                self.lost = 0;
            }
        }
        if self.lost > 0 || self.write(now, stream, whole, content).is_err() {
            self.lost += 1;
        }
    }

    fn write(
        &mut self,
        now: (u64, u32),
        stream: Stream,
        whole: bool,
        content: &[u8],
    ) -> io::Result<()> {
        let mut line = Vec::with_capacity(content.len() + 48);
        write_time(&mut line, now);
        line.extend_from_slice(match stream {
            Stream::Stdout => b" stdout ",
            Stream::Stderr => b" stderr ",
        });
        line.extend_from_slice(if whole { b"F " } else { b"P " });
        line.extend_from_slice(content);
        line.push(b'\n');
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(length) > self.spec.file_bytes_max {
            self.rotate();
        }
        if self.file.is_none() {
            self.reopen();
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::StorageFull)?;
        file.write_all(&line)?;
        self.bytes += length;
        Ok(())
    }

    /// `path.1` is the youngest of the old files; the oldest falls off.
    fn rotate(&mut self) {
        let older = self.spec.files_max.max(1) - 1;
        let name = |number: u32| match number {
            0 => self.spec.path.clone(),
            _ => numbered(&self.spec.path, number),
        };
        if older == 0 {
            let _absent = fs::remove_file(name(0));
        }
        for number in (0..older).rev() {
            // Fewer files than allowed is no error.
            let _absent = fs::rename(name(number), name(number + 1));
        }
        self.file = None;
        self.reopen();
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The beginning of a line whose end has not come; shorter than a record.
    begun: Vec<u8>,
}

impl Lines {
    /// Takes bytes as they come; gives records: content, and whether the line ends with it.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut record: impl FnMut(bool, &[u8])) {
        while !bytes.is_empty() {
            let (line, ended, rest) = match bytes.iter().position(|byte| *byte == b'\n') {
                Some(at) => {
                    let (line, rest) = bytes.split_at(at);
                    (line, true, rest.get(1..).unwrap_or_default())
                }
                None => (bytes, false, &[] as &[u8]),
            };
            self.take_line(line, ended, &mut record);
            bytes = rest;
        }
    }

    fn take_line(&mut self, mut line: &[u8], ended: bool, record: &mut impl FnMut(bool, &[u8])) {
        loop {
            let room = LOG_PART_BYTES - self.begun.len();
            let (now, later) = line.split_at_checked(room).unwrap_or((line, &[]));
            let full = now.len() == room && !(later.is_empty() && ended);
            if !full {
                if ended && self.begun.is_empty() {
                    record(true, now);
                } else {
                    self.begun.extend_from_slice(now);
                    if ended {
                        record(true, &self.begun);
                        self.begun = Vec::new();
                    }
                }
                return;
            }
            self.begun.extend_from_slice(now);
            record(false, &self.begun);
            self.begun = Vec::new();
            line = later;
        }
    }

    /// What is left when the container has ended: a line without an end is a part.
    pub(crate) fn end(&mut self, mut record: impl FnMut(bool, &[u8])) {
        if !self.begun.is_empty() {
            record(false, &self.begun);
            self.begun = Vec::new();
        }
    }
}

/// RFC 3339 with nanoseconds, UTC.
fn write_time(out: &mut Vec<u8>, (seconds, nanos): (u64, u32)) {
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let _to_memory =
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z");
}

/// Year, month and day of a day since 1970: the Gregorian calendar in 400-year eras that begin on 1 March of year 0.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_written_as_the_cri_wants_it() {
        fn check(seconds: u64, nanos: u32, want: &str) {
            let mut out = Vec::new();
            write_time(&mut out, (seconds, nanos));
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
        check(0, 0, "1970-01-01T00:00:00.000000000Z");
        check(951_782_399, 7, "2000-02-28T23:59:59.000000007Z");
        check(951_782_400, 0, "2000-02-29T00:00:00.000000000Z");
        check(1_795_448_340, 123_456_789, "2026-11-23T15:39:00.123456789Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z");
    }

    #[test]
    fn lines_come_out_as_they_went_in_whatever_the_pieces() {
        fn check(pieces: &[&[u8]], want: &[(bool, usize)]) {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            let mut back = Vec::new();
            let mut keep = |whole: bool, content: &[u8]| {
                got.push((whole, content.len()));
                back.extend_from_slice(content);
                if whole {
                    back.push(b'\n');
                }
            };
            for piece in pieces {
                lines.take(piece, &mut keep);
            }
            lines.end(&mut keep);
            assert_eq!(got, want);
            assert_eq!(back, pieces.concat());
        }
        let long = vec![b'x'; LOG_PART_BYTES];
        let longer = vec![b'y'; 2 * LOG_PART_BYTES + 5];
        check(&[b"a\nbc\n"], &[(true, 1), (true, 2)]);
        check(&[b"a", b"b", b"\n", b"\n"], &[(true, 2), (true, 0)]);
        check(&[b"no end"], &[(false, 6)]);
        check(&[&long, b"\n"], &[(false, LOG_PART_BYTES), (true, 0)]);
        check(&[&[long.as_slice(), b"\n"].concat()], &[(true, LOG_PART_BYTES)]);
        check(&[&longer, b"z\n"], &[(false, LOG_PART_BYTES), (false, LOG_PART_BYTES), (true, 6)]);
        check(&[], &[]);
    }
}
