//! What the endpoint answers: times, ETags and refusals as S3 writes them.

use std::time::{Duration, UNIX_EPOCH};

use s3s::dto::{ETag, Timestamp};
use s3s::{S3Error, S3ErrorCode, s3_error};

use super::error::{ChangeError, LogStoreError, NO_ROOM, NOTHING_WRITTEN};

pub(super) fn timestamp(ms: i64) -> Timestamp {
    let since = Duration::from_millis(ms.unsigned_abs());
    let time = if ms < 0 {
        UNIX_EPOCH.checked_sub(since)
    } else {
        UNIX_EPOCH.checked_add(since)
    };
    Timestamp::from(time.unwrap_or(UNIX_EPOCH))
}

/// A time with the precision of HTTP dates: whole seconds.
pub(super) fn http_time(ms: i64) -> Timestamp {
    timestamp(ms - ms.rem_euclid(1000))
}

pub(super) fn etag(md5: &[u8; 16]) -> ETag {
    ETag::Strong(hex::encode(md5))
}

/// The answer for a change that was not made, or may not have been made.
pub(super) fn refuse(error: ChangeError) -> S3Error {
    match error {
        ChangeError::PreconditionFailed => s3_error!(PreconditionFailed),
        ChangeError::NoSuchKey => s3_error!(NoSuchKey),
        ChangeError::NoSuchBucket => s3_error!(NoSuchBucket),
        ChangeError::BucketExists => s3_error!(BucketAlreadyOwnedByYou),
        ChangeError::Full(_) => {
            // 507 is Insufficient Storage.
            not_written(NO_ROOM, 507, &error)
        }
        ChangeError::Busy => s3_error!(SlowDown, "{error}"),
        // From other servers a 503 means less, so that its code says that nothing happened; a 500
        // means that the outcome is unknown.
        ChangeError::NotBegun(_) | ChangeError::Poisoned(_) | ChangeError::Closed => {
            not_written(NOTHING_WRITTEN, 503, &error)
        }
        ChangeError::Unknown(_) => s3_error!(InternalError, "{error}"),
    }
}

fn not_written(code: &str, status: u16, error: &ChangeError) -> S3Error {
    let code = S3ErrorCode::Custom(code.into());
    let mut refused = S3Error::with_message(code, error.to_string());
    if let Ok(status) = status.try_into() {
        refused.set_status_code(status);
    }
    refused
}

pub(super) fn unreadable(error: LogStoreError) -> S3Error {
    tracing::error!(%error, "the embedded S3 store cannot read an object");
    s3_error!(InternalError, "{error}")
}
