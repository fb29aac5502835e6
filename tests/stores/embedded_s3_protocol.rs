//! What the embedded endpoint answers on the wire, asked by a client that signs by itself: the
//! statuses and headers other S3 clients rely on, and that nothing is accepted and then ignored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oms::clock::SystemClock;
use oms::domain::time::Clock;
use oms::embedded::S3Endpoint;
use oms::embedded::s3::server::{S3Server, Settings};
use oms::store::ports::object_store::IMMUTABLE;
use reqwest::{Method, Response, StatusCode};
use s3s::crypto::{Checksum, Md5};
use sha2::{Digest, Sha256};

const BUCKET: &str = "protocol";

struct Signing {
    at: S3Endpoint,
    http: reqwest::Client,
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |byte: u8| block.map(|b| b ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message);
    let outer = Sha256::new().chain_update(pad(0x5c));
    outer.chain_update(inner.finalize()).finalize().into()
}

impl Signing {
    /// Sends a request signed with SigV4; `query` is sorted and encoded already.
    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        // 2026-11-24T12:00:00.123Z, less what SigV4 leaves out.
        let time = SystemClock.now().to_string();
        let time: String = time[..19]
            .chars()
            .filter(|c| !"-:".contains(*c))
            .chain(['Z'])
            .collect();
        let day = &time[..8];
        let host = self.at.endpoint.strip_prefix("http://").unwrap();
        let hash = hex::encode(Sha256::digest(body));
        let mut signed: Vec<(String, String)> = headers
            .iter()
            .chain(&[
                ("host", host),
                ("x-amz-date", &*time),
                ("x-amz-content-sha256", &*hash),
            ])
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        signed.sort_unstable();
        let names: Vec<&str> = signed.iter().map(|(n, _)| n.as_str()).collect();
        let names = names.join(";");
        let lines: String = signed.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{hash}");
        let scope = format!("{day}/{}/s3/aws4_request", self.at.region);
        let digest = hex::encode(Sha256::digest(canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let secret = format!("AWS4{}", self.at.secret_key);
        let key = [day, &self.at.region, "s3", "aws4_request"]
            .iter()
            .fold(secret.into_bytes(), |key: Vec<u8>, part| {
                hmac(&key, part.as_bytes()).to_vec()
            });
        let signature = hex::encode(hmac(&key, to_sign.as_bytes()));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.at.access_key
        );
        let url = format!("{}{path}?{query}", self.at.endpoint);
        let mut request = self.http.request(method, url).body(body.to_vec());
        for (name, value) in signed {
            request = request.header(name, value);
        }
        request
            .header("authorization", authorization)
            .send()
            .await
            .unwrap()
    }

    async fn status(
        &self,
        method: Method,
        key: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> u16 {
        let path = format!("/{BUCKET}/{key}");
        self.send(method, &path, "", headers, body)
            .await
            .status()
            .as_u16()
    }

    async fn put(&self, key: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
        self.status(Method::PUT, key, headers, body).await
    }

    async fn get(&self, key: &str, headers: &[(&str, &str)]) -> Response {
        let path = format!("/{BUCKET}/{key}");
        self.send(Method::GET, &path, "", headers, b"").await
    }

    async fn list(&self, query: &str) -> String {
        let query = format!("{query}list-type=2");
        let answer = self
            .send(
                Method::GET,
                &format!("/{BUCKET}"),
                &sorted(&query),
                &[],
                b"",
            )
            .await;
        assert_eq!(answer.status(), 200, "{query}");
        answer.text().await.unwrap()
    }
}

fn sorted(query: &str) -> String {
    let mut pairs: Vec<&str> = query.split('&').collect();
    pairs.sort_unstable();
    pairs.join("&")
}

/// The texts of all elements of this name.
fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open)
        .skip(1)
        .map(|rest| rest.split(&close).next().unwrap().to_owned())
        .collect()
}

/// As the service starts it.
fn guarded() -> Settings {
    Settings {
        immutable: Some(IMMUTABLE.to_owned()),
        ..Settings::default()
    }
}

fn start() -> (tempfile::TempDir, S3Server, Signing) {
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::start_with(dir.path(), BUCKET, guarded()).unwrap();
    let signing = Signing {
        at: server.endpoint().clone(),
        http: reqwest::Client::new(),
    };
    (dir, server, signing)
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer
        .headers()
        .get(name)
        .map_or("", |v| v.to_str().unwrap())
}

