//! Time limits: whatever hangs and however little time is left, the answer leaves in time, names what is unfinished, and
//! nothing happens after it.

use std::time::Duration;

use metrics_engine::storage::memory::Fault;

use crate::lab::{LAST_RECEIVE, Lab};
use crate::schedule::Dice;
use crate::wire::{self, Point, Trouble};
use crate::world::{Record, record, request};

/// What hangs.
#[derive(Debug, Clone, Copy)]
enum Hanging {
    Nothing,
    /// This request alone.
    One(usize),
    /// The store, from this request on.
    Storage(usize),
    Topic,
    Queue,
}

fn is_hit(hanging: Hanging, point: &Point) -> bool {
    match hanging {
        Hanging::Nothing => false,
        Hanging::One(number) => point.number == number,
        Hanging::Storage(from) => {
            point.number >= from && !matches!(point.operation, "publish" | "visibility" | "dead letter")
        }
        Hanging::Topic => point.operation == "publish",
        Hanging::Queue => matches!(point.operation, "visibility" | "dead letter"),
    }
}

/// Two groups of runs and a poisoned record, some of them received for the last time.
fn batch(dice: &mut Dice) -> Vec<Record> {
    let mut receive = |record: Record| Record { receive_count: dice.one_of(&[1, 1, 2, LAST_RECEIVE]), ..record };
    vec![
        receive(record("a1", "a", &request("ra1", "m"))),
        receive(record("b1", "b", &request("rb1", "m"))),
        receive(record("a2", "a", &request("ra2", "n"))),
        receive(record("b2", "b", "poison")),
        receive(record("c1", "c", "poison")),
    ]
}

/// A batch with a random limit and a random dependency that hangs; the answer is whether anything was unfinished.
pub(crate) async fn play(seed: u64) -> Result<bool, String> {
    let mut dice = Dice(seed);
    let lab = Lab::new(dice.one_of(&[1, 10, 100, 1_000]));
    let point = usize::try_from(dice.below(60)).unwrap();
    let hanging = match dice.below(7) {
        0 => Hanging::Nothing,
        1 => Hanging::Storage(point),
        2 => Hanging::Topic,
        3 => Hanging::Queue,
        _ => Hanging::One(point),
    };
    let trouble = Trouble::Fault(dice.one_of(&[Fault::Hang, Fault::HangAfter]));
    let most_ms = dice.one_of(&[600, 5_000, 60_000, 900_000]);
    let limit = Duration::from_millis(dice.below(most_ms + 1));
    let script = move |point: &Point| if is_hit(hanging, point) { trouble } else { wire::NONE };
    let lived = lab.live(&batch(&mut dice), 0, limit, script).await;
    // What is left of the worker would show itself by now.
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let wrongs = lab.shared.wrongs.lock().unwrap().clone();
    match wrongs.is_empty() {
        true => Ok(lived.returned.is_some_and(|returned| !returned.is_empty())),
        false => Err(format!("seed {seed}, {hanging:?}, {limit:?}: {}\n{}", wrongs.join("\n"), lab.story())),
    }
}
