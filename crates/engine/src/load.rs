//! Tensors → [`Weights`], one block at a time.
//!
//! Each matrix goes straight from the mapped file into its packed form, panel by panel on all threads, while the system
//! prefetches the next block; its pages are released at once, so that peak memory stays near the size of the float32 weights. If
//! the blocks are on a device, the tables that the CPU looks up keep their stored type.

use cs_kernels::PackedMatrix;
use cs_model::checkpoint::{
    Checkpoint, Dtype, LayerPlan, LinearPlan, MlpPlan, NormPlan, Tensor, TensorId, TensorStore,
};
use cs_model::error::LoadError;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::source::StoredMatrix;
use crate::weights::{LayerWeights, Linear, Mlp, Norm, Table, Weights};

type Result<T> = std::result::Result<T, LoadError>;

/// Number of elements that a thread converts at a time.
const BLOCK: usize = 1 << 18;

/// Converts all parameters to float32, for the CPU. The largest tensors, the embeddings, are converted first, while little else is
/// in memory.
///
/// # Errors
/// [`LoadError::Memory`] before anything is read, [`LoadError::NonFinite`], or an unembedding that differs from the
/// embedding it is tied to.
pub fn load(checkpoint: &Checkpoint) -> Result<Weights> {
    checkpoint.check_memory(checkpoint.weight_bytes() as u64)?;
    if !checkpoint.plan().layers.is_empty() {
        prefetch_layer(checkpoint, 0);
    }
    let table = |store: &TensorStore, id| whole(store, id).map(Table::F32);
    weights(checkpoint, table, |i| {
        if i + 1 < checkpoint.plan().layers.len() {
            prefetch_layer(checkpoint, i + 1);
        }
        layer(checkpoint.store(), &checkpoint.plan().layers[i], |plan| pack(checkpoint.store(), plan))
    })
}

/// The parameters that the CPU needs if the blocks are on a device: all but the blocks' matrices, which are empty here.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_host_part(checkpoint: &Checkpoint) -> Result<Weights> {
    let (store, plan) = (checkpoint.store(), checkpoint.plan());
    weights(checkpoint, as_stored, |i| {
        layer(store, &plan.layers[i], |_| Ok(PackedMatrix::from_rows(&[], 0, 0)))
    })
}

/// Memory taken by [`load_host_part`], in bytes.
pub(crate) fn host_part_bytes(checkpoint: &Checkpoint) -> usize {
    let (store, plan) = (checkpoint.store(), checkpoint.plan());
    let tensor = |id: TensorId| &store.tensors[id];
    let table = |id: TensorId| tensor(id).n_elements() * if is_half(tensor(id)) { 2 } else { 4 };
    let of_matrices: usize = (0..plan.layers.len())
        .flat_map(|layer| plan.layers[layer].matrices())
        .map(|linear| linear.d_in * linear.d_out)
        .sum();
    let tables = [Some(plan.embed), plan.unembed].into_iter().flatten();
    let others =
        checkpoint.n_params() - of_matrices - tables.clone().map(|id| tensor(id).n_elements()).sum::<usize>();
    tables.map(table).sum::<usize>() + others * size_of::<f32>()
}

fn weights(
    checkpoint: &Checkpoint,
    table: impl Fn(&TensorStore, TensorId) -> Result<Table>,
    layer: impl FnMut(usize) -> Result<LayerWeights>,
) -> Result<Weights> {
    let (store, plan) = (checkpoint.store(), checkpoint.plan());
    let tied_copy = plan.tied_copy.filter(|&copy| !store.is_same(copy, plan.embed));
    let first = [Some(plan.embed), tied_copy, plan.unembed, plan.pos_embed];
    first.into_iter().flatten().for_each(|id| store.prefetch(&store.tensors[id]));
    let packed = |plan: &Option<LinearPlan>| {
        let linear =
            |plan| -> Result<Linear> { Ok(Linear { weight: pack(store, plan)?, bias: bias(store, plan)? }) };
        plan.as_ref().map(linear).transpose()
    };
    let embed = table(store, plan.embed)?;
    if let Some(copy) = tied_copy {
        check_tied(store, plan.embed, copy)?;
    }
    let unembed = plan.unembed.map(|id| table(store, id)).transpose()?;
    let whole = |id: Option<TensorId>| id.map(|id| whole(store, id)).transpose();
    Ok(Weights {
        embed,
        pos_embed: whole(plan.pos_embed)?.unwrap_or_default(),
        project_in: packed(&plan.project_in)?,
        layers: (0..plan.layers.len()).map(layer).collect::<Result<_>>()?,
        ln_final: norm(store, plan.ln_final)?,
        project_out: packed(&plan.project_out)?,
        unembed,
        unembed_bias: whole(plan.unembed_bias)?,
    })
}

/// Asks the system to prefetch the matrices of a block.
pub(crate) fn prefetch_layer(checkpoint: &Checkpoint, layer: usize) {
    let store = checkpoint.store();
    checkpoint.plan().layer_tensors(layer).for_each(|id| store.prefetch(&store.tensors[id]));
}

