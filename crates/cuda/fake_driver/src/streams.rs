//! The order of work in a card's streams. The card does everything at once when it is asked, so that only this tells work that
//! waits for other work from work that a real card might do at the same time: two streams may touch one block of memory if the
//! later waits for the earlier, through an event or because the program did.

use std::collections::BTreeMap;

/// How much of what was asked of each stream is known to be done.
type Clock = BTreeMap<usize, u64>;

#[derive(Default)]
pub struct Streams {
    /// Pieces of work asked of each stream so far.
    asked: Clock,
    /// What each stream waits for before it does what it is asked from now on.
    known: BTreeMap<usize, Clock>,
    /// What the program itself has waited for.
    done: Clock,
    /// What was asked when each event was recorded.
    events: BTreeMap<usize, Clock>,
    n_events: usize,
    /// The stream that touched each block last, and with which piece of its work.
    touched: BTreeMap<u64, (usize, u64)>,
}

fn advance(clock: &mut Clock, other: &Clock) {
    for (&stream, &at) in other {
        let known = clock.entry(stream).or_default();
        *known = (*known).max(at);
    }
}

impl Streams {
    /// The next piece of work in a stream touches these blocks; `false` if other work may be touching them at the same time.
    pub fn touch(&mut self, stream: usize, blocks: &[u64]) -> bool {
        let asked = self.asked.entry(stream).or_default();
        *asked += 1;
        let at = *asked;
        let knows = |other: usize| {
            let known = self.known.get(&stream).and_then(|clock| clock.get(&other)).copied().unwrap_or(0);
            known.max(self.done.get(&other).copied().unwrap_or(0))
        };
        let is_in_order = |block: &u64| match self.touched.get(block) {
            Some(&(other, at)) => other == stream || at <= knows(other),
            None => true,
        };
        let in_order = blocks.iter().all(is_in_order);
        self.touched.extend(blocks.iter().map(|&block| (block, (stream, at))));
        in_order
    }

    pub fn new_event(&mut self) -> usize {
        self.n_events += 1;
        self.n_events
    }

    /// The event happens once all is done that the stream has been asked.
    pub fn record(&mut self, event: usize, stream: usize) {
        let mut clock = self.known.get(&stream).cloned().unwrap_or_default();
        clock.insert(stream, self.asked.get(&stream).copied().unwrap_or(0));
        self.events.insert(event, clock);
    }

    /// The stream goes on after the event.
    pub fn wait(&mut self, stream: usize, event: usize) {
        if let Some(clock) = self.events.get(&event) {
            advance(self.known.entry(stream).or_default(), clock);
        }
    }

    pub fn destroy(&mut self, event: usize) {
        self.events.remove(&event);
    }

    /// The program has waited for a stream.
    pub fn synchronize(&mut self, stream: usize) {
        self.done.insert(stream, self.asked.get(&stream).copied().unwrap_or(0));
        let known = self.known.get(&stream).cloned().unwrap_or_default();
        advance(&mut self.done, &known);
    }

    /// A block is freed, for which the card waits until it has done everything.
    pub fn free(&mut self, block: u64) {
        self.done = self.asked.clone();
        self.touched.remove(&block);
    }
}
