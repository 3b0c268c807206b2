//! A schedule made up from a seed: deliveries with random troubles, clocks and limits, second and third workers on the
//! same records, duplicates, redrives, cleaned claims and changed inputs, over several runs, metrics and groups; then a
//! calm end.

use std::time::Duration;

use metrics_engine::keys::Key;

use crate::lab::{GENERATIONS, LAST_RECEIVE, LIMIT, Lab, Lived};
use crate::wire::{self, Point, TROUBLES, Trouble};
use crate::world::{self, Record, request};

/// SplitMix64: the same numbers for the same seed, everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        these[usize::try_from(self.below(these.len() as u64)).unwrap()]
    }
}

/// What happened in a schedule, or in many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) lives: usize,
    pub(crate) deaths: usize,
    pub(crate) troubled: usize,
    pub(crate) at_once: usize,
    pub(crate) redriven: usize,
    pub(crate) duplicates: usize,
    pub(crate) failures: usize,
    pub(crate) excused: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.lives += other.lives;
        self.deaths += other.deaths;
        self.troubled += other.troubled;
        self.at_once += other.at_once;
        self.redriven += other.redriven;
        self.duplicates += other.duplicates;
        self.failures += other.failures;
        self.excused += other.excused;
    }
}

/// A message that the queue holds, in order.
struct Message {
    record: Record,
    run: usize,
}

struct Schedule {
    lab: Lab,
    dice: Dice,
    runs: Vec<(String, String)>,
    waiting: Vec<Message>,
    /// Runs whose message went to the dead-letter queue.
    dead: Vec<usize>,
    message_count: usize,
    counts: Counts,
}

/// Plays the schedule of a seed; the answer is what happened and its trace.
pub(crate) async fn play(seed: u64) -> Result<(Counts, String), String> {
    let mut dice = Dice(seed);
    let lab = Lab::new(dice.one_of(&[1, 10, 100, 1_000]));
    let run_count = 2 + dice.below(2);
    let metric_count = 1 + dice.below(2);
    let runs = (0..run_count).map(|run| (format!("r{run}"), format!("m{}", run % metric_count))).collect();
    let mut schedule = Schedule {
        lab,
        dice,
        runs,
        waiting: Vec::new(),
        dead: Vec::new(),
        message_count: 0,
        counts: Counts::default(),
    };
    (0..schedule.runs.len()).for_each(|run| schedule.send(run));
    for _ in 0..4 + schedule.dice.below(6) {
        schedule.step().await;
    }
    let end = schedule.bring_to_an_end().await.and_then(|()| schedule.lab.finish(&schedule.runs));
    let trace = schedule.lab.story();
    let Schedule { lab, mut counts, .. } = schedule;
    counts.failures = trace.matches("metric_run_completed FAILURE").count();
    counts.excused = *lab.shared.excused.lock().unwrap();
    end.map(|()| (counts, trace.clone())).map_err(|wrong| format!("seed {seed}: {wrong}\n{trace}"))
}

impl Schedule {
    /// A message for a run; groups are by metric or by run, as the dice say.
    fn send(&mut self, run: usize) {
        let (run_id, metric) = self.runs[run].clone();
        let group = if self.dice.percent(50) { metric.clone() } else { run_id.clone() };
        let record = world::record(&format!("message {}", self.message_count), &group, &request(&run_id, &metric));
        self.message_count += 1;
        // Some have been received before, by workers that left no trace.
        let receive_count = self.dice.one_of(&[0, 0, 0, 3, 4]);
        self.waiting.push(Message { record: Record { receive_count, ..record }, run });
    }

    async fn step(&mut self) {
        let pause_ms = self.dice.one_of(&[1, 400, 2_000, 40_000]);
        self.lab.shared.wait(pause_ms).await;
        match self.dice.below(10) {
            0 if !self.dead.is_empty() => self.redrive(),
            0 | 1 => {
                let generation = usize::try_from(self.dice.below(GENERATIONS as u64)).unwrap();
                self.lab.change_inputs(generation);
            }
            2 => {
                // Somebody asks for a run again, whether or not it is done.
                let run = usize::try_from(self.dice.below(self.runs.len() as u64)).unwrap();
                self.counts.duplicates += 1;
                self.send(run);
            }
            3 => self.clean_up(),
            _ => self.deliver().await,
        }
    }

    /// The claims of runs that are done may be cleaned away.
    fn clean_up(&self) {
        for (run_id, metric) in &self.runs {
            let key = |ending| Key::parse(&format!("metrics/{metric}/runs/{run_id}.{ending}")).unwrap();
            if self.lab.shared.storage.peek(&key("ok")).is_some() {
                self.lab.shared.storage.remove(&key("claim"));
            }
        }
    }

