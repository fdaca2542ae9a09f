//! Tensors → [`Weights`], one block at a time.
//!
//! Each matrix goes straight from the mapped file into its packed form, row by row or column by column, and its pages
//! are given back at once, so that the peak stays near the size of the float32 weights.

use kernels::PackedMatrix;

use super::plan::{LayerPlan, LinearPlan, NormPlan, Order, Plan, TensorId};
use super::tensors::TensorStore;
use crate::error::LoadError;
use crate::weights::{LayerNorm, LayerWeights, Linear, Mlp, Weights};

type Result<T> = std::result::Result<T, LoadError>;

/// Converts all parameters. The largest tensors, the embeddings, go first, while little else is held.
pub(super) fn load(store: &TensorStore, plan: &Plan) -> Result<Weights> {
    let whole = |id: TensorId| store.to_f32(&store.tensors[id]);
    let embed = whole(plan.embed)?;
    if let Some(copy) = plan.tied_copy {
        check_tied(store, &embed, copy)?;
    }
    let unembed = plan.unembed.map(whole).transpose()?;
    let pos_embed = plan.pos_embed.map(whole).transpose()?.unwrap_or_default();

    let mut layers = Vec::with_capacity(plan.layers.len());
    for (i, layer_plan) in plan.layers.iter().enumerate() {
        for id in plan.layer_tensors(i) {
            store.prefetch(&store.tensors[id]);
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
    })
}

fn layer(store: &TensorStore, plan: &LayerPlan) -> Result<LayerWeights> {
    let ((w_qkv, w_o), (w_in, w_out)) = rayon::join(
        || rayon::join(|| linear(store, &plan.w_qkv), || linear(store, &plan.w_o)),
        || rayon::join(|| linear(store, &plan.w_in), || linear(store, &plan.w_out)),
    );
    Ok(LayerWeights {
        ln1: norm(store, plan.ln1)?,
        w_qkv: w_qkv?,
        w_o: w_o?,
        ln2: norm(store, plan.ln2)?,
        mlp: Some(Mlp { w_in: w_in?, w_out: w_out? }),
    })
}

fn norm(store: &TensorStore, plan: NormPlan) -> Result<LayerNorm> {
    let Some((weight, bias)) = plan else { return Ok(LayerNorm::default()) };
    let whole = |id: TensorId| store.to_f32(&store.tensors[id]).map(Some);
    Ok(LayerNorm { weight: whole(weight)?, bias: whole(bias)? })
}

fn linear(store: &TensorStore, plan: &LinearPlan) -> Result<Linear> {
    let &LinearPlan { d_in, d_out, .. } = plan;
    // The packing takes values, not errors: the first element that is no number is noted here, tensor by tensor.
    let mut bad: Vec<Option<usize>> = vec![None; plan.weight.len()];
    let mut read = |part: usize, row: usize, out: &mut [f32]| {
        let tensor = &store.tensors[plan.weight[part]];
        if let Err(index) = store.decode(tensor, row * out.len(), out) {
            bad[part] = Some(bad[part].map_or(index, |earlier| earlier.min(index)));
        }
    };
    let weight = match plan.order {
        Order::Rows => PackedMatrix::pack_rows(d_in, d_out, |row, out| read(0, row, out)),
        Order::Columns | Order::ColumnsPerHead { .. } => {
            PackedMatrix::pack_columns(d_in, d_out, |column, out| {
                let (part, row) = plan.column(column);
                read(part, row, out);
            })
        }
    };
    for (&id, bad) in plan.weight.iter().zip(bad) {
        let tensor = &store.tensors[id];
        store.release(tensor);
        if let Some(index) = bad {
            return Err(store.non_finite(tensor, index));
        }
    }
    let biases: Vec<Vec<f32>> =
        plan.bias.iter().map(|&id| store.to_f32(&store.tensors[id])).collect::<Result<_>>()?;
    let bias = (!biases.is_empty()).then(|| {
        let element = |j| {
            let (part, i) = plan.column(j);
            biases[part][i]
        };
        (0..d_out).map(element).collect()
    });
    Ok(Linear { weight, bias })
}

/// Refuses a stored unembedding that differs from the embedding it is tied to: Transformers 4 uses the embedding
/// then, Transformers 5 the stored one.
fn check_tied(store: &TensorStore, embed: &[f32], copy: TensorId) -> Result<()> {
    let tensor = &store.tensors[copy];
    let mut block = vec![0.0; embed.len().min(1 << 16)];
    for (i, expected) in embed.chunks(block.len()).enumerate() {
        let found = &mut block[..expected.len()];
        store.decode(tensor, i * (1 << 16), found).map_err(|index| store.non_finite(tensor, index))?;
        if found != expected {
            return Err(LoadError::Malformed {
                file: store.file_of(tensor).to_owned(),
                problem: format!(
                    "holds a {:?} that differs from the embedding, while config.json ties the two",
                    tensor.name
                ),
                mend: "set \"tie_word_embeddings\" to false to use it, or save the checkpoint without it"
                    .to_owned(),
            });
        }
    }
    store.release(tensor);
    Ok(())
}
