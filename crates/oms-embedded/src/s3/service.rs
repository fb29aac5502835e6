//! The S3 operations, on the store. Operations not implemented here are answered with 501 by s3s.

use std::sync::Arc;

use bytes::Bytes;
use s3s::dto::*;
use s3s::{Body, S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::answers::{etag, http_time, refuse, timestamp, unreadable};
use super::attributes::Attributes;
use super::guard::{Guard, Who};
use super::listing;
use super::queue::Condition;
use super::store::{LogStore, Stored, Upload};
use super::upload;

/// Longer reads run while the runtime moves other tasks to another thread; shorter ones come from
/// the page cache faster than that takes.
const LONG_READ_BYTES: u64 = 256 << 10;

/// The implementation of s3s's trait.
pub struct Endpoint {
    store: Arc<LogStore>,
    region: String,
    immutable: Option<String>,
    now_ms: fn() -> i64,
}

impl Endpoint {
    /// The operations on `store`. Objects get their times from `now_ms`, in milliseconds since
    /// 1970; those whose keys begin with `immutable` are immutable.
    pub fn new(
        store: Arc<LogStore>,
        region: String,
        immutable: Option<String>,
        now_ms: fn() -> i64,
    ) -> Self {
        Self {
            store,
            region,
            immutable,
            now_ms,
        }
    }

    /// The permissions of a request; `Access` has identified every sender.
    fn guard<T>(&self, req: &S3Request<T>) -> Guard<'_> {
        Guard {
            who: req.extensions.get().copied().unwrap_or(Who::Reader),
            immutable: self.immutable.as_deref(),
        }
    }

    fn find(&self, bucket: &str, key: &str) -> S3Result<Stored> {
        (self.store.find(bucket, key))
            .ok_or_else(|| s3_error!(NoSuchBucket))?
            .ok_or_else(|| s3_error!(NoSuchKey))
    }

    fn bucket_exists(&self, bucket: &str) -> S3Result<()> {
        match self.store.find(bucket, "") {
            Some(_) => Ok(()),
            None => Err(s3_error!(NoSuchBucket)),
        }
    }
}

fn no_versions(version: Option<&String>) -> S3Result<()> {
    match version.map(String::as_str) {
        None | Some("null") => Ok(()),
        Some(_) => Err(s3_error!(NotImplemented, "this endpoint keeps no versions")),
    }
}

fn if_match(condition: Option<&ETagCondition>) -> Condition {
    let Some(condition) = condition else {
        return Condition::None;
    };
    let ETagCondition::ETag(etag) = condition else {
        return Condition::Present;
    };
    let mut md5 = [0; 16];
    match hex::decode_to_slice(etag.value(), &mut md5) {
        Ok(()) if etag.as_strong().is_some() => Condition::Matches(md5),
        _ => Condition::Never,
    }
}

fn put_condition(input: &PutObjectInput) -> S3Result<Condition> {
    match (&input.if_none_match, &input.if_match) {
        (None, condition) => Ok(if_match(condition.as_ref())),
        (Some(ETagCondition::Any), None) => Ok(Condition::Absent),
        (Some(_), None) => Err(s3_error!(
            NotImplemented,
            "a put takes If-None-Match with the value * only"
        )),
        (Some(_), Some(_)) => Err(s3_error!(
            InvalidRequest,
            "If-Match and If-None-Match exclude each other"
        )),
    }
}

/// Refuses characters that XML 1.0 cannot express: a key with one could not be listed.
fn check_key(key: &str) -> S3Result<()> {
    let unsayable = |c: char| matches!(c, '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    if key.contains(unsayable) {
        return Err(s3_error!(
            InvalidArgument,
            "a key holds a control character that a listing cannot carry"
        ));
    }
    Ok(())
}

/// Checks the conditions of a read, in the order of RFC 9110, 13.2.2.
fn check_read(
    stored: &Stored,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
    if_modified_since: Option<&Timestamp>,
    if_unmodified_since: Option<&Timestamp>,
) -> S3Result<()> {
    let ours = hex::encode(stored.entry.etag);
    let is_ours = |condition: &ETagCondition| match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == ours,
    };
    let modified = http_time(stored.entry.modified_ms);
    match (if_match, if_unmodified_since) {
        (Some(condition), _) if !is_ours(condition) => return Err(s3_error!(PreconditionFailed)),
        (None, Some(since)) if modified > *since => return Err(s3_error!(PreconditionFailed)),
        _ => {}
    }
    match (if_none_match, if_modified_since) {
        (Some(condition), _) if is_ours(condition) => Err(s3_error!(NotModified)),
        (None, Some(since)) if modified <= *since => Err(s3_error!(NotModified)),
        _ => Ok(()),
    }
}

/// The requested range of bytes, and `Content-Range` if it is a part.
type Wanted = (std::ops::Range<u64>, Option<String>);

fn wanted(stored: &Stored, range: Option<&Range>, part: Option<i32>) -> S3Result<Wanted> {
    let len = u64::from(stored.entry.body_len);
    if part.is_some_and(|part| part != 1) {
        return Err(s3_error!(InvalidPart, "objects here have one part"));
    }
    let Some(range) = range else {
        return Ok((0..len, None));
    };
    let range = range.check(len)?;
    if range.is_empty() {
        return Err(s3_error!(InvalidRange));
    }
    let content_range = format!("bytes {}-{}/{len}", range.start, range.end - 1);
    Ok((range, Some(content_range)))
}

