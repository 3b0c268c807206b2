//! What a hostile file may take of the machine: measured from outside, in a process of its own.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has to stop")]

#[path = "reading/files.rs"]
#[expect(dead_code, reason = "the forged files are shared with the other tests of the reading step")]
mod files;
#[path = "reading/store.rs"]
#[expect(dead_code, reason = "the store is shared with the other tests of the reading step")]
mod store;

use files::{ForgedColumn, data_header, dictionary_header, forged, page};
use store::read_own;

/// A number of kilobytes that the kernel keeps about this process.
fn kilobytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn claims_take_no_memory() {
    let gzip_bomb = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..200 {
            encoder.write_all(&[0; 1_000_000]).unwrap();
        }
        encoder.finish().unwrap()
    };
    let of = |codec, pages| forged(&[ForgedColumn::times(1), ForgedColumn::values(1, codec, pages)], 1);
    let lengths = [0x80, 0x01, 0x04, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00, 0x00, 0, 0, 0, 0];
    let honest = page(&data_header(1, 8, 8, 0), &[0; 8]);
    let delta = page(&data_header(1, lengths.len(), lengths.len(), 6), &lengths);
    let columns = [ForgedColumn::times(1), ForgedColumn::values(1, 0, honest), ForgedColumn::codes(1, 0, delta)];
    let files = [
        of(2, page(&data_header(1, 8, gzip_bomb.len(), 0), &gzip_bomb)),
        of(6, page(&data_header(1, 0x7fff_ffff, 100_000, 0), &[0; 100_000])),
        of(4, page(&data_header(1, 0x7fff_ffff, 8, 0), &[0; 8])),
        of(0, page(&dictionary_header(0x7fff_ffff, 8, 8), &[0; 8])),
        forged(&columns, 1),
    ];
    let (resident, reserved) = (kilobytes("VmHWM"), kilobytes("VmPeak"));
    for bytes in files {
        read_own(bytes).unwrap_err();
    }
    let (more_resident, more_reserved) = (kilobytes("VmHWM") - resident, kilobytes("VmPeak") - reserved);
    assert!(more_resident < 32 << 10, "{more_resident} KB more were touched");
    assert!(more_reserved < 256 << 10, "{more_reserved} KB more were reserved");
}
