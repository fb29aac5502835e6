use std::time::Duration;

use actix_web::test::TestRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::http::HttpSettings;
use crate::http::connection::Patience;

const PATIENCE: Patience = Patience {
    head: Duration::from_secs(5),
    idle: Duration::from_secs(75),
    write: Duration::from_secs(30),
};

fn wire(version: Version, buffer: usize) -> (Wire<DuplexStream>, DuplexStream) {
    let limits = Arc::new(HttpLimits::new(HttpSettings::standard(), vec![]));
    let open = limits.open_connection();
    let (ours, theirs) = duplex(buffer);
    let connection = Connection::new(version, PATIENCE);
    (Wire::new(ours, connection, limits, open), theirs)
}

/// What is handed on until there is nothing more to hand on.
async fn handed_on(wire: &mut Wire<DuplexStream>) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(Ok(n)) =
        tokio::time::timeout(Duration::from_millis(1), wire.read(&mut buffer)).await
    {
        if n == 0 {
            break;
        }
        all.extend_from_slice(&buffer[..n]);
        if wire.pause {
            break;
        }
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test(start_paused = true)]
async fn law_13_what_is_pipelined_waits_outside() {
    let (mut wire, mut client) = wire(Version::One, 1 << 20);
    let request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    client
        .write_all(request.repeat(1_000).as_bytes())
        .await
        .unwrap();
    let connection = wire.connection().clone();
    for _ in 0..3 {
        assert_eq!(handed_on(&mut wire).await, request);
        let head = TestRequest::default().to_http_request();
        let call = connection.begin(head.head());
        assert_eq!(handed_on(&mut wire).await, "", "one is in work");
        assert!(wire.ahead.len() <= 1024, "{} bytes", wire.ahead.len());
        drop(call);
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_are_handed_on_whole_and_nothing_behind_them() {
    let (mut wire, mut client) = wire(Version::One, 1 << 20);
    let connection = wire.connection().clone();
    let head = "POST / HTTP/1.1\ncontent-length: 7\n\n";
    let text = format!("{head}{{\"a\":1}}GET / HTTP/1.1\r\n\r\n");
    client.write_all(text.as_bytes()).await.unwrap();
    assert_eq!(
        handed_on(&mut wire).await,
        head,
        "lines may end with LF alone"
    );
    let request = TestRequest::default().insert_header(("content-length", "7"));
    let call = connection.begin(request.to_http_request().head());
    assert_eq!(handed_on(&mut wire).await, "{\"a\":1}");
    assert_eq!(handed_on(&mut wire).await, "");
    drop(call);
    assert_eq!(handed_on(&mut wire).await, "GET / HTTP/1.1\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn law_13_a_head_is_bounded_in_bytes_and_time() {
    let (mut wire, mut client) = wire(Version::One, 1 << 20);
    client
        .write_all(&vec![b'x'; 2 * MAX_HEAD_BYTES])
        .await
        .unwrap();
    let mut buffer = [0; 4096];
    let mut read = 0;
    let error = loop {
        match wire.read(&mut buffer).await {
            Ok(n) => read += n,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("too large") && read <= MAX_HEAD_BYTES);
    let mut said = [0; 12];
    client.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HTTP/1.1 431");

    let (mut wire, mut client) = self::wire(Version::One, 1 << 20);
    client.write_all(b"GET").await.unwrap();
    assert_eq!(handed_on(&mut wire).await, "GET");
    let began = Instant::now();
    let error = wire.read(&mut buffer).await.unwrap_err();
    assert!(error.to_string().contains("in time"), "{error}");
    assert!(began.elapsed() <= PATIENCE.head + Duration::from_millis(10));
    client.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HTTP/1.1 408");
}

#[tokio::test(start_paused = true)]
async fn law_13_who_does_not_read_is_not_read_from_and_cut_off() {
    let (mut wire, mut client) = wire(Version::One, 64);
    let began = Instant::now();
    let error = wire.write_all(&[0; 1024]).await.unwrap_err();
    assert!(error.to_string().contains("does not read"), "{error}");
    assert!(began.elapsed() >= PATIENCE.write);
    // One that reads again is read from again.
    let (mut wire, mut client2) = self::wire(Version::One, 64);
    client2.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut wrote = Box::pin(wire.write_all(&[0; 1024]));
    assert!(futures_util::poll!(&mut wrote).is_pending());
    drop(wrote);
    assert_eq!(handed_on(&mut wire).await, "");
    let mut taken = [0; 64];
    client2.read_exact(&mut taken).await.unwrap();
    wire.write_all(&[0; 64]).await.unwrap();
    wire.flush().await.unwrap();
    assert_eq!(handed_on(&mut wire).await, "GET / HTTP/1.1\r\n\r\n");
    client.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_13_http2_clients_are_told_how_many_streams_they_may_have() {
    // SETTINGS with one entry, and a WINDOW_UPDATE behind it.
    let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 16, 0, 0];
    let update = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let (mut wire, mut client) = wire(Version::Two, 10);
    let writer = async {
        wire.write_all(&[&settings[..], &update[..]].concat())
            .await
            .unwrap();
        wire.flush().await.unwrap();
    };
    let mut seen = [0; 34];
    let (_, read) = tokio::join!(writer, client.read_exact(&mut seen));
    read.unwrap();
    let mut expected = settings.to_vec();
    expected[2] = 12;
    expected.extend_from_slice(&[0, 3, 0, 0, 0, 128]);
    expected.extend_from_slice(&update);
    assert_eq!(seen[..], expected[..]);
}
