//! Runs work on a separate thread, while Python's thread waits without the GIL, shows progress and handles Ctrl-C.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use circuit_scaling::prelude::{Error, Observer, Progress};
use pyo3::prelude::*;

use crate::errors::{CircuitScalingError, exception};

/// How often progress is reported to Python and signals are checked.
const TURN: Duration = Duration::from_millis(50);
/// How long to wait for work that was told to stop: longer than a layer of most models takes.
const GRACE: Duration = Duration::from_millis(400);

/// State shared by both threads.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
}

type Outcome<T> = thread::Result<Result<T, Error>>;

/// Runs `work` and returns its result. `progress`, if given, is called with the amounts done and in total.
///
/// An exception while waiting (usually Ctrl-C, or one raised by `progress`) is raised at once; the work stops at its next layer.
pub fn run<T: Send + 'static>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(Observer<'_>) -> Result<T, Error> + Send + 'static,
) -> PyResult<T> {
    let shared = Arc::new(Shared::default());
    let (sender, receiver) = channel();
    let of_work = shared.clone();
    thread::Builder::new().name("circuit-scaling".into()).spawn(move || {
        let mut observe = |progress: Progress| {
            of_work.done.store(progress.done, Ordering::Relaxed);
            of_work.total.store(progress.total, Ordering::Relaxed);
            match of_work.stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        // The receiver may be gone.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(|| work(&mut observe))));
    })?;
    let receiver = Mutex::new(receiver);
    let result = wait(py, progress, &shared, &receiver);
    if result.is_err() {
        shared.stop.store(true, Ordering::Relaxed);
        let _ = next(py, &receiver, GRACE);
    }
    match result? {
        Ok(result) => result.map_err(exception),
        Err(panic) => Err(CircuitScalingError::new_err(format!(
            "an internal error, please report it: {}",
            message(&*panic)
        ))),
    }
}

fn wait<T: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    shared: &Shared,
    receiver: &Mutex<Receiver<Outcome<T>>>,
) -> PyResult<Outcome<T>> {
    loop {
        let outcome = next(py, receiver, TURN);
        if let Some(progress) = progress {
            let (done, total) = (shared.done.load(Ordering::Relaxed), shared.total.load(Ordering::Relaxed));
            if total > 0 {
                progress.call1((done, total))?;
            }
        }
        match outcome {
            Ok(outcome) => return Ok(outcome),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(CircuitScalingError::new_err("the computation ended without a result"));
            }
        }
    }
}

/// The result of the work, if it is done within `time`; the GIL is released meanwhile.
fn next<T: Send>(
    py: Python<'_>,
    receiver: &Mutex<Receiver<Outcome<T>>>,
    time: Duration,
) -> Result<Outcome<T>, RecvTimeoutError> {
    py.detach(|| receiver.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(time))
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
