//! Rows of stacks: a row is one node of a forest in one run; runs over the same forest are concatenated.

use std::ops::Range;

/// The nodes of a forest that correspond to the rows of one run.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// Every node, in order.
    All(usize),
    /// These nodes.
    Some(&'a [u32]),
}

impl Rows<'_> {
    pub fn per_run(self) -> usize {
        match self {
            Rows::All(n) => n,
            Rows::Some(nodes) => nodes.len(),
        }
    }

    /// The run and the node of a row.
    pub fn locate(self, row: usize) -> (usize, usize) {
        let (run, at) = (row / self.per_run(), row % self.per_run());
        (run, self.node(at))
    }

    /// The node of a row within one run.
    pub fn node(self, row_of_run: usize) -> usize {
        match self {
            Rows::All(_) => row_of_run,
            Rows::Some(nodes) => nodes[row_of_run] as usize,
        }
    }

    /// The index of a row among all nodes' rows of all runs.
    pub fn of_all(self, row: usize, n_nodes: usize) -> u32 {
        let (run, node) = self.locate(row);
        (run * n_nodes + node) as u32
    }

    /// Splits a tile of rows at the boundaries of runs: `(run, rows of the tile)`.
    pub fn by_run(self, tile: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let per_run = self.per_run();
        let mut at = tile.start;
        std::iter::from_fn(move || {
            if at >= tile.end {
                return None;
            }
            let run = at / per_run;
            let to = tile.end.min((run + 1) * per_run);
            let rows = at..to;
            at = to;
            Some((run, rows))
        })
    }
}

/// Row `index` of a matrix with `width` columns.
pub(crate) fn row(matrix: &[f32], index: u32, width: usize) -> &[f32] {
    &matrix[index as usize * width..][..width]
}
