//! The parts of a file: bytes are written one after the other; parts of one size go out, each where it was written.

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// What is written at once is hardly more: a column of a row group, some thousand lines.
const SPARE_BYTES: usize = 5 << 18;

/// The bytes of a file that wait until they are more than a part.
pub(super) struct Parts {
    part_bytes: usize,
    full: Vec<Bytes>,
    /// Those that were set aside, until nobody else has them: then their memory is there for the next.
    lent: Vec<Bytes>,
    /// Of the part that is being filled.
    waiting: Vec<u8>,
    /// Of all bytes, in the order of the file.
    digest: Sha256,
    size_bytes: u64,
}

impl Parts {
    /// Parts of so many bytes, the last one of any number.
    pub(super) fn of(part_bytes: usize) -> Self {
        Self {
            part_bytes: part_bytes.max(1),
            full: Vec::new(),
            lent: Vec::new(),
            waiting: Vec::new(),
            digest: Sha256::new(),
            size_bytes: 0,
        }
    }

    /// Adds what `write` appends.
    pub(super) fn add<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.waiting.len();
        let answer = write(&mut self.waiting);
        // While the processor still has them.
        let added = &self.waiting[start..];
        self.digest.update(added);
        self.size_bytes += added.len() as u64;
        if self.waiting.len() > self.part_bytes {
            self.cut();
        }
        answer
    }

    /// Sets full parts aside. Only what is over is copied.
    fn cut(&mut self) {
        let over = (self.waiting.len() - 1) % self.part_bytes + 1;
        let cut = self.waiting.len() - over;
        let mut next = self.room();
        next.extend_from_slice(&self.waiting[cut..]);
        self.waiting.truncate(cut);
        let mut full = Bytes::from(std::mem::replace(&mut self.waiting, next));
        self.lent.push(full.clone());
        while !full.is_empty() {
            self.full.push(full.split_to(self.part_bytes));
        }
    }

    /// Memory for a part: of one that was sent, where there is one. New memory would have to be mapped, page by page.
    fn room(&mut self) -> Vec<u8> {
        let mut free = None;
        for part in std::mem::take(&mut self.lent) {
            if part.is_unique() { free = Some(part) } else { self.lent.push(part) }
        }
        let mut room = free.map(Vec::from).unwrap_or_default();
        room.clear();
        room.reserve_exact(self.part_bytes.saturating_add(SPARE_BYTES));
        room
    }

    /// The parts that are full and have more after them.
    pub(super) fn take_full(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.full)
    }

    /// What was not taken, the size of the file, and its SHA-256 in hex.
    pub(super) fn finish(mut self) -> (Vec<Bytes>, u64, String) {
        self.full.extend((!self.waiting.is_empty()).then(|| Bytes::from(self.waiting)));
        (self.full, self.size_bytes, hex::encode(self.digest.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_one_size_and_hold_every_byte_in_order() {
        let mut parts = Parts::of(10);
        let (mut all, mut taken) = (Vec::new(), Vec::new());
        for length in [0_u8, 3, 1, 25, 9, 10, 12, 0, 10] {
            let bytes: Vec<u8> = (0..length).map(|byte| byte ^ length).collect();
            parts.add(|waiting| waiting.extend_from_slice(&bytes));
            all.extend_from_slice(&bytes);
            taken.extend(parts.take_full());
            let left = all.len() - taken.len() * 10;
            assert!(all.is_empty() || (1..=10).contains(&left), "{left} bytes wait");
        }
        assert!(taken.iter().all(|part| part.len() == 10));
        let (last, size_bytes, digest) = parts.finish();
        assert_eq!((last.len(), last[0].len()), (1, 10));
        taken.extend(last);
        assert_eq!(taken.concat(), all);
        assert_eq!((size_bytes, digest), (70, hex::encode(Sha256::digest(&all))));
    }

    #[test]
    fn a_file_without_bytes_has_no_parts() {
        let (parts, size_bytes, _) = Parts::of(10).finish();
        assert_eq!((parts.len(), size_bytes), (0, 0));
    }
}
