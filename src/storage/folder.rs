//! A folder as a bucket, for the command line and the demo: keys are paths below its root.
//!
//! A put writes a temporary file and renames it, so a reader sees a whole object or none. The parts of an upload are
//! written to their places in a file of its own, beside a record of each, until it is renamed. Every put of a key holds
//! that key's lock file from the check of its condition to the rename, so conditions hold among tasks and among
//! processes. Symbolic links are never followed below the root, so no key leads out of it. Nothing is synced to the
//! disk: a power cut may lose what S3 would have kept.
//!
//! An object's tag is its file's inode, modification time and size, so that a listing reads no bytes. A put moves
//! the time forward where the clock has not, so two puts of a key never have one tag, however fast they follow each
//! other and whatever inode is used again. Of files that another program changes in place, the tag sees what `make` and
//! `git` see: not a change that keeps the size within one tick of the file system's clock.

mod listing;
mod reading;

use std::fmt::{LowerHex, Write as _};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::Stat;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use self::reading::Reading;
use super::{ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, Part, PutCondition, Upload, no_such_part};
use crate::keys::{Key, Prefix};

/// The folder below the root that holds temporary files and locks. No key may begin with it, no listing shows it.
const RESERVED: &str = ".storage";

/// The parts of an upload, each at its place, in the upload's folder.
const JOINED: &str = "joined";

/// Calls of the system that may wait for a disk, at a time: enough to keep one busy, and each takes a thread.
const WAITING_CALLS: usize = 16;

/// A folder.
#[derive(Debug, Clone)]
pub struct FolderStorage {
    root: PathBuf,
    turns: Arc<Semaphore>,
}

