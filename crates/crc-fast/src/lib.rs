//! The checksums of S3: bytes come in; a CRC-32, CRC-32C or CRC-64/NVME goes out.
//!
//! The S3 client asks `crc-fast` for them, which brings tables for fifty algorithms, 650 KB that nothing can leave out.
//! This is the part of it that the client asks for, over one crate for each of the three; all of them use what the
//! processor has for it.

use std::fmt;

/// A checksum by its name in the catalogue of CRC algorithms, reveng.sourceforge.io/crc-catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrcAlgorithm {
    /// CRC-32/ISO-HDLC: `x-amz-checksum-crc32`.
    Crc32IsoHdlc,
    /// CRC-32/ISCSI: `x-amz-checksum-crc32c`.
    Crc32Iscsi,
    /// CRC-64/NVME: `x-amz-checksum-crc64nvme`.
    Crc64Nvme,
}

/// The checksum of the bytes so far.
#[derive(Clone)]
pub struct Digest(State);

#[derive(Clone)]
enum State {
    IsoHdlc(crc32fast::Hasher),
    Iscsi(u32),
    Nvme(crc64fast_nvme::Digest),
}

impl Digest {
    /// Of no bytes.
    #[must_use]
    pub fn new(algorithm: CrcAlgorithm) -> Self {
        Self(match algorithm {
            CrcAlgorithm::Crc32IsoHdlc => State::IsoHdlc(crc32fast::Hasher::new()),
            CrcAlgorithm::Crc32Iscsi => State::Iscsi(0),
            CrcAlgorithm::Crc64Nvme => State::Nvme(crc64fast_nvme::Digest::new()),
        })
    }

    /// With these bytes after the others.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::IsoHdlc(hasher) => hasher.update(bytes),
            State::Iscsi(checksum) => *checksum = crc32c::crc32c_append(*checksum, bytes),
            State::Nvme(digest) => digest.write(bytes),
        }
    }

    /// The checksum; one of 32 bits is in the lower half.
    #[must_use]
    pub fn finalize(&self) -> u64 {
        match &self.0 {
            State::IsoHdlc(hasher) => u64::from(hasher.clone().finalize()),
            State::Iscsi(checksum) => u64::from(*checksum),
            State::Nvme(digest) => digest.sum64(),
        }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest({:#x})", self.finalize())
    }
}
