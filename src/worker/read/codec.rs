//! Decompression that cannot take more memory than asked for: compressed bytes and the size they should have come in,
//! exactly so many bytes go out, or an error.
//!
//! The decoder library inflates gzip, brotli and framed LZ4 pages to whatever they hold, and compares with the
//! header's claim only afterwards. A page of a few kilobytes could take gigabytes; so pages are decompressed here.

use std::cell::RefCell;
use std::io::{ErrorKind, Read};

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

    /// Fills `output` exactly.
    pub(super) fn decompress(self, input: &[u8], output: &mut [u8]) -> Result<(), String> {
        let written = match self {
            Self::None => {
                let written = input.len().min(output.len());
                output[..written].copy_from_slice(&input[..written]);
                input.len()
            }
            Self::Snappy => snap::raw::Decoder::new().decompress(input, output).map_err(text)?,
            Self::Gzip => read_at_most(flate2::read::MultiGzDecoder::new(input), output)?,
            Self::Brotli => read_at_most(brotli::Decompressor::new(input, 4_096), output)?,
            Self::Zstd => decompress_zstd(input, output)?,
            Self::Lz4Raw => lz4_flex::block::decompress_into(input, output).map_err(text)?,
            Self::Lz4 => match decompress_hadoop_blocks(input, output) {
                Some(()) => output.len(),
                None => match read_at_most(lz4_flex::frame::FrameDecoder::new(input), output) {
                    Ok(written) => written,
                    Err(_) => lz4_flex::block::decompress_into(input, output).map_err(text)?,
                },
            },
        };
        let size_bytes = output.len();
        if written == size_bytes { Ok(()) } else { Err(format!("holds {written} bytes instead of {size_bytes}")) }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn holds_more(size_bytes: usize) -> String {
    format!("holds more than {size_bytes} bytes")
}

/// Reads one byte more than there is room for at most: enough to see that there is more.
fn read_at_most(mut reader: impl Read, output: &mut [u8]) -> Result<usize, String> {
    let mut written = 0;
    loop {
        let mut beyond = [0];
        let is_full = written == output.len();
        let room = if is_full { &mut beyond[..] } else { &mut output[written..] };
        match reader.read(room) {
            Ok(0) => return Ok(written),
            Ok(_) if is_full => return Err(holds_more(written)),
            Ok(length) => written += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn decompress_zstd(input: &[u8], output: &mut [u8]) -> Result<usize, String> {
    ZSTD.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(zstd::bulk::Decompressor::new().map_err(text)?),
        };
        context.decompress_to_buffer(input, output).map_err(text)
    })
}

/// Blocks, each behind its size and its compressed size, big-endian. Nothing, if the bytes are not that, or too few.
fn decompress_hadoop_blocks(mut input: &[u8], mut output: &mut [u8]) -> Option<()> {
    while let Some((sizes, rest)) = input.split_first_chunk::<8>() {
        let [a, b, c, d, e, f, g, h] = *sizes;
        let block_bytes = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
        let compressed_bytes = usize::try_from(u32::from_be_bytes([e, f, g, h])).ok()?;
        let (block, after) = rest.split_at_checked(compressed_bytes)?;
        let (room, left) = output.split_at_mut_checked(block_bytes)?;
        if lz4_flex::block::decompress_into(block, room).ok()? != block_bytes {
            return None;
        }
        (input, output) = (after, left);
    }
    (output.is_empty() && input.is_empty()).then_some(())
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
        assert_eq!(Codec::Gzip.decompress(&bomb, &mut [0; 1_000]), Err("holds more than 1000 bytes".to_owned()));
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
            let room = |size_bytes: usize| vec![7; size_bytes];
            let mut output = room(zeros.len());
            codec.decompress(&bytes, &mut output).unwrap();
            assert!(output == zeros, "{codec:?}");
            assert!(codec.decompress(&bytes, &mut room(zeros.len() - 1)).is_err(), "{codec:?}");
            assert!(codec.decompress(&bytes, &mut room(zeros.len() + 1)).is_err(), "{codec:?}");
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
            let mut output = vec![0; text.len()];
            Codec::Lz4.decompress(&bytes, &mut output).unwrap();
            assert_eq!(output, text);
        }
    }
}
