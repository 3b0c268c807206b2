//! The pages of a column chunk: bytes come in; decompressed pages go out to the decoder, one at a time.
//!
//! It stands between the bytes and everything that takes memory: each page header is read here, and refused where
//! it claims more than the limit, more than its codec can make of its bytes, or more values than the row group has.

use std::collections::VecDeque;

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};

use super::codec::Codec;
use super::delta;
use super::error::{Place, Problem};
use super::page_header::{Content, DATA_PAGE, DATA_PAGE_V2, DICTIONARY_PAGE, Header, INDEX_PAGE, RawPage, cut};
use super::schema::{Column, Physical};

/// What the decoder takes for each entry of a dictionary of byte arrays, beside its bytes.
const DICTIONARY_ENTRY_BYTES: u64 = 32;

/// Where the pages come from.
#[derive(Debug)]
pub(super) enum Source {
    /// All pages of the chunk, one after the other.
    Whole(Bytes),
    /// Some pages, each by itself, as an offset index placed them.
    Located {
        /// What precedes the first data page.
        dictionary: Option<Bytes>,
        /// The rows of each page, and its bytes where they were fetched.
        pages: VecDeque<(u64, Option<Bytes>)>,
    },
    /// Pages that are there before they are asked for, each with its header.
    Fed(FedPages),
}

/// Pages on their way from whoever fetches them to the decoder.
pub(super) type FedPages = std::sync::Arc<std::sync::Mutex<VecDeque<Bytes>>>;

/// The guarded pages of a chunk.
#[derive(Debug)]
pub(super) struct Pages {
    place: Place,
    codec: Codec,
    physical: Physical,
    type_length: u64,
    nullable: bool,
    page_bytes_limit: u64,
    source: Source,
    /// How many values may still come: the rows of the row group.
    values_left: u64,
    may_be_dictionary: bool,
    has_dictionary: bool,
    /// The next page, when it was looked at already.
    next: Option<RawPage>,
}

/// The pages as the library's decoder takes them.
pub(super) struct LibraryPages {
    pages: Pages,
    /// What was found wrong; the decoder's own error type cannot carry it.
    problem: FoundWrong,
}

/// Where a problem is put before the decoder is told that there is one.
pub(super) type FoundWrong = std::sync::Arc<std::sync::Mutex<Option<Problem>>>;

/// The bytes of a page.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// Those of a page that is stored as it is.
    stored: Option<Bytes>,
    /// What others are decompressed to; the memory is used again for the next, which may be shorter.
    room: Vec<u8>,
    size_bytes: usize,
}

impl Body {
    /// The page in memory last.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.stored {
            Some(stored) => stored,
            None => &self.room[..self.size_bytes],
        }
    }

    /// The same, for itself.
    fn into_bytes(self) -> Bytes {
        self.stored.unwrap_or_else(|| Bytes::from(self.room).slice(..self.size_bytes))
    }

    /// Memory for so many bytes.
    fn room(&mut self, size_bytes: usize) -> &mut [u8] {
        self.stored = None;
        self.size_bytes = size_bytes;
        if self.room.len() < size_bytes {
            self.room = vec![0; size_bytes];
        }
        &mut self.room[..size_bytes]
    }
}

impl Pages {
    /// The pages of a chunk with so many rows.
    pub(super) fn new(
        source: Source,
        column: &Column,
        place: Place,
        codec: i32,
        row_count: u64,
        page_bytes_limit: u64,
    ) -> Result<Self, Problem> {
        let Some(codec) = Codec::of(codec) else {
            return Err(Problem::Chunk { place, reason: format!("its codec has the unknown number {codec}") });
        };
        Ok(Self {
            place,
            codec,
            physical: column.physical,
            type_length: u64::try_from(column.length).unwrap_or(0),
            nullable: column.nullable,
            page_bytes_limit,
            source,
            values_left: row_count,
            may_be_dictionary: true,
            has_dictionary: false,
            next: None,
        })
    }

    /// What is wrong with a page of these.
    pub(super) fn problem(&self, reason: impl Into<String>) -> Problem {
        Problem::Page { place: self.place.clone(), reason: reason.into() }
    }

    fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, Problem> {
        Err(self.problem(reason))
    }

