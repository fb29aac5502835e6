//! The bucket, through rust-s3.
//!
//! One `Bucket`, built once and shared, so that there is one connection pool. The client's own
//! retries are off: it cannot know which of our requests are safe to repeat.

mod inspect;
mod outcome;

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use s3::creds::Credentials;
use s3::error::S3Error;
use s3::{Bucket, BucketConfiguration, Region};

pub use self::inspect::BucketAnswer;
pub use self::outcome::{NO_ROOM, NOTHING_WRITTEN};
use self::outcome::{classify_read, classify_write, is_status};
use crate::adapters::proxy;
use crate::error::{StoreError, StoreErrorKind};
use crate::ports::object_store::{Created, ObjectInfo, ObjectStore};

/// Address and credentials of the bucket.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// URL of the server; `None` for AWS.
    pub endpoint: Option<String>,
    /// Region name.
    pub region: String,
    /// Bucket name.
    pub bucket: String,
    /// Access key; `None` to take credentials from the environment, profile or instance.
    pub access_key: Option<String>,
    /// Secret key.
    pub secret_key: Option<String>,
    /// Whether the bucket is addressed in the path instead of the host name.
    pub path_style: bool,
    /// Timeout of a single request.
    pub request_timeout: Duration,
}

impl S3Settings {
    /// A bucket of the server at this URL, addressed in the path.
    pub fn at(
        endpoint: &str,
        region: &str,
        bucket: &str,
        (access_key, secret_key): (&str, &str),
        request_timeout: Duration,
    ) -> Self {
        Self {
            endpoint: Some(endpoint.to_owned()),
            region: region.to_owned(),
            bucket: bucket.to_owned(),
            access_key: Some(access_key.to_owned()),
            secret_key: Some(secret_key.to_owned()),
            path_style: true,
            request_timeout,
        }
    }
}

/// A bucket reached through rust-s3.
pub struct S3ObjectStore {
    bucket: Box<Bucket>,
    region: Region,
    credentials: Credentials,
    /// Whether the server is on this machine: then no proxy of the environment is used.
    is_here: bool,
    /// The suffix of messages about failures to reach it.
    on_the_way: Option<String>,
}

impl S3ObjectStore {
    /// Builds the client without making a request.
    pub fn new(settings: &S3Settings) -> Result<Self, StoreError> {
        let invalid = |e: &dyn std::fmt::Display| {
            StoreError::determinate(StoreErrorKind::Invalid, "s3", "configure", e.to_string())
        };
        s3::set_retries(0);
        let region = match &settings.endpoint {
            Some(endpoint) => Region::Custom {
                region: settings.region.clone(),
                endpoint: endpoint.trim_end_matches('/').to_owned(),
            },
            None => settings.region.parse().map_err(|e| invalid(&e))?,
        };
        let credentials = match (&settings.access_key, &settings.secret_key) {
            (Some(access), Some(secret)) => {
                Credentials::new(Some(access), Some(secret), None, None, None)
            }
            _ => Credentials::default(),
        }
        .map_err(|e| invalid(&e))?;
        let mut bucket = Bucket::new(&settings.bucket, region.clone(), credentials.clone())
            .map_err(|e| invalid(&e))?;
        if settings.path_style {
            bucket = bucket.with_path_style();
        }
        let bucket = bucket
            .with_request_timeout(settings.request_timeout)
            .map_err(|e| invalid(&e))?;
        let is_here = proxy::is_loopback(&bucket.url());
        let bucket = if is_here {
            // A custom proxy that applies to no URL replaces those of the environment.
            let none = reqwest::Proxy::custom(|_| None::<reqwest::Url>);
            Box::new(bucket.set_proxy(none).map_err(|e| invalid(&e))?)
        } else {
            bucket
        };
        Ok(Self {
            on_the_way: proxy::hint(&bucket.url()),
            bucket,
            region,
            credentials,
            is_here,
        })
    }

    fn write_failed(&self, operation: &'static str, error: &S3Error) -> StoreError {
        self.told(classify_write(operation, error), error)
    }

    fn read_failed(&self, operation: &'static str, error: &S3Error) -> StoreError {
        self.told(classify_read(operation, error), error)
    }

