//! A reader that hashes and counts what passes through it, so that content is checked in the one pass that unpacks it.

use std::io::{self, Read};

use ring::digest::{Context, SHA256};

use crate::Digest;

/// Hashes all that is read through it; reading beyond `bytes_max` is an error.
pub(crate) struct Digesting<R> {
    inner: R,
    hash: Context,
    bytes: u64,
    bytes_max: u64,
}

impl<R: Read> Digesting<R> {
    pub(crate) fn new(inner: R, bytes_max: u64) -> Self {
        Self { inner, hash: Context::new(&SHA256), bytes: 0, bytes_max }
    }

    /// Reads what is left (a tar reader stops at its end mark, a decoder at its last frame) and gives digest and length.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, u64)> {
        let mut rest = [0; 8192];
        while self.read(&mut rest)? != 0 {}
        Ok((digest_of_context(self.hash), self.bytes))
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        self.bytes = self.bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if self.bytes_max < self.bytes {
            return Err(io::Error::other(format!("longer than {} bytes", self.bytes_max)));
        }
        Ok(count)
    }
}

fn digest_of_context(hash: Context) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    Digest::of_sha256(&bytes)
}

/// The digest of bytes in memory.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    let mut hash = Context::new(&SHA256);
    hash.update(bytes);
    digest_of_context(hash)
}
