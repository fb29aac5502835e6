//! An S3 server on loopback that must not hold a log: it ignores `If-None-Match`, its clock is
//! wrong, and a lifecycle rule removes everything. Asks for no signature. What it does beyond that
//! is what a bucket needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// By so many seconds its clock is late.
pub const LATE_SECONDS: i64 = 3_600;

const VERSIONING: &str =
    "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";

const LIFECYCLE: &str = "<LifecycleConfiguration><Rule><ID>tidy</ID><Filter/>\
    <Status>Enabled</Status><Expiration><Days>30</Days></Expiration></Rule>\
    </LifecycleConfiguration>";

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A running server; it ends with this value.
pub struct CarelessS3 {
    /// Its URL.
    pub endpoint: String,
    /// What it holds, by `/bucket/key`.
    objects: Objects,
    task: tokio::task::JoinHandle<()>,
}

impl CarelessS3 {
    /// Starts one, empty.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let objects = Objects::default();
        let held = objects.clone();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("accept");
                let held = held.clone();
                tokio::spawn(async move { answer(client, &held).await });
            }
        });
        Self {
            endpoint: format!("http://{address}"),
            objects,
            task,
        }
    }

    /// Every key.
    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().keys().cloned().collect()
    }
}

impl Drop for CarelessS3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one request and closes; nothing if the client has gone.
async fn answer(client: TcpStream, objects: &Objects) -> Option<()> {
    let mut client = BufReader::new(client);
    let mut line = String::new();
    client.read_line(&mut line).await.ok()?;
    let (method, target) = line.split_once(' ')?;
    let (target, _) = target.split_once(' ')?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
    let (mut length, mut range) = (0, None);
    loop {
        let mut header = String::new();
        client.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "range" => range = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.ok()?;
    let (status, body) = respond(&method, &path, &query, range.as_deref(), body, objects);
    let late = jiff::SignedDuration::from_secs(LATE_SECONDS);
    let date = (crate::now() - late).strftime("%a, %d %b %Y %H:%M:%S GMT");
    let head = format!(
        "HTTP/1.1 {status} x\r\ndate: {date}\r\nconnection: close\r\netag: \"e\"\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.ok()?;
    client.write_all(&body).await.ok()
}

fn respond(
    method: &str,
    path: &str,
    query: &str,
    range: Option<&str>,
    body: Vec<u8>,
    objects: &Objects,
) -> (u16, Vec<u8>) {
    let mut objects = objects.lock();
    let is_bucket = path.trim_matches('/').split('/').count() < 2;
    let asks = |what: &str| {
        query
            .split('&')
            .any(|part| part.split('=').next() == Some(what))
    };
    match method {
        "GET" if asks("versioning") => (200, VERSIONING.into()),
        "GET" if asks("lifecycle") => (200, LIFECYCLE.into()),
        "GET" if asks("object-lock") => (404, Vec::new()),
        "GET" if is_bucket => (200, listing(path, query, &objects)),
        "GET" => match (objects.get(path), range.and_then(bounds)) {
            (None, _) => (404, Vec::new()),
            (Some(found), None) => (200, found.clone()),
            (Some(found), Some((from, to))) => (
                206,
                found[from.min(found.len())..to.min(found.len())].to_vec(),
            ),
        },
        "PUT" => {
            objects.insert(path.to_owned(), body);
            (200, Vec::new())
        }
        "DELETE" => {
            objects.remove(path);
            (204, Vec::new())
        }
        _ => (501, Vec::new()),
    }
}

/// `bytes=FROM-LAST`, with the end after the last byte.
fn bounds(range: &str) -> Option<(usize, usize)> {
    let (from, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, last.parse::<usize>().ok()? + 1))
}

fn listing(bucket: &str, query: &str, objects: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let value = |name: &str| {
        let given = query.split('&').filter_map(|part| part.split_once('='));
        let mut found = given.filter(|(n, _)| *n == name).map(|(_, v)| v);
        found.next_back().unwrap_or_default().replace("%2F", "/")
    };
    let bucket = bucket.trim_matches('/');
    let (prefix, after) = (value("prefix"), value("start-after"));
    let keys = objects.iter().filter_map(|(path, body)| {
        let key = path.strip_prefix(&format!("/{bucket}/"))?;
        (key.starts_with(&prefix) && key > after.as_str()).then_some((key, body.len()))
    });
    let contents: String = keys
        .map(|(key, size)| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>\
                 <ETag>\"e\"</ETag><Size>{size}</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>"
            )
        })
        .collect();
    format!(
        "<ListBucketResult><Name>{bucket}</Name><Prefix>{prefix}</Prefix><MaxKeys>1000</MaxKeys>\
         <IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    )
    .into_bytes()
}
