//! Decompression that cannot take more memory than asked for: compressed bytes and the size they should have come in,
//! exactly so many bytes go out, or an error.
//!
//! The decoder library inflates gzip, brotli and framed LZ4 pages to whatever they hold, and compares with the
//! header's claim only afterwards. A page of a few kilobytes could take gigabytes; so pages are decompressed here.

use std::cell::RefCell;
use std::io::Read;

/// How pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Snappy,
    Gzip,
    Brotli,
    /// LZ4 blocks, each behind two sizes (Hadoop); some writers put frames or a bare block there.
    Lz4,
    Zstd,
    /// One bare LZ4 block.
    Lz4Raw,
}

thread_local! {
    /// A Zstandard context takes 100 KB and longer to set up than a small page to decode.
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

impl Codec {
    /// The codec of that number in Parquet's definition.
    pub(super) fn of(code: i32) -> Option<Self> {
        Some(match code {
            0 => Self::None,
            1 => Self::Snappy,
            2 => Self::Gzip,
            4 => Self::Brotli,
            5 => Self::Lz4,
            6 => Self::Zstd,
            7 => Self::Lz4Raw,
            _ => return None,
        })
    }

    /// The most that so many bytes can become.
    pub(super) fn largest_output(self, compressed_bytes: u64) -> u64 {
        match self {
            Self::None => compressed_bytes,
            // A copy of 64 bytes takes 3 (a tag and two bytes of offset); literals only cost.
            Self::Snappy => compressed_bytes.saturating_mul(64) / 3 + 1,
            // A match of 258 bytes takes two bits at least (one for length, one for distance): 1,032 for a byte.
            Self::Gzip => compressed_bytes.saturating_mul(1_032),
            // Each further byte of a match length adds 255.
            Self::Lz4 | Self::Lz4Raw => compressed_bytes.saturating_mul(255),
            // A block of 128 KiB takes 4 bytes: three of header and the byte that is repeated.
            Self::Zstd => compressed_bytes.saturating_mul(32_768),
            // A command copies up to 16 MiB; only the limit for a page is a bound.
            Self::Brotli => {
                if compressed_bytes == 0 {
                    0
                } else {
                    u64::MAX
                }
            }
        }
    }

    /// Appends exactly `size_bytes` to `output`.
    pub(super) fn decompress(self, input: &[u8], output: &mut Vec<u8>, size_bytes: usize) -> Result<(), String> {
        let start = output.len();
        match self {
            Self::None => output.extend_from_slice(input),
            Self::Snappy => {
                output.resize(start + size_bytes, 0);
                let written = snap::raw::Decoder::new().decompress(input, &mut output[start..]);
                output.truncate(start + written.map_err(|error| error.to_string())?);
            }
            Self::Gzip => read_at_most(flate2::read::MultiGzDecoder::new(input), output, size_bytes)?,
            Self::Brotli => read_at_most(brotli::Decompressor::new(input, 4_096), output, size_bytes)?,
            Self::Zstd => decompress_zstd(input, output, size_bytes)?,
            Self::Lz4Raw => decompress_block(input, output, size_bytes)?,
            Self::Lz4 => {
                let in_hadoop_blocks = decompress_hadoop_blocks(input, output, size_bytes);
                if in_hadoop_blocks.is_none() {
                    output.truncate(start);
                    let in_frames = read_at_most(lz4_flex::frame::FrameDecoder::new(input), output, size_bytes);
                    if in_frames.is_err() {
                        output.truncate(start);
                        decompress_block(input, output, size_bytes)?;
                    }
                }
            }
        }
        let written = output.len() - start;
        if written == size_bytes { Ok(()) } else { Err(format!("holds {written} bytes instead of {size_bytes}")) }
    }
}

/// Reads one byte more than allowed at most: enough to see that there is more.
fn read_at_most(reader: impl Read, output: &mut Vec<u8>, size_bytes: usize) -> Result<(), String> {
    output.reserve_exact(size_bytes);
    let limit = u64::try_from(size_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.take(limit).read_to_end(output).map_err(|error| error.to_string())?;
    if read > size_bytes { Err(format!("holds more than {size_bytes} bytes")) } else { Ok(()) }
}

fn decompress_zstd(input: &[u8], output: &mut Vec<u8>, size_bytes: usize) -> Result<(), String> {
    let mut decompressed = Vec::with_capacity(size_bytes);
    ZSTD.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(zstd::bulk::Decompressor::new().map_err(|error| error.to_string())?),
        };
        context.decompress_to_buffer(input, &mut decompressed).map_err(|error| error.to_string())
    })?;
    if output.is_empty() {
        *output = decompressed;
    } else {
        output.append(&mut decompressed);
    }
    Ok(())
}

