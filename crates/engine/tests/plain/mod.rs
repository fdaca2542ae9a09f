//! A forward pass with nothing clever in it: one prompt at a time, float64, loops.

use cs_model::spec::{BlockLayout, NormPlacement, Positions};

use crate::{Block, Parts};

/// Logits at the last token, `[d_vocab]`, with the `z` of one head zeroed if asked.
pub(crate) fn logits(parts: &Parts, tokens: &[u32], zeroed: Option<(usize, usize)>) -> Vec<f64> {
    run(parts, tokens, zeroed, &mut Vec::new())
}

/// Attention at the last token of each head, layer by layer, over the positions it sees.
pub(crate) fn last_attention(parts: &Parts, tokens: &[u32]) -> Vec<Vec<f64>> {
    let mut last = Vec::new();
    run(parts, tokens, None, &mut last);
    last
}

fn run(
    parts: &Parts,
    tokens: &[u32],
    zeroed: Option<(usize, usize)>,
    last_attention: &mut Vec<Vec<f64>>,
) -> Vec<f64> {
    let spec = &parts.spec;
    let d = spec.d_model;
    let mut x: Vec<Vec<f64>> = Vec::new(); // [position][d_model]
    for (position, &token) in tokens.iter().enumerate() {
        let mut row: Vec<f64> =
            parts.embed[token as usize * d..][..d].iter().map(|&v| f64::from(v)).collect();
        if let Positions::Learned { offset } = spec.positions {
            let learned = &parts.pos_embed[(position + offset) * d..][..d];
            row.iter_mut().zip(learned).for_each(|(x, &p)| *x += f64::from(p));
        }
        x.push(row);
    }
    for (layer, block) in parts.layers.iter().enumerate() {
        let zeroed = zeroed.filter(|z| z.0 == layer).map(|z| z.1);
        let normed = |x: &[Vec<f64>], ln: &[Vec<f32>; 2]| x.iter().map(|r| norm(r, ln)).collect::<Vec<_>>();
        match (spec.block, spec.norm) {
            (BlockLayout::Sequential, NormPlacement::Pre) => {
                let attention =
                    attention(parts, block, layer, &normed(&x, &block.ln1), zeroed, last_attention);
                add(&mut x, attention);
                let mlp = mlp(block, &normed(&x, &block.ln2));
                add(&mut x, mlp);
            }
            (BlockLayout::Parallel, _) => {
                let attention =
                    attention(parts, block, layer, &normed(&x, &block.ln1), zeroed, last_attention);
                let mlp = mlp(block, &normed(&x, &block.ln2));
                add(&mut x, attention);
                add(&mut x, mlp);
            }
            (BlockLayout::Sequential, NormPlacement::Post) => {
                let attention = attention(parts, block, layer, &x, zeroed, last_attention);
                add(&mut x, attention);
                x = normed(&x, &block.ln1);
                let mlp = mlp(block, &x);
                add(&mut x, mlp);
                x = normed(&x, &block.ln2);
            }
        }
    }
    let last = norm(&x[x.len() - 1], &parts.ln_final);
    let logit = |row: &[f32]| last.iter().zip(row).map(|(x, &w)| x * f64::from(w)).sum();
    parts.unembed.chunks(d).map(logit).collect()
}

fn add(x: &mut [Vec<f64>], y: Vec<Vec<f64>>) {
    for (x, y) in x.iter_mut().zip(y) {
        x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    }
}

fn norm(x: &[f64], [weight, bias]: &[Vec<f32>; 2]) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let scaled = x.iter().map(|v| (v - mean) / (variance + 1e-5).sqrt());
    scaled.zip(weight.iter().zip(bias)).map(|(v, (&w, &b))| v * f64::from(w) + f64::from(b)).collect()
}

fn linear(x: &[f64], w: &[f32], b: &[f32]) -> Vec<f64> {
    let column = |j: usize| x.iter().enumerate().map(|(i, x)| x * f64::from(w[i * b.len() + j])).sum::<f64>();
    (0..b.len()).map(|j| column(j) + f64::from(b[j])).collect()
}

fn mlp(block: &Block, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let gelu =
        |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
    x.iter()
        .map(|x| {
            let hidden: Vec<f64> = linear(x, &block.w_in, &block.b_in).into_iter().map(gelu).collect();
            linear(&hidden, &block.w_out, &block.b_out)
        })
        .collect()
}

fn attention(
    parts: &Parts,
    block: &Block,
    layer: usize,
    x: &[Vec<f64>],
    zeroed: Option<usize>,
    last_attention: &mut Vec<Vec<f64>>,
) -> Vec<Vec<f64>> {
    let spec = &parts.spec;
    let (d_attn, d_head) = (spec.d_attn(), spec.d_head);
    let mut qkv: Vec<Vec<f64>> = x.iter().map(|x| linear(x, &block.w_qkv, &block.b_qkv)).collect();
    if let Positions::Rotary { n_dims, base } = spec.positions {
        for (position, row) in qkv.iter_mut().enumerate() {
            for head in row[..2 * d_attn].chunks_mut(d_head) {
                for i in 0..n_dims / 2 {
                    let angle = position as f64 / base.powf(2.0 * i as f64 / n_dims as f64);
                    let (a, b) = (head[i], head[i + n_dims / 2]);
                    head[i] = a * angle.cos() - b * angle.sin();
                    head[i + n_dims / 2] = b * angle.cos() + a * angle.sin();
                }
            }
        }
    }
    (0..x.len())
        .map(|query| {
            let mut z = vec![0.0; d_attn];
            for head in (0..spec.n_heads).filter(|&h| Some(h) != zeroed) {
                let from = spec.windows[layer].map_or(0, |w| (query + 1).saturating_sub(w));
                let at = |row: &[f64], third: usize| row[third * d_attn + head * d_head..][..d_head].to_vec();
                let q = at(&qkv[query], 0);
                let score = |key: usize| {
                    let k = at(&qkv[key], 1);
                    (f64::from(spec.attn_scale[layer]) * q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>())
                        .exp()
                };
                let scores: Vec<f64> = (from..=query).map(score).collect();
                let total: f64 = scores.iter().sum();
                if query + 1 == x.len() {
                    last_attention.push(scores.iter().map(|score| score / total).collect());
                }
                for (key, score) in (from..=query).zip(scores) {
                    for (z, v) in z[head * d_head..][..d_head].iter_mut().zip(at(&qkv[key], 2)) {
                        *z += score / total * v;
                    }
                }
            }
            linear(&z, &block.w_o, &block.b_o)
        })
        .collect()
}
