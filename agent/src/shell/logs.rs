//! Log files of containers, read for `kubectl logs`: CRI lines, rotated files, from an end or a time on, followed.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::limits;

/// Which part of a log is wanted, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail_lines: Option<u64>,
    /// Microseconds since 1970.
    pub(crate) since_us: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
}

impl Wish {
    /// Reads a query string (`follow=true&tailLines=5`); unknown words are left alone, as kubelet does.
    ///
    /// # Errors
    /// The name of a parameter whose value is wrong.
    pub(crate) fn parse(query: &str, now_us: u64) -> Result<Self, String> {
        let mut wish = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
            let bad = || format!("invalid value for {name}: {value}");
            let flag = || match value {
                "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
                "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
                _ => Err(bad()),
            };
            let number = || value.parse::<u64>().map_err(|_| bad());
            match name {
                "follow" => wish.follow = flag()?,
                "previous" => wish.previous = flag()?,
                "timestamps" => wish.timestamps = flag()?,
                // -1 is "all".
                "tailLines" if value == "-1" => {}
                "tailLines" => wish.tail_lines = Some(number()?),
                "limitBytes" => wish.limit_bytes = Some(number()?),
                "sinceSeconds" => {
                    wish.since_us =
                        Some(now_us.saturating_sub(number()?.saturating_mul(1_000_000)));
                }
                "sinceTime" => {
                    let text = value.replace("%3A", ":").replace("%3a", ":").replace("%2B", "+");
                    wish.since_us = Some(coracle_api::time::parse_us(&text).ok_or_else(bad)?);
                }
                _ => {}
            }
        }
        Ok(wish)
    }
}

/// A place in a log: the file being read and those after it.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    wish: Wish,
    /// Opened at the start, oldest first: a rotation meanwhile changes names, not files.
    ahead: VecDeque<File>,
    current: Option<File>,
    /// A line whose end was not read yet.
    rest: Vec<u8>,
    /// The last line written was a part without its end.
    inside_line: bool,
    sent_bytes: u64,
}

impl Reader {
    /// Opens a log. It need not exist yet.
    pub(crate) fn open(path: &Path, wish: Wish) -> io::Result<Self> {
        let mut files: Vec<File> = Vec::new();
        // Youngest first, so that a rotation in between gives a file twice rather than not at all.
        for number in 0.. {
            match File::open(rotated(path, number)) {
                Ok(file) => files.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        files.dedup_by_key(|file| file.metadata().map_or(0, |meta| meta.ino()));
        files.reverse();
        let mut ahead: VecDeque<File> = files.into();
        if let Some(lines) = wish.tail_lines {
            seek_tail(&mut ahead, lines)?;
        }
        let current = ahead.pop_front();
        let path = path.to_owned();
        Ok(Self { path, wish, ahead, current, rest: Vec::new(), inside_line: false, sent_bytes: 0 })
    }

    /// The next text to send; empty at the present end of the log, `None` when nothing more is wanted.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if self.wish.limit_bytes.is_some_and(|limit| limit <= self.sent_bytes) {
                return Ok(None);
            }
            if self.current.is_none() {
                self.current = self.ahead.pop_front();
            }
            if self.current.is_none() {
                self.current = match File::open(&self.path) {
                    Ok(file) => Some(file),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => return Err(error),
                };
            }
            let Some(file) = &mut self.current else { return Ok(Some(Vec::new())) };
            let mut chunk = vec![0; limits::LOG_CHUNK_BYTES];
            let count = file.read(&mut chunk)?;
            if count == 0 {
                if self.step_over()? {
                    continue;
                }
                return Ok(Some(Vec::new()));
            }
            self.rest.extend_from_slice(chunk.get(..count).unwrap_or_default());
            let text = self.take_lines();
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
    }

