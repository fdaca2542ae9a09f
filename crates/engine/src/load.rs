//! Tensors → [`Weights`], one block at a time.
//!
//! Each matrix goes straight from the mapped file into its packed form, panel by panel on all threads, while the system
//! reads the next block's part of the file; its pages are given back at once, so that the peak stays near the size of the
//! float32 weights.

use std::sync::atomic::{AtomicUsize, Ordering};

use cs_kernels::{PackedMatrix, PanelMut, UnfilledPanel};
use cs_model::checkpoint::{
    Checkpoint, LayerPlan, LinearPlan, MlpPlan, NormPlan, Order, TensorId, TensorStore,
};
use cs_model::error::LoadError;
use rayon::prelude::*;

use crate::weights::{LayerWeights, Linear, Mlp, Norm, Weights};

type Result<T> = std::result::Result<T, LoadError>;

/// Converts all parameters to float32. The largest tensors, the embeddings, go first, while little else is held.
///
/// # Errors
/// [`LoadError::Memory`] before anything is read, [`LoadError::NonFinite`], or an unembedding that differs from the
/// embedding it is tied to.
pub fn load(checkpoint: &Checkpoint) -> Result<Weights> {
    checkpoint.check_memory()?;
    let (store, plan) = (checkpoint.store(), checkpoint.plan());
    let prefetch = |id: TensorId| store.prefetch(&store.tensors[id]);
    let prefetch_layer = |i: usize| plan.layer_tensors(i).for_each(prefetch);
    let whole = |id: TensorId| whole(store, id);
    let tied_copy = plan.tied_copy.filter(|&copy| !store.is_same(copy, plan.embed));
    [Some(plan.embed), tied_copy, plan.unembed, plan.pos_embed].into_iter().flatten().for_each(prefetch);
    if !plan.layers.is_empty() {
        prefetch_layer(0);
    }
    let embed = whole(plan.embed)?;
    if let Some(copy) = tied_copy {
        check_tied(store, &embed, copy)?;
    }
    let unembed = plan.unembed.map(whole).transpose()?;
    let pos_embed = plan.pos_embed.map(whole).transpose()?.unwrap_or_default();

    let mut layers = Vec::with_capacity(plan.layers.len());
    for (i, layer_plan) in plan.layers.iter().enumerate() {
        if i + 1 < plan.layers.len() {
            prefetch_layer(i + 1);
        }
        layers.push(layer(store, layer_plan)?);
    }
    Ok(Weights {
        embed,
        pos_embed,
        project_in: plan.project_in.as_ref().map(|p| linear(store, p)).transpose()?,
        layers,
        ln_final: norm(store, plan.ln_final)?,
        project_out: plan.project_out.as_ref().map(|p| linear(store, p)).transpose()?,
        unembed,
        unembed_bias: plan.unembed_bias.map(whole).transpose()?,
    })
}

/// A whole tensor as float32, row-major.
fn whole(store: &TensorStore, id: TensorId) -> Result<Vec<f32>> {
    let tensor = &store.tensors[id];
    let mut out = vec![0.0; tensor.n_elements()];
    cs_kernels::prefer_huge_pages(&mut out);
    store.read(tensor, &mut out)?;
    Ok(out)
}

fn layer(store: &TensorStore, plan: &LayerPlan) -> Result<LayerWeights> {
    let gain = |id: Option<TensorId>| id.map(|id| whole(store, id)).transpose();
    let post = |plan: Option<NormPlan>| plan.map(|plan| norm(store, plan)).transpose();
    let MlpPlan { w_gate, w_in, w_out } = &plan.mlp;
    Ok(LayerWeights {
        ln1: norm(store, plan.ln1)?,
        ln1_post: post(plan.ln1_post)?,
        w_qkv: linear(store, &plan.w_qkv)?,
        q_norm: gain(plan.q_norm)?,
        k_norm: gain(plan.k_norm)?,
        w_o: linear(store, &plan.w_o)?,
        ln2: norm(store, plan.ln2)?,
        ln2_post: post(plan.ln2_post)?,
        mlp: Some(Mlp {
            w_gate: w_gate.as_ref().map(|plan| linear(store, plan)).transpose()?,
            w_in: linear(store, w_in)?,
            w_out: linear(store, w_out)?,
        }),
    })
}

fn norm(store: &TensorStore, plan: NormPlan) -> Result<Norm> {
    let whole = |id: Option<TensorId>| id.map(|id| whole(store, id)).transpose();
    Ok(Norm { weight: whole(plan.weight)?, bias: whole(plan.bias)? })
}

