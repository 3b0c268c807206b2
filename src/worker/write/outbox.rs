//! The data files of a version on their way: their bytes come in as they are computed; what fills a part is sent at once.
//!
//! A result that is done before it fills more than a part stays in memory, and is put when it is known. Nothing that is
//! sent ahead can be read before its upload is completed, which is done where other files are put.

use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::keys::{DataFile, Key, VersionTs};
use crate::request::Run;
use crate::storage::{ObjectStorage, Part, Upload};
use crate::telemetry::STEPS;
use crate::worker::write::Error;
use crate::worker::write::encode::Summary;
use crate::worker::write::upload::PARTS_IN_FLIGHT;

/// What a run will commit: the files of a version, and what its manifest says of them.
#[derive(Debug)]
pub struct Data {
    /// The files in the order of the manifest.
    pub files: Vec<(DataFile, Body)>,
    /// What the manifest says of them.
    pub summary: Summary,
}

/// The bytes of a file.
#[derive(Debug)]
pub enum Body {
    /// All of them.
    Whole(Bytes),
    /// The store has them already, as parts of an upload to the version that they were computed for.
    Sent(Upload, Vec<Part>),
}

impl Data {
    /// Whether a file was sent to its version already: then it can be put nowhere else.
    #[must_use]
    pub fn is_sent_ahead(&self) -> bool {
        self.files.iter().any(|(_, body)| matches!(body, Body::Sent(..)))
    }
}

/// The files being sent.
pub struct Outbox<'a> {
    storage: &'a dyn ObjectStorage,
    files: Vec<Outgoing>,
}

struct Outgoing {
    file: DataFile,
    key: Key,
    upload: Option<Upload>,
    parts: Vec<Part>,
}

impl<'a> Outbox<'a> {
    /// Nothing sent yet of the files of this version.
    #[must_use]
    pub fn new(run: &Run, version: VersionTs, files: &[DataFile], storage: &'a dyn ObjectStorage) -> Self {
        let outgoing = |&file: &DataFile| {
            let key = run.keys.data(version, file);
            Outgoing { file, key, upload: None, parts: Vec::new() }
        };
        Self { storage, files: files.iter().map(outgoing).collect() }
    }

    /// Sends the next parts of each file, more of which are to come.
    ///
    /// # Errors
    /// When the store fails.
    #[tracing::instrument(target = STEPS, level = "debug", name = "write", skip_all, fields(part = "ahead"))]
    pub async fn send(&mut self, parts: Vec<Vec<Bytes>>) -> Result<(), Error> {
        let storage = self.storage;
        let sends = self.files.iter_mut().zip(parts).map(|(outgoing, parts)| outgoing.send(parts, storage));
        try_join_all(sends).await?;
        Ok(())
    }

    /// Takes the last parts of each file.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn close(self, last: Vec<Vec<Bytes>>, summary: Summary) -> Result<Data, Error> {
        let storage = self.storage;
        let closes = self.files.into_iter().zip(last).map(|(outgoing, parts)| outgoing.close(parts, storage));
        Ok(Data { files: try_join_all(closes).await?, summary })
    }

    /// Gives up what was sent.
    pub async fn abort(self) {
        for upload in self.files.iter().filter_map(|outgoing| outgoing.upload.as_ref()) {
            if let Err(error) = self.storage.abort_upload(upload).await {
                tracing::warn!(key = %upload.key, %error, "an upload could not be aborted");
            }
        }
    }
}

impl Outgoing {
    async fn close(mut self, last: Vec<Bytes>, storage: &dyn ObjectStorage) -> Result<(DataFile, Body), Error> {
        let body =
            if self.upload.is_none() { joined(last) } else { self.send(last, storage).await.map(|()| Bytes::new())? };
        Ok((self.file, self.upload.map_or(Body::Whole(body), |upload| Body::Sent(upload, self.parts))))
    }

    async fn send(&mut self, parts: Vec<Bytes>, storage: &dyn ObjectStorage) -> Result<(), Error> {
        if parts.is_empty() {
            return Ok(());
        }
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => {
                let upload = storage.begin_upload(&self.key, self.file.content_type()).await?;
                self.upload.insert(upload).clone()
            }
        };
        let first = u16::try_from(self.parts.len() + 1).unwrap_or(u16::MAX);
        let sends = (first..=u16::MAX).zip(parts).map(|(number, body)| storage.upload_part(&upload, number, body));
        let sent: Vec<Part> = stream::iter(sends).buffered(PARTS_IN_FLIGHT).try_collect().await?;
        self.parts.extend(sent);
        Ok(())
    }
}

/// Parts one after the other; not copied where there is but one.
fn joined(mut parts: Vec<Bytes>) -> Bytes {
    match parts.len() {
        0 | 1 => parts.pop().unwrap_or_default(),
        _ => Bytes::from(parts.concat()),
    }
}