    fn told(&self, mut failed: StoreError, error: &S3Error) -> StoreError {
        if let Some(hint) = self.on_the_way.as_deref()
            && matches!(error, S3Error::Reqwest(_))
        {
            failed.message.push_str(hint);
        }
        failed
    }

    /// Creates the bucket if it does not exist. Only "not found" counts as missing: missing
    /// permissions must not look like a missing bucket.
    pub async fn ensure_bucket(&self) -> Result<(), StoreError> {
        match self
            .bucket
            .list_page(String::new(), None, None, None, Some(1))
            .await
        {
            Ok(_) => return Ok(()),
            Err(e) if is_status(&e, 404) => {}
            Err(e) => return Err(self.read_failed("look up bucket", &e)),
        }
        if self.is_here {
            // rust-s3 creates buckets through the environment's proxy.
            return self.create_without_location().await;
        }
        let name = self.bucket.name();
        let config = BucketConfiguration::default();
        let (region, credentials) = (self.region.clone(), self.credentials.clone());
        let made = if self.bucket.is_path_style() {
            Bucket::create_with_path_style(&name, region, credentials, config).await
        } else {
            Bucket::create(&name, region, credentials, config).await
        };
        match made {
            Ok(_) => Ok(()),
            // Another process has created it meanwhile.
            Err(e) if is_status(&e, 409) => Ok(()),
            Err(e) if refuses_location(&e) => self.create_without_location().await,
            Err(e) => Err(self.write_failed("create bucket", &e)),
        }
    }

    /// Creates the bucket with a put without a body, in the server's own region. rust-s3 sends the
    /// region of every server but AWS as the bucket's location, which some refuse for `us-east-1`,
    /// the one region that must not be named.
    async fn create_without_location(&self) -> Result<(), StoreError> {
        match self.bucket.put_object("/", &[]).await {
            Ok(_) => Ok(()),
            Err(e) if is_status(&e, 409) => Ok(()),
            Err(e) => Err(self.write_failed("create bucket", &e)),
        }
    }
}

fn refuses_location(error: &S3Error) -> bool {
    matches!(error, S3Error::HttpFailWithBody(400, body) if body.contains("LocationConstraint"))
}

#[async_trait]
impl ObjectStore for S3ObjectStore {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        const OP: &str = "put-if-absent";
        let request = self
            .bucket
            .put_object_builder(key, &body)
            .with_content_type("application/x-ndjson")
            .with_header("If-None-Match", "*")
            .map_err(|e| self.write_failed(OP, &e))?;
        match request.execute().await {
            Ok(_) => Ok(Created::Yes),
            Err(e) if is_status(&e, 412) => Ok(Created::Exists),
            Err(e) => Err(self.write_failed(OP, &e)),
        }
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.bucket
            .put_object(key, &body)
            .await
            .map(|_| ())
            .map_err(|e| self.write_failed("put", &e))
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.bucket.get_object(key).await {
            Ok(response) => Ok(Some(response.into_bytes())),
            Err(e) if is_status(&e, 404) => Ok(None),
            Err(e) => Err(self.read_failed("get", &e)),
        }
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        if range.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        let expected = range.end - range.start;
        match self
            .bucket
            .get_object_range(key, range.start, Some(range.end - 1))
            .await
        {
            Ok(response) => {
                let bytes = response.into_bytes();
                if bytes.len() as u64 == expected {
                    return Ok(Some(bytes));
                }
                let message = format!("{key}: asked for {expected} bytes, got {}", bytes.len());
                Err(StoreError::corrupt("s3", "get range", message))
            }
            Err(e) if is_status(&e, 404) => Ok(None),
            Err(e) => Err(self.read_failed("get range", &e)),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        let (page, _) = self
            .bucket
            .list_page(
                prefix.to_owned(),
                None,
                None,
                start_after.map(str::to_owned),
                Some(limit.clamp(1, 1000)),
            )
            .await
            .map_err(|e| self.read_failed("list", &e))?;
        Ok(page
            .contents
            .into_iter()
            .map(|o| ObjectInfo {
                key: o.key,
                size: o.size,
            })
            .collect())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.bucket.delete_object(key).await {
            Ok(_) => Ok(()),
            Err(e) if is_status(&e, 404) => Ok(()),
            Err(e) => Err(self.write_failed("delete", &e)),
        }
    }
}
