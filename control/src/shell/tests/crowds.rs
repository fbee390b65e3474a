//! Many and slow ones at the door: strangers' bodies.

use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{client::dial, *};
use crate::limits::BODY_BYTES_IN_FLIGHT_MAX;

#[test]
fn a_strangers_body_is_not_waited_for() {
    run(async |local| {
        let server = Server::start(&local, "strangers");
        let mut slow = Vec::new();
        // Together they would hold all that bodies may have.
        for _ in 0..=BODY_BYTES_IN_FLIGHT_MAX / BODY_BYTES_MAX {
            let mut stream = dial(server.port, &server.keys, None, false).await.unwrap();
            let head = format!(
                "POST /echo HTTP/1.1\r\nhost: h\r\ncontent-type: text/plain\r\ncontent-length: {BODY_BYTES_MAX}\r\n\r\nonly this"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut start = [0; 12];
            stream.read_exact(&mut start).await.unwrap();
            assert_eq!(&start, b"HTTP/1.1 200", "the stub lets everybody in; the body was empty");
            slow.push(stream);
        }
        let mut client = server.client(&local, true).await;
        let fits = vec![b'x'; BODY_BYTES_MAX];
        let (status, body) = client.send("POST", "/echo", "text/plain", &fits).await;
        assert_eq!((status, body.len()), (200, fits.len()));
    });
}
