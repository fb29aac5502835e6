//! The property types `file` and `image`: a reference to something stored elsewhere, as an absolute
//! URL or a relative path, alone or in an object with its attributes.

use serde_json::{Map, Value};
use url::Url;

use super::check::{Path, Report, Shown};
use super::compile::Constraints;
use super::free::check_free;
use super::network::{DomainRules, MAX_URL_BYTES, check_https, parse_url};
use super::text::check_storable;

/// Schemes that a reference may have.
const SCHEMES: [&str; 3] = ["https", "http", "s3"];

/// Extensions that an image may have unless the class lists others.
const IMAGE_EXTENSIONS: [&str; 12] = [
    "jpg", "jpeg", "png", "gif", "webp", "svg", "bmp", "tif", "tiff", "avif", "heic", "ico",
];

/// Constraints of a `file` or an `image`.
#[derive(Debug, Clone)]
pub struct FileType {
    image: bool,
    require_https: bool,
    domains: DomainRules,
    allowed_extensions: Option<Vec<Box<str>>>,
    allowed_types: Option<Vec<Box<str>>>,
    measures: Vec<Measure>,
}

/// A limit on a number, which an object form must then have.
#[derive(Debug, Clone)]
struct Measure {
    code: &'static str,
    field: &'static str,
    at_least: bool,
    limit: u64,
}

