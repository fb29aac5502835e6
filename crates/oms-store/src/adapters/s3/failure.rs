//! Why a request to the bucket got no useful answer.

use std::error::Error as _;
use std::time::Duration;

use s3::error::S3Error;

/// Why a request to the bucket got no useful answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server answered, and refused.
    #[error("{}", told(*status, body, region.as_deref()))]
    Refused {
        /// Status of HTTP.
        status: u16,
        /// The body: XML, shortened.
        body: String,
        /// When to ask again, if the server said so.
        retry_after: Option<Duration>,
        /// The region that the server says the bucket is in.
        region: Option<String>,
        /// Whether it refused keys that others can replace.
        replaceable: bool,
    },
    /// There was no answer, or it ended half-way.
    #[error("{}", with_causes(.0))]
    Transport(reqwest::Error),
    /// There are no credentials, or they cannot be renewed.
    #[error("{message}")]
    Credentials {
        /// What was looked for.
        message: String,
        /// Whether asking again may help.
        transient: bool,
    },
    /// The request cannot be made; nothing was sent.
    #[error("the request cannot be made: {0}")]
    Unsent(String),
    /// The answer is not what S3 answers.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

impl From<S3Error> for Failure {
    /// Of what the library does before anything is sent.
    fn from(error: S3Error) -> Self {
        Self::Unsent(error.to_string())
    }
}

impl Failure {
    /// Whether the server answered with `status`.
    pub fn is_status(&self, status: u16) -> bool {
        matches!(self, Self::Refused { status: s, .. } if *s == status)
    }

    /// Whether the server refused with one of these codes of S3's.
    pub fn has_code(&self, codes: &[&str]) -> bool {
        match self {
            Self::Refused { body, .. } => {
                element(body, "Code").is_some_and(|code| codes.contains(&code))
            }
            _ => false,
        }
    }
}

/// The status with the code and the words of S3's error, without its XML.
fn told(status: u16, body: &str, region: Option<&str>) -> String {
    let mut text = match (element(body, "Code"), element(body, "Message")) {
        (Some(code), Some(message)) => format!("{status} {code}: {message}"),
        (Some(code), None) => format!("{status} {code}"),
        (None, _) if body.trim().is_empty() => format!("status {status}"),
        (None, _) => format!("{status}: {}", body.trim()),
    };
    shorten(&mut text);
    if let Some(region) = region.filter(|_| matches!(status, 300..=400)) {
        text.push_str(&format!(" (the bucket is in {region}: set s3.region)"));
    }
    text
}

/// Shortens a text for the log.
pub(super) fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(500) {
        text.truncate(end);
    }
}

/// The content of the first element of this name; those of S3's errors have no attributes.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = xml.split_once(&format!("<{name}>"))?;
    let (content, _) = after.split_once(&format!("</{name}>"))?;
    let content = content.trim();
    (!content.is_empty()).then_some(content)
}

/// The error with its causes, without its URL, shortened for the log.
fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    shorten(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_said_is_told_without_its_xml() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>\
                   <Message>no</Message></Error>";
        assert_eq!(told(403, xml, None), "403 AccessDenied: no");
        assert_eq!(told(502, "bad gateway\n", None), "502: bad gateway");
        assert_eq!(told(500, "", None), "status 500");
        let elsewhere = told(301, "<Code>PermanentRedirect</Code>", Some("eu-west-3"));
        assert!(
            elsewhere.contains("eu-west-3: set s3.region"),
            "{elsewhere}"
        );
        assert!(!told(403, xml, Some("eu-west-3")).contains("eu-west-3"));
    }
}
