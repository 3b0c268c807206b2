//! The files below a folder, however deep. Each folder is opened from the one it is in: no link is followed, and no long
//! path is looked up for every file.

use std::io;
use std::path::Path;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::path::Arg;

use super::is_absence;

/// Calls back with the key of each file, which begins with `prefix`, and what the file system says of it. What was
/// removed meanwhile is not there.
pub(super) fn each_file(folder: &Path, prefix: &str, visit: &mut dyn FnMut(&str, &Stat)) -> io::Result<()> {
    match open(CWD, folder)? {
        Some(folder) => each_file_of(folder, &mut prefix.to_owned(), visit),
        None => Ok(()),
    }
}

fn each_file_of(mut folder: Dir, key: &mut String, visit: &mut dyn FnMut(&str, &Stat)) -> io::Result<()> {
    let length = key.len();
    while let Some(entry) = folder.read() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        key.push_str(&name.to_string_lossy());
        let kind = match entry.file_type() {
            FileType::Unknown => present(statat(folder.fd()?, name, AtFlags::SYMLINK_NOFOLLOW))?
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            kind => kind,
        };
        if kind.is_dir() {
            if let Some(inner) = open(folder.fd()?, name)? {
                key.push('/');
                each_file_of(inner, key, visit)?;
            }
        } else if kind.is_file() {
            if let Some(stat) = present(statat(folder.fd()?, name, AtFlags::SYMLINK_NOFOLLOW))? {
                visit(key, &stat);
            }
        } else {
            tracing::warn!(key = key.as_str(), "neither a file nor a folder: left out of the listing");
        }
        key.truncate(length);
    }
    Ok(())
}

/// Nothing where there is no such folder.
fn open(parent: impl AsFd, name: impl Arg) -> io::Result<Option<Dir>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(match present(openat(parent, name, flags, Mode::empty()))? {
        Some(folder) => Some(Dir::new(folder)?),
        None => None,
    })
}

fn present<T>(answer: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match answer.map_err(io::Error::from) {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
