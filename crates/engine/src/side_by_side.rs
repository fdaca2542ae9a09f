//! One run on several cards: each takes some of the branches, in a thread of its own, and all of them talk to the one receiver.
//!
//! What a branch gives does not depend on those beside it, so the results are those of one card, to the bit. Every card computes the
//! plain run and the means for itself, at the same time as the others.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Inbox, SyncSender, sync_channel};
use std::thread;

use crate::error::EngineError;
use crate::request::{Progress, Reading, Receiver};

/// Readings that may wait for the receiver before cards wait too.
const WAITING: usize = 256;

/// What a card has to say.
enum Said {
    Reading { branch: Option<usize>, prompts: Vec<usize>, logits: Vec<f64> },
    Progress(Progress),
    IsKnown { branch: usize, prompts: Vec<usize>, answer: SyncSender<bool> },
}

/// One card's way to the receiver.
struct Messenger<'a> {
    card: usize,
    /// The branches that the card runs, by their places in the whole run.
    branches: &'a [usize],
    outbox: SyncSender<(usize, Said)>,
    is_stopped: &'a AtomicBool,
}

impl Messenger<'_> {
    /// The other end hears everything until all cards are done.
    fn say(&self, said: Said) {
        let _ = self.outbox.send((self.card, said));
    }
}

impl Receiver for Messenger<'_> {
    fn reading(&mut self, reading: Reading<'_>) {
        // All cards read the plain run, and the first one's is enough.
        if reading.branch.is_some() || self.card == 0 {
            let branch = reading.branch.map(|branch| self.branches[branch]);
            let (prompts, logits) = (reading.prompts.to_vec(), reading.logits.to_vec());
            self.say(Said::Reading { branch, prompts, logits });
        }
    }

    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        self.say(Said::Progress(progress));
        if self.is_stopped.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn is_known(&self, branch: usize, prompts: &[usize]) -> bool {
        let (answer, answered) = sync_channel(1);
        self.say(Said::IsKnown { branch: self.branches[branch], prompts: prompts.to_vec(), answer });
        answered.recv().unwrap_or(false)
    }
}

/// Runs each part of the branches on the card of its number: `run` is told the card, its branches, and whom to hand results to.
///
/// # Errors
/// That of the first card that failed, the others having been stopped; [`EngineError::Stopped`].
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
    // A card that was stopped because another one failed says nothing of its own.
    let (stopped, failed): (Vec<EngineError>, Vec<EngineError>) =
        results.into_iter().filter_map(Result::err).partition(|e| matches!(e, EngineError::Stopped));
    failed.into_iter().chain(stopped).next().map_or(Ok(()), Err)
}

/// Passes on what the cards say until all of them have ended.
fn listen(inbox: Inbox<(usize, Said)>, n_cards: usize, receiver: &mut dyn Receiver, is_stopped: &AtomicBool) {
    let mut progress: Vec<Option<Progress>> = vec![None; n_cards];
    for (card, said) in inbox {
        match said {
            Said::Reading { branch, prompts, logits } => {
                receiver.reading(Reading { branch, prompts: &prompts, logits: &logits });
            }
            Said::IsKnown { branch, prompts, answer } => {
                let _ = answer.send(receiver.is_known(branch, &prompts));
            }
            Said::Progress(of_card) => {
                progress[card] = Some(of_card);
                // How much there is in all is known once every card has begun.
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
