//! Attention, softmax, norms and rotary against float64, on every instruction set of this machine, any size and any
//! alignment.

use cs_kernels::Isa;
use cs_kernels::{
    KeyValues, MatMut, MatRef, PathAttention, ScoreRule, attention_row, layer_norm_with, rms_norm_with,
    rotary, rotary_interleaved, softmax_scaled, softmax_scaled_with,
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

/// A score in float64.
fn score64(q: &[f32], k: &[f32], rule: ScoreRule) -> f64 {
    let product: f64 = q.iter().zip(k).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    let score = product * f64::from(rule.scale);
    rule.softcap.map_or(score, |c| f64::from(c) * (score / f64::from(c)).tanh())
}

/// Paths through a tree in which the parent of node `i` is one of the few nodes before it, most often the last.
fn paths_of(parents: &[usize]) -> Vec<Vec<u32>> {
    let mut paths: Vec<Vec<u32>> = vec![];
    for (node, back) in parents.iter().enumerate() {
        let parent = node.checked_sub(1 + back.saturating_sub(1));
        let mut path = parent.map_or(vec![], |p| paths[p].clone());
        path.push(node as u32);
        paths.push(path);
    }
    paths
}

/// `z` of all nodes' queries, a few consecutive ones at a time, as the engine calls it.
fn attend_all(
    attention: &mut PathAttention,
    (q, d_attn): (&[f32], usize),
    kv: KeyValues<'_>,
    paths: &[Vec<u32>],
    window: Option<usize>,
    rule: ScoreRule,
) -> Vec<f32> {
    let (mut z, mut first) = (vec![f32::NAN; q.len()], 0);
    while first < paths.len() {
        let mut end = first + 1;
        while end < paths.len() && paths[end][..paths[end].len() - 1] == paths[end - 1][..] {
            end += 1;
        }
        let rows = first * d_attn..end * d_attn;
        let queries = MatRef::new(&q[rows.clone()], end - first, d_attn);
        let z = MatMut::new(&mut z[rows], end - first, d_attn);
        attention.attend(queries, kv, &paths[end - 1], window, rule, z);
        first = end;
    }
    z
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

    /// Queries on a tree of nodes: close to float64, and bit-identical to each query of each head alone.
    #[test]
    fn paths_agree(
        kv_heads in 1usize..4, group in 1usize..6, d in 1usize..40, parents in prop::collection::vec(0usize..4, 1..40),
        seed: u64, window in prop::option::of(1usize..12), softcap in prop::option::of(0.5f32..20.0),
    ) {
        let (heads, d_kv) = (kv_heads * group, kv_heads * d);
        let (d_attn, rule) = (heads * d, ScoreRule { scale: (d as f32).powf(-0.5), softcap });
        let stride = 2 * d_kv + 1;
        let (n, data) = (parents.len(), floats(parents.len() * stride, seed, 1.0));
        let q = floats(n * d_attn, seed ^ 1, 2.0);
        let kv = KeyValues { data: &data, stride, key: 0, value: d_kv + 1 };
        let paths = paths_of(&parents);
        for isa in Isa::available() {
            let mut attention = PathAttention::with_isa(isa, heads, kv_heads, d);
            let z = attend_all(&mut attention, (&q, d_attn), kv, &paths, window, rule);
            for (node, path) in paths.iter().enumerate() {
                let seen = &path[path.len().saturating_sub(window.unwrap_or(usize::MAX))..];
                for head in 0..heads {
                    let at = node * d_attn + head * d;
                    let (q, z) = (&q[at..][..d], &z[at..][..d]);
                    let kv_at = head / group * d;
                    let row = |node: u32, from: usize| &data[node as usize * stride + from + kv_at..][..d];
                    let scores: Vec<f64> = seen.iter().map(|&k| score64(q, row(k, 0), rule)).collect();
                    let pattern = softmax64(&scores);
                    for (i, found) in z.iter().enumerate() {
                        let expected: f64 =
                            seen.iter().zip(&pattern).map(|(&k, p)| p * f64::from(row(k, d_kv + 1)[i])).sum();
                        prop_assert!((f64::from(*found) - expected).abs() < 3e-6, "{isa:?}: {found} against {expected}");
                    }
                    if isa == Isa::best() {
                        let head = KeyValues { key: kv.key + kv_at, value: kv.value + kv_at, ..kv };
                        let (mut weights, mut alone) = (vec![0.0; seen.len()], vec![0.0; d]);
                        attention_row(q, head, seen, rule, &mut weights, &mut alone);
                        prop_assert_eq!(z, &alone[..]);
                    }
                }
            }
        }
    }

    /// Sharing changes no bit: the result of each query head is the same as if its group's keys and values were
    /// copied for it.
    #[test]
    fn shared_keys_give_the_same_bits_as_copies(
        kv_heads in 1usize..4, group in 2usize..9, d in 1usize..70, parents in prop::collection::vec(0usize..3, 1..40),
        seed: u64, window in prop::option::of(1usize..12), softcap in prop::option::of(0.5f32..20.0),
    ) {
        let (heads, d_kv, n) = (kv_heads * group, kv_heads * d, parents.len());
        let (d_attn, rule) = (heads * d, ScoreRule { scale: 0.3, softcap });
        let (data, q) = (floats(n * 2 * d_kv, seed, 1.0), floats(n * d_attn, seed ^ 1, 1.0));
        let copied: Vec<f32> = data
            .chunks_exact(d)
            .flat_map(|of_head| std::iter::repeat_n(of_head, group).flatten().copied())
            .collect();
        let shared = KeyValues { data: &data, stride: 2 * d_kv, key: 0, value: d_kv };
        let own = KeyValues { data: &copied, stride: 2 * d_attn, key: 0, value: d_attn };
        let paths = paths_of(&parents);
        for isa in Isa::available() {
            let mut attention = PathAttention::with_isa(isa, heads, kv_heads, d);
            let found = attend_all(&mut attention, (&q, d_attn), shared, &paths, window, rule);
            attention.reset(heads, heads, d);
            let expected = attend_all(&mut attention, (&q, d_attn), own, &paths, window, rule);
            prop_assert_eq!(found, expected, "{:?}", isa);
        }
    }

    #[test]
    fn attention_agrees(
        d in 1usize..130, n in 1usize..40, seed: u64, window in 1usize..40, softcap in prop::option::of(0.2f32..5.0),
    ) {
        let (stride, rule) = (2 * d + 3, ScoreRule { scale: (d as f32).powf(-0.5), softcap });
        let (q, data) = (floats(d, seed, 1.0), floats(50 * stride, seed ^ 1, 1.0));
        let kv = KeyValues { data: &data, stride, key: 1, value: d + 2 };
        // Arbitrary nodes in arbitrary order, some of them twice.
        let nodes: Vec<u32> = (0..n.min(window) as u32).map(|i| (i * 7 + seed as u32 % 5) % 50).collect();
        let row = |node: u32, at: usize| &data[node as usize * stride + at..][..d];
        let scores: Vec<f64> = nodes.iter().map(|&node| score64(&q, row(node, 1), rule)).collect();
        let expected_pattern = softmax64(&scores);
        let (mut pattern, mut z) = (vec![f32::NAN; nodes.len()], vec![f32::NAN; d]);
        attention_row(&q, kv, &nodes, rule, &mut pattern, &mut z);
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
    fn rms_norm_agrees(rows in 1usize..5, d in 1usize..200, gap in 0usize..3, seed: u64, size in 1e-3f32..1e3, one_plus: bool) {
        let stride = d + gap;
        let (x, gain) = (floats(rows * stride, seed, size), floats(d, seed ^ 2, 2.0));
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; rows * stride];
            let whole = MatRef::with_stride(&x, rows, d, stride);
            rms_norm_with(isa, whole, &gain, one_plus, 1e-6, MatMut::with_stride(&mut out, rows, d, stride));
            for (row, out) in x.chunks(stride).zip(out.chunks(stride)) {
                let mean_square = row[..d].iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / d as f64;
                let inverse = (mean_square + f64::from(1e-6f32)).powf(-0.5);
                for i in 0..d {
                    let gain = f64::from(gain[i]) + if one_plus { 1.0 } else { 0.0 };
                    let expected = f64::from(row[i]) * inverse * gain;
                    // In units of 2^-24: half a unit from the rounded squares, one each for the inverse, 1 + gain and two products.
                    let tolerance = 4.51 * 2f64.powi(-24) * expected.abs() + 1e-44;
                    prop_assert!((f64::from(out[i]) - expected).abs() <= tolerance, "{isa:?}: {} against {expected}", out[i]);
                }
                prop_assert!(out[d..].iter().all(|v| v.is_nan()), "written between the rows");
                let mut alone = vec![0.0; d];
                rms_norm_with(isa, MatRef::new(row, 1, d), &gain, one_plus, 1e-6, MatMut::new(&mut alone, 1, d));
                prop_assert_eq!(&alone[..], &out[..d]);
            }
        }
    }

    /// Both layouts rotate the same pairs in the same way.
    #[test]
    fn interleaved_rotary_rotates_neighbours(half in 1usize..40, seed: u64) {
        let (a, b, angles) = (floats(half, seed, 1.0), floats(half, seed ^ 1, 1.0), floats(half, seed ^ 2, 10.0));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        let mut halves = [&a[..], &b[..]].concat();
        rotary(&mut halves, &cos, &sin);
        let mut neighbours: Vec<f32> = a.iter().zip(&b).flat_map(|(&a, &b)| [a, b]).collect();
        rotary_interleaved(&mut neighbours, &cos, &sin);
        for (i, &found) in neighbours.iter().enumerate() {
            prop_assert_eq!(found, halves[i / 2 + i % 2 * half]);
        }
    }

    #[test]
    fn rotary_rotates_pairs(half in 1usize..40, seed: u64, angle in -10.0f32..10.0) {
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
        // Rotation preserves lengths.
        let square = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>();
        prop_assert!((square(&turned) - square(&x)).abs() < 1e-4 * (1.0 + square(&x)));
    }
}

