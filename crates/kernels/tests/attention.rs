//! Attention, softmax, layer norm and rotary against float64, on every instruction set of this machine, any size and any
//! alignment.

use cs_kernels::Isa;
use cs_kernels::{
    KeyValues, MatMut, MatRef, PathAttention, attention_row, layer_norm_with, rotary, softmax_scaled,
    softmax_scaled_with,
};
use proptest::prelude::*;

/// A few floats that are reproducible from a seed.
fn floats(n: usize, seed: u64, size: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * size
        })
        .collect()
}

fn softmax64(scores: &[f64]) -> Vec<f64> {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}

proptest! {
    #[test]
    fn softmax_agrees(n in 1usize..300, seed: u64, size in 0.0f32..60.0, scale in 0.01f32..2.0) {
        let scores = floats(n, seed, size);
        let expected = softmax64(&scores.iter().map(|&s| f64::from(s) * f64::from(scale)).collect::<Vec<_>>());
        for isa in Isa::available() {
            let mut found = scores.clone();
            softmax_scaled_with(isa, &mut found, scale);
            for (found, expected) in found.iter().zip(&expected) {
                // In units of 2^-24: two scaled scores and their difference, at most twice as large, are each rounded, which
                // the exponential turns into a relative error; the total is a sum of up to n / 8 terms in each lane; the
                // rest are the exponential's own error and the last few roundings.
                let units = 4.0 * f64::from(size * scale) + n as f64 / 8.0 + 10.0;
                let tolerance = expected * units * 6e-8 + 1e-37;
                prop_assert!((f64::from(*found) - expected).abs() <= tolerance, "{isa:?}: {found} against {expected}");
            }
            let sum: f64 = found.iter().map(|&p| f64::from(p)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-5);
        }
    }

    /// Queries of a tree of nodes, a few at a time, as the engine asks them: against float64, and to the bit what each query
    /// gets alone.
    #[test]
    fn paths_agree(
        heads in 1usize..4, d in 1usize..40, parents in prop::collection::vec(0usize..4, 1..40), seed: u64,
        window in prop::option::of(1usize..12),
    ) {
        let (d_attn, scale) = (heads * d, (d as f32).powf(-0.5));
        let stride = 2 * d_attn + 1;
        let (n, data) = (parents.len(), floats(parents.len() * stride, seed, 1.0));
        let q = floats(n * d_attn, seed ^ 1, 2.0);
        let kv = KeyValues { data: &data, stride, key: 0, value: d_attn + 1 };
        // Node i hangs below one of the few nodes before it, most often the very last.
        let mut paths: Vec<Vec<u32>> = vec![];
        for (node, back) in parents.iter().enumerate() {
            let parent = node.checked_sub(1 + back.saturating_sub(1));
            let mut path = parent.map_or(vec![], |p| paths[p].clone());
            path.push(node as u32);
            paths.push(path);
        }
        for isa in Isa::available() {
            let mut attention = PathAttention::with_isa(isa, heads, d);
            let mut first = 0;
            while first < n {
                let mut end = first + 1;
                while end < n && paths[end][..paths[end].len() - 1] == paths[end - 1][..] {
                    end += 1;
                }
                let rows = first * d_attn..end * d_attn;
                let mut z = vec![f32::NAN; rows.len()];
                let queries = MatRef::new(&q[rows], end - first, d_attn);
                attention.attend(queries, kv, &paths[end - 1], window, scale, MatMut::new(&mut z, end - first, d_attn));
                for node in first..end {
                    let seen = &paths[node][paths[node].len().saturating_sub(window.unwrap_or(usize::MAX))..];
                    for head in 0..heads {
                        let at = head * d;
                        let q = &q[node * d_attn + at..][..d];
                        let z = &z[(node - first) * d_attn + at..][..d];
                        let row = |node: u32, from: usize| &data[node as usize * stride + from + at..][..d];
                        let scores: Vec<f64> = seen
                            .iter()
                            .map(|&k| q.iter().zip(row(k, 0)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>())
                            .map(|sum| sum * f64::from(scale))
                            .collect();
                        let pattern = softmax64(&scores);
                        for (i, found) in z.iter().enumerate() {
                            let expected: f64 =
                                seen.iter().zip(&pattern).map(|(&k, p)| p * f64::from(row(k, d_attn + 1)[i])).sum();
                            prop_assert!((f64::from(*found) - expected).abs() < 3e-6, "{isa:?}: {found} against {expected}");
                        }
                        if isa == Isa::best() {
                            let head = KeyValues { key: kv.key + at, value: kv.value + at, ..kv };
                            let (mut weights, mut alone) = (vec![0.0; seen.len()], vec![0.0; d]);
                            attention_row(q, head, seen, scale, &mut weights, &mut alone);
                            prop_assert_eq!(z, &alone[..]);
                        }
                    }
                }
                first = end;
            }
        }
    }

    #[test]
    fn attention_agrees(d in 1usize..130, n in 1usize..40, seed: u64, window in 1usize..40) {
        let (stride, scale) = (2 * d + 3, (d as f32).powf(-0.5));
        let (q, data) = (floats(d, seed, 1.0), floats(50 * stride, seed ^ 1, 1.0));
        let kv = KeyValues { data: &data, stride, key: 1, value: d + 2 };
        // Any nodes in any order, some of them twice.
        let nodes: Vec<u32> = (0..n.min(window) as u32).map(|i| (i * 7 + seed as u32 % 5) % 50).collect();
        let row = |node: u32, at: usize| &data[node as usize * stride + at..][..d];
        let scores: Vec<f64> = nodes
            .iter()
            .map(|&node| {
                let k = row(node, 1);
                f64::from(scale) * q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
            })
            .collect();
        let expected_pattern = softmax64(&scores);
        let (mut pattern, mut z) = (vec![f32::NAN; nodes.len()], vec![f32::NAN; d]);
        attention_row(&q, kv, &nodes, scale, &mut pattern, &mut z);
        for (found, expected) in pattern.iter().zip(&expected_pattern) {
            prop_assert!((f64::from(*found) - expected).abs() < 2e-6);
        }
        for (i, found) in z.iter().enumerate() {
            let expected: f64 =
                nodes.iter().zip(&expected_pattern).map(|(&node, p)| p * f64::from(row(node, d + 2)[i])).sum();
            prop_assert!((f64::from(*found) - expected).abs() < 3e-6, "{found} against {expected}");
        }
    }

    #[test]
    fn layer_norm_agrees(rows in 1usize..5, d in 1usize..200, seed: u64, offset in -50.0f32..50.0, has_weight: bool, has_bias: bool) {
        let x: Vec<f32> = floats(rows * d, seed, 3.0).iter().map(|v| v + offset).collect();
        let (weight, bias) = (floats(d, seed ^ 2, 2.0), floats(d, seed ^ 3, 2.0));
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; rows * d];
            let (w, b) = (has_weight.then_some(&weight[..]), has_bias.then_some(&bias[..]));
            layer_norm_with(isa, MatRef::new(&x, rows, d), w, b, 1e-5, MatMut::new(&mut out, rows, d));
            for (x, out) in x.chunks(d).zip(out.chunks(d)) {
                let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
                let mean = x.iter().sum::<f64>() / d as f64;
                let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / d as f64;
                let inverse = (variance + 1e-5).powf(-0.5);
                for i in 0..d {
                    let normed = (x[i] - mean) * inverse;
                    let expected = normed * if has_weight { f64::from(weight[i]) } else { 1.0 }
                        + if has_bias { f64::from(bias[i]) } else { 0.0 };
                    // The mean is known to |offset| * 2^-24 or so, which the division by the deviation magnifies.
                    let tolerance = 2e-6 * (1.0 + expected.abs()) + 4e-7 * (f64::from(offset).abs() + 3.0) * inverse * 2.0;
                    prop_assert!((f64::from(out[i]) - expected).abs() < tolerance, "{isa:?}: {} against {expected}", out[i]);
                }
            }
        }
    }

    #[test]
    fn rotary_turns_pairs(half in 1usize..40, seed: u64, angle in -10.0f32..10.0) {
        let x = floats(2 * half, seed, 1.0);
        let angles: Vec<f32> = (0..half).map(|i| angle / (i + 1) as f32).collect();
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        let mut turned = x.clone();
        rotary(&mut turned, &cos, &sin);
        for i in 0..half {
            let (a, b) = (f64::from(x[i]), f64::from(x[i + half]));
            let (c, s) = (f64::from(cos[i]), f64::from(sin[i]));
            prop_assert!((f64::from(turned[i]) - (a * c - b * s)).abs() < 1e-6);
            prop_assert!((f64::from(turned[i + half]) - (b * c + a * s)).abs() < 1e-6);
        }
        // Lengths stay, so a query's product with itself does.
        let square = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>();
        prop_assert!((square(&turned) - square(&x)).abs() < 1e-4 * (1.0 + square(&x)));
    }
}

#[test]
fn what_is_not_a_number_comes_through() {
    let mut scores = [1.0, f32::NAN, 2.0];
    softmax_scaled(&mut scores, 1.0);
    assert!(scores.iter().all(|s| s.is_nan()), "{scores:?}");
    // One allowed score of infinity elsewhere would be NaN too; very small ones are just 0.
    let mut scores = [0.0, -1e30, -200.0];
    softmax_scaled(&mut scores, 1.0);
    assert_eq!(scores[0], 1.0);
    assert!(scores[1] == 0.0 && scores[2] < 1e-30, "{scores:?}");
}
