//! Classifies answers of rust-s3 by the rules of S3: 409 and 429 ask for another attempt; after a
//! 5xx or a broken connection it is unknown whether a write happened.

use s3::error::S3Error;

use crate::error::{Determinacy, StoreError, StoreErrorKind};

/// Code of the embedded endpoint's 507: no space, and nothing was written. The 507 of another
/// server may come from one of several disks after another one has written.
pub const NO_ROOM: &str = "NoRoomNothingWritten";

/// Code of the embedded endpoint's 503: it cannot write now, and nothing was written.
pub const NOTHING_WRITTEN: &str = "NotNowNothingWritten";

/// Whether the server answered with `status`.
pub fn is_status(error: &S3Error, status: u16) -> bool {
    matches!(error, S3Error::HttpFailWithBody(s, _) if *s == status)
}

/// Classifies a failed write.
pub fn classify_write(operation: &'static str, error: &S3Error) -> StoreError {
    let (kind, determinacy) = classify(error);
    StoreError {
        determinacy,
        kind,
        store: "s3",
        operation,
        message: message(error),
        retry_after: None,
    }
}

/// Classifies a failed read; reads change nothing, so they are always determinate.
pub fn classify_read(operation: &'static str, error: &S3Error) -> StoreError {
    StoreError {
        determinacy: Determinacy::Determinate,
        ..classify_write(operation, error)
    }
}

fn classify(error: &S3Error) -> (StoreErrorKind, Determinacy) {
    use Determinacy::{Determinate, Indeterminate};
    use StoreErrorKind as Kind;
    match error {
        S3Error::HttpFailWithBody(status, body) => match status {
            // One of the two clocks is wrong, which can be corrected, unlike a wrong key.
            403 if body.contains("RequestTimeTooSkewed") => (Kind::Unavailable, Determinate),
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
        S3Error::Reqwest(e) if e.is_timeout() => (Kind::Timeout, Indeterminate),
        // There was no connection, so the request was not sent.
        S3Error::Reqwest(e) if e.is_connect() => (Kind::Unavailable, Determinate),
        S3Error::Reqwest(_) | S3Error::Io(_) | S3Error::Http(_) | S3Error::HttpFail => {
            (Kind::Unavailable, Indeterminate)
        }
        S3Error::Credentials(_) => (Kind::Denied, Determinate),
        // Fails before anything is sent.
        S3Error::UrlParse(_)
        | S3Error::InvalidHeaderValue(_)
        | S3Error::InvalidHeaderName(_)
        | S3Error::HmacInvalidLength(_) => (Kind::Invalid, Determinate),
        // Most other errors concern an answer that could not be read.
        _ => (Kind::Invalid, Indeterminate),
    }
}

/// The error with its causes, shortened for the log.
fn message(error: &S3Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    if let Some((end, _)) = text.char_indices().nth(500) {
        text.truncate(end);
    }
    text
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
            let error = S3Error::HttpFailWithBody(status, body.to_owned());
            assert_eq!(classify(&error), expected, "{status} {body}");
        }
    }
}
