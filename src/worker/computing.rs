//! Where long computations run: a computation comes in, its result goes out, and meanwhile the runtime's threads are
//! left to heartbeats, deadlines and requests.
//!
//! Two computations at once on threads end in an order that nobody decides. A simulation has to be played the same way
//! every time, also where two records run in step, so it says that computations run in place: nothing else happens
//! meanwhile, and in virtual time they take none. It is told, not found out from the runtime: most tests have a runtime
//! of one thread, and are to compute as the worker does.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Where long computations run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Computing {
    /// On threads of their own.
    #[default]
    OnThreads,
    /// In place, after everybody else had a turn: for simulations.
    InPlace,
}

/// The computation panicked: a bug.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Panicked {
    /// What the panic said, as far as it can be told.
    pub message: String,
}

impl Computing {
    /// Runs a computation.
    ///
    /// # Errors
    /// When it panics.
    pub async fn run<T: Send + 'static>(self, computation: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
        match self {
            Self::OnThreads => {
                let joined = tokio::task::spawn_blocking(computation).await;
                joined.map_err(|error| Panicked { message: error.to_string() })
            }
            Self::InPlace => {
                // As on threads, whoever asked can be cancelled, and others go on, before there is a result.
                tokio::task::yield_now().await;
                let computed = catch_unwind(AssertUnwindSafe(computation));
                computed.map_err(|_| Panicked { message: "a computation in place panicked".to_owned() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn computations_on_threads_run_beside_each_other() {
        let (to_second, from_first) = mpsc::channel();
        let (to_first, from_second) = mpsc::channel();
        let first = Computing::OnThreads.run(move || {
            to_second.send(1).unwrap();
            from_second.recv().unwrap()
        });
        let second = Computing::OnThreads.run(move || {
            to_first.send(2).unwrap();
            from_first.recv().unwrap()
        });
        let (first, second) = tokio::join!(first, second);
        assert_eq!((first.unwrap(), second.unwrap()), (2, 1));
    }

    #[tokio::test]
    async fn computations_in_place_end_in_the_order_in_which_they_began() {
        let here = std::thread::current().id();
        let ended = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let computations = (0..20).map(|number| {
            let ended = std::sync::Arc::clone(&ended);
            Computing::InPlace.run(move || {
                ended.lock().unwrap().push(number);
                std::thread::current().id()
            })
        });
        for thread in futures::future::join_all(computations).await {
            assert_eq!(thread.unwrap(), here);
        }
        assert_eq!(*ended.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_wherever_it_is_computed() {
        for computing in [Computing::OnThreads, Computing::InPlace] {
            computing.run(|| assert_eq!(1, 2, "a bug")).await.unwrap_err();
        }
    }
}