impl FolderStorage {
    /// The folder, created where it is missing.
    ///
    /// # Errors
    /// When it cannot be created or is no folder.
    pub fn new(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self { root: root.canonicalize()?, turns: Arc::new(Semaphore::new(WAITING_CALLS)) })
    }

    /// The folder's absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs blocking work on a clone of this, away from the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: String,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        // A semaphore that is never closed always gives its permit.
        let _turn = self.turns.acquire().await.ok();
        let folder = self.clone();
        match tokio::task::spawn_blocking(move || work(&folder)).await {
            Ok(answer) => answer,
            Err(error) => Err(Error::Transient { operation, key, reason: error.to_string() }),
        }
    }

    /// The path of a key or prefix, after a look at every part of it that exists: none may be a symbolic link.
    fn path(&self, operation: &'static str, key: &str) -> Result<PathBuf, Error> {
        let refused = |reason: String| Error::Refused { operation, key: key.to_owned(), reason };
        let mut path = self.root.clone();
        for (depth, segment) in key.trim_end_matches('/').split('/').enumerate() {
            if depth == 0 && segment == RESERVED {
                return Err(refused(format!("{RESERVED} is reserved")));
            }
            path.push(segment);
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_symlink() => {
                    return Err(refused(format!("{} is a symbolic link", path.display())));
                }
                Ok(_) => {}
                Err(error) if is_absence(&error) => {}
                Err(error) => return Err(failed(operation, key, &error)),
            }
        }
        Ok(path)
    }

    /// The object's file, which stays the one it is, whatever is renamed over its name.
    fn open(&self, key: &Key, if_match: Option<&ETag>) -> Result<Reading, Error> {
        let is_reserved = key.segments().next() == Some(RESERVED);
        // The root's own path is canonical, so that the only links on the way are below it.
        let opened = match reading::open_without_links(&self.root.join(key.as_str())) {
            Some(opened) if !is_reserved => opened,
            // A link, which is refused here with its name; or a system that cannot look out for links itself.
            _ => Reading::open(&self.path("get", key.as_str())?),
        };
        let reading = match opened {
            Ok(reading) if reading.metadata.is_file() => reading,
            Ok(_) => return Err(Error::NotFound { key: key.to_string() }),
            Err(error) if is_absence(&error) => return Err(Error::NotFound { key: key.to_string() }),
            Err(error) => return Err(failed("get", key.as_str(), &error)),
        };
        match if_match {
            Some(wanted) if *wanted != tag(&reading.metadata) => Err(Error::Precondition { key: key.to_string() }),
            _ => Ok(reading),
        }
    }

    /// What the file system says of an object; nothing where there is none.
    fn metadata(&self, operation: &'static str, key: &Key) -> Result<Option<Metadata>, Error> {
        match fs::symlink_metadata(self.path(operation, key.as_str())?) {
            Ok(metadata) => Ok(Some(metadata).filter(Metadata::is_file)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(failed(operation, key.as_str(), &error)),
        }
    }

    fn listed(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        let folder = self.path("list", prefix.as_str())?;
        let mut objects = Vec::new();
        let mut add = |text: &str, stat: &Stat| match Key::parse(text) {
            Ok(key) => {
                let size_bytes = stat.st_size.cast_unsigned();
                let etag = tag_of(stat.st_ino, stat.st_mtime, stat.st_mtime_nsec, size_bytes);
                objects.push(ObjectMeta { key, size_bytes, etag });
            }
            Err(error) => tracing::warn!(%error, "a file is left out of the listing"),
        };
        listing::each_file(&folder, prefix.as_str(), &mut add)
            .map_err(|error| failed("list", prefix.as_str(), &error))?;
        objects.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(objects)
    }

    /// Puts what `fill` writes.
    fn write(
        &self,
        key: &Key,
        condition: &PutCondition,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<ETag, Error> {
        self.put_file(key, condition, |current| self.temporary(fill, current))
    }

    /// Puts the file that `make` makes, younger than the one whose place it takes.
    fn put_file(
        &self,
        key: &Key,
        condition: &PutCondition,
        make: impl FnOnce(Option<&Metadata>) -> io::Result<(PathBuf, Metadata)>,
    ) -> Result<ETag, Error> {
        let failed = |error: &io::Error| failed("put", key.as_str(), error);
        let path = self.path("put", key.as_str())?;
        let _lock = self.lock(key).map_err(|error| failed(&error))?;
        let current = self.metadata("put", key)?;
        if !condition.holds(current.as_ref().map(tag).as_ref()) {
            return Err(Error::Precondition { key: key.to_string() });
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(&error))?;
        }
        let (made, metadata) = make(current.as_ref()).map_err(|error| failed(&error))?;
        if let Err(error) = fs::rename(&made, &path) {
            // The object is as it was; what stays behind is only a file that no listing shows.
            let _ = fs::remove_file(&made);
            return Err(failed(&error));
        }
        Ok(tag(&metadata))
    }

    /// Waits for the key's lock; it is released when the file is closed, also by the end of the process. Keys share
    /// 256 lock files, which stay: removing a lock file would let two holders in.
    fn lock(&self, key: &Key) -> io::Result<File> {
        let folder = self.root.join(RESERVED).join("locks");
        fs::create_dir_all(&folder)?;
        let digest = Sha256::digest(key.as_str());
        let name = hex::encode(&digest[..1]);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(name))?;
        file.lock()?;
        Ok(file)
    }

    /// Fills a new file on the root's own file system, where a rename is atomic. It is younger than the file whose place
    /// it takes.
    fn temporary(
        &self,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
        current: Option<&Metadata>,
    ) -> io::Result<(PathBuf, Metadata)> {
        let folder = self.root.join(RESERVED).join("temporary");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{:032x}", rand::random::<u128>()));
        let mut file = OpenOptions::new().create_new(true).write(true).open(&path)?;
        let written = fill(&mut file).and_then(|()| younger(&file, current));
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
        written.map(|metadata| (path, metadata))
    }

    /// The folder of an upload. Its name is drawn here, and is no path.
    fn parts(&self, id: &str) -> PathBuf {
        self.root.join(RESERVED).join("uploads").join(id)
    }

    fn begin(&self, key: &Key) -> Result<Upload, Error> {
        self.path("begin of an upload", key.as_str())?;
        let id = format!("{:032x}", rand::random::<u128>());
        let made = fs::create_dir_all(self.parts(&id));
        made.map_err(|error| failed("begin of an upload", key.as_str(), &error))?;
        Ok(Upload { key: key.clone(), id })
    }

    fn keep(&self, upload: &Upload, number: u16, body: &Bytes) -> Result<Part, Error> {
        let failed = |error: &io::Error| match is_absence(error) {
            true => Error::NotFound { key: upload.key.to_string() },
            false => failed("upload of a part", upload.key.as_str(), error),
        };
        let start = usize::from(number).checked_sub(1).and_then(|before| before.checked_mul(self.part_size_bytes()));
        let Some(start) = start.filter(|_| body.len() <= self.part_size_bytes()) else {
            return Err(failed(&io::Error::other("parts are numbered from 1, and of one size")));
        };
        let folder = self.parts(&upload.id);
        let name = folder.join(number.to_string());
        // The record has the part's size and none of its bytes. It is made beside the one before: a file of its own.
        let record = self.temporary(|record| record.set_len(body.len() as u64), None);
        let (record, metadata) = record.map_err(|error| failed(&error))?;
        // What is written over is no part any more.
        let _ = fs::remove_file(&name);
        let kept = fs::metadata(&folder)
            .and_then(|_| OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(JOINED)))
            .and_then(|file| file.write_all_at(body, start as u64))
            .and_then(|()| fs::rename(&record, name));
        if let Err(error) = kept {
            let _ = fs::remove_file(&record);
            return Err(failed(&error));
        }
        Ok(Part { number, etag: tag(&metadata), checksum: None })
    }

    fn complete(&self, upload: &Upload, parts: &[Part], condition: &PutCondition) -> Result<ETag, Error> {
        let folder = self.parts(&upload.id);
        if !folder.is_dir() {
            return Err(Error::NotFound { key: upload.key.to_string() });
        }
        if parts.is_empty() {
            let reason = io::Error::other("it has no parts");
            return Err(failed("completion of an upload", upload.key.as_str(), &reason));
        }
        let (mut size_bytes, full_bytes) = (0, self.part_size_bytes() as u64);
        for (part, number) in parts.iter().zip(1..) {
            let record = fs::metadata(folder.join(part.number.to_string())).ok();
            let record = record.filter(|record| tag(record) == part.etag && part.number == number);
            // Only the last may be shorter than its place.
            let record = record.filter(|_| size_bytes == u64::from(number - 1) * full_bytes);
            size_bytes += record.ok_or_else(|| no_such_part(upload, part))?.len();
        }
        let joined = folder.join(JOINED);
        let etag = self.put_file(&upload.key, condition, |current| {
            let file = OpenOptions::new().write(true).open(&joined)?;
            file.set_len(size_bytes)?;
            Ok((joined.clone(), younger(&file, current)?))
        })?;
        // The object is there; what stays behind are only files that no listing shows.
        let _ = fs::remove_dir_all(folder);
        Ok(etag)
    }

    fn abort(&self, upload: &Upload) -> Result<(), Error> {
        match fs::remove_dir_all(self.parts(&upload.id)) {
            Err(error) if !is_absence(&error) => Err(failed("abort of an upload", upload.key.as_str(), &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// How far the time of a file is moved beyond another's: the first that the file system can tell apart.
const STEPS: [Duration; 4] =
    [Duration::from_nanos(1), Duration::from_micros(1), Duration::from_millis(1), Duration::from_secs(2)];

/// Moves the file's time beyond that of the current one, unless the clock has done so already.
fn younger(file: &File, current: Option<&Metadata>) -> io::Result<Metadata> {
    let mut metadata = file.metadata()?;
    let Some(current) = current else { return Ok(metadata) };
    let before = current.modified()?;
    for step in STEPS {
        if metadata.modified()? > before {
            break;
        }
        file.set_modified(before.checked_add(step).unwrap_or(before))?;
        metadata = file.metadata()?;
    }
    Ok(metadata)
}

/// What changes whenever the file does.
fn tag(metadata: &Metadata) -> ETag {
    tag_of(metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
}

/// Systems differ in the type of nanoseconds, which are never negative.
fn tag_of(inode: u64, seconds: i64, nanoseconds: impl LowerHex, size_bytes: u64) -> ETag {
    /// The longest one, so that it is written in place.
    const MOST_BYTES: usize = 60;
    let mut text = String::with_capacity(MOST_BYTES);
    // A string takes any text.
    let _ = write!(text, "{inode:x}-{seconds:x}.{nanoseconds:x}-{size_bytes:x}");
    ETag(text)
}

#[async_trait]
impl ObjectStorage for FolderStorage {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        let reading = self.open(key, if_match)?;
        let (etag, size_bytes) = (tag(&reading.metadata), reading.metadata.len());
        let wanted = range.within(usize::try_from(size_bytes).unwrap_or(usize::MAX));
        let bytes = match reading.in_memory(&wanted) {
            Some(bytes) => bytes,
            None => {
                let name = key.to_string();
                let read = move |_: &Self| reading.range(wanted).map_err(|error| failed("get", &name, &error));
                self.blocking("get", key.to_string(), read).await?.into()
            }
        };
        Ok(Object { bytes, etag, size_bytes })
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        let prefix = prefix.clone();
        self.blocking("list", prefix.to_string(), move |folder| folder.listed(&prefix)).await
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        _content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, Error> {
        let key = key.clone();
        self.blocking("put", key.to_string(), move |folder| {
            folder.write(&key, &condition, |file| file.write_all(&body))
        })
        .await
    }

    async fn begin_upload(&self, key: &Key, _content_type: &'static str) -> Result<Upload, Error> {
        let key = key.clone();
        self.blocking("begin of an upload", key.to_string(), move |folder| folder.begin(&key)).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        let (upload, name) = (upload.clone(), upload.key.to_string());
        self.blocking("upload of a part", name, move |folder| folder.keep(&upload, number, &body)).await
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error> {
        let (upload, parts, name) = (upload.clone(), parts.to_vec(), upload.key.to_string());
        let complete = move |folder: &Self| folder.complete(&upload, &parts, &condition);
        self.blocking("completion of an upload", name, complete).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        let (upload, name) = (upload.clone(), upload.key.to_string());
        self.blocking("abort of an upload", name, move |folder| folder.abort(&upload)).await
    }
}

/// A path through a file is as absent as one through nothing.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn failed(operation: &'static str, key: &str, error: &io::Error) -> Error {
    let (key, reason) = (key.to_owned(), error.to_string());
    match error.kind() {
        ErrorKind::Interrupted | ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::ResourceBusy => {
            Error::Transient { operation, key, reason }
        }
        _ => Error::Refused { operation, key, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    async fn put(store: &FolderStorage, text: &str) -> Result<ETag, Error> {
        store.put(&key(text), Bytes::from_static(b"x"), "text/plain", PutCondition::Always).await
    }

    async fn listed(store: &FolderStorage, prefix: &str) -> Vec<String> {
        let objects = store.list(&Prefix::parse(prefix).unwrap()).await.unwrap();
        objects.iter().map(|object| object.key.to_string()).collect()
    }

    #[tokio::test]
    async fn parts_of_one_size_make_an_object_and_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStorage::new(folder.path()).unwrap();
        let key = key("object");
        let full = Bytes::from(vec![b'1'; store.part_size_bytes()]);
        let upload = store.begin_upload(&key, "text/plain").await.unwrap();
        let send = async |number, bytes: &Bytes| store.upload_part(&upload, number, bytes.clone()).await;
        send(2, &full).await.unwrap();
        let parts = [send(1, &full).await.unwrap(), send(2, &Bytes::from_static(b"2")).await.unwrap()];
        let short = [send(3, &full).await.unwrap()];
        for wrong in [&parts[1..], &[&parts[..], &short].concat()[..], &[]] {
            let answer = store.complete_upload(&upload, wrong, PutCondition::IfAbsent).await;
            assert!(matches!(answer, Err(Error::Refused { .. })), "{answer:?}");
        }
        for (number, bytes) in [(0, Bytes::new()), (1, Bytes::from(vec![b'1'; full.len() + 1]))] {
            let answer = send(number, &bytes).await;
            assert!(matches!(answer, Err(Error::Refused { .. })), "{answer:?}");
        }
        // What was longer before is cut.
        store.complete_upload(&upload, &parts, PutCondition::IfAbsent).await.unwrap();
        let object = store.get(&key, ByteRange::Whole, None).await.unwrap();
        assert!(object.bytes == [&full[..], b"2"].concat(), "{} bytes", object.bytes.len());
    }

    #[tokio::test]
    async fn no_symbolic_link_leads_out_of_the_root() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "s").unwrap();
        let store = FolderStorage::new(inside.path()).unwrap();
        put(&store, "a/real").await.unwrap();
        std::os::unix::fs::symlink(outside.path(), store.root().join("a/folder")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), store.root().join("a/file")).unwrap();
        for text in ["a/folder/secret", "a/file"] {
            let read = store.get(&key(text), ByteRange::Whole, None).await;
            assert!(matches!(read, Err(Error::Refused { .. })), "{text}: {read:?}");
            assert!(matches!(put(&store, text).await, Err(Error::Refused { .. })), "{text}");
        }
        assert_eq!(listed(&store, "a").await, ["a/real"]);
        assert!(store.list(&Prefix::parse("a/folder").unwrap()).await.is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn temporary_files_and_locks_are_no_objects() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStorage::new(folder.path()).unwrap();
        put(&store, "a/b").await.unwrap();
        assert!(put(&store, ".storage/locks/00").await.is_err());
        assert!(store.list(&Prefix::parse(".storage").unwrap()).await.is_err());
        let left = fs::read_dir(store.root().join(".storage/temporary")).unwrap();
        assert_eq!(left.count(), 0);
    }

    #[tokio::test]
    async fn puts_within_one_tick_of_the_clock_have_tags_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStorage::new(folder.path()).unwrap();
        let mut tags = std::collections::BTreeSet::new();
        for _ in 0..500 {
            tags.insert(put(&store, "a/b").await.unwrap().0);
        }
        assert_eq!(tags.len(), 500);
        let future = fs::metadata(store.root().join("a/b")).unwrap().modified().unwrap() + Duration::from_secs(86_400);
        File::options().write(true).open(store.root().join("a/b")).unwrap().set_modified(future).unwrap();
        assert!(tags.insert(put(&store, "a/b").await.unwrap().0), "also after the clock was set back");
        let listed = store.list(&Prefix::parse("a").unwrap()).await.unwrap();
        assert!(tags.contains(&listed[0].etag.0), "and a listing has the tag of the last put");
    }

    #[tokio::test]
    async fn a_file_that_another_program_wrote_has_another_tag() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStorage::new(folder.path()).unwrap();
        let before = put(&store, "a/b").await.unwrap();
        fs::write(store.root().join("a/b"), "longer").unwrap();
        let read = store.get(&key("a/b"), ByteRange::Bounded(2..4), None).await.unwrap();
        assert!(read.etag != before && &read.bytes[..] == b"ng" && read.size_bytes == 6, "{read:?}");
    }

    #[tokio::test]
    async fn a_folder_is_no_object_and_an_object_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStorage::new(folder.path()).unwrap();
        put(&store, "a/b/c").await.unwrap();
        let is_absent = |read: Result<Object, Error>| matches!(read, Err(Error::NotFound { .. }));
        assert!(is_absent(store.get(&key("a/b"), ByteRange::Whole, None).await));
        assert!(is_absent(store.get(&key("a/b/c/d"), ByteRange::Whole, None).await));
        assert!(matches!(put(&store, "a/b").await, Err(Error::Refused { .. })));
        assert!(matches!(put(&store, "a/b/c/d").await, Err(Error::Refused { .. })));
        assert_eq!(listed(&store, "a").await, ["a/b/c"]);
    }
}