#[tokio::test]
async fn only_who_has_the_keys_comes_in() {
    let (_dir, _server, mut s3) = start();
    assert_eq!(s3.put("k", &[], b"x").await, 200);
    let unsigned = s3
        .http
        .get(format!("{}/{BUCKET}/k", s3.at.endpoint))
        .send()
        .await
        .unwrap();
    assert_eq!(unsigned.status(), StatusCode::FORBIDDEN);
    s3.at.secret_key = s3.at.secret_key.chars().rev().collect();
    assert_eq!(s3.get("k", &[]).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(s3.put("k", &[], b"y").await, 403);
}

const COMMIT: &str = "events/0000/00000000000000000000.ndjson";

fn delete_many(keys: &[&str]) -> (String, String) {
    let objects: String = keys
        .iter()
        .map(|key| format!("<Object><Key>{key}</Key></Object>"))
        .collect();
    let body = format!("<Delete>{objects}</Delete>");
    let md5 = STANDARD.encode(Md5::checksum(body.as_bytes()));
    (body, md5)
}

#[tokio::test]
async fn law_5_the_keys_that_are_handed_out_read_and_do_nothing_else() {
    let (_dir, server, s3) = start();
    assert_eq!(s3.put(COMMIT, &[], b"commit").await, 200);
    let reader = Signing {
        at: server.reader(),
        http: s3.http.clone(),
    };
    assert!(reader.at.access_key != s3.at.access_key && reader.at.secret_key != s3.at.secret_key);
    let answer = reader.get(COMMIT, &[]).await;
    assert_eq!(answer.bytes().await.unwrap(), "commit");
    assert_eq!(reader.status(Method::HEAD, COMMIT, &[], b"").await, 200);
    assert_eq!(elements(&reader.list("").await, "Key"), [COMMIT]);
    let bucket = format!("/{BUCKET}");
    let head = reader.send(Method::HEAD, &bucket, "", &[], b"").await;
    assert_eq!(head.status(), 200);

    for key in [COMMIT, "events/new", "index/derived"] {
        assert_eq!(reader.put(key, &[], b"x").await, 403, "{key}");
        let fresh = [("if-none-match", "*")];
        assert_eq!(reader.put(key, &fresh, b"x").await, 403, "{key}");
        let copied = format!("/{BUCKET}/{COMMIT}");
        let copy = [("x-amz-copy-source", &*copied)];
        assert_eq!(reader.put(key, &copy, b"").await, 403, "{key}");
        let deleted = reader.status(Method::DELETE, key, &[], b"").await;
        assert_eq!(deleted, 403, "{key}");
    }
    let (body, md5) = delete_many(&[COMMIT]);
    let md5 = [("content-md5", &*md5)];
    let answer = reader
        .send(Method::POST, &bucket, "delete=", &md5, body.as_bytes())
        .await;
    assert_eq!(answer.status(), 403);
    let made = reader.send(Method::PUT, "/another", "", &[], b"").await;
    assert_eq!(made.status(), 403);
    let gone = reader.send(Method::DELETE, &bucket, "", &[], b"").await;
    assert_eq!(gone.status(), 403);
    assert_eq!(elements(&s3.list("").await, "Key"), [COMMIT]);
}

#[tokio::test]
async fn law_5_nobody_but_repair_replaces_or_removes_an_object_of_the_log() {
    let (_dir, server, s3) = start();
    // A put is a put-if-absent there, whatever it says; elsewhere it replaces.
    assert_eq!(s3.put(COMMIT, &[], b"commit").await, 200);
    assert_eq!(s3.put("index/x", &[], b"1").await, 200);
    assert_eq!(s3.put("index/x", &[], b"2").await, 200);
    assert_eq!(s3.put(COMMIT, &[], b"other").await, 403);
    assert_eq!(s3.put(COMMIT, &[("if-none-match", "*")], b"x").await, 412);
    let answer = s3.get(COMMIT, &[]).await;
    let etag = header(&answer, "etag").to_owned();
    for condition in ["*", &etag, "\"0\""] {
        let refused = s3.put(COMMIT, &[("if-match", condition)], b"x").await;
        assert_eq!(refused, 403, "{condition}");
    }
    let copied = format!("/{BUCKET}/index/x");
    let copy = s3
        .put(COMMIT, &[("x-amz-copy-source", &*copied)], b"")
        .await;
    assert!(copy == 403 || copy == 501, "{copy}");
    assert_eq!(s3.status(Method::DELETE, COMMIT, &[], b"").await, 403);
    let (body, md5) = delete_many(&[COMMIT, "index/x"]);
    let md5 = [("content-md5", &*md5)];
    let bucket = format!("/{BUCKET}");
    let many = s3
        .send(Method::POST, &bucket, "delete=", &md5, body.as_bytes())
        .await;
    assert_eq!(many.status(), 200);
    let text = many.text().await.unwrap();
    assert_eq!(elements(&text, "Code"), ["AccessDenied"], "{text}");
    assert_eq!(elements(&s3.list("").await, "Key"), [COMMIT]);
    let answer = s3.get(COMMIT, &[]).await;
    assert_eq!(answer.bytes().await.unwrap(), "commit");

    let mender = Signing {
        at: server.mender(),
        http: s3.http.clone(),
    };
    assert_eq!(mender.put(COMMIT, &[], b"right").await, 200);
    assert_eq!(mender.status(Method::DELETE, COMMIT, &[], b"").await, 204);
    assert_eq!(s3.get(COMMIT, &[]).await.status(), 404);
}

#[tokio::test]
async fn the_keys_of_earlier_versions_go_on_reading() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("access_key"), "A".repeat(20)).unwrap();
    std::fs::write(dir.path().join("secret_key"), "s".repeat(40)).unwrap();
    let server = S3Server::start_with(dir.path(), BUCKET, guarded()).unwrap();
    assert!(server.reader().access_key == "A".repeat(20));
    assert!(server.reader().secret_key == "s".repeat(40));
    let own = server.endpoint().clone();
    assert!(own.secret_key != server.reader().secret_key);
    let mender = server.mender();
    drop(server);
    let server = S3Server::start_with(dir.path(), BUCKET, guarded()).unwrap();
    assert!(*server.endpoint() == own, "the service's own keys are kept");
    assert!(server.mender().secret_key != mender.secret_key);
}