fn read(stored: &Stored, range: std::ops::Range<u64>) -> Result<(Attributes, Bytes), S3Error> {
    let len = range.end - range.start;
    let read = || {
        if len == u64::from(stored.entry.body_len) {
            stored.whole()
        } else {
            stored.part(range)
        }
    };
    let outcome = if len > LONG_READ_BYTES {
        tokio::task::block_in_place(read)
    } else {
        read()
    };
    outcome.map_err(unreadable)
}

#[async_trait::async_trait]
impl S3 for Endpoint {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = req.input.bucket;
        let made = self.store.create_bucket(&bucket, (self.now_ms)()).await;
        made.map_err(refuse)?;
        Ok(S3Response::new(CreateBucketOutput {
            location: Some(format!("/{bucket}")),
        }))
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.bucket_exists(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: Some(self.region.clone()),
            ..Default::default()
        }))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.bucket_exists(&req.input.bucket)?;
        // Empty means us-east-1, as in S3.
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn list_buckets(
        &self,
        _req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.store.buckets().into_iter();
        let buckets = buckets.map(|(name, created_ms)| Bucket {
            name: Some(name),
            creation_date: Some(timestamp(created_ms)),
            ..Default::default()
        });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            ..Default::default()
        }))
    }

    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let guard = self.guard(&req);
        let mut input = req.input;
        // The body first: a client that gets an answer while it sends may lose it.
        let body = upload::receive(&mut input, req.trailing_headers.as_ref()).await?;
        check_key(&input.key)?;
        let asked = put_condition(&input)?;
        let condition = guard.put(&input.key, asked)?;
        let md5 = body.md5;
        let upload = Upload {
            body: body.pieces,
            len: body.len,
            crc: body.crc,
            etag: md5,
            attributes: upload::attributes(&mut input),
            modified_ms: (self.now_ms)(),
        };
        let put = self.store.put(&input.bucket, &input.key, upload, condition);
        if let Err(why) = put.await {
            guard.refuse_put(&input.key, asked, why)?;
        }
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(etag(&md5)),
            ..Default::default()
        }))
    }

    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        no_versions(input.version_id.as_ref())?;
        let stored = self.find(&input.bucket, &input.key)?;
        check_read(
            &stored,
            input.if_match.as_ref(),
            input.if_none_match.as_ref(),
            input.if_modified_since.as_ref(),
            input.if_unmodified_since.as_ref(),
        )?;
        let (range, content_range) = wanted(&stored, input.range.as_ref(), input.part_number)?;
        let (attributes, body) = read(&stored, range)?;
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(body.len() as i64),
            body: Some(StreamingBlob::from(Body::from(body))),
            content_range,
            e_tag: Some(etag(&stored.entry.etag)),
            last_modified: Some(timestamp(stored.entry.modified_ms)),
            content_type: attributes.content_type,
            content_encoding: attributes.content_encoding,
            content_disposition: attributes.content_disposition,
            content_language: attributes.content_language,
            cache_control: attributes.cache_control,
            metadata: Some(attributes.metadata.into_iter().collect()),
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        no_versions(input.version_id.as_ref())?;
        let stored = self.find(&input.bucket, &input.key)?;
        check_read(
            &stored,
            input.if_match.as_ref(),
            input.if_none_match.as_ref(),
            input.if_modified_since.as_ref(),
            input.if_unmodified_since.as_ref(),
        )?;
        let (range, content_range) = wanted(&stored, input.range.as_ref(), input.part_number)?;
        let attributes = stored.attributes().map_err(unreadable)?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some((range.end - range.start) as i64),
            content_range,
            e_tag: Some(etag(&stored.entry.etag)),
            last_modified: Some(timestamp(stored.entry.modified_ms)),
            content_type: attributes.content_type,
            content_encoding: attributes.content_encoding,
            content_disposition: attributes.content_disposition,
            content_language: attributes.content_language,
            cache_control: attributes.cache_control,
            metadata: Some(attributes.metadata.into_iter().collect()),
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let guard = self.guard(&req);
        let input = req.input;
        no_versions(input.version_id.as_ref())?;
        guard.delete(&input.key)?;
        let condition = if_match(input.if_match.as_ref());
        let deleted = self.store.delete(&input.bucket, &input.key, condition);
        deleted.await.map_err(refuse)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let guard = self.guard(&req);
        let DeleteObjectsInput { bucket, delete, .. } = req.input;
        self.bucket_exists(&bucket)?;
        let (store, bucket) = (&self.store, &bucket);
        let one = |object: ObjectIdentifier| async move {
            let condition = object.e_tag.map(ETagCondition::ETag);
            let allowed = no_versions(object.version_id.as_ref()).and(guard.delete(&object.key));
            let outcome = match allowed {
                Ok(()) => store
                    .delete(bucket, &object.key, if_match(condition.as_ref()))
                    .await
                    .map_err(refuse),
                Err(error) => Err(error),
            };
            (object.key, outcome)
        };
        // Concurrently: one batch, one fdatasync.
        let outcomes = futures_util::future::join_all(delete.objects.into_iter().map(one)).await;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (key, outcome) in outcomes {
            match outcome {
                Ok(()) if delete.quiet == Some(true) => {}
                Ok(()) => deleted.push(DeletedObject {
                    key: Some(key),
                    ..Default::default()
                }),
                Err(error) => errors.push(Error {
                    key: Some(key),
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    version_id: None,
                }),
            }
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            request_charged: None,
        }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        listing::list(&self.store, req.input).map(S3Response::new)
    }
}
