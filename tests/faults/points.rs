//! Every trouble at every point: one life meets it, and the following ones bring everything to its end.

use std::sync::Arc;

use metrics_engine::storage::memory::Fault;

use crate::lab::{LAST_RECEIVE, LIMIT, Lab};
use crate::wire::{self, Point, TROUBLES, Trouble};
use crate::world::{Record, record, request};

/// What surrounds the troubled life.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setting {
    /// Two runs of one metric in two groups, at once, instead of one.
    pub(crate) two_runs: bool,
    /// The inputs are others in the next life.
    pub(crate) inputs_change: bool,
    /// The troubled delivery is the last that the queue allows.
    pub(crate) is_last_receive: bool,
    /// While the troubled worker is still at work another one gets the same records.
    pub(crate) second_worker: bool,
    /// The message is lost to the first worker's death and sent again under another id.
    pub(crate) redrive: bool,
    /// Workers read a row or two at a time, and send their results while they compute.
    pub(crate) in_slices: bool,
}

/// Which request of the first life meets what.
pub(crate) type Plan = Arc<Vec<(usize, Trouble)>>;

fn script(plan: &Plan) -> impl Fn(&Point) -> Trouble + Send + Sync + use<> {
    let plan = Arc::clone(plan);
    move |point| plan.iter().find(|(number, _)| *number == point.number).map_or(wire::NONE, |(_, trouble)| *trouble)
}

fn records(setting: Setting) -> Vec<Record> {
    let receive_count = if setting.is_last_receive { LAST_RECEIVE } else { 1 };
    let names = if setting.two_runs { &["1", "2"][..] } else { &["1"] };
    let one = |name: &&str| {
        let first = record(&format!("m{name}"), &format!("g{name}"), &request(&format!("r{name}"), "m"));
        Record { receive_count, ..first }
    };
    names.iter().map(one).collect()
}

/// Runs the plan and everything after it to the end. The answer is the points of the first life.
pub(crate) async fn check(setting: Setting, plan: Plan) -> Result<Vec<Point>, String> {
    let lab = if setting.in_slices { Lab::in_slices(1_500) } else { Lab::new(1_500) };
    let records = records(setting);
    let runs: Vec<(String, String)> =
        (1..=records.len()).map(|number| (format!("r{number}"), "m".to_owned())).collect();
    let first = lab.live(&records, 0, LIMIT, script(&plan));
    let first = if setting.second_worker {
        let second: Vec<Record> = records.iter().map(received_again).collect();
        let second = async {
            // The visibility timeout is over while the first worker is in the middle of its work.
            lab.shared.wait(11_000).await;
            if setting.inputs_change {
                lab.change_inputs(1);
            }
            lab.live(&second, 1, LIMIT, wire::calm).await
        };
        tokio::join!(first, second).0
    } else {
        first.await
    };
    let points = first.life.points();
    let returned = first.returned.unwrap_or_else(|| records.iter().map(|one| one.message_id.clone()).collect());
    let rest = records.into_iter().filter(|one| returned.contains(&one.message_id));
    if setting.inputs_change {
        lab.change_inputs(1);
    }
    let outcome = bring_to_an_end(&lab, rest.collect(), setting, &runs).await;
    outcome
        .and_then(|()| lab.finish(&runs))
        .map_err(|wrong| format!("{setting:?} {plan:?}: {wrong}\n{}", lab.story()))?;
    Ok(points)
}

fn received_again(record: &Record) -> Record {
    Record { receive_count: record.receive_count + 1, ..record.clone() }
}

/// Calm deliveries until every run has succeeded, and then one more, which changes nothing.
async fn bring_to_an_end(
    lab: &Lab,
    returned: Vec<Record>,
    setting: Setting,
    runs: &[(String, String)],
) -> Result<(), String> {
    let mut waiting = returned;
    for round in 0..4 {
        lab.shared.wait(20_000).await;
        let mut batch: Vec<Record> = waiting.iter().map(|one| redelivered(one, setting, round)).collect();
        for (index, (run_id, metric)) in runs.iter().enumerate() {
            let is_waiting = batch.iter().any(|one| one.body.contains(&format!("\"{run_id}\"")));
            if !is_waiting && !lab.has_succeeded(run_id) {
                // It failed, or lies in the dead-letter queue: somebody sends it again.
                batch.push(record(&format!("again {round} {index}"), &format!("g{index}"), &request(run_id, metric)));
            }
        }
        if batch.is_empty() {
            break;
        }
        let lived = lab.live(&batch, 0, LIMIT, wire::calm).await;
        let returned = lived.returned.unwrap_or_default();
        waiting = batch.into_iter().filter(|one| returned.contains(&one.message_id)).collect();
    }
    if !waiting.is_empty() {
        return Err(format!("{} records never come to an end", waiting.len()));
    }
    let before = lab.shared.storage.snapshot();
    let duplicate: Vec<Record> = runs.iter().map(|(run, metric)| record(run, run, &request(run, metric))).collect();
    lab.live(&duplicate, 0, LIMIT, wire::calm).await;
    match lab.shared.storage.snapshot() == before {
        true => Ok(()),
        false => Err("a delivery after the end wrote something".to_owned()),
    }
}

/// The queue's part: one more receive, or another message where there is none left.
fn redelivered(record: &Record, setting: Setting, round: u32) -> Record {
    if setting.redrive || record.receive_count >= LAST_RECEIVE {
        return Record { message_id: format!("{} {round}", record.message_id), receive_count: 1, ..record.clone() };
    }
    received_again(record)
}

/// The troubles that a request can meet: a 409 answers only a conditional write.
pub(crate) fn troubles(point: &Point) -> impl Iterator<Item = Trouble> {
    let is_put = matches!(point.operation, "put" | "complete");
    TROUBLES.into_iter().filter(move |trouble| is_put || *trouble != Trouble::Fault(Fault::Conflict))
}