#[tokio::test]
async fn digests_are_checked_before_anything_is_stored() {
    let (_dir, _server, s3) = start();
    let right = STANDARD.encode(Md5::checksum(b"body"));
    let wrong = STANDARD.encode(Md5::checksum(b"other"));
    assert_eq!(s3.put("k", &[("content-md5", &wrong)], b"body").await, 400);
    assert_eq!(
        s3.put("k", &[("content-md5", "nonsense")], b"body").await,
        400
    );
    let crc = STANDARD.encode(crc32fast::hash(b"other").to_be_bytes());
    assert_eq!(
        s3.put("k", &[("x-amz-checksum-crc32", &crc)], b"body")
            .await,
        400
    );
    assert_eq!(s3.get("k", &[]).await.status(), 404, "nothing was stored");
    let crc = STANDARD.encode(crc32fast::hash(b"body").to_be_bytes());
    let both = [("content-md5", &*right), ("x-amz-checksum-crc32", &*crc)];
    assert_eq!(s3.put("k", &both, b"body").await, 200);
    let answer = s3.get("k", &[]).await;
    assert_eq!(
        header(&answer, "etag"),
        format!("\"{}\"", hex::encode(Md5::checksum(b"body")))
    );
    assert_eq!(answer.bytes().await.unwrap(), "body");
}

#[tokio::test]
async fn what_is_not_done_is_refused_and_leaves_nothing() {
    let (_dir, _server, s3) = start();
    for (name, value) in [
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-object-lock-legal-hold", "ON"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-acl", "public-read"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-write-offset-bytes", "0"),
        ("x-amz-copy-source", "/protocol/other"),
        ("x-amz-something-new", "1"),
        ("expires", "Thu, 01 Dec 2044 16:00:00 GMT"),
        ("if-none-match", "\"0123\""),
    ] {
        assert_eq!(s3.put("k", &[(name, value)], b"x").await, 501, "{name}");
    }
    let path = format!("/{BUCKET}/k");
    let queries = [
        (Method::POST, "uploads="),
        (Method::PUT, "partNumber=1&uploadId=u"),
        (Method::GET, "versionId=v"),
    ];
    for (method, query) in queries {
        let answer = s3.send(method, &path, query, &[], b"").await;
        assert_eq!(answer.status(), 501, "{query}");
    }
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let answer = s3
        .send(
            Method::PUT,
            &format!("/{BUCKET}"),
            "versioning=",
            &[],
            versioning.as_bytes(),
        )
        .await;
    assert_eq!(answer.status(), 501);
    assert_eq!(
        s3.put("a%01b", &[], b"x").await,
        400,
        "a key that XML cannot carry"
    );
    assert_eq!(elements(&s3.list("").await, "Key"), Vec::<String>::new());
    assert_eq!(
        s3.put(
            "k",
            &[
                ("x-amz-acl", "private"),
                ("x-amz-storage-class", "STANDARD")
            ],
            b"x"
        )
        .await,
        200
    );
}

