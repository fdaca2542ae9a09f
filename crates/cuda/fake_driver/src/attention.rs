//! Attention in plain loops: `tools/gpu_kernels/kernels/attention.py`.

use crate::launch::{Launch, Output};

pub fn all(launch: &mut Launch<'_>) {
    attend(launch, false, 4);
}

pub fn odd(launch: &mut Launch<'_>) {
    attend(launch, false, 1);
}

pub fn again(launch: &mut Launch<'_>) {
    attend(launch, true, 1);
}

/// Heads are aligned to multiples of `together` values, the number read at
/// once.
fn attend(launch: &mut Launch<'_>, is_again: bool, together: usize) {
    let (out, hi, lo) = (launch.array(), launch.array(), launch.array());
    let [q, kv, z, dq, dkv] = std::array::from_fn(|_| launch.array::<f32>());
    let q_rows = launch.array::<i32>();
    let [nodes, key_from, key_count, keys, ends, positions, own] =
        std::array::from_fn(|_| launch.array::<u32>());
    let [per_run, n_nodes, d_head, group, d_attn, d_kv, ld_out] = std::array::from_fn(|_| launch.int());
    let (scale, cap, window) = (launch.float(), launch.float(), launch.int());
    let (has_delta, full) = (launch.flag(), launch.flag());
    let output = Output { out, hi, lo, mode: launch.int() };
    let (sites, source, bias) = (launch.array::<u32>(), launch.array::<u32>(), launch.array::<f32>());
    let width: usize = launch.variant.parse().expect("a width at the end of the name");
    assert!(d_head <= width && d_head.is_multiple_of(together), "heads of {d_head} in {width}");
    let queries = launch.tile("bq");

    let program = |tile: usize, run: usize, head: usize, puts: [u32; 3]| {
        let column = head / group * d_head;
        for r in (0..queries).map(|i| q_rows.get(tile * queries + i)) {
            let Ok(r) = usize::try_from(r) else { continue };
            let node = nodes.get(r) as usize;
            let row = run * per_run + r;
            let query = |i: usize| match puts[0] {
                0 => {
                    let delta = if has_delta { dq.get(row * d_attn + head * d_head + i) } else { 0.0 };
                    q.get(own.get(node) as usize * d_attn + head * d_head + i) + delta
                }
                3 => q.get(source.get(node) as usize * d_attn + head * d_head + i),
                _ => 0.0,
            };
            // A key (part 0) or a value (part 1).
            let seen_by = |node: usize, part: usize, i: usize| {
                let col = part * d_kv + column + i;
                match puts[1 + part] {
                    0 => {
                        let at = (run * n_nodes + node) * 2 * d_kv + col;
                        let delta = if has_delta { dkv.get(at) } else { 0.0 };
                        kv.get(own.get(node) as usize * 2 * d_kv + col) + delta
                    }
                    2 => bias.get(head * d_head + i),
                    3 => kv.get(source.get(node) as usize * 2 * d_kv + col),
                    _ => 0.0,
                }
            };
            let candidates =
                (0..key_count.get(tile)).map(|k| keys.get((key_from.get(tile) + k) as usize) as usize);
            let is_seen = |&key: &usize| {
                key <= node
                    && node < ends.get(key) as usize
                    && ((positions.get(node) - positions.get(key)) as usize) < window
            };
            let seen: Vec<usize> = candidates.filter(is_seen).collect();
            assert!(seen.contains(&node), "a query attends to its own node");
            let score = |&key: &usize| {
                let score = (0..d_head).map(|i| query(i) * seen_by(key, 0, i)).sum::<f32>() * scale;
                if cap > 0.0 { cap * (score / cap).tanh() } else { score }
            };
            let scores: Vec<f32> = seen.iter().map(score).collect();
            let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let shares: Vec<f32> = scores.iter().map(|score| (score - top).exp()).collect();
            let total: f32 = shares.iter().sum();
            for i in 0..d_head {
                let sum: f32 = seen.iter().zip(&shares).map(|(&key, share)| share * seen_by(key, 1, i)).sum();
                let before =
                    if full { 0.0 } else { z.get(own.get(node) as usize * d_attn + head * d_head + i) };
                output.put(row * ld_out + head * d_head + i, sum / total - before);
            }
        }
    };
    let [tiles, second, third] = launch.grid;
    for tile in 0..tiles {
        for y in 0..second {
            if is_again {
                let [run, head, a, b, c] = std::array::from_fn(|i| sites.get(5 * y + i));
                program(tile, run as usize, head as usize, [a, b, c]);
            } else {
                (0..third).for_each(|run| program(tile, run, y, [0; 3]));
            }
        }
    }
}
