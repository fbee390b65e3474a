//! ETags of answers that change only with the program: hashes of what they are made from.

use alloc::{format, string::String};

use crate::{
    call::HttpRequest,
    plane::{Response, ResponseBody},
};

/// FNV-1a, going on from `hash`.
pub(super) const fn fnv(bytes: &[u8], mut hash: u64) -> u64 {
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        hash = (hash ^ *first as u64).wrapping_mul(0x0100_0000_01b3);
        rest = tail;
    }
    hash
}

/// Where hashing begins.
pub(super) const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// 128 bits as text: enough that two documents of one server never share it by chance.
pub(super) fn text(bytes: &[u8], seed: u64) -> String {
    let first = fnv(bytes, seed);
    format!("{first:016X}{:016X}", fnv(bytes, first ^ SEED))
}

/// Whether the client has this version already.
pub(super) fn is_known(http: &HttpRequest, etag: &str) -> bool {
    http.header("if-none-match").is_some_and(|known| {
        known.split(',').any(|one| {
            let one = one.trim();
            one == "*" || one.trim_start_matches("W/").trim_matches('"') == etag
        })
    })
}

/// Puts the ETag on an answer, and takes its body where the client has it.
pub(super) fn tagged(http: &HttpRequest, etag: &str, mut response: Response) -> Response {
    if is_known(http, etag) {
        response.status = 304;
        response.headers.retain(|(name, _)| *name != "content-type");
        response.body = ResponseBody::Bytes([].as_slice().into());
    }
    response.headers.push(("etag", format!("\"{etag}\"")));
    response.headers.push(("vary", "Accept".into()));
    response
}