#[tokio::test]
async fn ranges_in_all_forms() {
    let (_dir, _server, s3) = start();
    assert_eq!(s3.put("k", &[], b"0123456789").await, 200);
    for (range, expected, content_range) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=3-5", "345", "bytes 3-5/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-4", "6789", "bytes 6-9/10"),
        ("bytes=-400", "0123456789", "bytes 0-9/10"),
        ("bytes=5-400", "56789", "bytes 5-9/10"),
    ] {
        let answer = s3.get("k", &[("range", range)]).await;
        assert_eq!(answer.status(), 206, "{range}");
        assert_eq!(header(&answer, "content-range"), content_range);
        assert_eq!(answer.text().await.unwrap(), expected, "{range}");
    }
    for range in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
        assert_eq!(
            s3.get("k", &[("range", range)]).await.status(),
            416,
            "{range}"
        );
    }
    assert_eq!(s3.put("empty", &[], b"").await, 200);
    assert_eq!(
        s3.get("empty", &[("range", "bytes=0-")]).await.status(),
        416
    );
}

#[tokio::test]
async fn headers_are_kept_and_conditions_hold() {
    let (_dir, _server, s3) = start();
    let kept = [
        ("content-type", "application/x-ndjson"),
        ("cache-control", "no-store"),
        ("content-language", "de"),
        ("content-disposition", "inline"),
        ("x-amz-meta-writer", "w 1"),
        ("x-amz-meta-batch", "9"),
    ];
    assert_eq!(s3.put("k", &kept, b"one").await, 200);
    let answer = s3.get("k", &[]).await;
    for (name, value) in kept {
        assert_eq!(header(&answer, name), value);
    }
    let etag = header(&answer, "etag").to_owned();
    let modified = header(&answer, "last-modified").to_owned();
    assert_eq!(answer.text().await.unwrap(), "one");
    let path = format!("/{BUCKET}/k");
    let head = s3.send(Method::HEAD, &path, "", &[], b"").await;
    assert_eq!(
        (head.status(), header(&head, "content-length")),
        (StatusCode::OK, "3")
    );
    assert_eq!(header(&head, "x-amz-meta-writer"), "w 1");
    let other = "\"00000000000000000000000000000000\"";
    for (name, value, expected) in [
        ("if-none-match", &*etag, 304),
        ("if-none-match", other, 200),
        ("if-match", &etag, 200),
        ("if-match", other, 412),
        ("if-modified-since", &modified, 304),
        ("if-unmodified-since", &modified, 200),
        ("if-unmodified-since", "Thu, 01 Dec 1994 16:00:00 GMT", 412),
    ] {
        assert_eq!(
            s3.get("k", &[(name, value)]).await.status(),
            expected,
            "{name}: {value}"
        );
    }
    assert_eq!(s3.put("k", &[("if-none-match", "*")], b"two").await, 412);
    assert_eq!(s3.put("k", &[("if-match", other)], b"two").await, 412);
    assert_eq!(s3.put("absent", &[("if-match", &etag)], b"two").await, 404);
    assert_eq!(s3.put("k", &[("if-match", &etag)], b"two").await, 200);
    assert_eq!(s3.put("k", &[("if-match", &etag)], b"three").await, 412);
    assert_eq!(
        s3.status(Method::DELETE, "k", &[("if-match", &etag)], b"")
            .await,
        412
    );
    assert_eq!(s3.get("k", &[]).await.text().await.unwrap(), "two");
    assert_eq!(s3.status(Method::DELETE, "k", &[], b"").await, 204);
    assert_eq!(s3.status(Method::DELETE, "k", &[], b"").await, 204);
    assert_eq!(s3.get("k", &[]).await.status(), 404);
}

