//! Foreign content as JSON text, kept as it is wherever it is JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::row::Content;
use super::spec::BinaryPolicy;

/// Why content cannot be taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// It is text but not JSON; what the parser says.
    NotJson(String),
    /// It was compressed; by what.
    Compressed(&'static str),
    /// Bytes that are neither: encrypted, or another format.
    Opaque,
}

/// How compressed data begin.
const MAGIC: &[(&str, &[u8])] = &[
    ("gzip", &[0x1f, 0x8b]),
    ("zlib", &[0x78, 0x01]),
    ("zlib", &[0x78, 0x5e]),
    ("zlib", &[0x78, 0x9c]),
    ("zlib", &[0x78, 0xda]),
    ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
    ("bzip2", b"BZh"),
    ("xz", &[0xfd, b'7', b'z', b'X', b'Z']),
    ("lz4", &[0x04, 0x22, 0x4d, 0x18]),
];

/// The content as JSON; `None` for NULL.
pub fn json(content: Content, binary: BinaryPolicy) -> Result<Option<Box<RawValue>>, Unusable> {
    let bytes = match content {
        Content::Null => return Ok(None),
        Content::Text(text) => {
            return RawValue::from_string(text)
                .map(Some)
                .map_err(|e| Unusable::NotJson(e.to_string()));
        }
        Content::Bytes(bytes) => bytes,
    };
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => match serde_json::from_str::<&RawValue>(&text) {
            Ok(json) => return Ok(Some(json.to_owned())),
            Err(_) => text.into_bytes(),
        },
        Err(not_text) => not_text.into_bytes(),
    };
    if let Some((by, _)) = MAGIC.iter().find(|(_, magic)| bytes.starts_with(magic)) {
        return Err(Unusable::Compressed(by));
    }
    match binary {
        BinaryPolicy::Park => Err(Unusable::Opaque),
        BinaryPolicy::Wrap => wrap(&bytes).map(Some),
    }
}

/// `{"base64": "…"}`.
fn wrap(bytes: &[u8]) -> Result<Box<RawValue>, Unusable> {
    let text = format!(r#"{{"base64":"{}"}}"#, STANDARD.encode(bytes));
    RawValue::from_string(text).map_err(|e| Unusable::NotJson(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: Content, binary: BinaryPolicy) -> Result<Option<String>, Unusable> {
        json(content, binary).map(|json| json.map(|json| json.get().to_owned()))
    }

    #[test]
    fn json_is_kept_as_given_wherever_it_comes_from() {
        let given = r#"{ "n" : 1.50, "big": 12345678901234567890.123456789, "n": 2 }"#;
        let kept = Ok(Some(given.to_owned()));
        assert_eq!(text(Content::Text(given.into()), BinaryPolicy::Park), kept);
        assert_eq!(text(Content::Bytes(given.into()), BinaryPolicy::Park), kept);
        assert_eq!(text(Content::Null, BinaryPolicy::Park), Ok(None));
        let not_json = text(Content::Text("{".into()), BinaryPolicy::Wrap);
        assert!(matches!(not_json, Err(Unusable::NotJson(_))));
    }

    #[test]
    fn bytes_that_are_not_json_are_wrapped_or_parked_as_asked() {
        let bytes = || Content::Bytes(vec![0, 255, 7]);
        assert_eq!(text(bytes(), BinaryPolicy::Park), Err(Unusable::Opaque));
        let wrapped = text(bytes(), BinaryPolicy::Wrap).unwrap().unwrap();
        assert_eq!(wrapped, r#"{"base64":"AP8H"}"#);
        let zipped = Content::Bytes(vec![0x78, 0x9c, 1, 2]);
        assert_eq!(
            text(zipped, BinaryPolicy::Wrap),
            Err(Unusable::Compressed("zlib"))
        );
    }
}
