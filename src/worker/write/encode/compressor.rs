//! Compression of a page: bytes come in; fewer go out, as `OUTPUT_COMPRESSION` says.

use std::io::Write;

use parquet::errors::ParquetError;

use crate::config::OutputCompression;

/// The levels are the defaults of Parquet writers: quick rather than small.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 1;
const BROTLI_LEVEL: u32 = 1;
const BROTLI_WINDOW_BITS: u32 = 22;
const BROTLI_BUFFER_BYTES: usize = 4_096;

/// Compresses pages.
pub(super) struct Compressor {
    method: Method,
    /// Memory for the next page.
    room: Vec<u8>,
}

enum Method {
    None,
    Snappy(Box<snap::raw::Encoder>),
    Gzip,
    Zstd(zstd::bulk::Compressor<'static>),
    Lz4,
    Brotli,
}

impl Compressor {
    pub(super) fn new(compression: OutputCompression) -> Result<Self, ParquetError> {
        let method = match compression {
            OutputCompression::None => Method::None,
            OutputCompression::Snappy => Method::Snappy(Box::new(snap::raw::Encoder::new())),
            OutputCompression::Gzip => Method::Gzip,
            OutputCompression::Zstd => Method::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
            OutputCompression::Lz4 => Method::Lz4,
            OutputCompression::Brotli => Method::Brotli,
        };
        Ok(Self { method, room: Vec::new() })
    }

    /// Takes back the memory of a page, for the next.
    pub(super) fn take_back(&mut self, room: Vec<u8>) {
        self.room = room;
    }

    /// The page compressed.
    pub(super) fn compress(&mut self, page: &[u8]) -> Result<Vec<u8>, ParquetError> {
        let mut all = std::mem::take(&mut self.room);
        let compressed = &mut all;
        let length = match &mut self.method {
            Method::None => {
                compressed.clear();
                compressed.extend_from_slice(page);
                page.len()
            }
            Method::Snappy(encoder) => {
                let room = room(compressed, snap::raw::max_compress_len(page.len()));
                encoder.compress(page, room).map_err(|error| ParquetError::External(Box::new(error)))?
            }
            Method::Lz4 => {
                let room = room(compressed, lz4_flex::block::get_maximum_output_size(page.len()));
                lz4_flex::block::compress_into(page, room).map_err(|error| ParquetError::External(Box::new(error)))?
            }
            Method::Zstd(encoder) => {
                let room = room(compressed, zstd::zstd_safe::compress_bound(page.len()));
                encoder.compress_to_buffer(page, room)?
            }
            Method::Gzip => {
                compressed.clear();
                let mut encoder = flate2::write::GzEncoder::new(&mut *compressed, flate2::Compression::new(GZIP_LEVEL));
                encoder.write_all(page)?;
                encoder.finish()?.len()
            }
            Method::Brotli => {
                compressed.clear();
                let into = &mut *compressed;
                let mut encoder =
                    brotli::CompressorWriter::new(into, BROTLI_BUFFER_BYTES, BROTLI_LEVEL, BROTLI_WINDOW_BITS);
                encoder.write_all(page)?;
                encoder.into_inner().len()
            }
        };
        all.truncate(length);
        Ok(all)
    }
}

/// At least so many bytes, to be written over.
fn room(buffer: &mut Vec<u8>, size_bytes: usize) -> &mut [u8] {
    if buffer.len() < size_bytes {
        buffer.resize(size_bytes, 0);
    }
    &mut buffer[..size_bytes]
}
