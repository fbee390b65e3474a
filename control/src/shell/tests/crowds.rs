//! Many and slow ones at the door: strangers' bodies, clients beyond their part, handshakes that never end.

use std::net::TcpStream;

use smol::{
    Async,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};

use super::{client::dial, *};
use crate::limits::{BODY_BYTES_IN_FLIGHT_MAX, HANDSHAKES_MAX, OTHER_CONNECTIONS_MAX};

/// A node's certificate.
fn node(server: &Server) -> Identity {
    server.identity("system:node:pi1", "system:nodes", (-60, 600))
}

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

#[test]
fn clients_have_their_part_of_the_connections_and_nodes_the_rest() {
    run(async |local| {
        let server = Server::start(&local, "crowd");
        let mut clients = Vec::new();
        for _ in 0..OTHER_CONNECTIONS_MAX {
            clients.push(server.client(&local, false).await);
        }
        for h2 in [false, true] {
            let mut late = server.client(&local, h2).await;
            let (status, body) = late.get("/who").await;
            assert_eq!(status, 429, "{body}");
            let told: Status = serde_json::from_str(&body).unwrap();
            assert_eq!(told.details.and_then(|details| details.retry_after_seconds), Some(1));
        }
        let identity = node(&server);
        let mut agent = Client::connect(&local, server.port, &server.keys, Some(&identity), true)
            .await
            .unwrap();
        let (status, body) = agent.get("/who").await;
        assert_eq!((status, body.as_str()), (200, "system:node:pi1 system:nodes"));
        // A place that becomes free is anybody's.
        drop(clients.pop());
        let waited = async {
            loop {
                let mut again = server.client(&local, false).await;
                if again.get("/who").await.0 == 200 {
                    return;
                }
                smol::Timer::after(Duration::from_millis(2)).await;
            }
        };
        assert!(within(PATIENCE / 2, waited).await.is_some(), "the place stays taken");
    });
}

#[test]
fn who_never_ends_a_handshake_keeps_no_node_out() {
    run(async |local| {
        let server = Server::start(&local, "mute");
        let mut mute = Vec::new();
        for _ in 0..2 * HANDSHAKES_MAX {
            mute.push(Async::<TcpStream>::connect(([127, 0, 0, 1], server.port)).await.unwrap());
        }
        let identity = node(&server);
        let mut agent = Client::connect(&local, server.port, &server.keys, Some(&identity), true)
            .await
            .unwrap();
        assert_eq!(agent.get("/who").await.0, 200);
    });
}
