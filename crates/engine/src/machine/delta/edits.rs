//! A layer's edits as sites of a stack: run, head and replacement.

use super::ops::{Put, PutZ, Recompute};
use crate::intervention::{Edit, Replacement, Stream};

/// The edits of a stack's runs in one layer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sites {
    /// Heads whose attention is recomputed.
    pub again: Vec<Recompute>,
    /// Heads whose pattern is replaced by zeros, so that they attend to nothing. Applied together with
    /// `again`.
    pub silent: Vec<PutZ>,
    /// Heads whose `z` is replaced, whatever else is edited. Applied after runs have divided.
    pub z: Vec<PutZ>,
}

impl Sites {
    /// The edits of each run, which are sorted by head.
    pub fn of<'e>(runs: impl IntoIterator<Item = &'e [Edit]>) -> Self {
        let mut sites = Self::default();
        for (run, edits) in (0..).zip(runs) {
            edits.chunk_by(|a, b| a.head == b.head).for_each(|edits| sites.add(run, edits));
        }
        sites
    }

    /// Adds the edits of one head.
    fn add(&mut self, run: u32, edits: &[Edit]) {
        let head = edits[0].head as u32;
        let of = |stream| edits.iter().find(|e| e.stream == stream).map(|e| e.replacement);
        if let Some(by) = of(Stream::Z) {
            return self.z.push(PutZ { run, head, by: put(by) });
        }
        let or_own = |stream| of(stream).map_or(Put::Own, put);
        let (mut q, mut k, v) = (or_own(Stream::Q), or_own(Stream::K), or_own(Stream::V));
        match of(Stream::Pattern) {
            // Scores come from the source's queries and keys, at the nodes' sources.
            Some(Replacement::Source) => (q, k) = (Put::Source, Put::Source),
            Some(_) => return self.silent.push(PutZ { run, head, by: Put::Zero }),
            None => {}
        }
        self.again.push(Recompute { run, head, q, k, v });
    }
}

fn put(replacement: Replacement) -> Put {
    match replacement {
        Replacement::Zero => Put::Zero,
        Replacement::ValueBias => Put::Bias,
        Replacement::GroupMean => Put::Mean,
        Replacement::OthersMean => Put::Others,
        Replacement::Source => Put::Source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intervention::Branch;

    #[test]
    fn z_goes_before_the_pattern_and_the_pattern_before_queries_and_keys() {
        let edit = |head, stream, replacement| Edit { layer: 0, head, stream, replacement };
        let branch = Branch::new([
            edit(0, Stream::Z, Replacement::GroupMean),
            edit(0, Stream::Q, Replacement::Zero),
            edit(1, Stream::Pattern, Replacement::Source),
            edit(1, Stream::Q, Replacement::Zero),
            edit(1, Stream::V, Replacement::ValueBias),
            edit(2, Stream::Pattern, Replacement::Zero),
            edit(3, Stream::K, Replacement::Source),
        ]);
        let sites = Sites::of([&[][..], branch.edits()]);
        let again = [
            Recompute { run: 1, head: 1, q: Put::Source, k: Put::Source, v: Put::Bias },
            Recompute { run: 1, head: 3, q: Put::Own, k: Put::Source, v: Put::Own },
        ];
        let silent = vec![PutZ { run: 1, head: 2, by: Put::Zero }];
        let z = vec![PutZ { run: 1, head: 0, by: Put::Mean }];
        assert_eq!(sites, Sites { again: again.to_vec(), silent, z });
    }
}
