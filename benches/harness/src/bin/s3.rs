//! S3 in memory: the objects under a folder, served with a first-byte latency and a tail that can be set.
//!
//! Commands come as lines on stdin, each answered by a line of JSON on stdout: `latency MS`, `tail EVERY MS` (one of
//! so many GETs takes so long; 0 is never), `count` (what was asked since the last count, and starts anew),
//! `drop PREFIX` (forgets what is below). The process ends with its stdin.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

const BUCKET: &str = "bench";
const KEYS_PER_PAGE: usize = 1_000;

#[derive(Clone)]
struct Stored {
    body: Bytes,
    tag: u64,
}

#[derive(Default)]
struct Counters {
    gets: AtomicU64,
    heads: AtomicU64,
    lists: AtomicU64,
    puts: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

#[derive(Default)]
struct Memory {
    objects: RwLock<BTreeMap<String, Stored>>,
    uploads: RwLock<HashMap<String, BTreeMap<i32, Bytes>>>,
    next_tag: AtomicU64,
    latency_us: AtomicU64,
    tail_every: AtomicU64,
    tail_ms: AtomicU64,
    get_number: AtomicU64,
    counters: Counters,
}

#[derive(Clone, Default)]
struct Server(Arc<Memory>);

impl Server {
    async fn wait(&self) {
        let latency = Duration::from_micros(self.0.latency_us.load(Relaxed));
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }

    async fn wait_for_get(&self) {
        self.wait().await;
        let number = self.0.get_number.fetch_add(1, Relaxed);
        let every = self.0.tail_every.load(Relaxed);
        // In the middle of each stretch: the first request, alone on its connection, is not the slow one.
        if every > 0 && number % every == every / 2 {
            tokio::time::sleep(Duration::from_millis(self.0.tail_ms.load(Relaxed))).await;
        }
    }

    fn store(&self, key: String, body: Bytes, if_absent: bool, if_match: Option<String>) -> S3Result<ETag> {
        let mut objects = self.0.objects.write().expect("no writer panics");
        let current = objects.get(&key).map(|stored| format!("\"{}\"", stored.tag));
        if (if_absent && current.is_some()) || (if_match.is_some() && if_match != current) {
            return Err(s3_error!(PreconditionFailed));
        }
        let tag = self.0.next_tag.fetch_add(1, Relaxed);
        objects.insert(key, Stored { body, tag });
        Ok(ETag::Strong(tag.to_string()))
    }

    fn find(&self, key: &str) -> S3Result<Stored> {
        self.0.objects.read().expect("no writer panics").get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }

