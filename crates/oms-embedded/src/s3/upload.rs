//! Receives the body of a PUT: kept in the pieces in which it arrives, hashed meanwhile, and
//! compared with every digest that the client sent, before anything is stored.

use bytes::Bytes;
use futures_util::StreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, PutObjectInput, StreamingBlob};
use s3s::{S3Result, TrailingHeaders, s3_error};

use super::attributes::Attributes;
use super::store::MAX_OBJECT_BYTES;

/// A received body.
#[derive(Debug)]
pub struct Body {
    /// Its pieces.
    pub pieces: Vec<Bytes>,
    /// Length in bytes.
    pub len: u32,
    /// CRC-32.
    pub crc: u32,
    /// MD5.
    pub md5: [u8; 16],
}

/// The digests that the client sent, of those that S3 defines.
fn sent_checksums(input: &PutObjectInput, trailers: Option<&TrailingHeaders>) -> Checksum {
    // Some clients know the digest only after sending the body.
    let from_trailer = |name: &str| {
        trailers?.read(|headers| Some(headers.get(name)?.to_str().ok()?.to_owned()))?
    };
    let either = |header: &Option<String>, name| header.clone().or_else(|| from_trailer(name));
    Checksum {
        checksum_crc32: either(&input.checksum_crc32, "x-amz-checksum-crc32"),
        checksum_crc32c: either(&input.checksum_crc32c, "x-amz-checksum-crc32c"),
        checksum_crc64nvme: either(&input.checksum_crc64nvme, "x-amz-checksum-crc64nvme"),
        checksum_sha1: either(&input.checksum_sha1, "x-amz-checksum-sha1"),
        checksum_sha256: either(&input.checksum_sha256, "x-amz-checksum-sha256"),
        ..Checksum::default()
    }
}

/// Reads the body of `input` to its end and verifies it.
pub async fn receive(
    input: &mut PutObjectInput,
    trailers: Option<&TrailingHeaders>,
) -> S3Result<Body> {
    let pieces = read_all(input.body.take(), input.content_length).await?;
    let len = pieces.iter().map(Bytes::len).sum::<usize>();
    let (mut crc, mut md5) = (crc32fast::Hasher::new(), Md5::new());
    for piece in &pieces {
        crc.update(piece);
        md5.update(piece);
    }
    let md5: [u8; 16] = md5.finalize();
    if let Some(sent) = &input.content_md5 {
        use base64::Engine;
        let sent = base64::engine::general_purpose::STANDARD.decode(sent);
        match sent {
            Ok(sent) if sent.len() == md5.len() => {
                if sent != md5 {
                    return Err(s3_error!(
                        BadDigest,
                        "the Content-MD5 you sent did not match what was received"
                    ));
                }
            }
            _ => {
                return Err(s3_error!(
                    InvalidDigest,
                    "Content-MD5 is not the base64 of an MD5"
                ));
            }
        }
    }
    check(&sent_checksums(input, trailers), &pieces)?;
    Ok(Body {
        pieces,
        len: len as u32,
        crc: crc.finalize(),
        md5,
    })
}

async fn read_all(body: Option<StreamingBlob>, declared: Option<i64>) -> S3Result<Vec<Bytes>> {
    let too_large = || {
        s3_error!(
            EntityTooLarge,
            "objects here are at most {MAX_OBJECT_BYTES} bytes"
        )
    };
    if declared.is_some_and(|len| len > MAX_OBJECT_BYTES as i64) {
        return Err(too_large());
    }
    let mut pieces = Vec::new();
    let Some(mut body) = body else {
        return Ok(pieces);
    };
    let mut len = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|e| {
            let mut error = s3_error!(IncompleteBody, "the body did not arrive: {e}");
            error.set_source(e);
            error
        })?;
        len += piece.len();
        if len > MAX_OBJECT_BYTES {
            return Err(too_large());
        }
        if !piece.is_empty() {
            pieces.push(piece);
        }
    }
    Ok(pieces)
}

fn check(sent: &Checksum, pieces: &[Bytes]) -> S3Result<()> {
    fn wanted<T: Default>(sent: &Option<String>) -> Option<T> {
        sent.as_ref().map(|_| T::default())
    }
    let mut hasher = ChecksumHasher {
        crc32: wanted(&sent.checksum_crc32),
        crc32c: wanted(&sent.checksum_crc32c),
        crc64nvme: wanted(&sent.checksum_crc64nvme),
        sha1: wanted(&sent.checksum_sha1),
        sha256: wanted(&sent.checksum_sha256),
    };
    pieces.iter().for_each(|piece| hasher.update(piece));
    let received = hasher.finalize();
    let same = received.checksum_crc32 == sent.checksum_crc32
        && received.checksum_crc32c == sent.checksum_crc32c
        && received.checksum_crc64nvme == sent.checksum_crc64nvme
        && received.checksum_sha1 == sent.checksum_sha1
        && received.checksum_sha256 == sent.checksum_sha256;
    if same {
        Ok(())
    } else {
        Err(s3_error!(
            BadDigest,
            "the checksum you sent did not match what was received"
        ))
    }
}

/// The headers to store with the object.
pub fn attributes(input: &mut PutObjectInput) -> Attributes {
    let mut metadata: Vec<(String, String)> = input.metadata.take().into_iter().flatten().collect();
    metadata.sort_unstable();
    Attributes {
        content_type: input.content_type.take(),
        content_encoding: input.content_encoding.take(),
        content_disposition: input.content_disposition.take(),
        content_language: input.content_language.take(),
        cache_control: input.cache_control.take(),
        metadata,
    }
}
