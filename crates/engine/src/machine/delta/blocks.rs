//! Where the matrices of blocks are: on the device, or streamed to it from host memory.

use std::sync::Arc;

use super::ops::Ops;

/// All blocks' matrices, in order of [`LayerWeights::matrices`](crate::weights::LayerWeights::matrices) in each.
pub(super) struct Blocks<O: Ops> {
    /// Blocks in host memory: the first ones, if not all fit on the device.
    waiting: Arc<Vec<Vec<O::Kept>>>,
    /// Slots on the device for streamed blocks.
    turns: Vec<Turn<O>>,
    /// The other blocks, which stay on the device.
    resident: Vec<Vec<O::Matrix>>,
}

/// A slot on the device for one block at a time.
pub(super) struct Turn<O: Ops> {
    /// The block that the matrices belong to.
    pub layer: usize,
    pub matrices: Vec<O::Matrix>,
}

impl<O: Ops> Blocks<O> {
    pub fn new(waiting: Arc<Vec<Vec<O::Kept>>>, turns: Vec<Turn<O>>, resident: Vec<Vec<O::Matrix>>) -> Self {
        Self { waiting, turns, resident }
    }

    /// Makes a block's matrices available to all later operations, and copies the next block in the background.
    pub fn fetch(&mut self, ops: &mut O, layer: usize) {
        if layer < self.waiting.len() {
            self.bring(ops, layer, usize::MAX);
            ops.join();
            self.bring(ops, layer + 1, layer);
        }
    }

    /// Copies a block from host memory to a slot, but not to the one that holds `other`.
    fn bring(&mut self, ops: &mut O, layer: usize, other: usize) {
        let Some(matrices) = self.waiting.get(layer) else { return };
        if self.turns.iter().any(|turn| turn.layer == layer) {
            return;
        }
        // Replace the block that stacks need last: they continue with later ones.
        let turn = self.turns.iter_mut().filter(|turn| turn.layer != other).min_by_key(|turn| turn.layer);
        let Some(turn) = turn else { return };
        for (matrix, kept) in turn.matrices.iter_mut().zip(matrices) {
            ops.refill(matrix, kept);
        }
        turn.layer = layer;
    }

    /// A fetched block's matrices.
    pub fn at(&self, layer: usize) -> &[O::Matrix] {
        match layer.checked_sub(self.waiting.len()) {
            Some(at) => &self.resident[at],
            None => {
                let turn = self.turns.iter().find(|turn| turn.layer == layer);
                &turn.expect("a block is fetched before it is used").matrices
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cs_kernels::PackedMatrix;

    use super::super::host::Host;
    use super::super::ops::{Parts, Stored};
    use super::super::packed::Packed;
    use super::*;
    use crate::source::MatrixSource;

    /// A matrix with one element.
    fn packed(number: usize) -> Packed {
        let matrix = PackedMatrix::from_rows(&[number as f32], 1, 1);
        Packed::read(&MatrixSource::Packed(&matrix), Stored::F32, 1).unwrap()
    }

    #[test]
    fn a_fetched_block_is_available_and_the_next_is_being_copied() {
        let (n, waiting) = (9, 6);
        let mut host = Host::new(Parts::F32, Stored::F32);
        let kept = (0..waiting).map(|layer| vec![packed(layer)]).collect();
        let turns = (0..2).map(|layer| Turn { layer, matrices: vec![host.matrix(&packed(layer))] });
        let turns = turns.collect();
        let resident = (waiting..n).map(|layer| vec![host.matrix(&packed(layer))]).collect();
        let mut blocks = Blocks::new(Arc::new(kept), turns, resident);
        // The plain run, stacks that start at later and later blocks, and one that divides and returns.
        let walks = [0..n, 0..n, 1..n, 4..n, 5..n, 7..n, 2..4, 3..5, 0..1, 5..6, 5..n];
        for layer in walks.into_iter().flatten() {
            blocks.fetch(&mut host, layer);
            let mut found = [0.0];
            blocks.at(layer)[0].add_row(0, 0, 1.0, &mut found);
            assert_eq!(found, [layer as f64]);
            if layer + 1 < waiting {
                assert!(
                    blocks.turns.iter().any(|turn| turn.layer == layer + 1),
                    "{layer} is followed by the next"
                );
            }
        }
    }
}