impl FileType {
    pub(super) fn compile(c: &mut Constraints<'_>, image: bool) -> Self {
        let lower = |v: &Value| {
            let text = v.as_str()?.trim_start_matches('.').to_ascii_lowercase();
            (!text.is_empty()).then(|| text.into_boxed_str())
        };
        let mut measures = Vec::new();
        let mut measure = |min: &'static str, max: &'static str, field: &'static str| {
            let limits = [(min, c.count(min)), (max, c.count(max))];
            c.in_order((min, limits[0].1.as_ref()), (max, limits[1].1.as_ref()));
            for (code, limit) in limits {
                measures.extend(limit.map(|limit| Measure {
                    code,
                    field,
                    at_least: code == min,
                    limit,
                }));
            }
        };
        measure("min_size", "max_size", "size");
        if image {
            measure("min_width", "max_width", "width");
            measure("min_height", "max_height", "height");
        }
        Self {
            image,
            require_https: c.flag("require_https"),
            domains: DomainRules::compile(c),
            allowed_extensions: c.list("allowed_extensions", "a file extension", lower),
            allowed_types: c.list("allowed_types", "a media type such as text/plain", lower),
            measures,
        }
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        match value {
            Value::String(text) => {
                self.check_reference(text, at, report);
                if self.allowed_types.is_some() {
                    require(at, "mime_type", report);
                }
                for measure in &self.measures {
                    require(at, measure.field, report);
                }
            }
            Value::Object(object) => self.check_object(object, at, report),
            _ => report.wrong_type(at, "a URL, a path or an object with `url`", value),
        }
    }

    fn check_object(&self, object: &Map<String, Value>, at: &Path<'_>, report: &mut Report) {
        for (key, value) in object {
            let at = at.key(key);
            match (key.as_str(), value) {
                ("url", Value::String(text)) => self.check_reference(text, &at, report),
                ("name" | "mime_type" | "checksum" | "alt", Value::String(text)) => {
                    check_storable(text, &at, report);
                }
                ("url" | "name" | "mime_type" | "checksum" | "alt", _) => {
                    report.wrong_type(&at, "a string", value);
                }
                ("size" | "width" | "height", _) if value.as_u64().is_some() => {}
                ("size" | "width" | "height", _) => {
                    let message = format_args!("must be a whole number from 0");
                    report.add(&at, "type", message);
                }
                ("metadata", _) => check_free(value, &at, report),
                _ => {
                    let message = format_args!("`{}` is not known of a file", Shown(key));
                    report.add(&at, "unknown_property", message);
                }
            }
        }
        if !object.contains_key("url") {
            require(at, "url", report);
        }
        self.check_media_type(object, at, report);
        self.check_measures(object, at, report);
    }

    fn check_media_type(&self, object: &Map<String, Value>, at: &Path<'_>, report: &mut Report) {
        let Some(given) = object.get("mime_type").and_then(Value::as_str) else {
            if self.allowed_types.is_some() && !object.contains_key("mime_type") {
                require(at, "mime_type", report);
            }
            return;
        };
        let at = at.key("mime_type");
        if !is_media_type(given) {
            let message = format_args!("`{}` is not a media type", Shown(given));
            return report.add(&at, "type", message);
        }
        let given = given.to_ascii_lowercase();
        if self.image && !given.starts_with("image/") {
            let message = format_args!("`{}` is not an image", Shown(&given));
            report.add(&at, "allowed_types", message);
        } else if let Some(allowed) = &self.allowed_types
            && !allowed.iter().any(|a| is_of_type(&given, a))
        {
            let message = format_args!("`{}` is not among the allowed types", Shown(&given));
            report.add(&at, "allowed_types", message);
        }
    }

    fn check_measures(&self, object: &Map<String, Value>, at: &Path<'_>, report: &mut Report) {
        for measure in &self.measures {
            let Measure { field, limit, .. } = *measure;
            match object.get(field) {
                None => require(at, field, report),
                Some(value) => {
                    let Some(given) = value.as_u64() else {
                        continue;
                    };
                    let at = at.key(field);
                    if measure.at_least && given < limit {
                        report.add(&at, measure.code, format_args!("must be at least {limit}"));
                    } else if !measure.at_least && given > limit {
                        report.add(&at, measure.code, format_args!("must be at most {limit}"));
                    }
                }
            }
        }
    }

    fn check_reference(&self, text: &str, at: &Path<'_>, report: &mut Report) {
        let must_be_url = self.require_https || self.domains.are_given();
        let extension = if must_be_url || text.contains("://") {
            match parse_url(text) {
                Ok(url) => self.check_url(&url, at, report),
                Err(reason) => {
                    let message = format_args!("`{}` is not a URL: {reason}", Shown(text));
                    return report.add(at, "type", message);
                }
            }
        } else if is_relative_path(text) {
            extension_of(text)
        } else {
            let message = format_args!("`{}` is neither a URL nor a relative path", Shown(text));
            return report.add(at, "type", message);
        };
        self.check_extension(extension.as_deref(), at, report);
    }

    fn check_url(&self, url: &Url, at: &Path<'_>, report: &mut Report) -> Option<String> {
        if self.require_https {
            check_https(url, at, report);
        } else if !SCHEMES.contains(&url.scheme()) {
            let message = format_args!("must begin with https://, http:// or s3://");
            report.add(at, "schemes", message);
        }
        self.domains
            .check(url.host_str().unwrap_or_default(), at, report);
        extension_of(url.path())
    }

    fn check_extension(&self, extension: Option<&str>, at: &Path<'_>, report: &mut Report) {
        let accepted = match (&self.allowed_extensions, extension) {
            (Some(allowed), Some(extension)) => allowed.iter().any(|a| **a == *extension),
            (Some(_), None) => false,
            (None, Some(extension)) => !self.image || IMAGE_EXTENSIONS.contains(&extension),
            (None, None) => true,
        };
        if !accepted {
            let shown = Shown(extension.unwrap_or("none"));
            let message = format_args!("the extension `{shown}` is not allowed");
            report.add(at, "allowed_extensions", message);
        }
    }
}

fn require(at: &Path<'_>, field: &str, report: &mut Report) {
    let at = at.key(field);
    report.add(&at, "required", format_args!("is required"));
}

/// Whether this is a relative path that does not leave its base.
fn is_relative_path(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_URL_BYTES
        && !text.contains(|c: char| c.is_control() || matches!(c, '\\' | ':'))
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// The extension of a path's last part, in lower case.
fn extension_of(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then(|| extension.to_ascii_lowercase())
}

fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        (1..=127).contains(&part.len())
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    text.split_once('/')
        .is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

/// Whether a media type is `allowed`, which may be a wildcard such as `image/*`.
fn is_of_type(given: &str, allowed: &str) -> bool {
    match allowed.strip_suffix('*') {
        Some(kind) if kind.ends_with('/') => given.starts_with(kind),
        _ => given == allowed,
    }
}
