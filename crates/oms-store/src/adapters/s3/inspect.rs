//! Questions about the bucket itself, for whoever checks an installation. Asked with signed URLs:
//! rust-s3 has no calls for most of them, and hides the headers of the answers of the others.

use std::collections::HashMap;

use s3::error::S3Error;

use super::S3ObjectStore;
use crate::error::StoreError;

/// How long a signed URL is valid: it is used at once.
const VALID_SECONDS: u32 = 60;

/// The operation, in errors.
const OPERATION: &str = "ask about the bucket";

/// What the server answered, whatever its status.
#[derive(Debug, Clone)]
pub struct BucketAnswer {
    /// Status of HTTP.
    pub status: u16,
    /// The server's clock: the header `Date`.
    pub date: Option<String>,
    /// The body: XML.
    pub body: String,
}

impl S3ObjectStore {
    /// Asks for a part of the bucket's configuration by its name in S3's API, such as `versioning`,
    /// or for anything else that a GET of the bucket answers, such as `list-type=2`. Reads only.
    pub async fn ask(&self, what: &[(&str, &str)]) -> Result<BucketAnswer, StoreError> {
        let queries: HashMap<String, String> = what
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let failed = |e: S3Error| self.read_failed(OPERATION, &e);
        let url = self
            .bucket
            .presign_get("/", VALID_SECONDS, Some(queries))
            .await
            .map_err(failed)?;
        let unanswered = |e: reqwest::Error| self.read_failed(OPERATION, &S3Error::Reqwest(e));
        let response = (self.bucket.http_client().get(url).send().await)
            // The URL is as good as a key, for a minute.
            .map_err(|e| unanswered(e.without_url()))?;
        let status = response.status().as_u16();
        let date = response.headers().get(reqwest::header::DATE);
        let date = date.and_then(|d| d.to_str().ok()).map(str::to_owned);
        let body = response
            .text()
            .await
            .map_err(|e| unanswered(e.without_url()))?;
        Ok(BucketAnswer { status, date, body })
    }

    /// The URL of the bucket.
    pub fn url(&self) -> String {
        self.bucket.url()
    }
}
