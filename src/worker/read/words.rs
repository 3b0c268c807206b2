//! A column of eight bytes a value, decoded here: guarded pages come in; values and levels go out, so many rows at a time.
//!
//! Nearly every time and every number is such a column. The library's reader sets up a decoder for each page it meets,
//! which takes longer than a small file has to decode, and memory for each page of a large one. Here a column has one
//! piece of memory for its pages, and what it knows of the page that it is in.

use super::error::Problem;
use super::packed::{Deltas, Hybrid, Malformed, Piece};
use super::page_guard::{Body, Pages};
use super::page_header::{Content, DATA_PAGE_V2, DICTIONARY_PAGE, Header};

/// Rows that are passed over at a time.
const SKIPPED_ROWS: usize = 8_192;

const ENDS_EARLY: Malformed = "ends before its values do";

/// A value of eight bytes.
pub(super) trait Word: Copy + Default {
    /// The value of these bytes, the lowest first.
    fn of(bytes: [u8; 8]) -> Self;
    /// The value of the same bytes as a whole number; nothing where such numbers are never stored as differences.
    fn of_difference(number: i64) -> Option<Self>;
}

impl Word for i64 {
    fn of(bytes: [u8; 8]) -> Self {
        Self::from_le_bytes(bytes)
    }

    fn of_difference(number: i64) -> Option<Self> {
        Some(number)
    }
}

impl Word for f64 {
    fn of(bytes: [u8; 8]) -> Self {
        Self::from_le_bytes(bytes)
    }

    fn of_difference(_: i64) -> Option<Self> {
        None
    }
}

/// A column being read.
pub(super) struct Words<T> {
    pages: Pages,
    nullable: bool,
    dictionary: Vec<T>,
    page: DataPage,
}

/// The page that is being read.
#[derive(Default)]
struct DataPage {
    rows_left: usize,
    body: Body,
    levels: Levels,
    values: Values,
}

/// Which rows have a value.
#[derive(Default)]
enum Levels {
    /// All of them.
    #[default]
    All,
    /// Those of level 1.
    Runs(Hybrid),
    /// Those whose bit is set, from the highest of each byte on, as files from before 2014 have it.
    Bits { taken: usize },
}

/// How the values are stored, and which is the next.
#[derive(Default)]
enum Values {
    #[default]
    None,
    /// One after the other.
    Plain { position: usize },
    /// As places in the dictionary.
    Dictionary(Hybrid),
    /// As differences.
    Deltas(Deltas),
    /// The first bytes of all of them, then the second ones, and so on.
    Split { start: usize, taken: usize },
}

impl<T: Word> Words<T> {
    /// Reads the chunk that the pages belong to.
    pub(super) fn new(pages: Pages, nullable: bool) -> Self {
        Self { pages, nullable, dictionary: Vec::new(), page: DataPage::default() }
    }

    /// Adds the values of at most so many rows, and, of a nullable column, for each row whether it has one. How many
    /// rows there were: fewer only at the end.
    pub(super) fn read(
        &mut self,
        row_count: usize,
        levels: &mut Vec<i16>,
        values: &mut Vec<T>,
    ) -> Result<usize, Problem> {
        let mut read = 0;
        while read < row_count {
            if self.page.rows_left == 0 {
                if !self.next_page()? {
                    break;
                }
                continue;
            }
            let now = self.page.rows_left.min(row_count - read);
            self.page.read(now, &self.dictionary, levels, values).map_err(|reason| self.pages.problem(reason))?;
            read += now;
        }
        Ok(read)
    }

    /// Passes over at most so many rows; how many there were.
    pub(super) fn skip(&mut self, row_count: usize) -> Result<usize, Problem> {
        // Where values have no fixed place, the way to the next one is through those before it.
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let mut skipped = 0;
        while skipped < row_count {
            let left = row_count - skipped;
            if self.page.rows_left > 0 {
                let now = self.page.rows_left.min(left).min(SKIPPED_ROWS);
                levels.clear();
                values.clear();
                skipped += self.read(now, &mut levels, &mut values)?;
                continue;
            }
            let Some(next) = self.pages.peek()? else {
                break;
            };
            match next.num_rows {
                Some(rows) if !next.is_dict && rows <= left => {
                    self.pages.pass_over()?;
                    skipped += rows;
                }
                _ => {
                    self.next_page()?;
                }
            }
        }
        Ok(skipped)
    }

    /// Goes on to the next page, be it of the dictionary or of data. Whether there is one.
    fn next_page(&mut self) -> Result<bool, Problem> {
        let page = &mut self.page;
        let Some(header) = self.pages.next_into(&mut page.body)? else {
            return Ok(false);
        };
        let bytes = page.body.bytes();
        let count = usize::try_from(header.content.value_count).unwrap_or(0);
        if header.kind == DICTIONARY_PAGE {
            // The guard has seen that there are so many.
            self.dictionary.clear();
            self.dictionary.extend(words::<T>(bytes).take(count));
            return Ok(true);
        }
        let begun = begin::<T>(&header, bytes, self.nullable);
        let (levels, values) = begun.map_err(|reason| self.pages.problem(reason))?;
        page.levels = levels;
        page.values = values;
        page.rows_left = count;
        Ok(true)
    }
}

impl DataPage {
    fn read<T: Word>(
        &mut self,
        row_count: usize,
        dictionary: &[T],
        levels: &mut Vec<i16>,
        values: &mut Vec<T>,
    ) -> Result<(), Malformed> {
        let bytes = self.body.bytes();
        let value_count = self.levels.read(bytes, row_count, levels)?;
        self.values.read(bytes, value_count, dictionary, values)?;
        self.rows_left -= row_count;
        Ok(())
    }
}

