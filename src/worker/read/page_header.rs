//! A page as it is in the file: bytes come in; its header and its compressed body go out, nothing believed yet.
//!
//! Statistics in a header are passed over, so a header takes no memory however long it is.

use bytes::Bytes;

use super::error::{Place, Problem};
use super::thrift::{Malformed, Reader};

/// The longest page header that is read. Statistics in it are shortened by every writer.
const MAX_HEADER_BYTES: usize = 1 << 20;

/// A page as it is in the file, its header read.
#[derive(Debug)]
pub(super) struct RawPage {
    pub(super) header: Header,
    pub(super) body: Bytes,
}

/// A page header.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Header {
    pub(super) kind: i32,
    pub(super) uncompressed_bytes: i32,
    pub(super) compressed_bytes: i32,
    pub(super) content: Content,
}

/// What the part of a page header says that depends on the kind of page.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Content {
    pub(super) value_count: i32,
    pub(super) null_count: i32,
    pub(super) row_count: i32,
    pub(super) encoding: i32,
    pub(super) definition_encoding: i32,
    pub(super) definition_bytes: i32,
    pub(super) repetition_bytes: i32,
    pub(super) is_compressed: bool,
}

pub(super) const DATA_PAGE: i32 = 0;
pub(super) const INDEX_PAGE: i32 = 1;
pub(super) const DICTIONARY_PAGE: i32 = 2;
pub(super) const DATA_PAGE_V2: i32 = 3;

/// Cuts the first page off: the page, and where it ends.
pub(super) fn cut(bytes: &Bytes, place: &Place) -> Result<(RawPage, usize), Problem> {
    let mut reader = Reader::new(&bytes[..bytes.len().min(MAX_HEADER_BYTES)]);
    let header = read_header(&mut reader).map_err(|source| Problem::PageHeader { place: place.clone(), source })?;
    let start = reader.position();
    let end = usize::try_from(header.compressed_bytes).ok().and_then(|length| start.checked_add(length));
    let Some(end) = end.filter(|&end| end <= bytes.len()) else {
        let (claimed, left) = (header.compressed_bytes, bytes.len() - start);
        let reason = format!("claims {claimed} bytes where {left} are left");
        return Err(Problem::Page { place: place.clone(), reason });
    };
    Ok((RawPage { header, body: bytes.slice(start..end) }, end))
}

/// How many bytes the first page has, its header included, and how many rows, as its header says: nothing where the
/// bytes do not hold all of the header, or it is malformed.
pub(super) fn measure(bytes: &[u8]) -> Option<(usize, u64)> {
    let mut reader = Reader::new(&bytes[..bytes.len().min(MAX_HEADER_BYTES)]);
    let header = read_header(&mut reader).ok()?;
    let length = reader.position().checked_add(usize::try_from(header.compressed_bytes).ok()?)?;
    let is_data = matches!(header.kind, DATA_PAGE | DATA_PAGE_V2);
    Some((length, if is_data { u64::try_from(header.content.value_count).ok()? } else { 0 }))
}

fn read_header(reader: &mut Reader<'_>) -> Result<Header, Malformed> {
    let mut header = Header { kind: -1, compressed_bytes: -1, uncompressed_bytes: -1, ..Header::default() };
    let mut content_of = None;
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id)? {
        match field.id {
            1 => header.kind = reader.int32(field)?,
            2 => header.uncompressed_bytes = reader.int32(field)?,
            3 => header.compressed_bytes = reader.int32(field)?,
            5 | 7 | 8 => {
                Reader::enter(field)?;
                content_of = Some(field.id);
                header.content = read_content(reader, field.id)?;
            }
            _ => reader.skip(field)?,
        }
    }
    let wanted = match header.kind {
        DATA_PAGE => Some(5),
        DICTIONARY_PAGE => Some(7),
        DATA_PAGE_V2 => Some(8),
        _ => None,
    };
    if wanted.is_some() && wanted != content_of { Err(Malformed::Type) } else { Ok(header) }
}

fn read_content(reader: &mut Reader<'_>, kind_field: i16) -> Result<Content, Malformed> {
    let mut content =
        Content { is_compressed: true, definition_encoding: 3, encoding: -1, value_count: -1, ..Content::default() };
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id)? {
        match (kind_field, field.id) {
            (_, 1) => content.value_count = reader.int32(field)?,
            (5 | 7, 2) | (8, 4) => content.encoding = reader.int32(field)?,
            (5, 3) => content.definition_encoding = reader.int32(field)?,
            (8, 2) => content.null_count = reader.int32(field)?,
            (8, 3) => content.row_count = reader.int32(field)?,
            (8, 5) => content.definition_bytes = reader.int32(field)?,
            (8, 6) => content.repetition_bytes = reader.int32(field)?,
            (8, 7) => content.is_compressed = Reader::boolean(field)?,
            _ => reader.skip(field)?,
        }
    }
    Ok(content)
}
