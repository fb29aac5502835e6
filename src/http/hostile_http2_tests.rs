//! The same over HTTP/2, with a client that nobody here wrote.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::HttpSettings;
use super::certificate::TlsFiles;
use super::connection::MAX_CONCURRENT_STREAMS;
use super::hostile_tests::{BIG, PATIENCE, World, settings, start};

/// A server with a certificate of its own, and what trusts it.
struct Secure {
    world: World,
    trust: TlsConnector,
    _files: TempDir,
}

/// A connection of a client; its task ends when it is closed.
struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

async fn secure(settings: HttpSettings) -> Secure {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TempDir::new().unwrap();
    let tls = TlsFiles {
        certificate: files.path().join("cert.pem"),
        key: files.path().join("key.pem"),
        client_ca: None,
    };
    std::fs::write(&tls.certificate, made.cert.pem()).unwrap();
    std::fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut trust = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    trust.alpn_protocols = vec![b"h2".to_vec()];
    let world = start(HttpSettings {
        tls: Some(tls),
        ..settings
    })
    .await;
    Secure {
        world,
        trust: TlsConnector::from(Arc::new(trust)),
        _files: files,
    }
}

impl Secure {
    async fn connect(&self) -> Client {
        let socket = TcpStream::connect(self.world.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let io = self.trust.connect(name, socket).await.unwrap();
        let (requests, connection) = h2::client::handshake(io).await.unwrap();
        Client {
            requests,
            connection: tokio::spawn(connection),
        }
    }
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("https://localhost{path}"))
        .body(())
        .unwrap()
}

impl Client {
    /// Asks as soon as the server takes another request.
    async fn ask(&self, path: &str) -> Result<u16, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, _) = requests.send_request(get(path), true)?;
        let mut response = response.await?;
        let status = response.status().as_u16();
        while let Some(data) = response.body_mut().data().await {
            let read = data?.len();
            response.body_mut().flow_control().release_capacity(read)?;
        }
        Ok(status)
    }
}

#[actix_web::test]
async fn law_13_an_http2_client_is_told_how_many_requests_it_may_have_at_once() {
    let secure = secure(settings()).await;
    let client = secure.connect().await;
    assert_eq!(client.ask("/slow").await.unwrap(), 200);
    let limit = client.requests.current_max_send_streams();
    assert_eq!(limit, MAX_CONCURRENT_STREAMS as usize);
    let many = (0..3 * limit).map(|_| client.ask("/slow"));
    for status in futures_util::future::join_all(many).await {
        assert_eq!(status.unwrap(), 200);
    }
    let most = secure.world.at_once.load(Ordering::SeqCst);
    assert!((2..=limit).contains(&most), "{most} at once");
    secure.world.end().await;
}

#[actix_web::test]
async fn law_13_idle_http2_connections_make_room_when_connections_are_short() {
    let few = HttpSettings {
        max_connections: 8,
        ..settings()
    };
    let secure = secure(few).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        let client = secure.connect().await;
        assert_eq!(client.ask("/slow").await.unwrap(), 200);
        idle.push(client);
    }
    let began = Instant::now();
    let late = secure.connect().await;
    assert_eq!(late.ask("/slow").await.unwrap(), 200);
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    assert!(idle.iter().any(|client| client.connection.is_finished()));
    secure.world.end().await;
}

#[actix_web::test]
async fn law_13_an_http2_client_that_does_not_read_its_answer_is_cut_off() {
    let secure = secure(settings()).await;
    let client = secure.connect().await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let (response, _) = requests.send_request(get("/big"), true).unwrap();
    // Its head is taken; of the body no more than the window is sent.
    let _unread = response.await.unwrap();
    let held = |held: (usize, usize, usize)| held.1 == BIG;
    secure.world.until("it is held", held).await;
    let free = |held: (usize, usize, usize)| (held.0, held.1) == (0, 0);
    secure.world.until("it is cut off", free).await;
    assert!(client.connection.await.unwrap().is_err());
    secure.world.end().await;
}
