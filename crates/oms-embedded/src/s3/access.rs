//! Who comes in ([`super::guard`]), and that nothing is accepted and then ignored.
//! A header that asks for something this endpoint does not do is answered 501; a server that
//! takes a retention header and deletes the object all the same has lied.

use std::collections::HashMap;

use s3s::access::{S3Access, S3AccessContext};
use s3s::{S3Result, s3_error};

use super::guard::Who;

/// `x-amz-` headers this endpoint does as it is told by, or that tell it nothing.
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

/// `x-amz-` headers that are understood with one value only.
const UNDERSTOOD_VALUES: &[(&str, &str)] = &[
    ("x-amz-acl", "private"),
    ("x-amz-bucket-object-lock-enabled", "false"),
    ("x-amz-object-ownership", "BucketOwnerEnforced"),
    ("x-amz-storage-class", "STANDARD"),
];

/// Headers without that prefix that are not kept.
const NOT_KEPT: &[&str] = &["expires"];

/// See the module.
pub struct Access {
    /// Whose each access key is.
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
