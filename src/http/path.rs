//! Ids in paths: decoded, checked and typed before a handler sees them. The names in the path
//! templates (`{db}`, `{class}`, `{id}`) are those that a refusal names.

use std::borrow::Cow;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use utoipa::IntoParams;

use super::problem::{self, Problem, invalid_id};
use crate::domain::ids::{
    ClassId, CommandId, DatabaseName, InstanceId, InvalidId, Offset, PartitionId,
    RESERVED_STREAM_TYPES, StreamName, StreamType,
};

/// In path segments that we send, everything but RFC 3986's unreserved characters is encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// An id as a path segment, for `Location`.
pub fn segment(id: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(id, SEGMENT)
}

/// The text of a path parameter. The router has decoded all but `%25`, `%2F` and `%2B` (which would
/// change the path's structure) and puts U+FFFD where the bytes are not UTF-8.
fn text<'r>(req: &'r HttpRequest, name: &'static str) -> Result<Cow<'r, str>, Problem> {
    let routed = req.match_info().get(name).unwrap_or_default();
    let decoded = percent_decode_str(routed).decode_utf8_lossy();
    if decoded.contains('\u{FFFD}') && !holds_replacement(req.uri().path()) {
        let error = InvalidId {
            what: "id",
            rule: "must be UTF-8",
        };
        return Err(invalid_id(name, &error));
    }
    Ok(decoded)
}

/// Whether the path itself contains an encoded U+FFFD.
fn holds_replacement(path: &str) -> bool {
    path.to_ascii_lowercase().contains("%ef%bf%bd")
}

fn parse<T>(
    req: &HttpRequest,
    name: &'static str,
    new: impl FnOnce(&str) -> Result<T, InvalidId>,
) -> Result<T, Problem> {
    new(&text(req, name)?).map_err(|error| invalid_id(name, &error))
}

macro_rules! from_path {
    ($path:ident, $req:ident => $make:expr) => {
        impl FromRequest for $path {
            type Error = Problem;
            type Future = Ready<Result<Self, Problem>>;

            fn from_request($req: &HttpRequest, _: &mut Payload) -> Self::Future {
                fn make($req: &HttpRequest) -> Result<$path, Problem> {
                    $make
                }
                ready(make($req))
            }
        }
    };
}

/// `…/databases/{db}`
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct DatabasePath {
    /// The database: `[a-z][a-z0-9_-]{2,49}`.
    #[param(value_type = String, pattern = "^[a-z][a-z0-9_-]{2,49}$", example = "films")]
    pub db: DatabaseName,
}

from_path!(DatabasePath, req => Ok(DatabasePath {
    db: parse(req, "db", DatabaseName::new)?,
}));

/// `…/databases/{db}/classes/{class}`
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct ClassPath {
    /// The database: `[a-z][a-z0-9_-]{2,49}`.
    #[param(value_type = String, pattern = "^[a-z][a-z0-9_-]{2,49}$", example = "films")]
    pub db: DatabaseName,
    /// The class: `[A-Za-z][A-Za-z0-9_:-]{0,99}`.
    #[param(value_type = String, pattern = "^[A-Za-z][A-Za-z0-9_:-]{0,99}$", example = "Movie")]
    pub class: ClassId,
}

from_path!(ClassPath, req => Ok(ClassPath {
    db: parse(req, "db", DatabaseName::new)?,
    class: parse(req, "class", ClassId::new)?,
}));

/// `…/databases/{db}/classes/{class}/instances/{id}`
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct InstancePath {
    /// The database: `[a-z][a-z0-9_-]{2,49}`.
    #[param(value_type = String, pattern = "^[a-z][a-z0-9_-]{2,49}$", example = "films")]
    pub db: DatabaseName,
    /// The class: `[A-Za-z][A-Za-z0-9_:-]{0,99}`.
    #[param(value_type = String, pattern = "^[A-Za-z][A-Za-z0-9_:-]{0,99}$", example = "Movie")]
    pub class: ClassId,
    /// The instance: 1 to 200 bytes without control characters or `/`, percent-encoded.
    #[param(value_type = String, max_length = 200, example = "metropolis-1927")]
    pub id: InstanceId,
}

from_path!(InstancePath, req => Ok(InstancePath {
    db: parse(req, "db", DatabaseName::new)?,
    class: parse(req, "class", ClassId::new)?,
    id: parse(req, "id", InstanceId::new)?,
}));

