//! A column chunk on its way: pieces of its bytes are fetched one after the other; whole pages go to the decoder before it
//! asks for them. So a row group takes memory for the pieces at hand, not for all of its bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::error::Error;
use super::fetch::OpenObject;
use super::footer::Chunk;
use super::page_guard::{FedPages, Source};
use super::page_header::measure;

/// While pages of so many rows wait to be decoded, nothing more is asked for.
pub(super) const ENOUGH_ROWS: u64 = 128 << 10;

/// The pages of a chunk, before they are decoded.
pub(super) struct Feed<'a> {
    object: Arc<OpenObject<'a>>,
    /// What was not asked for yet.
    rest: Range<u64>,
    /// How much is asked for at a time.
    piece_bytes: u64,
    /// The piece that is on its way.
    in_flight: Option<BoxFuture<'a, Result<Bytes, Error>>>,
    /// What was fetched and is no whole page yet.
    buffer: Bytes,
    pages: FedPages,
    /// The rows of the pages that were handed over and not accounted for.
    rows_ahead: u64,
}

impl<'a> Feed<'a> {
    /// The chunk, nothing of it fetched, and what the decoder reads it from.
    pub(super) fn of(object: &Arc<OpenObject<'a>>, chunk: &Chunk, piece_bytes: u64) -> (Self, Source) {
        let pages = FedPages::default();
        let feed = Self {
            object: Arc::clone(object),
            rest: chunk.bytes.clone(),
            piece_bytes,
            in_flight: None,
            buffer: Bytes::new(),
            pages: Arc::clone(&pages),
            rows_ahead: 0,
        };
        (feed, Source::Fed(pages))
    }

    /// Whether all of it was asked for.
    pub(super) fn is_fetched(&self) -> bool {
        self.rest.is_empty()
    }

    /// So many rows are decoded.
    pub(super) fn pass(&mut self, row_count: u64) {
        self.rows_ahead = self.rows_ahead.saturating_sub(row_count);
    }

    /// Asks for the next piece, if none is on its way and what is there will soon be decoded.
    pub(super) fn begin(&mut self) {
        if self.in_flight.is_some() || self.rest.is_empty() || self.rows_ahead >= ENOUGH_ROWS {
            return;
        }
        // Of a page that is larger than a piece, all that is missing.
        let missing_bytes = measure(&self.buffer).map_or(0, |(length, _)| length.saturating_sub(self.buffer.len()));
        let wanted_bytes = self.piece_bytes.max(missing_bytes as u64);
        let end = self.rest.start.saturating_add(wanted_bytes).min(self.rest.end);
        let range = self.rest.start..end;
        self.rest.start = end;
        let object = Arc::clone(&self.object);
        let fetch = async move { Ok(object.ranges(&[range]).await?.pop().unwrap_or_default()) };
        self.in_flight = Some(fetch.boxed());
    }

    /// Waits for the piece on its way and hands over the pages that are whole by then. Can be given up and begun again.
    pub(super) async fn advance(&mut self) -> Result<(), Error> {
        let Some(in_flight) = &mut self.in_flight else { return Ok(()) };
        let piece = in_flight.await;
        self.in_flight = None;
        self.take_in(piece?);
        self.begin();
        Ok(())
    }

    /// Hands over pages of at least so many rows, or all there are.
    pub(super) async fn ensure(&mut self, row_count: u64) -> Result<(), Error> {
        debug_assert!(row_count <= ENOUGH_ROWS, "more is asked for than is fetched");
        self.begin();
        while self.rows_ahead < row_count && self.in_flight.is_some() {
            self.advance().await?;
        }
        Ok(())
    }

    fn take_in(&mut self, piece: Bytes) {
        if self.buffer.is_empty() {
            self.buffer = piece;
        } else {
            let mut joined = BytesMut::with_capacity(self.buffer.len() + piece.len());
            joined.extend_from_slice(&self.buffer);
            joined.extend_from_slice(&piece);
            self.buffer = joined.freeze();
        }
        let Ok(mut pages) = self.pages.lock() else { return };
        while let Some((length, row_count)) = measure(&self.buffer).filter(|(length, _)| *length <= self.buffer.len()) {
            pages.push_back(self.buffer.split_to(length));
            self.rows_ahead = self.rows_ahead.saturating_add(row_count);
        }
        // What is left in the end is no page: whoever decodes it says what is wrong.
        if self.rest.is_empty() && !self.buffer.is_empty() {
            pages.push_back(std::mem::take(&mut self.buffer));
        }
    }
}