fn decompress_block(input: &[u8], output: &mut Vec<u8>, size_bytes: usize) -> Result<(), String> {
    let start = output.len();
    output.resize(start + size_bytes, 0);
    let written = lz4_flex::block::decompress_into(input, &mut output[start..]).map_err(|error| error.to_string())?;
    output.truncate(start + written);
    Ok(())
}

/// Blocks, each behind its size and its compressed size, big-endian. Nothing, if the bytes are not that.
fn decompress_hadoop_blocks(mut input: &[u8], output: &mut Vec<u8>, size_bytes: usize) -> Option<()> {
    let mut left = size_bytes;
    while let Some((sizes, rest)) = input.split_first_chunk::<8>() {
        let [a, b, c, d, e, f, g, h] = *sizes;
        let block_bytes = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
        let compressed_bytes = usize::try_from(u32::from_be_bytes([e, f, g, h])).ok()?;
        let (block, after) = rest.split_at_checked(compressed_bytes)?;
        left = left.checked_sub(block_bytes)?;
        decompress_block(block, output, block_bytes).ok()?;
        input = after;
    }
    (left == 0 && input.is_empty()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_page_that_holds_more_than_it_says_is_refused_without_inflating_it() {
        let bomb = gzip(&vec![0; 50_000_000]);
        let mut output = Vec::new();
        assert_eq!(Codec::Gzip.decompress(&bomb, &mut output, 1_000), Err("holds more than 1000 bytes".to_owned()));
        assert!(output.capacity() < 100_000);
    }

    #[test]
    fn no_codec_expands_beyond_its_bound() {
        let zeros = vec![0u8; 4_000_000];
        let compressed = [
            (Codec::Gzip, gzip(&zeros)),
            (Codec::Snappy, snap::raw::Encoder::new().compress_vec(&zeros).unwrap()),
            (Codec::Lz4Raw, lz4_flex::block::compress(&zeros)),
            (Codec::Zstd, zstd::bulk::compress(&zeros, 19).unwrap()),
        ];
        for (codec, bytes) in compressed {
            let bound = codec.largest_output(bytes.len() as u64);
            assert!(bound >= zeros.len() as u64, "{codec:?} made {} of {} bytes", zeros.len(), bytes.len());
            let mut output = vec![7];
            codec.decompress(&bytes, &mut output, zeros.len()).unwrap();
            assert!(output[1..] == zeros[..], "{codec:?}");
            assert!(codec.decompress(&bytes, &mut Vec::new(), zeros.len() - 1).is_err(), "{codec:?}");
            assert!(codec.decompress(&bytes, &mut Vec::new(), zeros.len() + 1).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn lz4_is_read_in_its_three_framings() {
        let text = b"the same words, the same words, the same words".repeat(3);
        let block = lz4_flex::block::compress(&text);
        let mut hadoop = Vec::new();
        hadoop.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        hadoop.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        hadoop.extend_from_slice(&block);
        let mut frame = lz4_flex::frame::FrameEncoder::new(Vec::new());
        frame.write_all(&text).unwrap();
        for bytes in [block, hadoop, frame.finish().unwrap()] {
            let mut output = Vec::new();
            Codec::Lz4.decompress(&bytes, &mut output, text.len()).unwrap();
            assert_eq!(output, text);
        }
    }
}
