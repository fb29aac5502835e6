//! Parses request headers: preconditions, idempotency, correlation, positions.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use sha2::{Digest, Sha256};

use super::problem::{self, Problem};
use crate::domain::ids::{Position, Version};
use crate::domain::trace::TraceContext;
use crate::domain::versions::{MAX_VERSIONS, VersionSet};
use crate::service::context::ExpectedVersion;

/// Longest idempotency key in bytes; it is stored with every event of its command.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;
/// Longest request id of a client; it is written to logs and, as the correlation id, to events.
pub const MAX_REQUEST_ID_BYTES: usize = 128;

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// `Idempotent-Replayed: true` on a recorded answer.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `X-Commit-Position` of a write.
pub const COMMIT_POSITION: HeaderName = HeaderName::from_static("x-commit-position");
/// `X-Min-Position` of a read.
pub const MIN_POSITION: HeaderName = HeaderName::from_static("x-min-position");
/// `X-Read-Source` of a read.
pub const READ_SOURCE: HeaderName = HeaderName::from_static("x-read-source");
/// `X-Read-Lag` of a read: commits that the read model lacks.
pub const READ_LAG: HeaderName = HeaderName::from_static("x-read-lag");
/// `Last-Event-ID` of a resumed live stream.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The trace in which a request was recorded: what W3C drafts for answers, in the form of `traceparent`.
pub const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The precondition of a write, before it is known whether the request allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// None.
    None,
    /// `If-Match: *`: it must exist.
    Exists,
    /// `If-Match: "<version>"`.
    Version(Version),
    /// `If-Match` with several tags, or with none that can match.
    OneOf(VersionSet),
    /// `If-None-Match: *`: it must not exist.
    Absent,
}

impl Precondition {
    /// Parses the precondition. In a list any tag may match; weak tags never do (RFC 9110 13.1.1),
    /// because a proxy that weakens a tag has changed what the client saw.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Problem> {
        let if_none_match = one(headers, &IF_NONE_MATCH)?;
        match (if_match(headers)?, if_none_match) {
            (None, None) => Ok(Self::None),
            (Some(condition), None) => Ok(condition),
            (None, Some(value)) if value.as_bytes() == b"*" => Ok(Self::Absent),
            (None, Some(_)) => Err(Problem::new(
                problem::PRECONDITION_UNSUPPORTED,
                "on a write If-None-Match can only be *",
            )),
            (Some(_), Some(_)) => Err(Problem::new(
                problem::PRECONDITION_UNSUPPORTED,
                "If-Match and If-None-Match exclude each other",
            )),
        }
    }

    /// For a request that creates something: `If-None-Match: *` is allowed, and implied anyway.
    pub fn for_creation(self) -> Result<(), Problem> {
        match self {
            Self::None | Self::Absent => Ok(()),
            Self::Exists | Self::Version(_) | Self::OneOf(_) => Err(Problem::new(
                problem::PRECONDITION_UNSUPPORTED,
                "what is being created has no version to match",
            )),
        }
    }

    /// For a request to something that must exist: `If-Match: *` is implied anyway.
    pub fn for_change(self) -> Result<ExpectedVersion, Problem> {
        match self {
            Self::None | Self::Exists => Ok(ExpectedVersion::Any),
            Self::Version(version) => Ok(ExpectedVersion::Exactly(version)),
            Self::OneOf(versions) => Ok(ExpectedVersion::OneOf(versions)),
            Self::Absent => Err(Problem::new(
                problem::PRECONDITION_UNSUPPORTED,
                "this changes what exists, so If-None-Match: * could never hold",
            )),
        }
    }

    /// For an append to a stream, which its first event creates.
    pub fn for_append(self) -> Result<ExpectedVersion, Problem> {
        match self {
            Self::None => Ok(ExpectedVersion::Any),
            Self::Version(version) => Ok(ExpectedVersion::Exactly(version)),
            Self::OneOf(versions) => Ok(ExpectedVersion::OneOf(versions)),
            Self::Absent => Ok(ExpectedVersion::Exactly(Version::NONE)),
            Self::Exists => Err(Problem::new(
                problem::PRECONDITION_UNSUPPORTED,
                "an append takes If-Match: \"<version>\", or If-None-Match: * for a new stream",
            )),
        }
    }
}

