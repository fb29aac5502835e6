//! Foreign content as JSON text, unchanged if it is JSON already.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use serde_json::value::RawValue;

use super::fitness;
use super::row::Content;
use super::spec::BinaryPolicy;

/// Why content cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// It is text but not JSON, or JSON that cannot be stored; the text says what is wrong.
    NotJson(String),
    /// It exceeds the limit when decompressed.
    TooLarge,
    /// It is compressed, in this format, and is not to be decompressed.
    Compressed(&'static str),
    /// Bytes that are neither: encrypted, or another format.
    Opaque,
}

/// First bytes of compressed formats.
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

/// How content is converted.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// What to do with bytes that are not JSON.
    pub binary: BinaryPolicy,
    /// Whether to decompress compressed bytes.
    pub decompress: bool,
    /// Bytes of decompressed content at most.
    pub max_bytes: usize,
}

/// Converted content.
#[derive(Debug)]
pub struct Taken {
    /// The JSON text; `None` for NULL.
    pub json: Option<Box<RawValue>>,
    /// The format in which it was compressed in the source.
    pub compressed: Option<&'static str>,
}

/// Converts content to JSON.
pub fn json(content: Content, policy: Policy) -> Result<Taken, Unusable> {
    let (json, compressed) = match content {
        Content::Null => (None, None),
        Content::Text(text) => {
            let json = RawValue::from_string(text).map_err(|e| Unusable::NotJson(e.to_string()))?;
            (Some(json), None)
        }
        Content::Bytes(bytes) => of_bytes(bytes, policy)?,
    };
    if let Some(json) = &json {
        fitness::check(json.get()).map_err(Unusable::NotJson)?;
    }
    Ok(Taken { json, compressed })
}

type OfBytes = (Option<Box<RawValue>>, Option<&'static str>);

fn of_bytes(bytes: Vec<u8>, policy: Policy) -> Result<OfBytes, Unusable> {
    let bytes = match json_of(bytes) {
        Ok(json) => return Ok((Some(json), None)),
        Err(bytes) => bytes,
    };
    if let Some((by, _)) = MAGIC.iter().find(|(_, magic)| bytes.starts_with(magic)) {
        if !policy.decompress {
            return Err(Unusable::Compressed(by));
        }
        let unpacked = unpack(by, &bytes, policy.max_bytes)?;
        let json = json_of(unpacked).map_err(|_| Unusable::Opaque)?;
        return Ok((Some(json), Some(by)));
    }
    match policy.binary {
        BinaryPolicy::Park => Err(Unusable::Opaque),
        BinaryPolicy::Wrap => wrap(&bytes).map(|json| (Some(json), None)),
    }
}

/// The bytes as JSON, or the bytes again.
fn json_of(bytes: Vec<u8>) -> Result<Box<RawValue>, Vec<u8>> {
    let text = String::from_utf8(bytes).map_err(|e| e.into_bytes())?;
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(json) => Ok(json.to_owned()),
        Err(_) => Err(text.into_bytes()),
    }
}

/// Decompresses to the end, so that the checksum is verified, but no more than `max` bytes: a few
/// bytes can expand to more than there is memory for.
fn unpack(by: &'static str, bytes: &[u8], max: usize) -> Result<Vec<u8>, Unusable> {
    let mut unpacked = Vec::new();
    let limit = max as u64 + 1;
    let read = match by {
        "gzip" => MultiGzDecoder::new(bytes)
            .take(limit)
            .read_to_end(&mut unpacked),
        "zlib" => ZlibDecoder::new(bytes)
            .take(limit)
            .read_to_end(&mut unpacked),
        _ => return Err(Unusable::Compressed(by)),
    };
    match read {
        Ok(_) if unpacked.len() > max => Err(Unusable::TooLarge),
        Ok(_) => Ok(unpacked),
        Err(e) => Err(Unusable::NotJson(format!(
            "they look like {by} and are not: {e}"
        ))),
    }
}

