//! A folder that is read and written in ranges, as S3 is, so that no object is ever in memory whole.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use metrics_engine::keys::{Key, Prefix};
use metrics_engine::storage::folder::FolderStorage;
use metrics_engine::storage::{
    ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, PART_SIZE_BYTES, Part, PutCondition, Upload,
};

/// Data in files of their own; everything small in a folder as the command line has it.
pub(crate) struct Disk {
    root: PathBuf,
    small: FolderStorage,
}

impl Disk {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), small: FolderStorage::new(root).unwrap() }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn upload(&self, upload: &Upload) -> PathBuf {
        self.root.join(format!("upload {}", upload.id))
    }

    fn etag(size_bytes: u64) -> ETag {
        ETag(size_bytes.to_string())
    }
}

#[async_trait]
impl ObjectStorage for Disk {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        if !key.as_str().ends_with(".parquet") {
            return self.small.get(key, range, if_match).await;
        }
        let mut file = File::open(self.path(key)).map_err(|_| Error::NotFound { key: key.to_string() })?;
        let size_bytes = file.metadata().unwrap().len();
        let range = range.within(usize::try_from(size_bytes).unwrap());
        let mut bytes = vec![0; range.len()];
        file.seek(SeekFrom::Start(range.start as u64)).unwrap();
        file.read_exact(&mut bytes).unwrap();
        Ok(Object { bytes: Bytes::from(bytes), etag: Self::etag(size_bytes), size_bytes })
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        let mut names: Vec<String> = fs::read_dir(self.root.join(prefix.as_str()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let meta = |name: &String| {
            let key = prefix.join(name).unwrap();
            let size_bytes = fs::metadata(self.path(&key)).unwrap().len();
            ObjectMeta { key, size_bytes, etag: Self::etag(size_bytes) }
        };
        Ok(names.iter().map(meta).collect())
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, Error> {
        self.small.put(key, body, content_type, condition).await
    }

    async fn begin_upload(&self, key: &Key, _: &'static str) -> Result<Upload, Error> {
        let upload = Upload { key: key.clone(), id: key.as_str().replace('/', " ") };
        File::create(self.upload(&upload)).unwrap();
        Ok(upload)
    }

    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        let mut file = OpenOptions::new().write(true).open(self.upload(upload)).unwrap();
        file.seek(SeekFrom::Start(u64::from(number - 1) * PART_SIZE_BYTES as u64)).unwrap();
        file.write_all(&body).unwrap();
        Ok(Part { number, etag: Self::etag(body.len() as u64), checksum: None })
    }

    async fn complete_upload(&self, upload: &Upload, _: &[Part], _: PutCondition) -> Result<ETag, Error> {
        let path = self.path(&upload.key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::rename(self.upload(upload), &path).unwrap();
        Ok(Self::etag(fs::metadata(path).unwrap().len()))
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        fs::remove_file(self.upload(upload)).unwrap();
        Ok(())
    }
}
