//! Signs requests by AWS Signature Version 4, with the canonical forms of rust-s3.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html>. Every header that
//! is given is signed, and the hash of the body too.

use std::sync::Arc;

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use ring::hmac;
use s3::Region;
use s3::signing;
use sha2::{Digest, Sha256};
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::credentials::Keys;
use super::failure::Failure;

/// Header with the hash of the body.
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

const LONG_DATE: &[time::format_description::FormatItem<'static>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

/// The SHA-256 of a body.
#[derive(Clone, Copy)]
pub(super) struct BodyHash([u8; 32]);

impl BodyHash {
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Signs for one region.
pub(super) struct Signer {
    region: Region,
    /// The last key derived from a secret: it serves for a day.
    derived: Mutex<Option<Derived>>,
}

struct Derived {
    day: Date,
    keys: Arc<Keys>,
    key: hmac::Key,
}

impl Signer {
    pub fn new(region: Region) -> Self {
        Self {
            region,
            derived: Mutex::new(None),
        }
    }

    /// Adds the headers that sign a request.
    pub fn sign(
        &self,
        (method, url): (&Method, &Url),
        headers: &mut HeaderMap,
        body: BodyHash,
        keys: &Arc<Keys>,
        now: OffsetDateTime,
    ) -> Result<(), Failure> {
        let hash = hex::encode(body.0);
        let date = now.format(LONG_DATE).map_err(unsent)?;
        headers.insert(HOST, value(&host(url))?);
        headers.insert(CONTENT_SHA256, value(&hash)?);
        headers.insert(DATE, value(&date)?);
        if let Some(token) = &keys.session_token {
            let mut token = value(token)?;
            token.set_sensitive(true);
            headers.insert(SECURITY_TOKEN, token);
        }
        let canonical = signing::canonical_request(method.as_str(), url, headers, &hash)?;
        let text = signing::string_to_sign(&now, &self.region, &canonical)?;
        let signature = hmac::sign(&self.key(keys, now)?, text.as_bytes());
        let authorization = signing::authorization_header(
            &keys.access_key,
            &now,
            &self.region,
            &signing::signed_header_string(headers),
            &hex::encode(signature),
        )?;
        let mut authorization = value(&authorization)?;
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        Ok(())
    }

    fn key(&self, keys: &Arc<Keys>, now: OffsetDateTime) -> Result<hmac::Key, Failure> {
        let day = now.date();
        let mut derived = self.derived.lock();
        if let Some(known) = &*derived
            && known.day == day
            && Arc::ptr_eq(&known.keys, keys)
        {
            return Ok(known.key.clone());
        }
        let bytes = signing::signing_key(&now, &keys.secret_key, &self.region, "s3")?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        *derived = Some(Derived {
            day,
            keys: keys.clone(),
            key: key.clone(),
        });
        Ok(key)
    }
}

/// The header `Host` as HTTP clients send it: without the port that the scheme implies.
fn host(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    }
}

fn value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(unsent)
}

fn unsent(error: impl std::fmt::Display) -> Failure {
    Failure::Unsent(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example `GET Object` of AWS's document "Authenticating Requests: Using the Authorization
    /// Header".
    #[test]
    fn the_example_of_the_specification_is_signed_as_it_says() {
        let signer = Signer::new("us-east-1".parse().unwrap());
        let keys = Arc::new(Keys {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        });
        let url = Url::parse("https://examplebucket.s3.amazonaws.com/test.txt").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("range", HeaderValue::from_static("bytes=0-9"));
        let now = time::macros::datetime!(2013-05-24 0:00 UTC);
        for _ in 0..2 {
            headers.remove(AUTHORIZATION);
            let empty = BodyHash::of(b"");
            signer
                .sign((&Method::GET, &url), &mut headers, empty, &keys, now)
                .unwrap();
            let authorization = headers[AUTHORIZATION].to_str().unwrap();
            assert!(
                authorization
                    .ends_with("f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
                "{authorization}"
            );
        }
    }
}