/// `…/streams/{type}/{id}`
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct StreamPath {
    /// The stream's type: `[a-z][a-z0-9_-]{0,49}`.
    #[param(pattern = "^[a-z][a-z0-9_-]{0,49}$", example = "order")]
    pub r#type: String,
    /// The stream's id: 1 to 200 bytes without control characters or `/`, percent-encoded. Of a
    /// stream of the ontology (which can only be read): its parts, joined by `%2F`.
    #[param(max_length = 200, example = "2026-0042")]
    pub id: String,
    /// Both together.
    #[param(ignore)]
    pub stream: StreamName,
}

from_path!(StreamPath, req => {
    let stream_type = parse(req, "type", StreamType::new)?;
    let id = text(req, "id")?;
    let named = if is_reserved(stream_type.as_str()) {
        // Parts of ontology streams contain no '/', so the join is unambiguous.
        let parts: Vec<&str> = id.split('/').collect();
        StreamName::new(&stream_type, &parts)
    } else {
        StreamName::new(&stream_type, &[&*id])
    };
    let stream = named.map_err(|error| invalid_id("id", &error))?;
    Ok(StreamPath {
        r#type: stream_type.to_string(),
        id: id.into_owned(),
        stream,
    })
});

/// Whether a stream type belongs to the ontology.
pub fn is_reserved(stream_type: &str) -> bool {
    RESERVED_STREAM_TYPES.contains(&stream_type)
}

/// `…/commands/{command_id}`
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct CommandPath {
    /// The command, as its answer named it.
    #[param(value_type = String, format = "uuid")]
    pub command_id: CommandId,
}

from_path!(CommandPath, req => {
    let text = text(req, "command_id")?;
    let id = uuid::Uuid::try_parse(&text).map_err(|_| {
        let rule = "must be a UUID";
        Problem::new(problem::INVALID_ID, format!("command_id: command id {rule}"))
            .field("command_id", "invalid_id", rule)
    })?;
    Ok(CommandPath { command_id: CommandId(id) })
});

/// `…/admin/migration/switches/{id}`
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct SwitchPath {
    /// The switch, as its order was answered.
    #[param(value_type = String, format = "uuid")]
    pub id: uuid::Uuid,
}

from_path!(SwitchPath, req => {
    let id = uuid::Uuid::try_parse(&text(req, "id")?).map_err(|_| {
        let rule = "must be a UUID";
        Problem::new(problem::INVALID_ID, format!("id: switch id {rule}"))
            .field("id", "invalid_id", rule)
    })?;
    Ok(SwitchPath { id })
});

/// `…/admin/migration/{kind}/{job}`
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct JobPath {
    /// The job, as its answer named it.
    #[param(value_type = String, format = "uuid")]
    pub job: uuid::Uuid,
}

from_path!(JobPath, req => {
    let job = uuid::Uuid::try_parse(&text(req, "job")?).map_err(|_| {
        let rule = "must be a UUID";
        Problem::new(problem::INVALID_ID, format!("job: job id {rule}"))
            .field("job", "invalid_id", rule)
    })?;
    Ok(JobPath { job })
});

/// `…/log/{partition}/{offset}`
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct CommitPath {
    /// The partition.
    #[param(value_type = u16)]
    pub partition: PartitionId,
    /// The number of the commit object there, from 0.
    #[param(value_type = u64)]
    pub offset: Offset,
}

from_path!(CommitPath, req => {
    // Parses a number that PostgreSQL's bigint can hold; a larger one cannot be in a log.
    fn number<T: TryFrom<i64>>(req: &HttpRequest, name: &'static str) -> Result<T, Problem> {
        let given = text(req, name)?.parse::<i64>().ok();
        given.and_then(|n| T::try_from(n).ok()).ok_or_else(|| {
            let rule = "must be a whole number that a log can have";
            Problem::new(problem::INVALID_ID, format!("{name} {rule}"))
                .field(name, "invalid_id", rule)
        })
    }
    Ok(CommitPath {
        partition: PartitionId(number(req, "partition")?),
        offset: number(req, "offset")?,
    })
});

/// `…/admin/outbox/dead/{id}`
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct DeadLetterPath {
    /// The dead letter, as the list names it.
    pub id: i64,
}

