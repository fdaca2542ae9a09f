//! Every loaded value is the file's, at the place that the layout in `weights.rs` promises.

use std::collections::BTreeMap;

use cs_engine::weights::{LayerNorm, Linear, Weights};
use cs_kernels::PackedMatrix;
use cs_model::config::ModelConfig;
use cs_model::spec::{Architecture, ModelSpec};

use crate::checkpoint_file::{Folder, Raw, golden_names};

/// Tensors by name without prefix, decoded.
struct Reference {
    tensors: BTreeMap<String, Raw>,
}

impl Reference {
    fn new(folder: &Folder) -> Self {
        let strip = |name: &str| {
            ["transformer.", "gpt_neox.", "model.decoder.", "decoder.", "model."]
                .iter()
                .find_map(|p| name.strip_prefix(p))
                .unwrap_or(name)
                .to_owned()
        };
        Reference { tensors: folder.tensors.iter().map(|(name, raw)| (strip(name), raw.clone())).collect() }
    }

    fn values(&self, name: &str) -> Option<Vec<f32>> {
        self.tensors.get(name).map(Raw::values)
    }

    /// `W` `[d_in, d_out]`, row-major.
    fn matrix(&self, name: &str, transposed: bool) -> Vec<f32> {
        let raw = &self.tensors[&format!("{name}.weight")];
        let values = raw.values();
        if !transposed {
            return values;
        }
        let (d_out, d_in) = (raw.shape[0], raw.shape[1]);
        (0..d_in * d_out).map(|i| values[i % d_out * d_in + i / d_out]).collect()
    }

    /// q, k and v of the three ways to store them, each `[d_model + 1, d_attn]`, the bias (or zeros) as last row.
    fn qkv(&self, spec: &ModelSpec, layer: usize) -> [Vec<f32>; 3] {
        let (d_model, d_attn, d_head) = (spec.d_model, spec.d_attn(), spec.d_head);
        let with_bias = |name: &str, transposed: bool, width: usize| {
            let mut m = self.matrix(name, transposed);
            m.extend(self.values(&format!("{name}.bias")).unwrap_or_else(|| vec![0.0; width]));
            m
        };
        let columns = |m: &[f32], width: usize, column: &dyn Fn(usize) -> usize| {
            (0..=d_model)
                .flat_map(|row| (0..d_attn).map(move |j| (row, j)))
                .map(|(row, j)| m[row * width + column(j)])
                .collect()
        };
        match spec.architecture {
            Architecture::Gpt2 => {
                let m = with_bias(&format!("h.{layer}.attn.c_attn"), false, 3 * d_attn);
                [0, 1, 2].map(|part| columns(&m, 3 * d_attn, &|j| part * d_attn + j))
            }
            Architecture::GptNeoX => {
                let m = with_bias(&format!("layers.{layer}.attention.query_key_value"), true, 3 * d_attn);
                // Head after head, each with its query, key and value.
                [0, 1, 2].map(|part| {
                    columns(&m, 3 * d_attn, &|j| j / d_head * 3 * d_head + part * d_head + j % d_head)
                })
            }
            Architecture::Opt => ["q", "k", "v"]
                .map(|p| with_bias(&format!("layers.{layer}.self_attn.{p}_proj"), true, d_attn)),
            Architecture::GptNeo => ["q", "k", "v"]
                .map(|p| with_bias(&format!("h.{layer}.attn.attention.{p}_proj"), true, d_attn)),
        }
    }
}

fn dense(w: &PackedMatrix) -> Vec<f32> {
    (0..w.k()).flat_map(|k| (0..w.n()).map(move |n| (k, n))).map(|(k, n)| w.get(k, n)).collect()
}

#[track_caller]
fn assert_linear(linear: &Linear, reference: &Reference, name: &str, transposed: bool) {
    assert_eq!(dense(&linear.weight), reference.matrix(name, transposed), "{name}");
    assert_eq!(linear.bias, reference.values(&format!("{name}.bias")), "{name}");
}

#[track_caller]
fn assert_norm(norm: &LayerNorm, reference: &Reference, name: &str) {
    assert_eq!(norm.weight, reference.values(&format!("{name}.weight")), "{name}");
    assert_eq!(norm.bias, reference.values(&format!("{name}.bias")), "{name}");
}