    fn redrive(&mut self) {
        for run in std::mem::take(&mut self.dead) {
            self.counts.redriven += 1;
            self.send(run);
        }
    }

    /// The first few messages of some groups are received once more; those with no receive left are moved away.
    fn receive(&mut self, chance: u64) -> Vec<Record> {
        let mut batch: Vec<Record> = Vec::new();
        let mut left_out: Vec<Option<String>> = Vec::new();
        let mut kept = Vec::new();
        for mut message in std::mem::take(&mut self.waiting) {
            let group = message.record.group_id.clone();
            if left_out.contains(&group) || !self.dice.percent(chance) {
                left_out.push(group);
            } else if message.record.receive_count >= LAST_RECEIVE {
                self.dead.push(message.run);
                continue;
            } else {
                message.record.receive_count += 1;
                batch.push(message.record.clone());
            }
            kept.push(message);
        }
        self.waiting = kept;
        batch
    }

    async fn deliver(&mut self) {
        let batch = self.receive(80);
        if batch.is_empty() {
            return;
        }
        let worker_count = self.dice.one_of(&[1, 1, 1, 2, 2, 3]);
        let mut workers = Vec::new();
        for worker in 0..worker_count {
            if worker > 0 {
                // The visibility timeout ended while the worker before is still at work.
                for message in &mut self.waiting {
                    let is_here = batch.iter().any(|record| record.message_id == message.record.message_id);
                    message.record.receive_count += u32::from(is_here);
                }
                self.counts.at_once += 1;
            }
            let again = |record: &Record| Record { receive_count: record.receive_count + worker, ..record.clone() };
            let records: Vec<Record> = batch.iter().map(again).collect();
            let chance = self.dice.one_of(&[0, 1, 3, 10, 30]);
            let (seed, delay_ms) = (self.dice.roll(), self.dice.one_of(&[1, 30, 700, 9_000]));
            let limit = Duration::from_millis(self.dice.one_of(&[1_000, 15_000, 300_000, 300_000, 300_000]));
            let skew_seconds = self.dice.one_of(&[-2, -1, 0, 0, 1, 2]);
            let lab = &self.lab;
            workers.push(async move {
                lab.shared.wait(delay_ms).await;
                lab.live(&records, skew_seconds, limit, random(seed, chance)).await
            });
        }
        let lived = futures::future::join_all(workers).await;
        self.settle(&batch, &lived);
    }

    /// What any of the workers acknowledged is gone, whatever another one says of it.
    fn settle(&mut self, batch: &[Record], lived: &[Lived]) {
        for one in lived {
            self.counts.lives += 1;
            self.counts.deaths += usize::from(one.returned.is_none());
            self.counts.troubled += usize::from(one.life.was_troubled());
            let Some(returned) = &one.returned else { continue };
            for record in batch.iter().filter(|record| !returned.contains(&record.message_id)) {
                let message_id = &record.message_id;
                let Some(at) = self.waiting.iter().position(|message| message.record.message_id == *message_id) else {
                    continue;
                };
                let message = self.waiting.remove(at);
                if self.lab.is_dead_letter(message_id) {
                    self.dead.push(message.run);
                }
            }
        }
    }

    /// No more trouble: everything that waits is delivered, everything that failed or was moved away is sent again.
    async fn bring_to_an_end(&mut self) -> Result<(), String> {
        for _ in 0..4 {
            self.lab.shared.wait(30_000).await;
            self.redrive();
            for run in 0..self.runs.len() {
                let is_waiting = self.waiting.iter().any(|message| message.run == run);
                if !is_waiting && !self.lab.has_succeeded(&self.runs[run].0) {
                    self.send(run);
                }
            }
            let batch = self.receive(100);
            if batch.is_empty() && self.dead.is_empty() {
                return Ok(());
            }
            let lived = self.lab.live(&batch, 0, LIMIT, wire::calm).await;
            self.settle(&batch, &[lived]);
        }
        Err(format!("{} records never come to an end", self.waiting.len()))
    }
}

/// Troubles by the percentage, the same ones for the same seed.
fn random(seed: u64, chance: u64) -> impl Fn(&Point) -> Trouble + Send + Sync {
    move |point| {
        let mut dice = Dice(seed ^ (point.number as u64).wrapping_mul(0x2545_f491_4f6c_dd1d));
        match dice.percent(chance) {
            false => wire::NONE,
            true => match dice.one_of(&TROUBLES) {
                Trouble::Fault(metrics_engine::storage::memory::Fault::Conflict)
                    if !matches!(point.operation, "put" | "complete") =>
                {
                    wire::NONE
                }
                trouble => trouble,
            },
        }
    }
}
