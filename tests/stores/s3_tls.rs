//! A bucket behind TLS: whom the client trusts, and how it is known itself. Real S3 over real TLS,
//! with authorities that nobody knows.

use std::time::Duration;

use bytes::Bytes;
use oms::embedded::S3Endpoint;
use oms::embedded::s3::server::S3Server;
use oms::store::adapters::s3::{S3ObjectStore, S3Settings};
use oms::store::adapters::tls::TlsFiles;
use oms::store::error::{Determinacy, StoreError, StoreErrorKind};
use oms::store::ports::object_store::{Created, ObjectStore};
use oms_testkit::certificates::{Authority, Leaf};
use oms_testkit::tls::{PemFiles, TlsFront};

/// An S3 server without TLS.
struct World {
    at: S3Endpoint,
    files: PemFiles,
    _server: S3Server,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::start(dir.path(), "behind-tls").unwrap();
    World {
        at: server.endpoint().clone(),
        files: PemFiles::default(),
        _server: server,
        _dir: dir,
    }
}

impl World {
    async fn front(&self, leaf: &Leaf, clients: Option<&Authority>) -> TlsFront {
        let target = self.at.endpoint.strip_prefix("http://").unwrap();
        TlsFront::start(target.parse().unwrap(), leaf, clients).await
    }

    fn trusting(&self, authority: &Authority) -> TlsFiles {
        TlsFiles {
            ca: Some(self.files.authority(authority)),
            ..TlsFiles::default()
        }
    }

    /// The bucket at `https://HOST:PORT`, as a client with these files sees it.
    fn bucket(&self, host: &str, front: &TlsFront, tls: TlsFiles) -> S3ObjectStore {
        let url = format!("https://{host}:{}", front.port);
        let keys = (self.at.access_key.as_str(), self.at.secret_key.as_str());
        let patience = Duration::from_secs(30);
        let settings = S3Settings::at(&url, &self.at.region, &self.at.bucket, keys, patience);
        S3ObjectStore::new(&S3Settings { tls, ..settings }).unwrap()
    }
}

async fn put(bucket: &S3ObjectStore) -> Result<Created, StoreError> {
    bucket
        .put_if_absent(
            "events/00/00000000000000000000",
            Bytes::from_static(b"{}\n"),
        )
        .await
}

/// Nothing was sent, and waiting will not help.
fn is_untrusted(answer: Result<Created, StoreError>, why: &str) {
    let error = answer.expect_err("refused");
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    assert_eq!(error.determinacy, Determinacy::Determinate, "{error}");
    assert!(!error.is_transient(), "{error}");
    assert!(
        error.message.contains("certificate") && error.message.contains(why),
        "{error}"
    );
}

#[tokio::test]
async fn a_company_s_own_authority_is_trusted_where_it_is_named_and_nowhere_else() {
    let world = world();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let front = world.front(&ours.issue("s3", &["localhost"]), None).await;

    is_untrusted(
        put(&world.bucket("localhost", &front, TlsFiles::default())).await,
        "UnknownIssuer",
    );
    is_untrusted(
        put(&world.bucket("localhost", &front, world.trusting(&theirs))).await,
        "UnknownIssuer",
    );
    is_untrusted(
        put(&world.bucket("127.0.0.1", &front, world.trusting(&ours))).await,
        "not valid for name",
    );
    let bucket = world.bucket("localhost", &front, world.trusting(&ours));
    assert_eq!(
        put(&bucket).await.unwrap(),
        Created::Yes,
        "nobody was first"
    );
    assert_eq!(put(&bucket).await.unwrap(), Created::Exists);
    assert_eq!(bucket.list("events/", None, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_certificate_that_has_ended_may_be_renewed_and_is_waited_for() {
    let world = world();
    let ours = Authority::new("ours");
    let front = world
        .front(&ours.issue_expired("s3", &["localhost"]), None)
        .await;
    let refused = put(&world.bucket("localhost", &front, world.trusting(&ours))).await;
    let error = refused.expect_err("it has ended");
    assert!(error.is_transient(), "{error}");
    assert_eq!(error.determinacy, Determinacy::Determinate, "{error}");
    assert!(error.message.contains("expired"), "{error}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_the_client_s() {
    let world = world();
    let (ours, clients) = (Authority::new("ours"), Authority::new("clients"));
    let front = world
        .front(&ours.issue("s3", &["localhost"]), Some(&clients))
        .await;
    let anonymous = put(&world.bucket("localhost", &front, world.trusting(&ours))).await;
    let error = anonymous.expect_err("it shows no certificate");
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    let known = world.files.leaf(&clients.issue("oms", &[]));
    let tls = TlsFiles {
        client_cert: Some(known.cert),
        client_key: Some(known.key),
        ..world.trusting(&ours)
    };
    let bucket = world.bucket("localhost", &front, tls);
    assert_eq!(put(&bucket).await.unwrap(), Created::Yes);
}
