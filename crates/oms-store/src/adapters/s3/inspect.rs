//! Questions about the bucket itself, for whoever checks an installation.

use reqwest::Method;
use reqwest::header::DATE;

use super::S3ObjectStore;
use super::client::Request;
use super::failure::Failure;
use crate::error::StoreError;

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
        let answer = async {
            let answer = self
                .client
                .send(Request::new(Method::GET, "").query(what))
                .await?;
            let status = answer.status().as_u16();
            let date = answer.headers().get(DATE);
            let date = date.and_then(|d| d.to_str().ok()).map(str::to_owned);
            let body = answer.text().await;
            let body = body.map_err(|e| Failure::Transport(e.without_url()))?;
            Ok(BucketAnswer { status, date, body })
        };
        answer.await.map_err(|e| self.read_failed(OPERATION, &e))
    }

    /// The URL of the bucket.
    pub fn url(&self) -> String {
        self.client.url().to_string()
    }
}