    async fn receive(&self, body: Option<StreamingBlob>) -> S3Result<Bytes> {
        let Some(body) = body else { return Ok(Bytes::new()) };
        let broken = |_| S3Error::new(S3ErrorCode::IncompleteBody);
        let bytes = body.try_fold(BytesMut::new(), |mut all, part| async move {
            all.extend_from_slice(&part);
            Ok(all)
        });
        let bytes = bytes.await.map_err(broken)?.freeze();
        self.0.counters.received_bytes.fetch_add(bytes.len() as u64, Relaxed);
        Ok(bytes)
    }
}

fn condition(text: Option<&ETagCondition>) -> Option<String> {
    match text? {
        ETagCondition::ETag(tag) => Some(format!("\"{}\"", tag.value())),
        ETagCondition::Any => None,
    }
}

#[async_trait::async_trait]
impl S3 for Server {
    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.0.counters.gets.fetch_add(1, Relaxed);
        self.wait_for_get().await;
        let stored = self.find(&request.input.key)?;
        let size = stored.body.len() as u64;
        if let Some(tag) = condition(request.input.if_match.as_ref())
            && tag != format!("\"{}\"", stored.tag)
        {
            return Err(s3_error!(PreconditionFailed));
        }
        let mut output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(ETag::Strong(stored.tag.to_string())),
            last_modified: Some(SystemTime::UNIX_EPOCH.into()),
            ..GetObjectOutput::default()
        };
        let body = match request.input.range {
            None => stored.body,
            Some(range) => {
                let range = range.check(size).map_err(|_| s3_error!(InvalidRange))?;
                output.content_range = Some(format!("bytes {}-{}/{size}", range.start, range.end - 1));
                let index = |offset: u64| usize::try_from(offset).expect("an object is in memory");
                stored.body.slice(index(range.start)..index(range.end))
            }
        };
        self.0.counters.sent_bytes.fetch_add(body.len() as u64, Relaxed);
        output.content_length = i64::try_from(body.len()).ok();
        output.body = Some(StreamingBlob::from(Body::from(body)));
        Ok(S3Response::new(output))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.0.counters.heads.fetch_add(1, Relaxed);
        self.wait().await;
        let stored = self.find(&request.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: i64::try_from(stored.body.len()).ok(),
            e_tag: Some(ETag::Strong(stored.tag.to_string())),
            last_modified: Some(SystemTime::UNIX_EPOCH.into()),
            ..HeadObjectOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.0.counters.lists.fetch_add(1, Relaxed);
        self.wait().await;
        let prefix = request.input.prefix.unwrap_or_default();
        let after = request.input.continuation_token.or(request.input.start_after).unwrap_or_default();
        let most = request.input.max_keys.and_then(|most| usize::try_from(most).ok()).unwrap_or(KEYS_PER_PAGE);
        let most = most.min(KEYS_PER_PAGE);
        let start = if after >= prefix { Bound::Excluded(after) } else { Bound::Included(prefix.clone()) };
        let objects = self.0.objects.read().expect("no writer panics");
        let mut below = objects.range((start, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(&prefix));
        let (mut contents, mut folders): (Vec<Object>, Vec<CommonPrefix>) = (Vec::new(), Vec::new());
        let mut last = None;
        let mut is_truncated = false;
        for (key, stored) in &mut below {
            if contents.len() + folders.len() == most {
                is_truncated = true;
                break;
            }
            last = Some(key.clone());
            let rest = &key[prefix.len()..];
            if request.input.delimiter.as_deref() == Some("/")
                && let Some(end) = rest.find('/')
            {
                let folder = format!("{prefix}{}/", &rest[..end]);
                if folders.last().and_then(|last| last.prefix.as_ref()) != Some(&folder) {
                    folders.push(CommonPrefix { prefix: Some(folder) });
                }
                continue;
            }
            contents.push(Object {
                key: Some(key.clone()),
                size: i64::try_from(stored.body.len()).ok(),
                e_tag: Some(ETag::Strong(stored.tag.to_string())),
                last_modified: Some(SystemTime::UNIX_EPOCH.into()),
                ..Object::default()
            });
        }
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(request.input.bucket),
            key_count: i32::try_from(contents.len() + folders.len()).ok(),
            max_keys: i32::try_from(most).ok(),
            prefix: Some(prefix),
            contents: Some(contents),
            common_prefixes: Some(folders),
            is_truncated: Some(is_truncated),
            next_continuation_token: last.filter(|_| is_truncated),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.0.counters.puts.fetch_add(1, Relaxed);
        let input = request.input;
        let body = self.receive(input.body).await?;
        self.wait().await;
        let tag = self.store(input.key, body, input.if_none_match.is_some(), condition(input.if_match.as_ref()))?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(tag), ..PutObjectOutput::default() }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.0.counters.puts.fetch_add(1, Relaxed);
        self.wait().await;
        let id = format!("upload-{}", self.0.next_tag.fetch_add(1, Relaxed));
        self.0.uploads.write().expect("no writer panics").insert(id.clone(), BTreeMap::new());
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(request.input.bucket),
            key: Some(request.input.key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.0.counters.puts.fetch_add(1, Relaxed);
        let input = request.input;
        let body = self.receive(input.body).await?;
        self.wait().await;
        let mut uploads = self.0.uploads.write().expect("no writer panics");
        let parts = uploads.get_mut(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        parts.insert(input.part_number, body);
        let tag = ETag::Strong(format!("part-{}", input.part_number));
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(tag), ..UploadPartOutput::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.0.counters.puts.fetch_add(1, Relaxed);
        self.wait().await;
        let input = request.input;
        let parts = self.0.uploads.write().expect("no writer panics").remove(&input.upload_id);
        let body: Vec<u8> = parts.ok_or_else(|| s3_error!(NoSuchUpload))?.into_values().flatten().collect();
        let if_match = condition(input.if_match.as_ref());
        let tag = self.store(input.key.clone(), Bytes::from(body), input.if_none_match.is_some(), if_match)?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(tag),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.0.uploads.write().expect("no writer panics").remove(&request.input.upload_id);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        match request.input.bucket == BUCKET {
            true => Ok(S3Response::new(HeadBucketOutput::default())),
            false => Err(s3_error!(NoSuchBucket)),
        }
    }

    async fn get_bucket_location(
        &self,
        _: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }
}

fn load(folder: &Path, below: &str, memory: &Memory) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let entry = entry.expect("the folder can be read");
        let key = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            load(&entry.path(), &format!("{key}/"), memory);
        } else {
            let body = Bytes::from(std::fs::read(entry.path()).expect("the file can be read"));
            let tag = memory.next_tag.fetch_add(1, Relaxed);
            memory.objects.write().expect("no writer panics").insert(key, Stored { body, tag });
        }
    }
}

fn obey(command: &str, memory: &Memory) -> Option<String> {
    let mut words = command.split_whitespace();
    let verb = words.next()?;
    let mut number = || words.next()?.parse::<f64>().ok();
    match verb {
        "latency" => memory.latency_us.store((number()? * 1_000.0) as u64, Relaxed),
        "tail" => {
            memory.tail_every.store(number()? as u64, Relaxed);
            memory.tail_ms.store(number()? as u64, Relaxed);
            memory.get_number.store(0, Relaxed);
        }
        "drop" => {
            let prefix = words.next()?;
            memory.objects.write().expect("no writer panics").retain(|key, _| !key.starts_with(prefix));
        }
        "count" => {
            let counters = &memory.counters;
            let taken = |counter: &AtomicU64| counter.swap(0, Relaxed);
            return Some(format!(
                r#"{{"gets":{},"heads":{},"lists":{},"puts":{},"sent_bytes":{},"received_bytes":{}}}"#,
                taken(&counters.gets),
                taken(&counters.heads),
                taken(&counters.lists),
                taken(&counters.puts),
                taken(&counters.sent_bytes),
                taken(&counters.received_bytes)
            ));
        }
        _ => return None,
    }
    Some("{}".to_owned())
}

#[tokio::main]
async fn main() {
    let folder = std::env::args().nth(1).expect("usage: s3 FOLDER");
    let server = Server::default();
    load(Path::new(&folder), "", &server.0);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let mut service = S3ServiceBuilder::new(server.clone());
    service.set_auth(SimpleAuth::from_single("bench", "bench-secret"));
    let service = service.build();
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            stream.set_nodelay(true).ok();
            let service = service.clone();
            tokio::spawn(async move {
                let http = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                http.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await.ok();
            });
        }
    });
    println!(r#"{{"endpoint":"http://{address}"}}"#);
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        println!("{}", obey(&line, &server.0).unwrap_or_else(|| r#"{"error":"unknown command"}"#.to_owned()));
    }
}
