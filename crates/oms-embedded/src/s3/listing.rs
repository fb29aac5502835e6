//! ListObjectsV2.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::answers::{etag, timestamp};
use super::index::{From, Listed};
use super::store::LogStore;

/// Entries in one page, as in S3.
const MAX_KEYS: i32 = 1000;

/// Characters that `encoding-type=url` leaves unescaped.
const URL: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// A continuation token holds the last entry of the previous page.
fn encode_token(last: &Listed) -> String {
    let text = match last {
        Listed::Object(key, _) => format!("k{key}"),
        Listed::CommonPrefix(prefix) => format!("p{prefix}"),
    };
    URL_SAFE_NO_PAD.encode(text)
}

fn decode_token(token: &str) -> Option<From> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    match text.split_at_checked(1)? {
        ("k", key) => Some(From::After(key.to_owned())),
        ("p", prefix) => Some(From::AfterPrefix(prefix.to_owned())),
        _ => None,
    }
}

/// Returns one page.
pub fn list(store: &LogStore, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
    let max_keys = input.max_keys.unwrap_or(MAX_KEYS);
    if max_keys < 0 {
        return Err(s3_error!(InvalidArgument, "max-keys is negative"));
    }
    let url = match input.encoding_type.as_ref().map(EncodingType::as_str) {
        None => false,
        Some(EncodingType::URL) => true,
        Some(other) => return Err(s3_error!(InvalidArgument, "encoding-type {other}")),
    };
    let from = match (&input.continuation_token, &input.start_after) {
        (Some(token), _) => decode_token(token)
            .ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not ours"))?,
        (None, Some(after)) => From::After(after.clone()),
        (None, None) => From::Start,
    };
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|d| !d.is_empty());
    let limit = max_keys.min(MAX_KEYS) as usize;
    let (listed, more) = store
        .list(&input.bucket, prefix, delimiter, &from, limit)
        .ok_or_else(|| s3_error!(NoSuchBucket))?;
    // An empty page has no entry from which to continue.
    let next = listed.last().filter(|_| more).map(encode_token);
    let encode = |text: &str| {
        if url {
            utf8_percent_encode(text, URL).to_string()
        } else {
            text.to_owned()
        }
    };
    let key_count = listed.len() as i32;
    let (mut contents, mut common_prefixes) = (Vec::new(), Vec::new());
    for entry in listed {
        match entry {
            Listed::Object(key, entry) => contents.push(Object {
                key: Some(encode(&key)),
                size: Some(entry.body_len.into()),
                e_tag: Some(etag(&entry.etag)),
                last_modified: Some(timestamp(entry.modified_ms)),
                storage_class: Some(ObjectStorageClass::from_static(
                    ObjectStorageClass::STANDARD,
                )),
                ..Default::default()
            }),
            Listed::CommonPrefix(prefix) => common_prefixes.push(CommonPrefix {
                prefix: Some(encode(&prefix)),
            }),
        }
    }
    Ok(ListObjectsV2Output {
        prefix: Some(encode(prefix)),
        max_keys: Some(max_keys),
        key_count: Some(key_count),
        is_truncated: Some(next.is_some()),
        next_continuation_token: next,
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: delimiter.map(encode),
        encoding_type: input.encoding_type,
        start_after: input.start_after.as_deref().map(encode),
        continuation_token: input.continuation_token,
        name: Some(input.bucket),
        request_charged: None,
    })
}
