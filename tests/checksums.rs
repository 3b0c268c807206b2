//! The checksums that S3 verifies are those of the catalogue: `crates/crc-fast` stands for the crate of that name.

use crc_fast::{CrcAlgorithm, Digest};
use proptest::prelude::*;

const ALL: [(CrcAlgorithm, u64); 3] = [
    // reveng.sourceforge.io/crc-catalogue: the `check` of each, its checksum of the digits from 1 to 9.
    (CrcAlgorithm::Crc32IsoHdlc, 0xcbf4_3926),
    (CrcAlgorithm::Crc32Iscsi, 0xe306_9283),
    (CrcAlgorithm::Crc64Nvme, 0xae8b_1486_0a79_9888),
];

fn checksum<'a>(algorithm: CrcAlgorithm, pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut digest = Digest::new(algorithm);
    pieces.into_iter().for_each(|piece| digest.update(piece));
    digest.finalize()
}

/// By the definition of a reflected CRC, a bit at a time.
fn slowly(algorithm: CrcAlgorithm, bytes: &[u8]) -> u64 {
    let (polynomial, ones) = match algorithm {
        CrcAlgorithm::Crc32IsoHdlc => (0xedb8_8320, u64::from(u32::MAX)),
        CrcAlgorithm::Crc32Iscsi => (0x82f6_3b78, u64::from(u32::MAX)),
        CrcAlgorithm::Crc64Nvme => (0x9a6c_9329_ac4b_c9b5, u64::MAX),
    };
    let step = |crc: u64, _| if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 };
    bytes.iter().fold(ones, |crc, byte| (0..8).fold(crc ^ u64::from(*byte), step)) ^ ones
}

#[test]
fn the_checksums_of_the_catalogue_come_out() {
    for (algorithm, check) in ALL {
        assert_eq!(checksum(algorithm, [&b"123456789"[..]]), check, "{algorithm:?}");
        assert_eq!(checksum(algorithm, []), 0, "{algorithm:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_have_the_checksum_of_the_definition(
        bytes in proptest::collection::vec(any::<u8>(), 0..3_000), piece in 1..1_000_usize,
    ) {
        for (algorithm, _) in ALL {
            prop_assert_eq!(checksum(algorithm, bytes.chunks(piece)), slowly(algorithm, &bytes));
        }
    }
}
