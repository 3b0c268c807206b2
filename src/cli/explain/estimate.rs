//! About what a run takes and costs, from what it reads. A model with few constants, each with its reason: good for
//! telling tens of milliseconds from seconds, and one memory size from another.

/// What a run asks of the store.
pub(super) struct Reads {
    pub(super) manifests: usize,
    pub(super) listing_pages: usize,
    /// The pages of one listing follow each other; listings come side by side.
    pub(super) longest_listing_pages: usize,
    pub(super) objects: usize,
    pub(super) known_bytes: u64,
    pub(super) unknown_sizes: usize,
    pub(super) files_written: usize,
    pub(super) concurrency: usize,
}

/// Marker, `current` and validation are read; claim, seal, manifest, `current` and marker are written.
const COMMIT_GETS: usize = 3;
const COMMIT_PUTS: usize = 5;

/// The commit's requests wait for each other, but for the first two and the data files.
const COMMIT_ROUNDS: f64 = 8.0;

/// A function of this memory has one processor.
const MB_PER_PROCESSOR: f64 = 1_769.0;

/// What one processor decodes: a small Parquet file is mostly footer, a large one mostly pages.
const DECODE_MS_PER_OBJECT: f64 = 0.15;
const DECODE_BYTES_PER_MS: f64 = 60_000.0;

/// What the network of a function brings.
const NETWORK_BYTES_PER_MS: f64 = 75_000.0;

/// List prices in us-east-1, x86_64.
const USD_PER_GB_SECOND: f64 = 0.000_016_666_7;
const USD_PER_INVOCATION: f64 = 0.000_000_2;
const USD_PER_GET: f64 = 0.000_000_4;
const USD_PER_PUT_OR_LIST: f64 = 0.000_005;

/// What an estimate takes for granted, in words: none of it is measured where the estimate is made.
pub(super) fn assumptions(reads: &Reads, latency_ms: f64, memory_mb: u32) -> String {
    let processors = f64::from(memory_mb) / MB_PER_PROCESSOR;
    format!(
        "{latency_ms} ms a request, {} at a time; {memory_mb} MB, which is {processors:.2} of a processor; a processor decodes \
         {:.0} MB a second, and takes {DECODE_MS_PER_OBJECT} ms an object; the network brings {:.0} MB a second; list prices of \
         us-east-1 for x86_64",
        reads.concurrency,
        DECODE_BYTES_PER_MS / 1e3,
        NETWORK_BYTES_PER_MS / 1e3
    )
}

impl Reads {
    pub(super) fn commit_requests(&self) -> usize {
        COMMIT_GETS + COMMIT_PUTS + self.files_written
    }
}

/// What a run takes, in milliseconds, and costs.
pub(super) struct Estimate {
    pub(super) plan_ms: f64,
    pub(super) read_ms: f64,
    pub(super) decode_ms: f64,
    pub(super) commit_ms: f64,
    pub(super) usd: f64,
}

impl Estimate {
    #[expect(clippy::cast_precision_loss, reason = "an estimate has two digits")]
    pub(super) fn of(reads: &Reads, latency_ms: f64, memory_mb: u32) -> Self {
        let processors = f64::from(memory_mb) / MB_PER_PROCESSOR;
        let bytes = reads.known_bytes as f64;
        let rounds = reads.objects.div_ceil(reads.concurrency.max(1)) as f64;
        let plan_ms = latency_ms * reads.longest_listing_pages.max(1) as f64;
        let read_ms = rounds * latency_ms + bytes / NETWORK_BYTES_PER_MS;
        let decode_ms = (reads.objects as f64 * DECODE_MS_PER_OBJECT + bytes / DECODE_BYTES_PER_MS) / processors;
        let commit_ms = COMMIT_ROUNDS * latency_ms;
        let seconds = (plan_ms + read_ms.max(decode_ms) + commit_ms) / 1e3;
        let gets = (reads.manifests + reads.objects + COMMIT_GETS) as f64;
        let puts = (reads.listing_pages + COMMIT_PUTS + reads.files_written) as f64;
        let usd = seconds * f64::from(memory_mb) / 1_024.0 * USD_PER_GB_SECOND
            + USD_PER_INVOCATION
            + gets * USD_PER_GET
            + puts * USD_PER_PUT_OR_LIST;
        Self { plan_ms, read_ms, decode_ms, commit_ms, usd }
    }

    /// Reading and decoding go on at the same time.
    pub(super) fn total_ms(&self) -> f64 {
        self.plan_ms + self.read_ms.max(self.decode_ms) + self.commit_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_memory_is_faster_and_more_latency_slower() {
        let reads = Reads {
            manifests: 1,
            listing_pages: 5,
            longest_listing_pages: 1,
            objects: 1_400,
            known_bytes: 2_800_000,
            unknown_sizes: 0,
            files_written: 2,
            concurrency: 64,
        };
        let total = |latency_ms, memory_mb| Estimate::of(&reads, latency_ms, memory_mb).total_ms();
        assert!(total(20.0, 1_769) < total(20.0, 512));
        assert!(total(50.0, 1_769) > total(20.0, 1_769));
        assert!((500.0..1_500.0).contains(&total(20.0, 1_024)), "{}", total(20.0, 1_024));
    }
}
