//! Small objects of one series each, in memory as a whole: they come in one by one as they are fetched, and are decoded
//! several at a time, beside the requests for the next ones. One by itself takes too little time to change threads for.

use std::sync::Arc;

use bytes::Bytes;

use super::decode::{Budget, Rows, Wanted};
use super::error::Problem;
use super::fetch::OpenObject;
use super::file::read_in_memory;

/// So many objects, or so many bytes of them, are decoded together: about half a millisecond.
const TOGETHER: usize = 64;
const TOGETHER_BYTES: usize = 256 << 10;

/// Fewer bytes are decoded in place.
const FEW_BYTES: usize = 8 << 10;

/// An object that was fetched.
pub(super) struct Fetched<'a> {
    /// Its place in the plan.
    pub(super) index: usize,
    pub(super) opened: OpenObject<'a>,
    pub(super) wanted: Arc<Wanted>,
}

/// Objects that wait to be decoded.
#[derive(Default)]
pub(super) struct Waiting<'a> {
    objects: Vec<Fetched<'a>>,
    size_bytes: usize,
}

impl<'a> Waiting<'a> {
    pub(super) fn push(&mut self, object: Fetched<'a>) {
        self.size_bytes += object.opened.whole().map_or(0, Bytes::len);
        self.objects.push(object);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether there are as many as are decoded together.
    pub(super) fn are_enough(&self) -> bool {
        self.objects.len() >= TOGETHER || self.size_bytes >= TOGETHER_BYTES
    }

    pub(super) fn take(&mut self) -> Vec<Fetched<'a>> {
        self.size_bytes = 0;
        std::mem::take(&mut self.objects)
    }
}

/// What each object holds; nothing for one that takes long or has more rows than `row_limit`, and is to be read by itself.
pub(super) async fn decode(
    objects: &[Fetched<'_>],
    row_limit: u64,
    budget: &Arc<Budget>,
) -> Vec<Result<Option<Rows>, Problem>> {
    let inputs = objects.iter().map(|object| (object.opened.whole().cloned(), Arc::clone(&object.wanted)));
    let inputs: Vec<(Option<Bytes>, Arc<Wanted>)> = inputs.collect();
    let read = move |(bytes, wanted): &(Option<Bytes>, Arc<Wanted>), budget: &Budget| match bytes {
        Some(bytes) => read_in_memory(bytes, wanted, row_limit, budget),
        None => Ok(None),
    };
    if inputs.iter().filter_map(|(bytes, _)| bytes.as_ref()).map(Bytes::len).sum::<usize>() < FEW_BYTES {
        return inputs.iter().map(|input| read(input, budget)).collect();
    }
    // A semaphore that is never closed always gives its permit.
    let _turn = budget.long_decodes.acquire().await.ok();
    let shared = Arc::clone(budget);
    let all = move || inputs.iter().map(|input| read(input, &shared)).collect();
    let decoded = budget.computing.run(all).await;
    decoded.unwrap_or_else(|_| objects.iter().map(|_| Err(Problem::DecoderPanicked)).collect())
}