fn check(weights: &Weights, spec: &ModelSpec, reference: &Reference) {
    let [embed, pos, block, ln1, w_o, ln2, w_in, w_out, ln_final, unembed] = match spec.architecture {
        Architecture::Gpt2 => {
            ["wte", "wpe", "h", "ln_1", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj", "ln_f", "lm_head"]
        }
        Architecture::GptNeoX => [
            "embed_in",
            "-",
            "layers",
            "input_layernorm",
            "attention.dense",
            "post_attention_layernorm",
            "mlp.dense_h_to_4h",
            "mlp.dense_4h_to_h",
            "final_layer_norm",
            "embed_out",
        ],
        Architecture::Opt => [
            "embed_tokens",
            "embed_positions",
            "layers",
            "self_attn_layer_norm",
            "self_attn.out_proj",
            "final_layer_norm",
            "fc1",
            "fc2",
            "final_layer_norm",
            "lm_head",
        ],
        Architecture::GptNeo => [
            "wte",
            "wpe",
            "h",
            "ln_1",
            "attn.attention.out_proj",
            "ln_2",
            "mlp.c_fc",
            "mlp.c_proj",
            "ln_f",
            "lm_head",
        ],
    };
    let transposed = spec.architecture != Architecture::Gpt2;
    assert_eq!(Some(&weights.embed), reference.values(&format!("{embed}.weight")).as_ref());
    assert_eq!(weights.pos_embed, reference.values(&format!("{pos}.weight")).unwrap_or_default());
    assert_norm(&weights.ln_final, reference, ln_final);
    let unembedding = if spec.tied_unembed { embed } else { unembed };
    assert_eq!(Some(weights.unembed().to_vec()), reference.values(&format!("{unembedding}.weight")));
    assert_eq!(weights.project_in.is_some(), spec.d_embed != spec.d_model);
    if let (Some(project_in), Some(project_out)) = (&weights.project_in, &weights.project_out) {
        assert_linear(project_in, reference, "project_in", true);
        assert_linear(project_out, reference, "project_out", true);
    }
    assert_eq!(weights.layers.len(), spec.n_layers);
    for (i, layer) in weights.layers.iter().enumerate() {
        let full = |part: &str| format!("{block}.{i}.{part}");
        assert_norm(&layer.ln1, reference, &full(ln1));
        assert_norm(&layer.ln2, reference, &full(ln2));
        assert_linear(&layer.w_o, reference, &full(w_o), transposed);
        let mlp = layer.mlp.as_ref().unwrap();
        assert_linear(&mlp.w_in, reference, &full(w_in), transposed);
        assert_linear(&mlp.w_out, reference, &full(w_out), transposed);

        let d_attn = spec.d_attn();
        let bias = layer.w_qkv.bias.clone().unwrap_or_else(|| vec![0.0; 3 * d_attn]);
        let got = dense(&layer.w_qkv.weight).into_iter().chain(bias).collect::<Vec<_>>();
        let expected = reference.qkv(spec, i);
        for (row, got) in got.chunks(3 * d_attn).enumerate() {
            for (part, expected) in expected.iter().enumerate() {
                assert_eq!(
                    got[part * d_attn..][..d_attn],
                    expected[row * d_attn..][..d_attn],
                    "layer {i} row {row}"
                );
            }
        }
    }
}

#[test]
fn every_golden_value_is_in_its_place() {
    let mut dtypes = Vec::new();
    for name in golden_names() {
        println!("{name}");
        let folder = Folder::golden(&name);
        let config = cs_model::config::parse(folder.config.to_string().as_bytes(), &name).unwrap();
        let (checkpoint, weights) = folder.load().unwrap();
        check(&weights, &config.spec, &Reference::new(&folder));
        dtypes.extend(checkpoint.dtypes());
    }
    dtypes.sort();
    dtypes.dedup();
    assert_eq!(dtypes, ["BF16", "F16", "F32"], "the golden checkpoints cover every type");
}

#[test]
fn float64_is_rounded_once() {
    let mut folder = Folder::golden("gpt2-default");
    let expected = folder.clone();
    for raw in folder.tensors.values_mut() {
        // A quarter of a unit in the last place must round back.
        let wide = raw.values().into_iter().map(|x| f64::from(x) * (1.0 + 2f64.powi(-26)));
        raw.bytes = wide.flat_map(f64::to_le_bytes).collect();
        raw.dtype = safetensors::Dtype::F64;
    }
    let (_, weights) = folder.load().unwrap();
    let config: ModelConfig = cs_model::config::parse(folder.config.to_string().as_bytes(), "").unwrap();
    check(&weights, &config.spec, &Reference::new(&expected));
}

#[test]
fn parameters_are_counted_once_and_buffers_not_at_all() {
    for name in golden_names() {
        let folder = Folder::golden(&name);
        let (checkpoint, _) = folder.load().unwrap();
        let tied = folder.config["tie_word_embeddings"].as_bool() != Some(false);
        let is_parameter = |name: &str| {
            let is_buffer = [".attn.bias", ".attention.bias", "masked_bias", "inv_freq"]
                .iter()
                .any(|b| name.ends_with(b));
            !is_buffer && (!tied || name != "lm_head.weight")
        };
        let expected: usize = folder
            .tensors
            .iter()
            .filter(|(name, _)| is_parameter(name))
            .map(|(_, raw)| raw.shape.iter().product::<usize>())
            .sum();
        assert_eq!(checkpoint.n_params(), expected, "{name}");
    }
}