/// The value of a header that may be given once.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, Problem> {
    let mut values = headers.get_all(name);
    let first = values.next();
    if values.next().is_some() {
        return Err(Problem::new(
            problem::INVALID_HEADER,
            format!("{name} may be given once only"),
        ));
    }
    Ok(first)
}

/// `If-Match`, which may be given in several lines (RFC 9110 5.3).
fn if_match(headers: &HeaderMap) -> Result<Option<Precondition>, Problem> {
    let mut lines = Vec::new();
    for value in headers.get_all(IF_MATCH) {
        let text = value.to_str().map_err(|_| bad_if_match("it is not text"))?;
        lines.push(text.trim());
    }
    match lines[..] {
        [] => Ok(None),
        ["*"] => Ok(Some(Precondition::Exists)),
        _ => {
            let mut tags = Vec::new();
            for line in lines {
                tags.extend(strong_tags(line)?);
            }
            versions(&tags).map(Some)
        }
    }
}

/// The strong tags of a list.
fn strong_tags(mut text: &str) -> Result<Vec<&str>, Problem> {
    let mut strong = Vec::new();
    loop {
        let weak = text.strip_prefix("W/");
        let opened = weak.unwrap_or(text).strip_prefix('"');
        let Some((tag, rest)) = opened.and_then(|t| t.split_once('"')) else {
            let detail = "it must be * or versions in double quotes, as in If-Match: \"3\"";
            return Err(bad_if_match(detail));
        };
        if tag.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(bad_if_match("a tag holds blanks or control characters"));
        }
        if weak.is_none() {
            strong.push(tag);
        }
        let rest = rest.trim_start();
        match rest.strip_prefix(',') {
            Some(rest) => text = rest.trim_start(),
            None if rest.is_empty() => return Ok(strong),
            None => return Err(bad_if_match("between two tags there is a comma")),
        }
    }
}

/// The versions of tags: tags that are no versions were never issued and match nothing.
fn versions(tags: &[&str]) -> Result<Precondition, Problem> {
    let mut set = VersionSet::NONE;
    let mut last = None;
    for version in tags.iter().filter_map(|t| parse_digits(t)).map(Version) {
        last = Some(version);
        set = set
            .with(version)
            .ok_or_else(|| bad_if_match(&format!("it lists more than {MAX_VERSIONS} versions")))?;
    }
    Ok(match last {
        Some(only) if set == only.into() => Precondition::Version(only),
        _ => Precondition::OneOf(set),
    })
}

fn bad_if_match(detail: &str) -> Problem {
    Problem::new(problem::INVALID_IF_MATCH, detail)
}

/// Digits only: `u64::from_str` also takes a plus sign.
fn parse_digits(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Whether `If-None-Match` says that the caller has this version already (weak comparison, lists
/// allowed: RFC 9110 13.1.2).
pub fn has_version(headers: &HeaderMap, version: Version) -> bool {
    let mut digits = itoa(version);
    digits.insert(0, '"');
    digits.push('"');
    headers
        .get_all(IF_NONE_MATCH)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == digits)
}

fn itoa(version: Version) -> String {
    version.0.to_string()
}

/// The idempotency key, if the request has one.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = one(headers, &IDEMPOTENCY_KEY)? else {
        return Ok(None);
    };
    let refuse = |detail: &str| Err(Problem::new(problem::INVALID_IDEMPOTENCY_KEY, detail));
    let Ok(key) = std::str::from_utf8(value.as_bytes()) else {
        return refuse("it is not UTF-8");
    };
    if key.is_empty() {
        return refuse("it is empty");
    }
    if key.len() > MAX_IDEMPOTENCY_KEY_BYTES {
        return refuse("it is longer than 255 bytes");
    }
    if key.chars().any(char::is_control) {
        return refuse("it holds control characters");
    }
    Ok(Some(key))
}

