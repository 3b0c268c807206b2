//! From input to output, slice by slice: a read plan comes in; the bytes of the result's files go out to the store.
//!
//! Four stages work side by side, each on another slice: one reads, one evaluates, one encodes, one sends. A stage that is
//! ahead waits until what it made is taken; so a run takes as long as its longest stage where there are processors for
//! all of them, and memory for a few slices.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::try_join4;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::computing::Computing;
use super::evaluate::Evaluator;
use super::read::{Cut, Facts, Next, Slices};
use super::write::encode::{Encoder, Summary};
use super::write::outbox::{Data, Outbox};
use super::{Error, off_the_runtime, plan, read_settings};
use crate::config::Config;
use crate::ids::SeriesCode;
use crate::request::Work;
use crate::series::Series;
use crate::storage::ObjectStorage;
use crate::telemetry;

/// Slices that wait between two stages.
const WAITING: usize = 1;

/// Reads, evaluates, encodes and sends. Nothing, where slices come out of order: what was sent is given up.
///
/// # Errors
/// Whatever ends a stage.
pub(super) async fn run(
    work: &Work,
    read_plan: &plan::ReadPlan,
    cut: Cut,
    mut outbox: Outbox<'_>,
    storage: &dyn ObjectStorage,
    config: &Config,
    progress: &(dyn Fn(f64) + Sync),
) -> Result<Option<(Data, Facts)>, Error> {
    let (settings, computing) = (read_settings(config), config.computing);
    let codes: Vec<_> = read_plan.series.iter().map(|series| series.series_code.clone()).collect();
    let slices = Slices::new(read_plan, storage, &settings, cut, progress);
    let evaluator = Evaluator::new(&work.expression, &config.calendar);
    let encoder = Encoder::new(&config.output_files, config.output_compression, storage.part_size_bytes())?;

    let (to_evaluate, slices_read) = mpsc::channel(WAITING);
    let (to_encode, results) = mpsc::channel(WAITING);
    let (to_send, parts) = mpsc::channel(WAITING);
    let (facts, (), (last, summary), ()) = try_join4(
        read(slices, &codes, to_evaluate),
        evaluate(evaluator, slices_read, to_encode, computing),
        encode(encoder, results, to_send, computing),
        send(&mut outbox, parts),
    )
    .await?;
    let Some(facts) = facts else {
        outbox.abort().await;
        return Ok(None);
    };
    Ok(Some((outbox.close(last, summary).await?, facts)))
}

/// A slice of the input.
type Slice = BTreeMap<SeriesCode, Series>;

/// What was read, in the end; nothing where slices came out of order.
async fn read(mut slices: Slices<'_>, codes: &[SeriesCode], next: Sender<Slice>) -> Result<Option<Facts>, Error> {
    loop {
        let slice = match slices.next().await? {
            Next::Slice(slice) => slice,
            Next::End => return Ok(Some(slices.finish()?)),
            Next::OutOfOrder => return Ok(None),
        };
        // A stage that ended early has failed, and the run with it.
        let _ = next.send(codes.iter().cloned().zip(slice).collect()).await;
    }
}

async fn evaluate(
    mut evaluator: Evaluator,
    mut slices: Receiver<Slice>,
    next: Sender<Series>,
    computing: Computing,
) -> Result<(), Error> {
    while let Some(slice) = slices.recv().await {
        let result;
        (evaluator, result) = off_the_runtime(computing, move || {
            let _step = tracing::debug_span!(target: telemetry::STEPS, "evaluate", series = slice.len()).entered();
            let result = evaluator.next(slice)?;
            Ok((evaluator, result))
        })
        .await?;
        let _ = next.send(result).await;
    }
    Ok(())
}

/// The last parts of each file, in the end, and what the manifest says of them.
async fn encode(
    mut encoder: Encoder,
    mut results: Receiver<Series>,
    next: Sender<Vec<Vec<Bytes>>>,
    computing: Computing,
) -> Result<(Vec<Vec<Bytes>>, Summary), Error> {
    while let Some(result) = results.recv().await {
        // Parts are large: while one waits to be sent, no other is filled.
        let Ok(room) = next.reserve().await else { break };
        let parts;
        (encoder, parts) = off_the_runtime(computing, move || {
            let parts = encoder.next(&result)?;
            Ok((encoder, parts))
        })
        .await?;
        if parts.iter().any(|of_file| !of_file.is_empty()) {
            room.send(parts);
        }
    }
    off_the_runtime(computing, move || Ok(encoder.finish()?)).await
}

async fn send(outbox: &mut Outbox<'_>, mut parts: Receiver<Vec<Vec<Bytes>>>) -> Result<(), Error> {
    while let Some(next) = parts.recv().await {
        outbox.send(next).await?;
    }
    Ok(())
}
