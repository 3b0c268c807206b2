//! The worker: a run from its request to its completed event.

pub mod deadline;
pub mod heartbeat;
pub mod resolve;
pub mod plan;
pub mod evaluate;
pub mod write;
pub mod publish;
pub mod queue;
pub mod dead_letter;
pub mod recorder;