/// Distinguishes a repeated request from another one with the same key: 64 bits of the SHA-256 of
/// method, path and body. Stored with events, so it must not change between releases.
pub fn request_hash(method: &str, path: &str, body: &[u8]) -> u64 {
    let mut hash = Sha256::new();
    for part in [method.as_bytes(), path.as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(body);
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

/// `X-Min-Position`: the last position of each partition, from a list that may have several.
pub fn min_positions(headers: &HeaderMap, partitions: u16) -> Result<Vec<Position>, Problem> {
    let refuse = |detail: String| Err(Problem::new(problem::INVALID_HEADER, detail));
    let mut given = Vec::new();
    for value in headers.get_all(&MIN_POSITION) {
        for text in value.to_str().unwrap_or("?").split(',') {
            let Ok(position) = text.trim().parse::<Position>() else {
                return refuse(
                    "X-Min-Position must be a position, partition/offset/index, or a list of them \
                     with commas between"
                        .to_owned(),
                );
            };
            if position.partition.0 >= partitions {
                return refuse(format!(
                    "X-Min-Position: {position} cannot be, since there are {partitions} partitions, \
                     from 0"
                ));
            }
            given.push(position);
        }
    }
    Ok(last_of_each_partition(given))
}

/// The positions that a read must have reached to have seen all of `positions`.
pub fn last_of_each_partition(mut positions: Vec<Position>) -> Vec<Position> {
    positions.sort_by_key(|p| (p.partition, std::cmp::Reverse((p.offset, p.index))));
    positions.dedup_by_key(|p| p.partition);
    positions
}

/// The client's request id, if it can be logged and recorded.
pub fn client_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(&REQUEST_ID).filter(|value| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&value.len())
            && value.as_bytes().iter().all(|b| {
                b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+')
            })
    })
}