#[tokio::test]
async fn listings_with_delimiter_pages_and_encoding() {
    let (_dir, _server, s3) = start();
    for key in ["a/1", "a/2", "b", "c/x/1", "c/y", "d%20e"] {
        assert_eq!(s3.put(key, &[], b"x").await, 200);
    }
    let page = s3.list("delimiter=%2F&").await;
    assert_eq!(elements(&page, "Key"), ["b", "d e"]);
    // The outer Prefix is empty; the others are the rolled-up ones.
    let prefixes: Vec<String> = elements(&page, "CommonPrefixes");
    assert_eq!(prefixes, ["<Prefix>a/</Prefix>", "<Prefix>c/</Prefix>"]);
    let page = s3.list("delimiter=%2F&prefix=c%2F&").await;
    assert_eq!(elements(&page, "Key"), ["c/y"]);
    assert_eq!(elements(&page, "CommonPrefixes"), ["<Prefix>c/x/</Prefix>"]);
    assert_eq!(
        elements(&s3.list("prefix=d&encoding-type=url&").await, "Key"),
        ["d%20e"]
    );
    assert_eq!(
        elements(&s3.list("start-after=a%2F2&").await, "Key"),
        ["b", "c/x/1", "c/y", "d e"]
    );
    let (mut keys, mut prefixes, mut token) = (Vec::new(), 0, String::new());
    loop {
        let page = s3.list(&format!("delimiter=%2F&max-keys=1&{token}")).await;
        keys.extend(elements(&page, "Key"));
        prefixes += elements(&page, "CommonPrefixes").len();
        match elements(&page, "NextContinuationToken").first() {
            Some(next) => token = format!("continuation-token={next}&"),
            None => break,
        }
        assert_eq!(elements(&page, "IsTruncated"), ["true"]);
    }
    assert_eq!(
        (keys, prefixes),
        (vec!["b".to_owned(), "d e".to_owned()], 2)
    );
    assert_eq!(
        elements(&s3.list("max-keys=0&").await, "IsTruncated"),
        ["false"]
    );
    let path = format!("/{BUCKET}");
    let bad = s3
        .send(
            Method::GET,
            &path,
            "continuation-token=%25&list-type=2",
            &[],
            b"",
        )
        .await;
    assert_eq!(bad.status(), 400);
}

#[tokio::test]
async fn buckets_and_deleting_many() {
    let (_dir, _server, s3) = start();
    let status =
        async |method: Method, path: &str| s3.send(method, path, "", &[], b"").await.status();
    assert_eq!(status(Method::PUT, "/another-one").await, 200);
    assert_eq!(status(Method::PUT, "/another-one").await, 409);
    assert_eq!(status(Method::HEAD, "/another-one").await, 200);
    assert_eq!(status(Method::HEAD, "/nowhere").await, 404);
    assert_eq!(status(Method::GET, "/nowhere/key").await, 404);
    assert_eq!(
        s3.send(Method::PUT, "/nowhere/key", "", &[], b"x")
            .await
            .status(),
        404
    );
    let buckets = s3
        .send(Method::GET, "/", "", &[], b"")
        .await
        .text()
        .await
        .unwrap();
    assert_eq!(elements(&buckets, "Name"), ["another-one", BUCKET]);
    for key in ["a", "b", "c"] {
        assert_eq!(s3.put(key, &[], b"x").await, 200);
    }
    let wanted = "<Delete><Object><Key>a</Key></Object><Object><Key>never</Key></Object>\
                  <Object><Key>c</Key><VersionId>v</VersionId></Object></Delete>";
    let answer = s3
        .send(
            Method::POST,
            &format!("/{BUCKET}"),
            "delete=",
            &[],
            wanted.as_bytes(),
        )
        .await;
    assert_eq!(answer.status(), 200);
    let answer = answer.text().await.unwrap();
    let deleted = elements(&answer, "Deleted");
    assert_eq!(deleted, ["<Key>a</Key>", "<Key>never</Key>"]);
    assert_eq!(elements(&answer, "Code"), ["NotImplemented"]);
    assert_eq!(elements(&s3.list("").await, "Key"), ["b", "c"]);
}

#[tokio::test]
async fn address_and_keys_survive_a_restart() {
    let (dir, server, mut s3) = start();
    assert_eq!(s3.put("k", &[], b"kept").await, 200);
    server.stop();
    let server = S3Server::start_with(dir.path(), BUCKET, guarded()).unwrap();
    assert!(*server.endpoint() == s3.at);
    // The old one still has the connection that ended.
    s3.http = reqwest::Client::new();
    assert_eq!(s3.get("k", &[]).await.text().await.unwrap(), "kept");
    server.stop();
    // Somebody else has the port now: another is taken, and kept.
    let taken =
        std::net::TcpListener::bind(s3.at.endpoint.strip_prefix("http://").unwrap()).unwrap();
    let server = S3Server::start_with(dir.path(), BUCKET, guarded()).unwrap();
    let moved = server.endpoint().clone();
    assert!(moved.endpoint != s3.at.endpoint && moved.secret_key == s3.at.secret_key);
    server.stop();
    drop(taken);
    assert!(
        *S3Server::start_with(dir.path(), BUCKET, guarded())
            .unwrap()
            .endpoint()
            == moved
    );
}
