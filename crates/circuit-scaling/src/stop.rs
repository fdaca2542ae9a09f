//! Signals that stop the program. Model runs check for them at every step, save their results and end; anything that takes
//! longer than [`GRACE`] is killed, which loses nothing that was saved before.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Exit code after `SIGTERM`: it makes Grid Engine, and the job scripts of `circuit-scaling slurm`, requeue the job.
pub const REQUEUE: u8 = 99;
/// Exit code after Ctrl-C, as in shells.
const INTERRUPTED: u8 = 130;
/// Time to save results: schedulers allow 30 seconds or more between `SIGTERM` and the end.
const GRACE: Duration = Duration::from_secs(20);

/// The message when the program ends on a signal.
pub const MESSAGE: &str = "stopped: results so far are kept; run the same command again to resume";

/// The exit code requested by a signal; 0 if none was received.
static ASKED: AtomicU8 = AtomicU8::new(0);

/// The exit code to end with, if a signal was received.
pub fn asked() -> Option<u8> {
    Some(ASKED.load(Ordering::Relaxed)).filter(|&code| code != 0)
}

/// Whether to continue.
pub fn check() -> ControlFlow<()> {
    if asked().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Starts listening for `SIGINT` and `SIGTERM`. A second signal ends the program at once.
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

/// On other systems the system ends the program; results saved before are kept.
#[cfg(not(unix))]
pub fn watch() {}
