//! Signals that ask the program to end. What runs a model looks for them at its next step, keeps what it found, and ends; what
//! takes longer than [`GRACE`] is ended, which loses nothing that was kept before.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Exit code after `SIGTERM`: the one with which Grid Engine puts a job back into its queue, and on which the job scripts of
/// `circuit-scaling slurm` do so.
pub const REQUEUE: u8 = 99;
/// Exit code after Ctrl-C, as shells give it.
const INTERRUPTED: u8 = 130;
/// Time to keep what was found: schedulers give 30 seconds or more between `SIGTERM` and the end.
const GRACE: Duration = Duration::from_secs(20);

/// What is said when the program ends on a signal.
pub const MESSAGE: &str = "stopped: what was found so far is kept, and the same command goes on from there";

/// The exit code that a signal asks for; 0 where none came.
static ASKED: AtomicU8 = AtomicU8::new(0);

/// The exit code to end with, where a signal asked for the end.
pub fn asked() -> Option<u8> {
    Some(ASKED.load(Ordering::Relaxed)).filter(|&code| code != 0)
}

/// Whether to go on.
pub fn check() -> ControlFlow<()> {
    if asked().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Listens for `SIGINT` and `SIGTERM` from now on. A second one ends the program at once.
#[cfg(unix)]
pub fn watch() {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else { return };
    let end = |code: u8| {
        eprintln!("circuit-scaling: {MESSAGE}");
        std::process::exit(code.into());
    };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let code = if signal == SIGTERM { REQUEUE } else { INTERRUPTED };
            if ASKED.swap(code, Ordering::Relaxed) != 0 {
                end(code);
            }
            std::thread::spawn(move || {
                std::thread::sleep(GRACE);
                end(code);
            });
        }
    });
}

/// On other systems the program is ended by the system; what was kept before stays.
#[cfg(not(unix))]
pub fn watch() {}
