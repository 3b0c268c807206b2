//! One long object of a single series: its footer comes in; its observations go out some ten thousand rows at a time, so
//! that it takes memory for some pages of each column, however long it is.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::{Either, join_all, select, try_join_all};

use super::decode::{Budget, RowGroupDecoder, Rows, Wanted};
use super::error::{Error, Problem};
use super::feed::{ENOUGH_ROWS, Feed};
use super::fetch::OpenObject;
use super::file::{check_size, needed_chunks, own_row_groups};
use super::footer::Footer;
use crate::keys::Key;

/// The most rows that are given out at a time: some milliseconds of decoding, and fewer than are fetched ahead.
const CHUNK_ROWS: u64 = ENOUGH_ROWS / 2;

/// Fewer are decoded at once, not beside other work.
const SHORT_ROWS: u64 = 4 << 10;

/// How much of a long object is taken at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// No more rows are given out at a time.
    pub(super) chunk_rows: u64,
    /// So much of a column is fetched at a time.
    pub(super) piece_bytes: u64,
}

/// A long object being read.
pub(super) struct LongFile<'a> {
    key: &'a Key,
    object: Arc<OpenObject<'a>>,
    footer: Arc<Footer>,
    wanted: Arc<Wanted>,
    budget: Arc<Budget>,
    sizes: Sizes,
    /// Row groups that nothing was asked for yet.
    groups: VecDeque<usize>,
    /// The row group after the one that is decoded, as soon as nothing more of that one is to be asked for.
    next_group: Option<Group<'a>>,
    group: Option<Group<'a>>,
    /// Rows that statistics show to be of other series, not given out yet.
    foreign_rows: u64,
}

/// A row group being decoded.
struct Group<'a> {
    feeds: Vec<Feed<'a>>,
    /// Nothing while it is away decoding.
    decoder: Option<RowGroupDecoder>,
    row: u64,
    row_count: u64,
}

impl<'a> LongFile<'a> {
    /// Before the first row.
    pub(super) fn new(
        key: &'a Key,
        object: Arc<OpenObject<'a>>,
        footer: Arc<Footer>,
        wanted: Arc<Wanted>,
        budget: Arc<Budget>,
        sizes: Sizes,
    ) -> Self {
        let (groups, foreign_rows) = own_row_groups(&footer, &wanted);
        let groups = groups.into();
        Self { key, object, footer, wanted, budget, sizes, groups, next_group: None, group: None, foreign_rows }
    }

    /// The next rows; nothing after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Rows>, Error> {
        let Some(mut group) = self.take_group()? else {
            // A file without any row group that matters still has what its statistics say.
            let foreign_rows = std::mem::take(&mut self.foreign_rows);
            return Ok((foreign_rows > 0).then(|| Rows { foreign_rows, ..Rows::none(self.wanted.codes.len()) }));
        };
        let row_count = CHUNK_ROWS.min(self.sizes.chunk_rows.max(1)).min(group.row_count - group.row);
        try_join_all(group.feeds.iter_mut().map(|feed| feed.ensure(row_count))).await?;
        if group.feeds.iter().all(Feed::is_fetched) && self.next_group.is_none() {
            self.next_group = self.open_group()?;
        }
        let mut rows = self.decode(&mut group, row_count).await?;
        group.row += row_count;
        group.feeds.iter_mut().for_each(|feed| feed.pass(row_count));
        rows.foreign_rows = rows.foreign_rows.saturating_add(std::mem::take(&mut self.foreign_rows));
        self.group = (group.row < group.row_count).then_some(group);
        Ok(Some(rows))
    }

    fn take_group(&mut self) -> Result<Option<Group<'a>>, Error> {
        match self.group.take().or_else(|| self.next_group.take()) {
            Some(group) => Ok(Some(group)),
            None => self.open_group(),
        }
    }

    /// Begins to fetch the next row group.
    fn open_group(&mut self) -> Result<Option<Group<'a>>, Error> {
        let Some(index) = self.groups.pop_front() else { return Ok(None) };
        let row_group = &self.footer.row_groups[index];
        let chunks = needed_chunks(&self.footer, row_group, &self.wanted);
        let size_of = |chunk: &&super::footer::Chunk| chunk.bytes.end - chunk.bytes.start;
        let size_bytes = chunks.iter().flatten().map(size_of).fold(0, u64::saturating_add);
        check_size(index, size_bytes, &self.budget).map_err(|problem| Error::unreadable(self.key, problem))?;
        let mut feeds = Vec::with_capacity(chunks.len());
        let sources = chunks.map(|chunk| {
            let (mut feed, source) = Feed::of(&self.object, chunk?, self.sizes.piece_bytes);
            feed.begin();
            feeds.push(feed);
            Some(source)
        });
        let decoder = RowGroupDecoder::open(&self.footer, index, sources, &self.budget);
        let decoder = Some(decoder.map_err(|problem| Error::unreadable(self.key, problem))?);
        Ok(Some(Group { feeds, decoder, row: 0, row_count: row_group.row_count }))
    }

    /// Decodes beside other work, while the next pieces are on their way.
    async fn decode(&mut self, group: &mut Group<'a>, row_count: u64) -> Result<Rows, Error> {
        let unreadable = |problem| Error::unreadable(self.key, problem);
        let Some(mut decoder) = group.decoder.take() else { return Err(unreadable(Problem::DecoderPanicked)) };
        let range = group.row..group.row + row_count;
        let (wanted, budget) = (Arc::clone(&self.wanted), Arc::clone(&self.budget));
        if row_count <= SHORT_ROWS {
            let rows = decoder.rows(range, &wanted, &budget).map_err(unreadable)?;
            group.decoder = Some(decoder);
            return Ok(rows);
        }
        let decoding = async {
            // A semaphore that is never closed always gives its permit.
            let _turn = self.budget.long_decodes.acquire().await.ok();
            let computing = budget.computing;
            let decode = move || {
                let rows = decoder.rows(range, &wanted, &budget);
                (decoder, rows)
            };
            computing.run(decode).await
        };
        let feeds = group.feeds.iter_mut().chain(self.next_group.iter_mut().flat_map(|group| &mut group.feeds));
        let fetching = join_all(feeds.map(Feed::advance));
        let (decoded, fetched) = match select(Box::pin(decoding), Box::pin(fetching)).await {
            Either::Left((decoded, _)) => (decoded, Vec::new()),
            Either::Right((fetched, decoding)) => (decoding.await, fetched),
        };
        let (decoder, rows) = decoded.map_err(|_| unreadable(Problem::DecoderPanicked))?;
        group.decoder = Some(decoder);
        let rows = rows.map_err(unreadable)?;
        fetched.into_iter().collect::<Result<Vec<()>, Error>>()?;
        Ok(rows)
    }
}