/// Where the levels and the values of a page are.
fn begin<T: Word>(header: &Header, bytes: &[u8], nullable: bool) -> Result<(Levels, Values), Malformed> {
    let content = &header.content;
    let size = |number: i32| usize::try_from(number).map_err(|_| ENDS_EARLY);
    let (levels, start) = if header.kind == DATA_PAGE_V2 {
        let (repetition, definition) = (size(content.repetition_bytes)?, size(content.definition_bytes)?);
        let levels =
            if nullable { Levels::Runs(Hybrid::new(repetition..repetition + definition, 1)?) } else { Levels::All };
        (levels, repetition + definition)
    } else {
        levels_in_front(content, bytes, nullable)?
    };
    if start > bytes.len() {
        return Err("has levels of more bytes than it has");
    }
    let values = match content.encoding {
        // Where every row is null there may be nothing, not even what the values would begin with.
        _ if start == bytes.len() => Values::None,
        0 => Values::Plain { position: start },
        2 | 8 => Values::Dictionary(Hybrid::new(start + 1..bytes.len(), u32::from(bytes[start]))?),
        5 if T::of_difference(0).is_some() => Values::Deltas(Deltas::new(bytes, start)?),
        9 => Values::Split { start, taken: 0 },
        _ => return Err("has an encoding that values of its type never have"),
    };
    Ok((levels, values))
}

/// The levels of a page of the first version, and where its values begin.
fn levels_in_front(content: &Content, bytes: &[u8], nullable: bool) -> Result<(Levels, usize), Malformed> {
    if !nullable {
        return Ok((Levels::All, 0));
    }
    if content.definition_encoding != 3 {
        let row_count = usize::try_from(content.value_count).map_err(|_| ENDS_EARLY)?;
        return Ok((Levels::Bits { taken: 0 }, row_count.div_ceil(8)));
    }
    let length = bytes.first_chunk::<4>().ok_or(ENDS_EARLY)?;
    let end = usize::try_from(u32::from_le_bytes(*length)).ok().and_then(|length| length.checked_add(4));
    let end = end.ok_or(ENDS_EARLY)?;
    Ok((Levels::Runs(Hybrid::new(4..end, 1)?), end))
}

impl Levels {
    /// Adds the levels of the next rows to `levels`; how many of them have a value.
    fn read(&mut self, bytes: &[u8], row_count: usize, levels: &mut Vec<i16>) -> Result<usize, Malformed> {
        match self {
            Self::All => Ok(row_count),
            Self::Runs(runs) => {
                let mut value_count = 0;
                runs.read(bytes, row_count, |piece| {
                    match piece {
                        Piece::Repeated(level, count) => {
                            let level = i16::try_from(level).ok().filter(|&level| level <= 1);
                            let level = level.ok_or("has a level that its column has not")?;
                            levels.resize(levels.len() + count, level);
                            value_count += if level == 1 { count } else { 0 };
                        }
                        Piece::Different(different) => {
                            levels.extend(different.iter().map(|&level| i16::from(level != 0)));
                            value_count += different.iter().map(|&level| usize::from(level != 0)).sum::<usize>();
                        }
                    }
                    Ok(())
                })?;
                Ok(value_count)
            }
            Self::Bits { taken } => {
                let mut value_count = 0;
                for place in *taken..*taken + row_count {
                    let level = (bytes.get(place / 8).ok_or(ENDS_EARLY)? >> (7 - place % 8)) & 1;
                    levels.push(i16::from(level));
                    value_count += usize::from(level);
                }
                *taken += row_count;
                Ok(value_count)
            }
        }
    }
}

impl Values {
    /// Adds the next values to `values`.
    fn read<T: Word>(
        &mut self,
        bytes: &[u8],
        count: usize,
        dictionary: &[T],
        values: &mut Vec<T>,
    ) -> Result<(), Malformed> {
        match self {
            Self::None if count == 0 => Ok(()),
            Self::None => Err(ENDS_EARLY),
            Self::Plain { position } => {
                let end = position.saturating_add(count.saturating_mul(8));
                values.extend(words::<T>(bytes.get(*position..end).ok_or(ENDS_EARLY)?));
                *position = end;
                Ok(())
            }
            Self::Dictionary(places) => places.read(bytes, count, |piece| look_up(piece, dictionary, values)),
            Self::Deltas(deltas) => deltas.read(bytes, count, |number| values.extend(T::of_difference(number))),
            Self::Split { start, taken } => {
                let streams = &bytes[*start..];
                let stride = streams.len() / 8;
                if taken.saturating_add(count) > stride || !streams.len().is_multiple_of(8) {
                    return Err(ENDS_EARLY);
                }
                let word = |place: usize| T::of(std::array::from_fn(|stream| streams[stream * stride + place]));
                values.extend((*taken..*taken + count).map(word));
                *taken += count;
                Ok(())
            }
        }
    }
}

fn look_up<T: Word>(piece: Piece<'_>, dictionary: &[T], values: &mut Vec<T>) -> Result<(), Malformed> {
    const BEYOND: Malformed = "refers to more values than its dictionary has";
    match piece {
        Piece::Repeated(place, count) => {
            let value = *dictionary.get(place as usize).ok_or(BEYOND)?;
            values.resize(values.len() + count, value);
        }
        Piece::Different(places) => {
            // The highest is looked for first: without it, the places are within the dictionary or nothing is.
            let highest = places.iter().copied().max().map_or(0, |highest| highest as usize);
            if highest >= dictionary.len() {
                return Err(BEYOND);
            }
            values.extend(places.iter().map(|&place| dictionary[place as usize]));
        }
    }
    Ok(())
}

fn words<T: Word>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes.as_chunks::<8>().0.iter().map(|&word| T::of(word))
}
