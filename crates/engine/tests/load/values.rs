//! Every loaded value is the file's, at the place given by the layout in `weights.rs`.

use std::collections::BTreeMap;

use cs_engine::weights::{Linear, Norm, Weights};
use cs_kernels::PackedMatrix;
use cs_model::config::ModelConfig;
use cs_model::spec::{ModelSpec, QkNorm};

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

    /// `W` and, as its last row, the bias (or zeros) of some columns of a matrix `[d_in, width]`.
    fn columns(&self, name: &str, transposed: bool, columns: impl Iterator<Item = usize>) -> Vec<f32> {
        let matrix = self.matrix(name, transposed);
        let shape = &self.tensors[&format!("{name}.weight")].shape;
        let (d_in, width) = if transposed { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
        let bias = self.values(&format!("{name}.bias")).unwrap_or_else(|| vec![0.0; width]);
        let columns: Vec<usize> = columns.collect();
        let row = |row: &[f32]| columns.iter().map(|&j| row[j]).collect::<Vec<_>>();
        matrix.chunks(width).take(d_in).chain([&bias[..]]).flat_map(row).collect()
    }

    /// q, k and v from each storage layout, each `[d_model + 1, its width]`, with the bias (or zeros) as last
    /// row.
    fn qkv(&self, model_type: &str, spec: &ModelSpec, layer: usize) -> [Vec<f32>; 3] {
        let (d_head, widths) = (spec.d_head, [spec.d_attn(), spec.d_kv(), spec.d_kv()]);
        let starts = [0, widths[0], widths[0] + widths[1]];
        let separate = |prefix: &str| {
            let part = |i: usize| {
                let name = format!("{prefix}.{}_proj", ["q", "k", "v"][i]);
                self.columns(&name, true, 0..widths[i])
            };
            [0, 1, 2].map(part)
        };
        let fused = |name: &str, transposed| {
            [0, 1, 2].map(|i| self.columns(name, transposed, starts[i]..starts[i] + widths[i]))
        };
        match model_type {
            "gpt2" => fused(&format!("h.{layer}.attn.c_attn"), false),
            // Head after head, each with its query, key and value.
            "gpt_neox" => [0, 1, 2].map(|part| {
                let name = format!("layers.{layer}.attention.query_key_value");
                self.columns(
                    &name,
                    true,
                    (0..widths[0]).map(|j| j / d_head * 3 * d_head + part * d_head + j % d_head),
                )
            }),
            "gpt_neo" => separate(&format!("h.{layer}.attn.attention")),
            "gptj" => separate(&format!("h.{layer}.attn")),
            "phi3" => fused(&format!("layers.{layer}.self_attn.qkv_proj"), true),
            _ => separate(&format!("layers.{layer}.self_attn")),
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
fn assert_norm(norm: &Norm, reference: &Reference, name: &str) {
    assert_eq!(norm.weight, reference.values(&format!("{name}.weight")), "{name}");
    assert_eq!(norm.bias, reference.values(&format!("{name}.bias")), "{name}");
}

/// Names of a family's tensors.
struct Names {
    embed: &'static str,
    pos_embed: &'static str,
    block: &'static str,
    /// `ln1`, `ln1_post`, `ln2`, `ln2_post`
    norms: [&'static str; 4],
    w_o: &'static str,
    w_in: &'static str,
    w_out: &'static str,
    ln_final: &'static str,
    unembed: &'static str,
}

fn names(model_type: &str) -> Names {
    let gpt2 = Names {
        embed: "wte",
        pos_embed: "wpe",
        block: "h",
        norms: ["ln_1", "-", "ln_2", "-"],
        w_o: "attn.c_proj",
        w_in: "mlp.c_fc",
        w_out: "mlp.c_proj",
        ln_final: "ln_f",
        unembed: "lm_head",
    };
    let llama = Names {
        embed: "embed_tokens",
        pos_embed: "-",
        block: "layers",
        norms: ["input_layernorm", "-", "post_attention_layernorm", "-"],
        w_o: "self_attn.o_proj",
        w_in: "mlp.up_proj",
        w_out: "mlp.down_proj",
        ln_final: "norm",
        unembed: "lm_head",
    };
    match model_type {
        "gpt2" => gpt2,
        "gpt_neo" => Names { w_o: "attn.attention.out_proj", ..gpt2 },
        "gptj" => Names {
            norms: ["ln_1", "-", "-", "-"],
            w_o: "attn.out_proj",
            w_in: "mlp.fc_in",
            w_out: "mlp.fc_out",
            ..gpt2
        },
        "gpt_neox" => Names {
            embed: "embed_in",
            w_o: "attention.dense",
            w_in: "mlp.dense_h_to_4h",
            w_out: "mlp.dense_4h_to_h",
            ln_final: "final_layer_norm",
            unembed: "embed_out",
            ..llama
        },
        "opt" => Names {
            pos_embed: "embed_positions",
            norms: ["self_attn_layer_norm", "-", "final_layer_norm", "-"],
            w_o: "self_attn.out_proj",
            w_in: "fc1",
            w_out: "fc2",
            ln_final: "final_layer_norm",
            ..llama
        },
        "olmo2" => {
            Names { norms: ["-", "post_attention_layernorm", "-", "post_feedforward_layernorm"], ..llama }
        }
        "gemma2" | "gemma3_text" => Names {
            norms: [
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            ],
            ..llama
        },
        _ => llama,
    }
}

fn check(weights: &Weights, config: &ModelConfig, reference: &Reference) {
    let (spec, model_type) = (&config.spec, config.family.model_type);
    let names = names(model_type);
    let values = |name: &str, what: &str| reference.values(&format!("{name}.{what}"));
    let transposed = model_type != "gpt2";
    assert_eq!(Some(weights.embed.to_vec()), values(names.embed, "weight"));
    assert_eq!(weights.pos_embed, values(names.pos_embed, "weight").unwrap_or_default());
    assert_norm(&weights.ln_final, reference, names.ln_final);
    let unembedding = if spec.tied_unembed { names.embed } else { names.unembed };
    assert_eq!(Some(weights.unembed().to_vec()), values(unembedding, "weight"));
    assert_eq!(weights.unembed_bias, values(names.unembed, "bias"));
    assert_eq!(weights.unembed_bias.is_some(), model_type == "gptj");
    assert_eq!(weights.project_in.is_some(), spec.d_embed != spec.d_model);
    if let (Some(project_in), Some(project_out)) = (&weights.project_in, &weights.project_out) {
        assert_linear(project_in, reference, "project_in", true);
        assert_linear(project_out, reference, "project_out", true);
    }
    assert_eq!(weights.layers.len(), spec.n_layers);
    for (i, layer) in weights.layers.iter().enumerate() {
        let full = |part: &str| format!("{}.{i}.{part}", names.block);
        let none = Norm::default();
        let norms = [&layer.ln1, layer.ln1_post.as_ref().unwrap_or(&none), &layer.ln2]
            .into_iter()
            .chain([layer.ln2_post.as_ref().unwrap_or(&none)]);
        for (norm, name) in norms.zip(names.norms) {
            assert_norm(norm, reference, &full(name));
        }
        assert_eq!(layer.q_norm, values(&full("self_attn.q_norm"), "weight"));
        assert_eq!(layer.k_norm, values(&full("self_attn.k_norm"), "weight"));
        assert_eq!(layer.q_norm.is_some(), spec.qk_norm != QkNorm::None);
        assert_linear(&layer.w_o, reference, &full(names.w_o), transposed);

        let mlp = layer.mlp.as_ref().unwrap();
        assert_linear(&mlp.w_out, reference, &full(names.w_out), transposed);
        assert_eq!(mlp.w_gate.is_some(), spec.gated_mlp);
        match &mlp.w_gate {
            Some(gate) if model_type == "phi3" => {
                let half = |start: usize| {
                    reference.columns(&full("mlp.gate_up_proj"), true, start..start + spec.d_mlp)
                };
                let with_bias = |w: &Linear| [dense(&w.weight), vec![0.0; spec.d_mlp]].concat();
                assert_eq!(with_bias(gate), half(0));
                assert_eq!(with_bias(&mlp.w_in), half(spec.d_mlp));
            }
            gate => {
                assert_linear(&mlp.w_in, reference, &full(names.w_in), transposed);
                gate.iter()
                    .for_each(|gate| assert_linear(gate, reference, &full("mlp.gate_proj"), transposed));
            }
        }

        let width = spec.d_attn() + 2 * spec.d_kv();
        let bias = layer.w_qkv.bias.clone().unwrap_or_else(|| vec![0.0; width]);
        let got = dense(&layer.w_qkv.weight).into_iter().chain(bias).collect::<Vec<_>>();
        let [q, k, v] = reference.qkv(model_type, spec, i);
        for (row, got) in got.chunks(width).enumerate() {
            let of = |part: &[f32], width: usize| part[row * width..][..width].to_vec();
            let expected = [of(&q, spec.d_attn()), of(&k, spec.d_kv()), of(&v, spec.d_kv())].concat();
            assert_eq!(got, expected, "layer {i} row {row}");
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
        check(&weights, &config, &Reference::new(&folder));
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
    check(&weights, &config, &Reference::new(&expected));
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
