//! The worker: a run from its request to its completed event.

pub mod plan;
pub mod evaluate;
