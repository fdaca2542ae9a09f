//! The order of work in a GPU's streams. The fake GPU executes everything immediately, so only this distinguishes work that
//! waits for other work from work that a real GPU might do in parallel: two streams may access the same block of memory if the
//! later one waits for the earlier, through an event or because the program waited.

use std::collections::BTreeMap;

/// For each stream, the number of operations known to be complete.
type Clock = BTreeMap<usize, u64>;

#[derive(Default)]
pub struct Streams {
    /// Operations queued in each stream so far.
    asked: Clock,
    /// What each stream waits for before its next operation.
    known: BTreeMap<usize, Clock>,
    /// What the host program has waited for.
    done: Clock,
    /// What was queued when each event was recorded.
    events: BTreeMap<usize, Clock>,
    n_events: usize,
    /// The stream and operation that last accessed each block.
    touched: BTreeMap<u64, (usize, u64)>,
}

fn advance(clock: &mut Clock, other: &Clock) {
    for (&stream, &at) in other {
        let known = clock.entry(stream).or_default();
        *known = (*known).max(at);
    }
}

impl Streams {
    /// Records that the next operation in a stream accesses these blocks; `false` if other work may access them at the same
    /// time.
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

    /// The event completes after all operations queued in the stream.
    pub fn record(&mut self, event: usize, stream: usize) {
        let mut clock = self.known.get(&stream).cloned().unwrap_or_default();
        clock.insert(stream, self.asked.get(&stream).copied().unwrap_or(0));
        self.events.insert(event, clock);
    }

    /// Later operations of the stream wait for the event.
    pub fn wait(&mut self, stream: usize, event: usize) {
        if let Some(clock) = self.events.get(&event) {
            advance(self.known.entry(stream).or_default(), clock);
        }
    }

    pub fn destroy(&mut self, event: usize) {
        self.events.remove(&event);
    }

    /// The host program has waited for a stream.
    pub fn synchronize(&mut self, stream: usize) {
        self.done.insert(stream, self.asked.get(&stream).copied().unwrap_or(0));
        let known = self.known.get(&stream).cloned().unwrap_or_default();
        advance(&mut self.done, &known);
    }

    /// A block is freed; the GPU waits for all work first.
    pub fn free(&mut self, block: u64) {
        self.done = self.asked.clone();
        self.touched.remove(&block);
    }
}
