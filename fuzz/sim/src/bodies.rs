//! Fuzz bodies: functions of bytes, with a model beside them where there is one. libFuzzer drives them from `fuzz/`,
//! `cargo test` from seeds. `store_against_model` is coracle-store's own; those of the placement core are in
//! coracle-sched-model.

use std::sync::Arc;

use coracle_api::decode;
use coracle_control_logic::call::{Body, Call, HttpRequest};

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

#[cfg(test)]
mod tests {
    use super::{call_parse, decode_body};
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
        // A float lost its last bit each time it was read (found by cargo fuzz).
        decode_body(b"22222262222222.21111111111111111");
        decode_body(b"222222262222222.211111111111111111111111");
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
