//! The property types `uuid` and `link`.

use serde_json::Value;
use uuid::{Uuid, Variant};

use super::LinkSink;
use super::check::{Path, Report, Shown};
use super::compile::Constraints;
use crate::domain::ids::{ClassId, InstanceId};

/// Constraints of a `uuid`.
#[derive(Debug, Clone)]
pub struct UuidType {
    versions: Option<Vec<u64>>,
    variant: Option<Variant>,
    allow_nil: bool,
}

impl UuidType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        let version = |v: &Value| v.as_u64().filter(|n| (1..=8).contains(n));
        Self {
            versions: c.parsed(
                "version",
                "a UUID version (1 to 8) or a list of them",
                |v| match v.as_array() {
                    Some(list) if list.is_empty() => None,
                    Some(list) => list.iter().map(version).collect(),
                    None => version(v).map(|one| vec![one]),
                },
            ),
            variant: c.parsed("variant", "`rfc4122`, `microsoft` or `ncs`", |v| {
                match v.as_str()? {
                    "rfc4122" | "rfc9562" => Some(Variant::RFC4122),
                    "microsoft" => Some(Variant::Microsoft),
                    "ncs" => Some(Variant::NCS),
                    _ => None,
                }
            }),
            allow_nil: c.flag("allow_nil"),
        }
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        let Some(text) = value.as_str() else {
            return report.wrong_type(at, "a UUID", value);
        };
        let Some(uuid) = parse_uuid(text) else {
            let message = format_args!("`{}` is not a hyphenated UUID", Shown(text));
            return report.add(at, "type", message);
        };
        if uuid.is_nil() {
            if !self.allow_nil {
                report.add(at, "allow_nil", format_args!("must not be the nil UUID"));
            }
            return;
        }
        let version = uuid.get_version_num() as u64;
        if let Some(versions) = &self.versions
            && !versions.contains(&version)
        {
            let message = format_args!("must be of version {versions:?} (it is of {version})");
            report.add(at, "version", message);
        }
        if let Some(variant) = self.variant
            && uuid.get_variant() != variant
        {
            report.add(at, "variant", format_args!("must be of variant {variant}"));
        }
    }
}

/// Parses the hyphenated form only; with others, one id could have several texts.
pub(super) fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() != uuid::fmt::Hyphenated::LENGTH {
        return None;
    }
    Uuid::try_parse(text).ok()
}

/// Constraints of a `link`: the id of another instance.
#[derive(Debug, Clone)]
pub struct LinkType {
    pub(super) target: Option<ClassId>,
}

impl LinkType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        Self {
            target: c.parsed("target", "a class id", |v| ClassId::new(v.as_str()?).ok()),
        }
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        check_instance_id(value, at, report);
    }

    pub(super) fn each_link(&self, value: &Value, at: &Path<'_>, sink: &mut LinkSink<'_>) {
        if let (Some(class), Some(id)) = (&self.target, value.as_str()) {
            sink(at, class, id);
        }
    }
}

/// Reports a value that cannot be the id of an instance.
pub(crate) fn check_instance_id(value: &Value, at: &Path<'_>, report: &mut Report) {
    let Some(text) = value.as_str() else {
        return report.wrong_type(at, "the id of an instance", value);
    };
    if let Err(error) = InstanceId::new(text) {
        let message = format_args!("`{}`: {error}", Shown(text));
        report.add(at, "type", message);
    }
}