    /// The next page that is no index page; nothing after the last.
    fn next_raw(&mut self) -> Result<Option<RawPage>, Problem> {
        if let Some(page) = self.next.take() {
            return Ok(Some(page));
        }
        loop {
            let Some(page) = self.cut_page()? else {
                return Ok(None);
            };
            self.check(&page)?;
            match page.header.kind {
                INDEX_PAGE => {}
                DICTIONARY_PAGE => {
                    self.may_be_dictionary = false;
                    self.has_dictionary = true;
                    return Ok(Some(page));
                }
                _ => {
                    self.may_be_dictionary = false;
                    self.values_left -= u64::from(page.header.content.value_count.unsigned_abs());
                    return Ok(Some(page));
                }
            }
        }
    }

    fn cut_page(&mut self) -> Result<Option<RawPage>, Problem> {
        let place = &self.place;
        match &mut self.source {
            Source::Fed(pages) => {
                let page = pages.lock().ok().and_then(|mut pages| pages.pop_front());
                page.map(|bytes| cut(&bytes, place).map(|(page, _)| page)).transpose()
            }
            Source::Whole(bytes) => {
                if bytes.is_empty() {
                    return Ok(None);
                }
                let (page, end) = cut(bytes, place)?;
                *bytes = bytes.slice(end..);
                Ok(Some(page))
            }
            Source::Located { dictionary, pages } => {
                if let Some(bytes) = dictionary.take() {
                    return cut(&bytes, place).map(|(page, _)| Some(page));
                }
                let Some((row_count, bytes)) = pages.pop_front() else {
                    return Ok(None);
                };
                let problem = |reason: &str| Problem::Page { place: place.clone(), reason: reason.to_owned() };
                let bytes = bytes.ok_or_else(|| problem("is needed that the page index did not select"))?;
                let (page, _) = cut(&bytes, place)?;
                let is_data = matches!(page.header.kind, DATA_PAGE | DATA_PAGE_V2);
                if !is_data || u64::try_from(page.header.content.value_count) != Ok(row_count) {
                    return Err(problem("differs from what the page index says of it"));
                }
                Ok(Some(page))
            }
        }
    }

    /// Whether the page's claims can be true and are within the limits.
    fn check(&self, page: &RawPage) -> Result<(), Problem> {
        let header = &page.header;
        let Ok(uncompressed_bytes) = u64::try_from(header.uncompressed_bytes) else {
            return self.refuse("claims a negative size");
        };
        if uncompressed_bytes > self.page_bytes_limit {
            let limit = self.page_bytes_limit;
            return self.refuse(format!("claims {uncompressed_bytes} bytes uncompressed, at most {limit} are allowed"));
        }
        let compressed_bytes = page.body.len() as u64;
        let possible_bytes = match header.kind {
            INDEX_PAGE => return Ok(()),
            DATA_PAGE_V2 if !header.content.is_compressed => compressed_bytes,
            _ => self.codec.largest_output(compressed_bytes),
        };
        if uncompressed_bytes > possible_bytes {
            let codec = self.codec;
            return self.refuse(format!(
                "claims {uncompressed_bytes} bytes uncompressed, more than {compressed_bytes} bytes of {codec:?} can hold"
            ));
        }
        match header.kind {
            DICTIONARY_PAGE => self.check_dictionary(&header.content, uncompressed_bytes),
            DATA_PAGE | DATA_PAGE_V2 => self.check_data(header, compressed_bytes.min(uncompressed_bytes)),
            other => self.refuse(format!("has the unknown kind {other}")),
        }
    }

    fn check_dictionary(&self, content: &Content, uncompressed_bytes: u64) -> Result<(), Problem> {
        if !self.may_be_dictionary {
            return self.refuse("holds a dictionary, but is not the first");
        }
        let Ok(entry_count) = u64::try_from(content.value_count) else {
            return self.refuse("claims a negative number of values");
        };
        let (smallest_bytes, decoded_bytes) = match self.physical {
            Physical::Boolean => return self.refuse("holds a dictionary of booleans"),
            Physical::Int32 | Physical::Float => (4, 4),
            Physical::Int64 | Physical::Double => (8, 8),
            Physical::Int96 => (12, 12),
            Physical::ByteArray => (4, DICTIONARY_ENTRY_BYTES),
            Physical::FixedLengthByteArray => (self.type_length, DICTIONARY_ENTRY_BYTES),
        };
        if entry_count * smallest_bytes > uncompressed_bytes {
            return self.refuse(format!("claims a dictionary of {entry_count} values in {uncompressed_bytes} bytes"));
        }
        if entry_count * decoded_bytes > self.page_bytes_limit {
            return self.refuse(format!("claims a dictionary of {entry_count} values, more than is allowed"));
        }
        match content.encoding {
            0 | 2 => Ok(()),
            other => self.refuse(format!("holds a dictionary in the unknown encoding {other}")),
        }
    }

