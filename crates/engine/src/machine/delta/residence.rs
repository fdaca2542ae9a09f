//! Which of a model's blocks stay on a device, and which are streamed from host memory.
//!
//! A block is used for a whole stack, so that copying it costs little compared with the computation. Every branch that starts at
//! or before a block reads it: the later a block, the more often it is read. If not all fit, the last ones stay on the device,
//! and the others are streamed through two slots: while one block is used, the next is copied.

use cs_cuda::bytes;
use cs_model::spec::{ModelSpec, Positions};

use super::limits;
use super::ops::Stored;
use super::packed::Layout;
use crate::intervention::{Branch, Replacement};
use crate::source::Source;

/// Slots on the device for streamed blocks.
pub(super) const TURNS: usize = 2;
/// Minimum prompt length that must fit on a device.
const LEAST_TOKENS: usize = 64;

/// A model's memory needs on a device, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// Number of blocks.
    pub n_layers: usize,
    /// The matrices of the largest block.
    pub block: usize,
    /// Whether all blocks have matrices of the same shapes.
    pub is_uniform: bool,
    /// All other parameters.
    pub others: usize,
    /// Activations, for one branch over one prompt of [`LEAST_TOKENS`].
    pub activations: usize,
}

/// Where a model's blocks are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Residence {
    /// Number of streamed blocks, which are the first ones.
    pub waiting: usize,
    /// A remark for the user about streaming.
    pub note: Option<String>,
}

/// The layouts of a block's matrices, in order of [`LayerWeights::matrices`](crate::weights::LayerWeights::matrices).
pub(super) fn layouts(spec: &ModelSpec, source: Source<'_>, layer: usize) -> Vec<Layout> {
    let shapes = source.matrices(layer).into_iter().map(|matrix| matrix.shape());
    let layout = |(at, (d_in, d_out))| Layout { d_in, d_out, cut: cut(spec, at, d_out) };
    shapes.enumerate().map(layout).collect()
}

/// Where a block's matrix is split: queries' columns are read separately from keys' and values'.
pub(super) fn cut(spec: &ModelSpec, at: usize, d_out: usize) -> usize {
    if at == 0 { spec.d_attn() } else { d_out }
}

impl Need {
    /// A model's needs, given the format of its weights.
    pub fn of(spec: &ModelSpec, source: Source<'_>, stored: Stored) -> Self {
        let blocks: Vec<Vec<Layout>> =
            (0..source.n_layers()).map(|layer| layouts(spec, source, layer)).collect();
        let of_block = |block: &Vec<Layout>| block.iter().map(|matrix| matrix.bytes(stored)).sum();
        let (d_model, d_attn, d_kv) = (spec.d_model, spec.d_attn(), spec.d_kv());
        // Gains and biases of four norms and of queries and keys, biases of products, value biases.
        let of_layer = 8 * d_model + 2 * (d_attn + d_kv) + d_attn + 2 * d_kv + 2 * d_model + 2 * spec.d_mlp;
        let angles = match &spec.positions {
            Positions::Learned { .. } => 0,
            Positions::Rotary(rotary) => rotary.frequencies.len() * spec.n_ctx * rotary.n_dims,
        };
        let project = if spec.d_embed == d_model { 0 } else { d_model * spec.d_embed };
        let floats = spec.n_layers * of_layer + angles + project + 2 * d_model;
        let tokens = spec.n_ctx.min(LEAST_TOKENS);
        let limits = limits(spec, &[Branch::ablate([(0, 0)], Replacement::Zero)], 0);
        Self {
            n_layers: blocks.len(),
            block: blocks.iter().map(of_block).max().unwrap_or(0),
            is_uniform: blocks.windows(2).all(|pair| pair[0] == pair[1]),
            others: size_of::<f32>() * floats,
            activations: (limits.plain_node + limits.run_node) * tokens + limits.run_end,
        }
    }

    fn parameters(&self) -> usize {
        self.others + self.n_layers * self.block
    }