/// A whole tensor as float32, row-major.
fn whole(store: &TensorStore, id: TensorId) -> Result<Vec<f32>> {
    let tensor = &store.tensors[id];
    let mut out = vec![0.0; tensor.n_elements()];
    cs_kernels::prefer_huge_pages(&mut out);
    store.read(tensor, &mut out)?;
    Ok(out)
}

fn is_half(tensor: &Tensor) -> bool {
    matches!(tensor.dtype, Dtype::F16 | Dtype::BF16)
}

/// A whole tensor in its stored type, row-major.
fn as_stored(store: &TensorStore, id: TensorId) -> Result<Table> {
    match store.tensors[id].dtype {
        Dtype::F16 => halves(store, id, f16::ZERO).map(Table::F16),
        Dtype::BF16 => halves(store, id, bf16::ZERO).map(Table::Bf16),
        _ => whole(store, id).map(Table::F32),
    }
}

fn halves<H: Copy + Send>(store: &TensorStore, id: TensorId, zero: H) -> Result<Vec<H>>
where
    [H]: HalfFloatSliceExt,
{
    let tensor = &store.tensors[id];
    let mut out = vec![zero; tensor.n_elements()];
    let convert = |(i, out): (usize, &mut [H])| {
        let mut values = vec![0.0; out.len()];
        let decoded = store.decode(tensor, i * BLOCK, &mut values);
        out.convert_from_f32_slice(&values);
        store.release_part(tensor, i * BLOCK, out.len());
        decoded.err()
    };
    let bad = out.par_chunks_mut(BLOCK).enumerate().filter_map(convert).min();
    store.release(tensor);
    bad.map_or(Ok(out), |index| Err(store.non_finite(tensor, index)))
}

/// A block; `matrix` makes each matrix from its place in the checkpoint.
pub(crate) fn layer<'a, M>(
    store: &TensorStore,
    plan: &'a LayerPlan,
    matrix: impl Fn(&'a LinearPlan) -> Result<M>,
) -> Result<LayerWeights<M>> {
    let gain = |id: Option<TensorId>| id.map(|id| whole(store, id)).transpose();
    let post = |plan: Option<NormPlan>| plan.map(|plan| norm(store, plan)).transpose();
    let linear = |plan: &'a LinearPlan| -> Result<Linear<M>> {
        Ok(Linear { weight: matrix(plan)?, bias: bias(store, plan)? })
    };
    let MlpPlan { w_gate, w_in, w_out } = &plan.mlp;
    Ok(LayerWeights {
        ln1: norm(store, plan.ln1)?,
        ln1_post: post(plan.ln1_post)?,
        w_qkv: linear(&plan.w_qkv)?,
        q_norm: gain(plan.q_norm)?,
        k_norm: gain(plan.k_norm)?,
        w_o: linear(&plan.w_o)?,
        ln2: norm(store, plan.ln2)?,
        ln2_post: post(plan.ln2_post)?,
        mlp: Some(Mlp {
            w_gate: w_gate.as_ref().map(linear).transpose()?,
            w_in: linear(w_in)?,
            w_out: linear(w_out)?,
        }),
    })
}

pub(crate) fn norm(store: &TensorStore, plan: NormPlan) -> Result<Norm> {
    let whole = |id: Option<TensorId>| id.map(|id| whole(store, id)).transpose();
    Ok(Norm { weight: whole(plan.weight)?, bias: whole(plan.bias)? })
}

fn pack(store: &TensorStore, plan: &LinearPlan) -> Result<PackedMatrix> {
    StoredMatrix::new(store, plan).pack(0..plan.d_out)
}

pub(crate) fn bias(store: &TensorStore, plan: &LinearPlan) -> Result<Option<Vec<f32>>> {
    let of_parts: Option<Vec<TensorId>> = plan.parts.iter().map(|part| part.bias).collect();
    let Some(ids) = of_parts else { return Ok(None) };
    let biases: Vec<Vec<f32>> = ids.into_iter().map(|id| whole(store, id)).collect::<Result<_>>()?;
    let element = |j| {
        let (part, i) = plan.column(j);
        biases[part][i]
    };
    Ok(Some((0..plan.d_out).map(element).collect()))
}

/// Rejects a stored unembedding that differs from the embedding it is tied to: Transformers 4 would use the
/// embedding, Transformers 5 the stored one.
fn check_tied(store: &TensorStore, embed: TensorId, copy: TensorId) -> Result<()> {
    let (embed, tensor) = (&store.tensors[embed], &store.tensors[copy]);
    let decode = |tensor: &Tensor, start: usize| -> Result<Vec<f32>> {
        let mut values = vec![0.0; BLOCK.min(tensor.n_elements() - start)];
        store.decode(tensor, start, &mut values).map_err(|index| store.non_finite(tensor, index))?;
        Ok(values)
    };
    let check = |block: usize| {
        if decode(embed, block * BLOCK)? == decode(tensor, block * BLOCK)? {
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
    // The first block that differs, whichever thread finds one first.
    let blocks = (0..tensor.n_elements().div_ceil(BLOCK)).into_par_iter();
    blocks.map(check).find_first(Result::is_err).unwrap_or(Ok(()))?;
    store.release(embed);
    store.release(tensor);
    Ok(())
}