    /// At the end of a file: whether there is a younger one to go on with.
    fn step_over(&mut self) -> io::Result<bool> {
        if let Some(next) = self.ahead.pop_front() {
            self.current = Some(next);
            return Ok(true);
        }
        let Some(file) = &self.current else { return Ok(false) };
        let inode = file.metadata()?.ino();
        // Where did the file that was just read go? All younger ones come next.
        let mut younger = VecDeque::new();
        for number in 0.. {
            match File::open(rotated(&self.path, number)) {
                Ok(file) if file.metadata()?.ino() == inode => break,
                Ok(file) => younger.push_front(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        // Written to between the last read and the rotation: read that first.
        if younger.is_empty() {
            return Ok(false);
        }
        let mut tail = Vec::new();
        if let Some(file) = &mut self.current {
            file.read_to_end(&mut tail)?;
        }
        self.rest.extend_from_slice(&tail);
        self.ahead = younger;
        self.current = self.ahead.pop_front();
        Ok(true)
    }

    fn take_lines(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut from = 0;
        while let Some(length) =
            self.rest.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
        {
            let line = self.rest.get(from..from + length).unwrap_or_default();
            from += length + 1;
            let Some(entry) = Entry::parse(line) else { continue };
            if self.wish.since_us.is_some_and(|since| entry.at_us().is_some_and(|at| at < since)) {
                continue;
            }
            if self.wish.timestamps && !self.inside_line {
                out.extend_from_slice(entry.time.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(entry.text);
            if !entry.partial {
                out.push(b'\n');
            }
            self.inside_line = entry.partial;
        }
        self.rest.drain(..from);
        if let Some(limit) = self.wish.limit_bytes {
            let left = usize::try_from(limit - self.sent_bytes.min(limit)).unwrap_or(usize::MAX);
            out.truncate(left);
        }
        self.sent_bytes += out.len() as u64;
        out
    }
}

/// `2026-11-23T15:39:00.123456789Z stdout F text`.
struct Entry<'a> {
    time: &'a str,
    partial: bool,
    text: &'a [u8],
}

impl<'a> Entry<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(words.next()?).ok()?;
        let _stream = words.next()?;
        let tag = words.next()?;
        let text = words.next().unwrap_or_default();
        Some(Self { time, partial: tag.first() == Some(&b'P'), text })
    }

    fn at_us(&self) -> Option<u64> {
        coracle_api::time::parse_us(self.time)
    }
}

fn rotated(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Drops what comes before the last `lines` lines of all files together.
fn seek_tail(files: &mut VecDeque<File>, lines: u64) -> io::Result<()> {
    if lines == 0 {
        files.drain(..files.len().saturating_sub(1));
        if let Some(file) = files.front_mut() {
            file.seek(SeekFrom::End(0))?;
        }
        return Ok(());
    }
    let mut wanted = lines;
    let mut chunk = vec![0; limits::LOG_CHUNK_BYTES];
    for index in (0..files.len()).rev() {
        let Some(file) = files.get_mut(index) else { break };
        let size = file.metadata()?.len();
        let mut end = size;
        while end > 0 {
            let start = end.saturating_sub(chunk.len() as u64);
            file.seek(SeekFrom::Start(start))?;
            let length = usize::try_from(end - start).unwrap_or(chunk.len());
            let Some(part) = chunk.get_mut(..length) else { break };
            file.read_exact(part)?;
            for (at, byte) in part.iter().enumerate().rev() {
                let after = start + at as u64 + 1;
                // The newline that ends the file ends the last line; it does not begin another.
                if *byte == b'\n' && after < size {
                    wanted -= 1;
                    if wanted == 0 {
                        file.seek(SeekFrom::Start(after))?;
                        files.drain(..index);
                        return Ok(());
                    }
                }
            }
            end = start;
        }
        file.seek(SeekFrom::Start(0))?;
        if size > 0 {
            // The file's own first line.
            wanted -= 1;
            if wanted == 0 {
                files.drain(..index);
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io::Write as _};

    fn lines(from: u32, to: u32) -> String {
        (from..to)
            .map(|n| format!("2026-11-23T15:39:{n:02}.000000001Z stdout F line {n}\n"))
            .collect()
    }

    fn texts(from: u32, to: u32) -> String {
        (from..to).map(|n| format!("line {n}\n")).collect()
    }

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("coracle-logs-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn read(path: &Path, query: &str) -> String {
        let mut reader = Reader::open(path, Wish::parse(query, 0).unwrap()).unwrap();
        rest(&mut reader)
    }

    fn rest(reader: &mut Reader) -> String {
        let mut all = Vec::new();
        while let Some(text) = reader.next().unwrap().filter(|text| !text.is_empty()) {
            all.extend(text);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn parts_are_chosen() {
        let dir = Dir::new("parts");
        dir.write("0.log.2", &lines(0, 4));
        dir.write("0.log.1", &lines(4, 8));
        let path = dir.write("0.log", &lines(8, 10));
        let check = |query: &str, want: String| assert_eq!(read(&path, query), want, "{query}");
        check("", texts(0, 10));
        check("tailLines=0", String::new());
        check("tailLines=1", texts(9, 10));
        check("tailLines=2", texts(8, 10));
        check("tailLines=3", texts(7, 10));
        check("tailLines=6", texts(4, 10));
        check("tailLines=7", texts(3, 10));
        check("tailLines=100", texts(0, 10));
        check("limitBytes=9", "line 0\nli".into());
        check("sinceTime=2026-11-23T15%3A39%3A06Z", texts(6, 10));
        check("tailLines=1&timestamps=true", "2026-11-23T15:39:09.000000001Z line 9\n".into());
    }

    #[test]
    fn parts_of_lines_are_joined() {
        let dir = Dir::new("joined");
        let path = dir.write("0.log", "t1 stdout P one \nt2 stdout F line\nt3 stderr F \n");
        assert_eq!(read(&path, ""), "one line\n\n");
        assert_eq!(read(&path, "timestamps=1"), "t1 one line\nt3 \n");
    }

    #[test]
    fn a_log_that_turns_over_is_followed_without_loss() {
        let dir = Dir::new("follow");
        let path = dir.write("0.log", &lines(0, 3));
        let mut reader = Reader::open(&path, Wish::default()).unwrap();
        assert_eq!(rest(&mut reader), texts(0, 3));
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(lines(3, 5).as_bytes()).unwrap();
        // Twice, before the reader looks again.
        fs::rename(&path, dir.0.join("0.log.2")).unwrap();
        dir.write("0.log.1", &lines(5, 7));
        dir.write("0.log", &lines(7, 8));
        assert_eq!(rest(&mut reader), texts(3, 8));
        file.write_all(b"").unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(lines(8, 9).as_bytes()).unwrap();
        assert_eq!(rest(&mut reader), texts(8, 9));
    }

    #[test]
    fn bad_wishes_are_named() {
        assert_eq!(Wish::parse("tailLines=x", 0), Err("invalid value for tailLines: x".into()));
        assert_eq!(Wish::parse("follow=maybe", 0), Err("invalid value for follow: maybe".into()));
        let wish = Wish::parse("follow=true&sinceSeconds=2&other=1", 5_000_000).unwrap();
        assert_eq!(wish, Wish { follow: true, since_us: Some(3_000_000), ..Wish::default() });
    }
}
