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
    /// What was not sent.
    kept: Vec<Bytes>,
    upload: Option<Upload>,
    parts: Vec<Part>,
}

impl<'a> Outbox<'a> {
    /// Nothing sent yet of the files of this version.
    #[must_use]
    pub fn new(run: &Run, version: VersionTs, files: &[DataFile], storage: &'a dyn ObjectStorage) -> Self {
        let outgoing = |&file: &DataFile| {
            let key = run.keys.data(version, file);
            Outgoing { file, key, kept: Vec::new(), upload: None, parts: Vec::new() }
        };
        Self { storage, files: files.iter().map(outgoing).collect() }
    }

    /// Takes the next bytes of each file, more of which are to come, and sends what fills parts.
    ///
    /// # Errors
    /// When the store fails.
    #[tracing::instrument(target = STEPS, level = "debug", name = "write", skip_all, fields(part = "ahead"))]
    pub async fn send(&mut self, bytes: Vec<Bytes>) -> Result<(), Error> {
        let storage = self.storage;
        let sends = self.files.iter_mut().zip(bytes).map(|(outgoing, bytes)| outgoing.send(bytes, storage));
        try_join_all(sends).await?;
        Ok(())
    }

    /// Takes the last bytes of each file.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn close(self, last: Vec<Bytes>, summary: Summary) -> Result<Data, Error> {
        let storage = self.storage;
        let closes = self.files.into_iter().zip(last).map(|(outgoing, bytes)| outgoing.close(bytes, storage));
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
    async fn send(&mut self, bytes: Bytes, storage: &dyn ObjectStorage) -> Result<(), Error> {
        self.keep(bytes);
        let part_bytes = storage.part_size_bytes().max(1);
        if self.kept_bytes() > part_bytes {
            let bodies = self.full_parts(part_bytes);
            self.send_parts(bodies, storage).await?;
        }
        Ok(())
    }

    async fn close(mut self, last: Bytes, storage: &dyn ObjectStorage) -> Result<(DataFile, Body), Error> {
        self.keep(last);
        if self.upload.is_some() {
            let mut bodies = self.full_parts(storage.part_size_bytes().max(1));
            let rest = joined(std::mem::take(&mut self.kept));
            bodies.extend((!rest.is_empty()).then_some(rest));
            self.send_parts(bodies, storage).await?;
        }
        let body = match self.upload {
            Some(upload) => Body::Sent(upload, self.parts),
            None => Body::Whole(joined(self.kept)),
        };
        Ok((self.file, body))
    }

    fn keep(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.kept.push(bytes);
        }
    }

    fn kept_bytes(&self) -> usize {
        self.kept.iter().map(Bytes::len).sum()
    }

    /// Takes out as many whole parts as there are. A part is copied only where it is made of several pieces.
    fn full_parts(&mut self, part_bytes: usize) -> Vec<Bytes> {
        let mut parts = Vec::new();
        while self.kept_bytes() >= part_bytes {
            let (mut pieces, mut missing_bytes) = (Vec::new(), part_bytes);
            while missing_bytes > 0 {
                let Some(first) = self.kept.first_mut() else { break };
                let piece = first.split_to(first.len().min(missing_bytes));
                if first.is_empty() {
                    self.kept.remove(0);
                }
                missing_bytes -= piece.len();
                pieces.push(piece);
            }
            parts.push(joined(pieces));
        }
        parts
    }

    async fn send_parts(&mut self, bodies: Vec<Bytes>, storage: &dyn ObjectStorage) -> Result<(), Error> {
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => {
                let upload = storage.begin_upload(&self.key, self.file.content_type()).await?;
                self.upload.insert(upload).clone()
            }
        };
        let first = u16::try_from(self.parts.len() + 1).unwrap_or(u16::MAX);
        let sends = (first..=u16::MAX).zip(bodies).map(|(number, body)| storage.upload_part(&upload, number, body));
        let sent: Vec<Part> = stream::iter(sends).buffered(PARTS_IN_FLIGHT).try_collect().await?;
        self.parts.extend(sent);
        Ok(())
    }
}

/// Pieces one after the other; not copied where there is but one.
#[must_use]
pub fn joined(pieces: impl IntoIterator<Item = Bytes>) -> Bytes {
    let mut pieces: Vec<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
    match pieces.len() {
        0 | 1 => pieces.pop().unwrap_or_default(),
        _ => Bytes::from(pieces.concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_one_size_and_hold_every_byte_in_order() {
        let file = DataFile::Jsonl;
        let mut outgoing =
            Outgoing { file, key: Key::parse("a/b").unwrap(), kept: Vec::new(), upload: None, parts: Vec::new() };
        let (mut all, mut sent) = (Vec::new(), Vec::new());
        for length in [0_u8, 3, 1, 25, 9, 10, 11, 0, 2] {
            let bytes: Vec<u8> = (0..length).map(|byte| byte ^ length).collect();
            all.extend_from_slice(&bytes);
            outgoing.keep(Bytes::from(bytes));
            for part in outgoing.full_parts(10) {
                assert_eq!(part.len(), 10);
                sent.extend_from_slice(&part);
            }
            assert!(outgoing.kept_bytes() < 10);
        }
        sent.extend_from_slice(&joined(outgoing.kept));
        assert_eq!(sent, all);
    }
}
