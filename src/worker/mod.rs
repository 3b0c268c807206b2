//! The worker: a run from its request to its completed event.

pub mod plan;
pub mod publish;
pub mod queue;
pub mod dead_letter;
pub mod recorder;
