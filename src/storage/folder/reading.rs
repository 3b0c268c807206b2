//! An object's file, open: ranges of it go out. Where the system can, it is opened without following links in one step,
//! and small parts that are in the system's memory are taken in place.

#[cfg(target_os = "linux")]
use std::cell::RefCell;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
#[cfg(target_os = "linux")]
use bytes::BytesMut;

/// A file that is open, and what the file system said of it then.
pub(super) struct Reading {
    file: File,
    pub(super) metadata: Metadata,
}

impl Reading {
    /// Opens the file; links are followed.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?)
    }

    fn of(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { file, metadata })
    }

    /// The range; shorter where another program has cut the file meanwhile. May wait for a disk.
    pub(super) fn range(&self, wanted: Range<usize>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; wanted.len()];
        let mut length = 0;
        while length < bytes.len() {
            match self.file.read_at(&mut bytes[length..], (wanted.start + length) as u64) {
                Ok(0) => bytes.truncate(length),
                Ok(read) => length += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    /// The range, where it is small and in memory: it is there before another thread could have been asked for it.
    #[cfg(target_os = "linux")]
    pub(super) fn in_memory(&self, wanted: &Range<usize>) -> Option<Bytes> {
        use rustix::io::{ReadWriteFlags, preadv2};
        /// To copy more takes longer than to hand it over.
        const SMALL_BYTES: usize = 256 << 10;
        /// Memory that small objects share. To ask for each one's takes as long as to read it.
        const SHARED_BYTES: usize = 64 << 10;
        thread_local! {
            static SHARED: RefCell<BytesMut> = RefCell::new(BytesMut::new());
        }
        let length = wanted.len();
        if length > SMALL_BYTES {
            return None;
        }
        let fill = |room: &mut BytesMut| {
            let parts = &mut [io::IoSliceMut::new(&mut room[..length])];
            let read = preadv2(&self.file, parts, wanted.start as u64, ReadWriteFlags::NOWAIT);
            (read == Ok(length)).then(|| room.split_to(length).freeze())
        };
        if length > SHARED_BYTES / 8 {
            return fill(&mut BytesMut::zeroed(length));
        }
        SHARED.with_borrow_mut(|shared| {
            if shared.len() < length {
                *shared = BytesMut::zeroed(SHARED_BYTES);
            }
            fill(shared)
        })
    }

    /// The system has no way to tell.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn in_memory(&self, _: &Range<usize>) -> Option<Bytes> {
        None
    }
}

/// Opens the file if no part of its path is a link. Nothing where one is, or where the system cannot look out for links.
#[cfg(target_os = "linux")]
pub(super) fn open_without_links(path: &Path) -> Option<io::Result<Reading>> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::Errno;
    match openat2(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(file) => Some(Reading::of(file.into())),
        Err(Errno::NOENT | Errno::NOTDIR) => Some(Err(ErrorKind::NotFound.into())),
        Err(_) => None,
    }
}

/// The system cannot look out for links.
#[cfg(not(target_os = "linux"))]
pub(super) fn open_without_links(_: &Path) -> Option<io::Result<Reading>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_the_same_from_memory_and_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("object");
        let bytes: Vec<u8> = (0..300_000_u32).map(|index| (index % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let reading = Reading::open(&path).unwrap();
        for wanted in [0..0, 0..1, 7..60_000, 299_000..300_000, 0..300_000] {
            assert_eq!(reading.range(wanted.clone()).unwrap(), bytes[wanted.clone()]);
            // What is in memory is the system's to say; what it says must be right.
            if let Some(read) = reading.in_memory(&wanted) {
                assert_eq!(read, bytes[wanted]);
            }
        }
        assert_eq!(reading.in_memory(&(0..300_000)), None, "what is long is read elsewhere");
    }

    #[test]
    fn a_file_that_was_cut_gives_what_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        std::fs::write(&path, [1; 100]).unwrap();
        let reading = Reading::open(&path).unwrap();
        std::fs::write(&path, [1; 10]).unwrap();
        assert_eq!(reading.range(0..100).unwrap(), [1; 10]);
        assert_eq!(reading.in_memory(&(0..100)), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_link_on_the_way_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("there")).unwrap();
        std::fs::write(root.join("there/object"), "a").unwrap();
        std::os::unix::fs::symlink(root.join("there"), root.join("link")).unwrap();
        assert!(open_without_links(&root.join("link/object")).is_none_or(|opened| opened.is_err()));
        if let Some(opened) = open_without_links(&root.join("there/object")) {
            assert!(opened.unwrap().metadata.is_file());
        }
    }
}