from_path!(DeadLetterPath, req => {
    let id = text(req, "id")?.parse().map_err(|_| {
        let rule = "must be a whole number";
        Problem::new(problem::INVALID_ID, format!("id: dead letter id {rule}"))
            .field("id", "invalid_id", rule)
    })?;
    Ok(DeadLetterPath { id })
});

/// `…/admin/projections/{name}`
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct ProjectionPath {
    /// The projection's name.
    pub name: String,
}

from_path!(ProjectionPath, req => Ok(ProjectionPath {
    name: text(req, "name")?.into_owned(),
}));

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn request(pairs: &[(&'static str, &'static str)], uri: &str) -> HttpRequest {
        pairs
            .iter()
            .fold(TestRequest::with_uri(uri), |r, (name, value)| {
                r.param(*name, *value)
            })
            .to_http_request()
    }

    async fn take<T: FromRequest<Error = Problem>>(
        pairs: &[(&'static str, &'static str)],
    ) -> Result<T, Problem> {
        T::from_request(&request(pairs, "/x"), &mut Payload::None).await
    }

    #[actix_web::test]
    async fn bad_ids_are_refused_by_their_name_in_the_path() {
        let refused = |r: Result<InstancePath, Problem>| {
            let body = r.unwrap_err().into_body();
            assert_eq!((body.status, body.code), (400, "invalid_id"));
            body.violations[0].field.clone()
        };
        let of = |db, class, id| async move {
            take::<InstancePath>(&[("db", db), ("class", class), ("id", id)]).await
        };
        assert_eq!(refused(of("X", "C", "i").await), "db");
        assert_eq!(refused(of("abc", "1", "i").await), "class");
        assert_eq!(refused(of("abc", "C", "..").await), "id");
        assert_eq!(refused(of("abc", "C", "a%2Fb").await), "id");
        assert_eq!(refused(of("abc", "C", "a\u{FFFD}b").await), "id");
        let fine = of("abc", "C", "50%25 & ü").await.unwrap();
        assert_eq!(fine.id.as_str(), "50% & ü");
        let kept = of("abc", "C", "a%2541").await.unwrap();
        assert_eq!(kept.id.as_str(), "a%41", "decoded once, not twice");
    }

    #[actix_web::test]
    async fn streams_of_the_ontology_have_several_parts_and_others_one() {
        let of = |t, id| async move { take::<StreamPath>(&[("type", t), ("id", id)]).await };
        let plain = of("order", "a b").await.unwrap();
        assert_eq!(plain.stream.as_str(), "order/a%20b");
        assert_eq!(of("order", "a%2Fb").await.unwrap_err().code(), "invalid_id");
        let instance = of("instance", "films%2FMovie%2F1").await.unwrap();
        assert_eq!(instance.stream.as_str(), "instance/films/Movie/1");
        assert_eq!(of("Order", "1").await.unwrap_err().code(), "invalid_id");
    }

    #[actix_web::test]
    async fn commits_that_no_log_can_have_are_refused_by_the_name_of_the_number() {
        let of = |p, o| async move { take::<CommitPath>(&[("partition", p), ("offset", o)]).await };
        let refused = |r: Result<CommitPath, Problem>| {
            let body = r.unwrap_err().into_body();
            assert_eq!((body.status, body.code), (400, "invalid_id"));
            body.violations[0].field.clone()
        };
        for (partition, offset, field) in [
            ("65536", "0", "partition"),
            ("-1", "0", "partition"),
            ("0", "-1", "offset"),
            ("0", "9223372036854775808", "offset"),
            ("0", "18446744073709551615", "offset"),
            ("0", "x", "offset"),
        ] {
            assert_eq!(refused(of(partition, offset).await), field);
        }
        let last = of("1", "9223372036854775807").await.unwrap();
        assert_eq!((last.partition.0, last.offset), (1, i64::MAX as u64));
    }

    #[actix_web::test]
    async fn other_ids_are_checked_too() {
        for bad in ["", "7", "zz"] {
            let refused = take::<CommandPath>(&[("command_id", bad)]).await;
            assert_eq!(refused.unwrap_err().code(), "invalid_id", "{bad}");
            let bad_number = take::<DeadLetterPath>(&[("id", "x7")]).await;
            assert_eq!(bad_number.unwrap_err().code(), "invalid_id");
        }
    }

    #[test]
    fn segments_are_escaped() {
        assert_eq!(segment("a b/ü?").to_string(), "a%20b%2F%C3%BC%3F");
    }
}
