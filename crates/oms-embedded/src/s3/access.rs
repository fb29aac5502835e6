//! Access control ([`super::guard`]), and refusal of headers that are not implemented: a request
//! with a header that this endpoint would have to ignore is answered with 501. A server that
//! accepted a retention header, for example, and deleted the object all the same, would break a
//! promise.

use std::collections::HashMap;

use s3s::access::{S3Access, S3AccessContext};
use s3s::{S3Result, s3_error};

use super::guard::Who;

/// `x-amz-` headers that are implemented, or have no effect.
const UNDERSTOOD: &[&str] = &[
    "x-amz-checksum-algorithm",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-mode",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-checksum-type",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-optional-object-attributes",
    "x-amz-request-payer",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-te",
    "x-amz-trailer",
    "x-amz-user-agent",
];

/// `x-amz-` headers that are implemented for one value only.
const UNDERSTOOD_VALUES: &[(&str, &str)] = &[
    ("x-amz-acl", "private"),
    ("x-amz-bucket-object-lock-enabled", "false"),
    ("x-amz-object-ownership", "BucketOwnerEnforced"),
    ("x-amz-storage-class", "STANDARD"),
];

/// Headers without that prefix that are not stored.
const NOT_KEPT: &[&str] = &["expires"];

/// Checks requests before they are executed.
pub struct Access {
    /// The owner of each access key.
    pub keys: HashMap<String, Who>,
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let who = cx.credentials().map(|c| self.keys.get(&c.access_key));
        let who = match who {
            Some(Some(who)) => *who,
            Some(None) => return Err(s3_error!(AccessDenied, "nobody has this key")),
            None => return Err(s3_error!(AccessDenied, "Signature is required")),
        };
        let operation = cx.s3_op().name();
        if !who.may(operation) {
            return Err(s3_error!(
                AccessDenied,
                "this key pair reads and does nothing else; {operation} was not done"
            ));
        }
        cx.extensions_mut().insert(who);
        for (name, value) in cx.headers() {
            let name = name.as_str();
            let asks_too_much = if name.starts_with("x-amz-meta-") {
                false
            } else if name.starts_with("x-amz-") {
                let values = UNDERSTOOD_VALUES.iter().find(|(n, _)| *n == name);
                let this_value = values.is_some_and(|(_, v)| v.as_bytes() == value.as_bytes());
                !UNDERSTOOD.contains(&name) && !this_value
            } else {
                NOT_KEPT.contains(&name)
            };
            if asks_too_much {
                return Err(s3_error!(
                    NotImplemented,
                    "this endpoint does not do what the header {name} asks for"
                ));
            }
        }
        Ok(())
    }
}