/// The caller's operation in its trace, from a valid `traceparent`.
pub fn trace_context(headers: &HeaderMap) -> Option<TraceContext> {
    TraceContext::parse(headers.get(&TRACEPARENT)?.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(name.clone(), value);
        }
        headers
    }

    #[test]
    fn if_match_means_what_rfc_9110_says() {
        let read = |value: &str| Precondition::from_headers(&headers(&[(IF_MATCH, value)]));
        assert_eq!(read("\"3\"").unwrap(), Precondition::Version(Version(3)));
        assert_eq!(read("*").unwrap(), Precondition::Exists);
        let some = |versions: &[u64]| {
            let set = versions
                .iter()
                .try_fold(VersionSet::NONE, |s, v| s.with(Version(*v)));
            Precondition::OneOf(set.unwrap())
        };
        for (value, matched) in [
            ("\"3\", \"4\"", &[3, 4][..]),
            ("\"7\" ,\"1\",W/\"2\"", &[7, 1]),
            ("W/\"3\"", &[]),
            ("\"abc\"", &[]),
            ("\"\"", &[]),
            ("\"-1\"", &[]),
            ("\"+1\"", &[]),
            ("\"99999999999999999999\"", &[]),
        ] {
            assert_eq!(read(value).unwrap(), some(matched), "{value}");
        }
        let weak_and_strong = read("W/\"1\", \"2\"").unwrap();
        assert_eq!(weak_and_strong, Precondition::Version(Version(2)));
        let twice = headers(&[(IF_MATCH, "\"1\""), (IF_MATCH, "\"2\"")]);
        assert_eq!(Precondition::from_headers(&twice).unwrap(), some(&[1, 2]));
        let many = ["\"1\""; MAX_VERSIONS + 1].join(",");
        for bad in [
            "3",
            "\"\"x",
            "",
            "\"",
            "\"3",
            "w/\"3\"",
            "*, \"3\"",
            "\"3\",",
            "\"3\" \"4\"",
            "\"3 4\"",
            &many,
        ] {
            assert_eq!(read(bad).unwrap_err().code(), "invalid_if_match", "{bad:?}");
        }
    }

    #[test]
    fn each_kind_of_write_takes_the_preconditions_that_mean_something() {
        use Precondition::{Absent, Exists, None, Version as Exactly};
        let v = Exactly(Version(3));
        let ok = |r: Result<ExpectedVersion, Problem>| r.ok();
        let (any, three) = (ExpectedVersion::Any, ExpectedVersion::Exactly(Version(3)));
        assert_eq!(ok(None.for_change()), Some(any));
        assert_eq!(ok(Exists.for_change()), Some(any));
        assert_eq!(ok(v.for_change()), Some(three));
        assert_eq!(ok(Absent.for_change()), Option::None);
        assert_eq!(ok(v.for_append()), Some(three));
        assert_eq!(
            ok(Absent.for_append()),
            Some(ExpectedVersion::Exactly(Version::NONE))
        );
        assert_eq!(ok(Exists.for_append()), Option::None);
        assert!(None.for_creation().is_ok() && Absent.for_creation().is_ok());
        assert!(v.for_creation().is_err() && Exists.for_creation().is_err());
    }

    #[test]
    fn if_none_match_compares_weakly_over_lists() {
        let has = |value: &str| has_version(&headers(&[(IF_NONE_MATCH, value)]), Version(3));
        for yes in ["\"3\"", "W/\"3\"", "\"1\", \"3\"", "*"] {
            assert!(has(yes), "{yes}");
        }
        for no in ["\"33\"", "3", "\"1\"", ""] {
            assert!(!has(no), "{no}");
        }
    }

    #[test]
    fn odd_idempotency_keys_are_refused() {
        let read = |value: &str| {
            idempotency_key(&headers(&[(IDEMPOTENCY_KEY, value)]))
                .map(|k| k.map(str::to_owned))
                .map_err(|p| p.code())
        };
        assert_eq!(read("pay #7 ü"), Ok(Some("pay #7 ü".to_owned())));
        assert_eq!(read(&"x".repeat(255)), Ok(Some("x".repeat(255))));
        let refused = Err("invalid_idempotency_key");
        assert_eq!(read(""), refused);
        assert_eq!(read(&"x".repeat(256)), refused);
        assert_eq!(read("a\tb"), refused);
        let mut raw = HeaderMap::new();
        raw.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(idempotency_key(&raw).is_err());
        let twice = headers(&[(IDEMPOTENCY_KEY, "a"), (IDEMPOTENCY_KEY, "b")]);
        assert!(idempotency_key(&twice).is_err());
    }

    #[test]
    fn the_request_hash_is_part_of_the_stored_format() {
        // Golden: recorded answers of older events would not be recognised any more.
        assert_eq!(
            request_hash("POST", "/api/v1/databases", b"{}"),
            0x0a6e_dc32_d701_3b2b
        );
        let hash = |m, p, b: &[u8]| request_hash(m, p, b);
        assert_ne!(hash("POST", "/a", b"b"), hash("POST", "/ab", b""));
        assert_ne!(hash("POST", "/a", b""), hash("PUT", "/a", b""));
    }

    #[test]
    fn ids_from_clients_are_taken_only_when_harmless() {
        let id = |value: &str| client_request_id(&headers(&[(REQUEST_ID, value)])).is_some();
        assert!(id("req-7.a:b"));
        assert!(!id(""));
        assert!(!id("a b"));
        assert!(!id(&"x".repeat(MAX_REQUEST_ID_BYTES + 1)));
        let trace = |value: &str| trace_context(&headers(&[(TRACEPARENT, value)]));
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(
            trace(valid).unwrap().trace,
            0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c
        );
        for bad in [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert_eq!(trace(bad), None, "{bad}");
        }
    }

    #[test]
    fn positions_are_checked_and_the_last_of_each_partition_counts() {
        let read = |values: &[&str]| {
            let pairs: Vec<_> = values.iter().map(|v| (MIN_POSITION, *v)).collect();
            let positions = min_positions(&headers(&pairs), 4)?;
            Ok::<_, Problem>(
                positions
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(read(&["1/2/3"]).unwrap(), ["1/2/3"]);
        assert!(read(&[]).unwrap().is_empty());
        assert_eq!(
            read(&["1/2/3, 0/9/0,1/10/1", "1/10/0,3/0/0"]).unwrap(),
            ["0/9/0", "1/10/1", "3/0/0"]
        );
        for bad in ["1/2", "", "1/2/3,", "1/2/3;0/9/0", "4/0/0", "9999/0/0"] {
            assert_eq!(
                read(&[bad]).unwrap_err().code(),
                "invalid_header",
                "{bad:?}"
            );
        }
    }
}