#[test]
fn nan_propagates() {
    let mut scores = [1.0, f32::NAN, 2.0];
    softmax_scaled(&mut scores, 1.0);
    assert!(scores.iter().all(|s| s.is_nan()), "{scores:?}");
    // One allowed score of infinity elsewhere would be NaN too; very small ones are just 0.
    let mut scores = [0.0, -1e30, -200.0];
    softmax_scaled(&mut scores, 1.0);
    assert_eq!(scores[0], 1.0);
    assert!(scores[1] == 0.0 && scores[2] < 1e-30, "{scores:?}");
}

/// A NaN key affects only its group's heads, with or without a cap.
#[test]
fn nan_stays_in_its_group() {
    let (q, mut data) = (floats(4 * 3, 1, 1.0), floats(5 * 2 * 2 * 3, 2, 1.0));
    data[2 * 12 + 4] = f32::NAN; // of the second key head of node 2
    let kv = KeyValues { data: &data, stride: 12, key: 0, value: 6 };
    for isa in Isa::available() {
        for softcap in [None, Some(2.0)] {
            let mut z = [0.0; 12];
            let rule = ScoreRule { scale: 1.0, softcap };
            let (q, z_out) = (MatRef::new(&q, 1, 12), MatMut::new(&mut z, 1, 12));
            PathAttention::with_isa(isa, 4, 2, 3).attend(q, kv, &[0, 1, 2, 3, 4], None, rule, z_out);
            assert!(
                z[..6].iter().all(|z| z.is_finite()) && z[6..].iter().all(|z| z.is_nan()),
                "{isa:?}: {z:?}"
            );
        }
    }
}

#[test]
#[should_panic(expected = "6 query heads cannot share 4 key heads equally")]
fn groups_of_different_sizes_are_rejected() {
    let _ = PathAttention::new(6, 4, 8);
}

#[test]
#[should_panic(expected = "a cap of Some(0.0) is not positive")]
fn a_cap_of_zero_is_rejected() {
    let kv = KeyValues { data: &[1.0; 2], stride: 2, key: 0, value: 1 };
    let rule = ScoreRule { scale: 1.0, softcap: Some(0.0) };
    attention_row(&[1.0], kv, &[0], rule, &mut [0.0], &mut [0.0]);
}
