//! The bucket, through rust-s3.
//!
//! * [`settings`]: where it is; [`credentials`]: the keys, found by way of [`credential_sources`]
//! * [`client`]: requests; [`signing`]: their signatures
//! * [`failure`], [`outcome`]: what went wrong, and whether it happened
//! * [`inspect`]: questions about the bucket itself

mod client;
mod credential_sources;
mod credentials;
mod failure;
mod inspect;
mod outcome;
mod settings;
mod signing;

use std::ops::Range;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, IF_NONE_MATCH, RANGE};
use s3::serde_types::ListBucketResult;

use self::client::{Client, Request};
use self::failure::Failure;
pub use self::inspect::BucketAnswer;
pub use self::outcome::{NO_ROOM, NOTHING_WRITTEN};
use self::outcome::{classify_read, classify_write};
pub use self::settings::S3Settings;
use crate::adapters::proxy;
use crate::error::{StoreError, StoreErrorKind};
use crate::ports::object_store::{Created, ObjectInfo, ObjectStore};

/// The server compares it with what it got, and buckets with Object Lock insist on it.
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The one region that a request to create a bucket must not name.
const UNNAMED_REGION: &str = "us-east-1";

/// A bucket reached through rust-s3.
pub struct S3ObjectStore {
    client: Client,
    region: String,
    /// The suffix of messages about failures to reach it.
    on_the_way: Option<String>,
}

impl S3ObjectStore {
    /// Builds the client without making a request.
    pub fn new(settings: &S3Settings) -> Result<Self, StoreError> {
        Client::new(settings)
            .map(|client| Self {
                on_the_way: proxy::hint(client.url().as_str()),
                client,
                region: settings.region.clone(),
            })
            .map_err(|why| StoreError::determinate(StoreErrorKind::Invalid, "s3", "configure", why))
    }

    fn write_failed(&self, operation: &'static str, failure: &Failure) -> StoreError {
        self.told(classify_write(operation, failure), failure)
    }

    fn read_failed(&self, operation: &'static str, failure: &Failure) -> StoreError {
        self.told(classify_read(operation, failure), failure)
    }

    fn told(&self, mut failed: StoreError, failure: &Failure) -> StoreError {
        if let Some(hint) = self.on_the_way.as_deref()
            && matches!(failure, Failure::Transport(_))
        {
            failed.message.push_str(hint);
        }
        failed
    }

    /// Creates the bucket if it does not exist. Only "not found" counts as missing: missing
    /// permissions must not look like a missing bucket.
    pub async fn ensure_bucket(&self) -> Result<(), StoreError> {
        let one = [("list-type", "2"), ("max-keys", "1")];
        let listed = self.client.call(Request::new(Method::GET, "").query(&one));
        match listed.await {
            Ok(_) => return Ok(()),
            Err(e) if e.is_status(404) => {}
            Err(e) => return Err(self.read_failed("look up bucket", &e)),
        }
        let named = self.region != UNNAMED_REGION;
        let made = match self.create(named).await {
            // Some servers have regions of their own, or none.
            Err(Failure::Refused {
                status: 400, body, ..
            }) if body.contains("LocationConstraint") => self.create(!named).await,
            made => made,
        };
        match made {
            Ok(()) => Ok(()),
            // Another process has created it meanwhile.
            Err(e) if e.is_status(409) => Ok(()),
            Err(e) => Err(self.write_failed("create bucket", &e)),
        }
    }

    /// Creates the bucket, naming its region or not.
    async fn create(&self, named: bool) -> Result<(), Failure> {
        let request = Request::new(Method::PUT, "");
        let request = match named {
            false => request,
            true => request.body(Bytes::from(format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{}</LocationConstraint></CreateBucketConfiguration>",
                self.region
            ))),
        };
        self.client.call(request).await.map(drop)
    }

    async fn put_object(
        &self,
        key: &str,
        body: Bytes,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<(), Failure> {
        let mut request = Request::new(Method::PUT, key).body(body);
        let checksum = STANDARD.encode(request.hash.bytes());
        let checksum = HeaderValue::try_from(checksum);
        let checksum = checksum.map_err(|e| Failure::Unsent(e.to_string()))?;
        request.headers.insert(CHECKSUM, checksum);
        for (name, value) in headers {
            request.headers.insert(name, value.clone());
        }
        self.client.call(request).await.map(drop)
    }
}

#[async_trait]
impl ObjectStore for S3ObjectStore {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        let headers = [
            (CONTENT_TYPE, NDJSON),
            (IF_NONE_MATCH, HeaderValue::from_static("*")),
        ];
        match self.put_object(key, body, &headers).await {
            Ok(()) => Ok(Created::Yes),
            Err(e) if e.is_status(412) => Ok(Created::Exists),
            Err(e) => Err(self.write_failed("put-if-absent", &e)),
        }
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.put_object(key, body, &[(CONTENT_TYPE, BINARY)])
            .await
            .map_err(|e| self.write_failed("put", &e))
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.client.call(Request::new(Method::GET, key)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.is_status(404) => Ok(None),
            Err(e) => Err(self.read_failed("get", &e)),
        }
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        const OP: &str = "get range";
        if range.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        let expected = range.end - range.start;
        let bytes = format!("bytes={}-{}", range.start, range.end - 1);
        let bytes = HeaderValue::try_from(bytes);
        let bytes = bytes.map_err(|e| self.read_failed(OP, &Failure::Unsent(e.to_string())))?;
        let mut request = Request::new(Method::GET, key);
        request.headers.insert(RANGE, bytes);
        match self.client.call(request).await {
            Ok(bytes) if bytes.len() as u64 == expected => Ok(Some(bytes)),
            Ok(bytes) => {
                let message = format!("{key}: asked for {expected} bytes, got {}", bytes.len());
                Err(StoreError::corrupt("s3", OP, message))
            }
            Err(e) if e.is_status(404) => Ok(None),
            Err(e) => Err(self.read_failed(OP, &e)),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        let limit = limit.clamp(1, 1000).to_string();
        let mut query = vec![
            ("list-type", "2"),
            ("max-keys", limit.as_str()),
            ("prefix", prefix),
        ];
        query.extend(start_after.map(|key| ("start-after", key)));
        let listed = async {
            let request = Request::new(Method::GET, "").query(&query);
            let xml = self.client.call(request).await?;
            quick_xml::de::from_reader::<_, ListBucketResult>(xml.as_ref())
                .map_err(|e| Failure::Unreadable(e.to_string()))
        };
        let page = listed.await.map_err(|e| self.read_failed("list", &e))?;
        let objects = page.contents.into_iter().map(|o| ObjectInfo {
            key: o.key,
            size: o.size,
        });
        Ok(objects.collect())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.client.call(Request::new(Method::DELETE, key)).await {
            Ok(_) => Ok(()),
            Err(e) if e.is_status(404) => Ok(()),
            Err(e) => Err(self.write_failed("delete", &e)),
        }
    }
}