/// Wraps bytes as `{"base64": "…"}`.
fn wrap(bytes: &[u8]) -> Result<Box<RawValue>, Unusable> {
    let text = format!(r#"{{"base64":"{}"}}"#, STANDARD.encode(bytes));
    RawValue::from_string(text).map_err(|e| Unusable::NotJson(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        binary: BinaryPolicy::Wrap,
        decompress: false,
        max_bytes: 100_000,
    };

    fn text(content: Content, policy: Policy) -> Result<Option<String>, Unusable> {
        json(content, policy).map(|taken| taken.json.map(|json| json.get().to_owned()))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut zipped = Vec::new();
        let mut encoder = flate2::bufread::GzEncoder::new(bytes, flate2::Compression::default());
        encoder.read_to_end(&mut zipped).unwrap();
        zipped
    }

    #[test]
    fn json_is_kept_as_given_wherever_it_comes_from() {
        let given = r#"{ "n" : 1.50, "big": 12345678901234567890.123456789, "n": 2 }"#;
        let kept = Ok(Some(given.to_owned()));
        assert_eq!(text(Content::Text(given.into()), POLICY), kept);
        assert_eq!(text(Content::Bytes(given.into()), POLICY), kept);
        assert_eq!(text(Content::Null, POLICY), Ok(None));
        for bad in ["{", "", r#"["\u0000"]"#] {
            let not_json = text(Content::Text(bad.into()), POLICY);
            assert!(matches!(not_json, Err(Unusable::NotJson(_))), "{bad}");
        }
    }

    #[test]
    fn bytes_that_are_not_json_are_wrapped_or_parked_as_asked() {
        let bytes = || Content::Bytes(vec![0, 255, 7]);
        let park = Policy {
            binary: BinaryPolicy::Park,
            ..POLICY
        };
        assert_eq!(text(bytes(), park), Err(Unusable::Opaque));
        let wrapped = text(bytes(), POLICY).unwrap().unwrap();
        assert_eq!(wrapped, r#"{"base64":"AP8H"}"#);
        let zipped = Content::Bytes(vec![0x78, 0x9c, 1, 2]);
        assert_eq!(text(zipped, POLICY), Err(Unusable::Compressed("zlib")));
    }

    #[test]
    fn law_13_what_was_compressed_is_unpacked_on_demand_and_never_without_bound() {
        let unpacking = Policy {
            decompress: true,
            ..POLICY
        };
        let given = format!(r#"{{"text":"{}"}}"#, "x".repeat(40_000));
        let zipped = gzip(given.as_bytes());
        let taken = json(Content::Bytes(zipped.clone()), unpacking).unwrap();
        assert_eq!(taken.json.unwrap().get(), given);
        assert_eq!(taken.compressed, Some("gzip"));
        let kept = text(Content::Bytes(zipped.clone()), POLICY);
        assert_eq!(kept, Err(Unusable::Compressed("gzip")), "only on demand");
        // A gigabyte of nothing in a megabyte: unpacked as far as the limit.
        let bomb = gzip(&vec![b' '; 10_000_000]);
        assert_eq!(
            text(Content::Bytes(bomb), unpacking),
            Err(Unusable::TooLarge)
        );
        let members = [gzip(b"[1,"), gzip(b"2]")].concat();
        assert_eq!(
            text(Content::Bytes(members), unpacking),
            Ok(Some("[1,2]".into()))
        );
        let torn = Content::Bytes(zipped[..zipped.len() - 9].to_vec());
        assert!(matches!(text(torn, unpacking), Err(Unusable::NotJson(_))));
        let not_json = Content::Bytes(gzip(&[0, 1, 2]));
        assert_eq!(text(not_json, unpacking), Err(Unusable::Opaque));
        let unknown = Content::Bytes(vec![0x28, 0xb5, 0x2f, 0xfd, 0]);
        assert_eq!(text(unknown, unpacking), Err(Unusable::Compressed("zstd")));
    }
}