fn linear(store: &TensorStore, plan: &LinearPlan) -> Result<Linear> {
    let &LinearPlan { d_in, d_out, .. } = plan;
    let source =
        Source { store, plan, bad: plan.parts.iter().map(|_| AtomicUsize::new(usize::MAX)).collect() };
    let weight = PackedMatrix::pack(d_in, d_out, |panels| {
        let panels = panels.into_par_iter();
        match plan.order {
            Order::Rows => panels.chunks(PANELS_PER_ROW_PIECE).for_each(|group| source.rows(group)),
            Order::Columns | Order::ColumnsPerHead { .. } => panels.for_each(|panel| source.columns(panel)),
        }
    });
    for (part, bad) in plan.parts.iter().zip(source.bad) {
        let tensor = &store.tensors[part.weight];
        store.release(tensor);
        let index = bad.into_inner();
        if index != usize::MAX {
            return Err(store.non_finite(tensor, index));
        }
    }
    Ok(Linear { weight, bias: bias(store, plan)? })
}

fn bias(store: &TensorStore, plan: &LinearPlan) -> Result<Option<Vec<f32>>> {
    let of_parts: Option<Vec<TensorId>> = plan.parts.iter().map(|part| part.bias).collect();
    let Some(ids) = of_parts else { return Ok(None) };
    let biases: Vec<Vec<f32>> = ids.into_iter().map(|id| whole(store, id)).collect::<Result<_>>()?;
    let element = |j| {
        let (part, i) = plan.column(j);
        biases[part][i]
    };
    Ok(Some((0..plan.d_out).map(element).collect()))
}

/// Where the values of a packed matrix come from.
struct Source<'a> {
    store: &'a TensorStore,
    plan: &'a LinearPlan,
    /// The first element of each part's tensor that is not finite, `usize::MAX` where all are.
    bad: Vec<AtomicUsize>,
}

/// Panels that take their values from one piece of a row: enough for each piece to be worth its call.
const PANELS_PER_ROW_PIECE: usize = 8;

impl Source<'_> {
    /// Decodes elements of one of the matrix's tensors.
    fn read(&self, part: usize, start: usize, out: &mut [f32]) {
        let tensor = &self.store.tensors[self.plan.parts[part].weight];
        if let Err(index) = self.store.decode(tensor, start, out) {
            self.bad[part].fetch_min(index, Ordering::Relaxed);
        }
    }

    /// Fills neighbouring panels from a tensor that holds the matrix as it is.
    fn rows(&self, panels: Vec<UnfilledPanel<'_>>) {
        let LinearPlan { d_in, d_out, .. } = *self.plan;
        let mut panels: Vec<PanelMut> = panels.into_iter().map(UnfilledPanel::zeroed).collect();
        let first = panels.first().map_or(0, |panel| panel.columns().start);
        let end = panels.last().map_or(0, |panel| panel.columns().end);
        let mut piece = vec![0.0; end - first];
        for row in 0..d_in {
            self.read(0, row * d_out + first, &mut piece);
            for panel in &mut panels {
                let columns = panel.columns();
                panel.set_row(row, &piece[columns.start - first..columns.end - first]);
            }
        }
    }

    /// Fills a panel from tensors that hold the transposed matrix: each column is a row there.
    fn columns(&self, panel: UnfilledPanel<'_>) {
        const ROWS: usize = 128;
        // Apart by more than a power of two, or all columns would share a few lines of the cache.
        const STRIDE: usize = ROWS + 16;
        let d_in = self.plan.d_in;
        let mut panel = panel.zeroed();
        let columns = panel.columns();
        let mut block = vec![0.0; columns.len() * STRIDE];
        for first in (0..d_in).step_by(ROWS) {
            let rows = first..d_in.min(first + ROWS);
            for (column, out) in columns.clone().zip(block.chunks_mut(STRIDE)) {
                let (part, row) = self.plan.column(column);
                self.read(part, row * d_in + first, &mut out[..rows.len()]);
            }
            panel.set_columns(rows, &block, STRIDE);
        }
    }
}

/// Refuses a stored unembedding that differs from the embedding it is tied to: Transformers 4 uses the embedding
/// then, Transformers 5 the stored one.
fn check_tied(store: &TensorStore, embed: &[f32], copy: TensorId) -> Result<()> {
    const BLOCK: usize = 1 << 16;
    let tensor = &store.tensors[copy];
    let check = |(i, expected): (usize, &[f32])| {
        let mut found = vec![0.0; expected.len()];
        store.decode(tensor, i * BLOCK, &mut found).map_err(|index| store.non_finite(tensor, index))?;
        if found == expected {
            return Ok(());
        }
        Err(LoadError::Malformed {
            file: store.file_of(tensor).to_owned(),
            problem: format!(
                "holds a {:?} that differs from the embedding, while config.json ties the two",
                tensor.name
            ),
            fix: "set \"tie_word_embeddings\" to false to use it, or save the checkpoint without it"
                .to_owned(),
        })
    };
    // The first block that is wrong, whichever thread finds its own first.
    let wrong = embed.par_chunks(BLOCK).enumerate().map(check).find_first(Result::is_err);
    wrong.unwrap_or(Ok(()))?;
    store.release(tensor);
    Ok(())
}
