//! Requests to the bucket: address, signature, transport.
//!
//! One HTTP client, built once and shared, so that there is one pool of connections. Nothing is
//! repeated here: only callers know which of their requests are safe to repeat. rust-s3 knows the
//! regions and the canonical forms that are signed; its own transport trusts no authority but the
//! public ones and copies every body.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqsign_core::OsEnv;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, Url};
use s3::{Region, signing};
use time::OffsetDateTime;

use super::credentials::{Credentials, Keys, Sought};
use super::failure::Failure;
use super::outcome::KEYS_REFUSED;
use super::settings::S3Settings;
use super::signing::{BodyHash, Signer};
use crate::adapters::{proxy, tls};

/// Of the body of a refusal, so many bytes are looked at.
const REFUSAL_BYTES: usize = 16 << 10;

/// A request to the bucket, before it is signed.
pub(super) struct Request<'a> {
    pub method: Method,
    /// The object; empty for the bucket itself.
    pub key: &'a str,
    pub query: &'a [(&'a str, &'a str)],
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The hash of the body.
    pub hash: BodyHash,
}

impl<'a> Request<'a> {
    /// A request without a body.
    pub fn new(method: Method, key: &'a str) -> Self {
        Self {
            method,
            key,
            query: &[],
            headers: HeaderMap::new(),
            body: Bytes::new(),
            hash: BodyHash::of(&[]),
        }
    }

    pub fn query(self, query: &'a [(&'a str, &'a str)]) -> Self {
        Self { query, ..self }
    }

    pub fn body(self, body: Bytes) -> Self {
        let hash = BodyHash::of(&body);
        Self { body, hash, ..self }
    }
}

/// The bucket's address and how it is reached.
pub(super) struct Client {
    http: reqwest::Client,
    signer: Signer,
    credentials: Credentials,
    bucket: Url,
    timeout: Duration,
}

impl Client {
    /// Builds the client without making a request.
    pub fn new(settings: &S3Settings) -> Result<Self, String> {
        let region = match &settings.endpoint {
            Some(endpoint) => Region::Custom {
                region: settings.region.clone(),
                endpoint: endpoint.trim_end_matches('/').to_owned(),
            },
            None => match settings.region.parse() {
                Ok(Region::Custom { region, .. }) => {
                    return Err(format!(
                        "s3.region: {region} is not known as a region of AWS: name s3.endpoint too"
                    ));
                }
                Ok(region) => region,
                Err(error) => return Err(format!("s3.region: {error}")),
            },
        };
        let bucket = address(&region, &settings.bucket, settings.path_style)?;
        let http = http(settings, &bucket)?;
        let credentials = match (&settings.access_key, &settings.secret_key) {
            (Some(access), Some(secret)) => {
                Credentials::fixed(access, secret, settings.session_token.as_deref())
            }
            _ => {
                let others = tls::client_config_of_others(&settings.tls);
                let others = others.map_err(|e| format!("s3: {e}"))?;
                let sought = Sought::new(OsEnv, &settings.region, others);
                Credentials::Sought(Box::new(sought.map_err(|e| e.to_string())?))
            }
        };
        Ok(Self {
            http,
            signer: Signer::new(region),
            credentials,
            bucket,
            timeout: settings.request_timeout,
        })
    }

    /// The URL of the bucket.
    pub fn url(&self) -> &Url {
        &self.bucket
    }

    /// Sends a request; whatever the server answers.
    pub async fn send(&self, request: Request<'_>) -> Result<Response, Failure> {
        self.exchange(request).await.map(|(answer, _)| answer)
    }

    /// Sends a request and reads the answer; anything but a success is a failure.
    pub async fn call(&self, request: Request<'_>) -> Result<Bytes, Failure> {
        let (answer, keys) = self.exchange(request).await?;
        if answer.status().is_success() {
            return answer.bytes().await.map_err(transport);
        }
        let mut refused = refusal(answer).await?;
        let keys_refused = refused.has_code(&KEYS_REFUSED);
        if let Failure::Refused { replaceable, .. } = &mut refused {
            *replaceable = keys_refused && self.credentials.refused(&keys);
        }
        Err(refused)
    }

    async fn exchange(&self, request: Request<'_>) -> Result<(Response, Arc<Keys>), Failure> {
        let url = self.locate(request.key, request.query)?;
        let keys = self.credentials.keys().await?;
        let mut headers = request.headers;
        if request.method == Method::PUT {
            // Of an empty body the transport says nothing, and S3 asks for it.
            headers.insert(CONTENT_LENGTH, HeaderValue::from(request.body.len()));
        }
        let now = OffsetDateTime::now_utc();
        let target = (&request.method, &url);
        self.signer
            .sign(target, &mut headers, request.hash, &keys, now)?;
        let sent = self
            .http
            .request(request.method, url)
            .headers(headers)
            .timeout(self.timeout)
            .body(request.body)
            .send()
            .await;
        Ok((sent.map_err(transport)?, keys))
    }

    /// The URL of an object, or of the bucket.
    fn locate(&self, key: &str, query: &[(&str, &str)]) -> Result<Url, Failure> {
        let mut url = self.bucket.clone();
        if !key.is_empty() {
            let base = url.path().trim_end_matches('/');
            let path = format!("{base}/{}", signing::uri_encode(key, false));
            url.set_path(&path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}

fn address(region: &Region, bucket: &str, path_style: bool) -> Result<Url, String> {
    let (scheme, host) = (region.scheme(), region.host());
    let url = match path_style {
        true => format!("{scheme}://{host}/{bucket}"),
        false => format!("{scheme}://{bucket}.{host}"),
    };
    Url::parse(&url).map_err(|e| format!("s3.endpoint: {url}: {e}"))
}

fn http(settings: &S3Settings, bucket: &Url) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        // Elsewhere a signature is not valid, and a body would be sent to somebody else.
        .redirect(reqwest::redirect::Policy::none());
    if proxy::is_loopback(bucket.as_str()) {
        builder = builder.no_proxy();
    }
    if bucket.scheme() == "https" {
        let config = tls::client_config(&settings.tls).map_err(|e| format!("s3: {e}"))?;
        builder = builder.use_preconfigured_tls(config);
    }
    builder.build().map_err(|e| e.to_string())
}

/// A failure of the transport; its URL says nothing that the address does not.
fn transport(error: reqwest::Error) -> Failure {
    Failure::Transport(error.without_url())
}

async fn refusal(mut answer: Response) -> Result<Failure, Failure> {
    let status = answer.status().as_u16();
    let header = |name: &str| {
        let value = answer.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let retry_after = header(RETRY_AFTER.as_str())
        .and_then(|seconds| seconds.parse().ok())
        .map(Duration::from_secs);
    let region = header("x-amz-bucket-region");
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(transport)? {
        body.extend_from_slice(&chunk);
        if body.len() >= REFUSAL_BYTES {
            body.truncate(REFUSAL_BYTES);
            break;
        }
    }
    Ok(Failure::Refused {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
        retry_after,
        region,
        replaceable: false,
    })
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