    fn check_data(&self, header: &Header, smaller_bytes: u64) -> Result<(), Problem> {
        let content = &header.content;
        let Ok(value_count) = u64::try_from(content.value_count) else {
            return self.refuse("claims a negative number of values");
        };
        if value_count > self.values_left {
            let left = self.values_left;
            return self.refuse(format!("claims {value_count} values where the row group has {left} left"));
        }
        match encoding(content.encoding) {
            None => return self.refuse(format!("has the unknown encoding {}", content.encoding)),
            Some(Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY) if !self.has_dictionary => {
                return self.refuse("needs a dictionary that is not there");
            }
            Some(_) => {}
        }
        if header.kind == DATA_PAGE {
            let levels_are_known = !self.nullable || matches!(content.definition_encoding, 3 | 4);
            return if levels_are_known { Ok(()) } else { self.refuse("has levels in an unknown encoding") };
        }
        let level_bytes =
            u64::try_from(content.definition_bytes).ok().zip(u64::try_from(content.repetition_bytes).ok());
        let levels_fit = level_bytes.is_some_and(|(definition, repetition)| definition + repetition <= smaller_bytes);
        if !levels_fit {
            return self.refuse("has levels of more bytes than it has");
        }
        if content.row_count != content.value_count || !(0..=content.value_count).contains(&content.null_count) {
            return self.refuse("contradicts itself on the number of its rows or nulls");
        }
        Ok(())
    }

    /// The next page, its bytes decompressed; nothing after the last.
    pub(super) fn next_into(&mut self, body: &mut Body) -> Result<Option<Header>, Problem> {
        let Some(RawPage { header, body: compressed }) = self.next_raw()? else {
            return Ok(None);
        };
        let content = &header.content;
        let is_version_2 = header.kind == DATA_PAGE_V2;
        let size_bytes = usize::try_from(header.uncompressed_bytes).unwrap_or(0);
        // In the second version the levels are never compressed.
        let level_bytes = if is_version_2 { content.definition_bytes + content.repetition_bytes } else { 0 };
        let level_bytes = usize::try_from(level_bytes).unwrap_or(0);
        if self.codec == Codec::None || (is_version_2 && !content.is_compressed) {
            if compressed.len() != size_bytes {
                return self.refuse(format!("holds {} bytes instead of {size_bytes}", compressed.len()));
            }
            body.stored = Some(compressed);
            return Ok(Some(header));
        }
        let (levels, values) = body.room(size_bytes).split_at_mut(level_bytes);
        levels.copy_from_slice(&compressed[..level_bytes]);
        // A page of nothing but nulls may hold no values, not even compressed ones.
        if !values.is_empty() {
            let done = self.codec.decompress(&compressed[level_bytes..], values);
            done.map_err(|reason| self.problem(format!("cannot be decompressed: {reason}")))?;
        }
        Ok(Some(header))
    }

    /// The next page as the library has it.
    fn next_page(&mut self) -> Result<Option<Page>, Problem> {
        let mut body = Body::default();
        let Some(header) = self.next_into(&mut body)? else {
            return Ok(None);
        };
        let content = &header.content;
        let buf = body.into_bytes();
        let encoding = encoding(content.encoding).unwrap_or(Encoding::PLAIN);
        let count = |number: i32| number.unsigned_abs();
        let page = match header.kind {
            DICTIONARY_PAGE => {
                Page::DictionaryPage { buf, num_values: count(content.value_count), encoding, is_sorted: false }
            }
            DATA_PAGE_V2 => Page::DataPageV2 {
                num_values: count(content.value_count),
                encoding,
                num_nulls: count(content.null_count),
                num_rows: count(content.row_count),
                def_levels_byte_len: count(content.definition_bytes),
                rep_levels_byte_len: count(content.repetition_bytes),
                is_compressed: false,
                statistics: None,
                buf,
            },
            _ => Page::DataPage {
                num_values: count(content.value_count),
                encoding,
                def_level_encoding: if content.definition_encoding == 3 { Encoding::RLE } else { legacy_levels() },
                rep_level_encoding: Encoding::RLE,
                statistics: None,
                buf,
            },
        };
        self.check_deltas(&page)?;
        Ok(Some(page))
    }

