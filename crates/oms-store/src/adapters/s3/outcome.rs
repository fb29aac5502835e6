//! Classifies failures by the rules of S3: 409 and 429 ask for another attempt; after a 5xx or a
//! broken connection it is unknown whether a write happened.

use super::failure::Failure;
use crate::adapters::tls::{CertificateRefusal, certificate_refusal};
use crate::error::{Determinacy, StoreError, StoreErrorKind};

/// Code of the embedded endpoint's 507: no space, and nothing was written. The 507 of another
/// server may come from one of several disks after another one has written.
pub const NO_ROOM: &str = "NoRoomNothingWritten";

/// Code of the embedded endpoint's 503: it cannot write now, and nothing was written.
pub const NOTHING_WRITTEN: &str = "NotNowNothingWritten";

/// Codes that say that keys have ended, or are not known (any more): S3's and MinIO's.
pub(super) const KEYS_REFUSED: [&str; 5] = [
    "ExpiredToken",
    "TokenRefreshRequired",
    "InvalidAccessKeyId",
    "InvalidToken",
    "InvalidTokenId",
];

/// Classifies a failed write.
pub(super) fn classify_write(operation: &'static str, failure: &Failure) -> StoreError {
    let (kind, determinacy) = classify(failure);
    let retry_after = match failure {
        Failure::Refused { retry_after, .. } => *retry_after,
        _ => None,
    };
    StoreError {
        determinacy,
        kind,
        store: "s3",
        operation,
        message: failure.to_string(),
        retry_after,
    }
}

/// Classifies a failed read; reads change nothing, so they are always determinate.
pub(super) fn classify_read(operation: &'static str, failure: &Failure) -> StoreError {
    StoreError {
        determinacy: Determinacy::Determinate,
        ..classify_write(operation, failure)
    }
}

fn classify(failure: &Failure) -> (StoreErrorKind, Determinacy) {
    use Determinacy::{Determinate, Indeterminate};
    use StoreErrorKind as Kind;
    match failure {
        // One of the two clocks is wrong, which can be corrected, unlike a wrong key.
        Failure::Refused {
            status: 403, body, ..
        } if body.contains("RequestTimeTooSkewed") => (Kind::Unavailable, Determinate),
        // The next request seeks others.
        Failure::Refused {
            replaceable: true, ..
        } => (Kind::Unavailable, Determinate),
        _ if failure.has_code(&KEYS_REFUSED) => (Kind::Denied, Determinate),
        Failure::Refused { status, body, .. } => match status {
            // The bucket is in another region.
            300..=399 if failure.has_code(&["PermanentRedirect"]) => (Kind::Invalid, Determinate),
            // A bucket that is new, or somebody between: where it leads this request was not meant for.
            300..=399 => (Kind::Unavailable, Determinate),
            501 if failure.has_code(&["NotImplemented"]) => (Kind::Invalid, Determinate),
            401 | 403 => (Kind::Denied, Determinate),
            404 => (Kind::NotFound, Determinate),
            // A delete raced with the put: nothing happened.
            409 => (Kind::Conflict, Determinate),
            412 => (Kind::Conflict, Determinate),
            429 => (Kind::Throttled, Determinate),
            // A store or proxy that gave up half-way: the write may have reached a disk.
            503 if body.contains(NOTHING_WRITTEN) => (Kind::Unavailable, Determinate),
            503 => (Kind::Throttled, Indeterminate),
            507 if body.contains(NO_ROOM) => (Kind::Full, Determinate),
            507 => (Kind::Full, Indeterminate),
            408 => (Kind::Timeout, Indeterminate),
            400 if body.contains("RequestTimeout") => (Kind::Timeout, Indeterminate),
            400..=499 => (Kind::Invalid, Determinate),
            _ => (Kind::Unavailable, Indeterminate),
        },
        Failure::Transport(error) => transport(error),
        Failure::Credentials { transient, .. } => match transient {
            true => (Kind::Unavailable, Determinate),
            false => (Kind::Denied, Determinate),
        },
        Failure::Unsent(_) => (Kind::Invalid, Determinate),
        // Somebody between has answered.
        Failure::Unreadable(_) => (Kind::Unavailable, Indeterminate),
    }
}

fn transport(error: &reqwest::Error) -> (StoreErrorKind, Determinacy) {
    match certificate_refusal(error) {
        // Before a request is sent.
        Some(CertificateRefusal::Untrusted) => (StoreErrorKind::Denied, Determinacy::Determinate),
        Some(CertificateRefusal::Expired) => {
            (StoreErrorKind::Unavailable, Determinacy::Determinate)
        }
        Some(CertificateRefusal::Ours) if error.is_connect() => {
            (StoreErrorKind::Denied, Determinacy::Determinate)
        }
        // TLS 1.3 tells it after the request may have been sent.
        Some(CertificateRefusal::Ours) => (StoreErrorKind::Denied, Determinacy::Indeterminate),
        // There was no connection, so the request was not sent.
        None if error.is_connect() && error.is_timeout() => {
            (StoreErrorKind::Timeout, Determinacy::Determinate)
        }
        None if error.is_connect() => (StoreErrorKind::Unavailable, Determinacy::Determinate),
        None if error.is_timeout() => (StoreErrorKind::Timeout, Determinacy::Indeterminate),
        None => (StoreErrorKind::Unavailable, Determinacy::Indeterminate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_4_what_an_answer_says_of_the_write() {
        use Determinacy::{Determinate, Indeterminate};
        use StoreErrorKind as Kind;
        for (status, body, expected) in [
            (
                403,
                "<Code>AccessDenied</Code>",
                (Kind::Denied, Determinate),
            ),
            (
                403,
                "<Code>RequestTimeTooSkewed</Code>",
                (Kind::Unavailable, Determinate),
            ),
            (
                400,
                "<Code>ExpiredToken</Code>",
                (Kind::Denied, Determinate),
            ),
            (307, "", (Kind::Unavailable, Determinate)),
            (
                301,
                "<Code>PermanentRedirect</Code>",
                (Kind::Invalid, Determinate),
            ),
            (
                501,
                "<Code>NotImplemented</Code>",
                (Kind::Invalid, Determinate),
            ),
            (501, "", (Kind::Unavailable, Indeterminate)),
            (507, NO_ROOM, (Kind::Full, Determinate)),
            (503, NOTHING_WRITTEN, (Kind::Unavailable, Determinate)),
            // MinIO's: some of its disks may have the object.
            (
                507,
                "<Code>XMinioStorageFull</Code>",
                (Kind::Full, Indeterminate),
            ),
            (
                503,
                "<Code>SlowDown</Code>",
                (Kind::Throttled, Indeterminate),
            ),
        ] {
            let failure = |replaceable| Failure::Refused {
                status,
                body: body.to_owned(),
                retry_after: None,
                region: None,
                replaceable,
            };
            assert_eq!(classify(&failure(false)), expected, "{status} {body}");
            if body.contains("ExpiredToken") {
                let sought = (Kind::Unavailable, Determinate);
                assert_eq!(classify(&failure(true)), sought, "others are sought");
            }
        }
    }
}