    /// The model's residence on a device with `room` bytes available, and a host with `memory` bytes (`None`: unknown).
    ///
    /// # Errors
    /// If the model does not fit, a message for the user.
    pub fn residence(&self, room: usize, memory: Option<u64>) -> Result<Residence, String> {
        let (parameters, n) = (self.parameters(), self.n_layers);
        if parameters + self.activations <= room {
            return Ok(Residence::default());
        }
        let refused = |more: String| {
            let (needed, activations) = (bytes(parameters), bytes(self.activations));
            Err(format!(
                "the model needs {needed} for its parameters and at least {activations} for activations, but only {} of GPU memory \
                 are available{more}: free some of it, or use --device cpu or a smaller model",
                bytes(room)
            ))
        };
        // At least a third is for activations, unless the slots for streamed blocks leave less.
        let most = room.saturating_sub(self.others + self.activations);
        let for_blocks = (room / 3 * 2).saturating_sub(self.others).max(TURNS * self.block).min(most);
        let fit = for_blocks.checked_div(self.block).unwrap_or(0);
        if fit < TURNS || fit >= n || !self.is_uniform {
            let turns = bytes(self.others + TURNS * self.block + self.activations);
            return refused(format!(" ({turns} would be enough for two of its {n} layers at a time)"));
        }
        let waiting = n + TURNS - fit;
        let kept = (waiting * self.block) as u64;
        // Two more are on their way while they are read.
        let least = kept + (TURNS * self.block) as u64;
        if let Some(memory) = memory.filter(|&memory| memory < least) {
            let (kept, memory) = (bytes(kept as usize), bytes(memory as usize));
            return refused(format!(
                ", and streaming its layers takes {kept} of host memory, of which {memory} are free"
            ));
        }
        // The plain run, and one stack starting at each block.
        let moved = self.block * (waiting + waiting * (waiting + 1) / 2);
        let note = format!(
            "its parameters take {}, but only {} of GPU memory are available: {waiting} of {n} layers are streamed from host \
             memory ({}), copying about {} in a scan of all heads",
            bytes(parameters),
            bytes(room),
            bytes(kept as usize),
            bytes(moved)
        );
        Ok(Residence { waiting, note: Some(note) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: usize = 1 << 30;

    fn need() -> Need {
        Need { n_layers: 32, block: GIB / 2, is_uniform: true, others: 0, activations: GIB / 2 }
    }

    #[test]
    fn a_model_that_fits_stays_on_the_gpu() {
        assert_eq!(need().residence(16 * GIB + GIB / 2, Some(0)), Ok(Residence::default()));
    }

    #[test]
    fn a_model_that_does_not_fit_is_streamed_with_a_note() {
        let found = need().residence(12 * GIB, Some(64 << 30)).unwrap();
        // Eight of twelve GiB are for blocks: 14 stay and two are slots.
        assert_eq!(found.waiting, 18);
        let note = found.note.unwrap();
        assert!(
            note.contains(
                "take 16.0 GiB, but only 12.0 GiB of GPU memory are available: 18 of 32 layers are streamed from host memory (9.0 \
                 GiB)"
            ),
            "{note}"
        );
        assert!(note.contains("about 94.5 GiB in a scan"), "{note}");
        // The minimum is two blocks and activations.
        assert_eq!(need().residence(GIB + GIB / 2, None).unwrap().waiting, 32);
        // As much as fits next to activations, but never all.
        assert!(need().residence(16 * GIB, None).unwrap().waiting > TURNS);
    }

    #[test]
    fn impossible_models_are_rejected_with_sizes() {
        let small = need().residence(GIB, Some(64 << 30)).unwrap_err();
        assert!(
            small.contains("needs 16.0 GiB for its parameters and at least 512.0 MiB for activations"),
            "{small}"
        );
        assert!(
            small.contains(
                "but only 1.0 GiB of GPU memory are available (1.5 GiB would be enough for two of its 32 layers at a time)"
            ),
            "{small}"
        );
        let crowded = need().residence(12 * GIB, Some(4 << 30)).unwrap_err();
        assert!(crowded.contains("takes 9.0 GiB of host memory, of which 4.0 GiB are free"), "{crowded}");
        let mixed = Need { is_uniform: false, ..need() };
        assert!(mixed.residence(12 * GIB, None).is_err());
        assert!(Need { n_layers: 1, ..need() }.residence(GIB / 2, None).is_err());
    }
}