    /// The delta encodings of byte arrays claim sizes of their own within the page.
    fn check_deltas(&self, page: &Page) -> Result<(), Problem> {
        let (buf, level_bytes, value_count, encoding) = match page {
            Page::DictionaryPage { .. } => return Ok(()),
            Page::DataPageV2 { buf, num_values, encoding, def_levels_byte_len, rep_levels_byte_len, .. } => {
                (buf, (def_levels_byte_len + rep_levels_byte_len) as usize, *num_values, *encoding)
            }
            Page::DataPage { buf, num_values, encoding, def_level_encoding, .. } => {
                let level_bytes = match (self.nullable, buf.first_chunk::<4>()) {
                    (false, _) => 0,
                    (true, Some(length)) if *def_level_encoding == Encoding::RLE => {
                        4usize.saturating_add(u32::from_le_bytes(*length) as usize)
                    }
                    _ => num_values.div_ceil(8) as usize,
                };
                (buf, level_bytes, *num_values, *encoding)
            }
        };
        let values = buf.get(level_bytes..).unwrap_or(&[]);
        let value_count = u64::from(value_count);
        let decoded_bytes = match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => delta::length_encoded_bytes(values, value_count),
            Encoding::DELTA_BYTE_ARRAY => delta::front_encoded_bytes(values, value_count),
            _ => return Ok(()),
        };
        // Two lengths are kept for each value.
        let taken_bytes = decoded_bytes.map(|bytes| bytes.saturating_add(value_count * 8));
        match taken_bytes {
            None => self.refuse("has malformed delta lengths"),
            Some(bytes) if bytes > self.page_bytes_limit => {
                let limit = self.page_bytes_limit;
                self.refuse(format!("holds {bytes} bytes decoded, at most {limit} are allowed"))
            }
            Some(_) => Ok(()),
        }
    }

    /// What is known of the next page without taking it.
    pub(super) fn peek(&mut self) -> Result<Option<PageMetadata>, Problem> {
        if self.next.is_none() {
            if let Source::Located { dictionary: None, pages } = &self.source {
                let rows = pages.front().and_then(|(row_count, _)| usize::try_from(*row_count).ok());
                return Ok(rows.map(|rows| PageMetadata { num_rows: Some(rows), num_levels: None, is_dict: false }));
            }
            self.next = self.next_raw()?;
        }
        Ok(self.next.as_ref().map(|page| PageMetadata {
            num_rows: usize::try_from(page.header.content.value_count).ok(),
            num_levels: None,
            is_dict: page.header.kind == DICTIONARY_PAGE,
        }))
    }

    /// Leaves the next page out.
    pub(super) fn pass_over(&mut self) -> Result<(), Problem> {
        if self.next.take().is_some() {
            return Ok(());
        }
        if let Source::Located { dictionary: None, pages } = &mut self.source {
            if let Some((row_count, _)) = pages.pop_front() {
                self.values_left = self.values_left.saturating_sub(row_count);
            }
            return Ok(());
        }
        self.next_raw().map(drop)
    }
}

impl LibraryPages {
    /// These pages, and where it is put what is wrong with them.
    pub(super) fn new(pages: Pages) -> (Self, FoundWrong) {
        let problem = FoundWrong::default();
        (Self { pages, problem: FoundWrong::clone(&problem) }, problem)
    }

    /// Leaves the problem for the caller of the decoder.
    fn reported<T>(&self, done: Result<T, Problem>) -> ParquetResult<T> {
        done.map_err(|problem| {
            let text = problem.to_string();
            if let Ok(mut slot) = self.problem.lock() {
                *slot = Some(problem);
            }
            ParquetError::General(text)
        })
    }
}

impl Iterator for LibraryPages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for LibraryPages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let page = self.pages.next_page();
        self.reported(page)
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        let page = self.pages.peek();
        self.reported(page)
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        let passed = self.pages.pass_over();
        self.reported(passed)
    }

    fn at_record_boundary(&mut self) -> ParquetResult<bool> {
        Ok(true)
    }
}

/// The encodings that are decoded, by their numbers in Parquet's definition.
fn encoding(code: i32) -> Option<Encoding> {
    Some(match code {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return None,
    })
}

/// Levels as files from before 2014 have them.
#[expect(deprecated, reason = "old files still have levels in this encoding")]
fn legacy_levels() -> Encoding {
    Encoding::BIT_PACKED
}
