//! One run on several GPUs: each runs some of the branches, in its own thread, and all of them send their results to one receiver.
//!
//! A branch's result does not depend on the other branches, so results are bit-identical to those of one GPU. Every GPU computes the
//! plain run and the means itself, in parallel with the others.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Inbox, SyncSender, sync_channel};
use std::thread;

use crate::error::EngineError;
use crate::request::{Progress, Reading, Receiver};

/// Maximum number of messages that wait for the receiver; then GPUs wait too.
const WAITING: usize = 256;

/// A message from one GPU.
enum Message {
    Reading { branch: Option<usize>, prompts: Vec<usize>, logits: Vec<f64> },
    Progress(Progress),
    IsKnown { branch: usize, prompts: Vec<usize>, answer: SyncSender<bool> },
}

/// One GPU's connection to the receiver.
struct Messenger<'a> {
    card: usize,
    /// The GPU's branches, as indices into those of the whole run.
    branches: &'a [usize],
    outbox: SyncSender<(usize, Message)>,
    is_stopped: &'a AtomicBool,
}

impl Messenger<'_> {
    /// Cannot fail: the other end receives until all GPUs are done.
    fn send(&self, message: Message) {
        let _ = self.outbox.send((self.card, message));
    }
}

impl Receiver for Messenger<'_> {
    fn reading(&mut self, reading: Reading<'_>) {
        // All GPUs read the plain run; the first one's readings are enough.
        if reading.branch.is_some() || self.card == 0 {
            let branch = reading.branch.map(|branch| self.branches[branch]);
            let (prompts, logits) = (reading.prompts.to_vec(), reading.logits.to_vec());
            self.send(Message::Reading { branch, prompts, logits });
        }
    }

    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        self.send(Message::Progress(progress));
        if self.is_stopped.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn is_known(&self, branch: usize, prompts: &[usize]) -> bool {
        let (answer, answered) = sync_channel(1);
        self.send(Message::IsKnown { branch: self.branches[branch], prompts: prompts.to_vec(), answer });
        answered.recv().unwrap_or(false)
    }
}

/// Runs each part of the branches on the GPU of the same index: `run` takes the GPU, its branches, and a receiver for its
/// results.
///
/// # Errors
/// The error of the first GPU that failed, after the others have been stopped; [`EngineError::Stopped`].
pub(crate) fn run(
    parts: &[Vec<usize>],
    receiver: &mut dyn Receiver,
    run: impl Fn(usize, &[usize], &mut dyn Receiver) -> Result<(), EngineError> + Sync,
) -> Result<(), EngineError> {
    let is_stopped = AtomicBool::new(false);
    let (outbox, inbox) = sync_channel(WAITING);
    let results: Vec<Result<(), EngineError>> = thread::scope(|scope| {
        let (run, is_stopped) = (&run, &is_stopped);
        let mut cards = Vec::new();
        for (card, branches) in parts.iter().enumerate() {
            let mut messenger = Messenger { card, branches, outbox: outbox.clone(), is_stopped };
            cards.push(scope.spawn(move || {
                let result = run(card, branches, &mut messenger);
                if result.is_err() {
                    is_stopped.store(true, Ordering::Relaxed);
                }
                result
            }));
        }
        drop(outbox);
        listen(inbox, parts.len(), receiver, is_stopped);
        let joined = |card: thread::ScopedJoinHandle<'_, _>| {
            card.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        cards.into_iter().map(joined).collect()
    });
    // If a GPU failed, the others merely report that they were stopped.
    let (stopped, failed): (Vec<EngineError>, Vec<EngineError>) =
        results.into_iter().filter_map(Result::err).partition(|e| matches!(e, EngineError::Stopped));
    failed.into_iter().chain(stopped).next().map_or(Ok(()), Err)
}

/// Passes the GPUs' messages to `receiver` until all of them have ended.
fn listen(
    inbox: Inbox<(usize, Message)>,
    n_cards: usize,
    receiver: &mut dyn Receiver,
    is_stopped: &AtomicBool,
) {
    let mut progress: Vec<Option<Progress>> = vec![None; n_cards];
    for (card, message) in inbox {
        match message {
            Message::Reading { branch, prompts, logits } => {
                receiver.reading(Reading { branch, prompts: &prompts, logits: &logits });
            }
            Message::IsKnown { branch, prompts, answer } => {
                let _ = answer.send(receiver.is_known(branch, &prompts));
            }
            Message::Progress(of_card) => {
                progress[card] = Some(of_card);
                // The total is known once every GPU has started.
                let Some(all) = progress.iter().copied().collect::<Option<Vec<Progress>>>() else { continue };
                let sum = |of: fn(&Progress) -> u64| all.iter().map(of).sum();
                let whole = Progress { done: sum(|p| p.done), total: sum(|p| p.total) };
                if receiver.progress(whole).is_break() {
                    is_stopped.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}
