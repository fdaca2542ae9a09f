//! Kernels on rows in plain loops: `tools/gpu_kernels/kernels/rows.py`.

use crate::launch::{Launch, Output};
use crate::product::activation;

fn width_of(launch: &Launch<'_>) -> usize {
    launch.variant.parse().expect("a width at the end of the name")
}

pub fn norm(launch: &mut Launch<'_>) {
    let [out, x, gain, bias] = std::array::from_fn(|_| launch.array::<f32>());
    let (width, ld, centred, eps) = (launch.int(), launch.int(), launch.flag(), launch.float());
    let (has_gain, has_bias) = (launch.flag(), launch.flag());
    assert!(width <= width_of(launch), "a norm over {width} in {}", launch.variant);
    for (row, head) in programs(launch) {
        let at = row * ld + head * width;
        let mut v: Vec<f32> = (0..width).map(|i| x.get(at + i)).collect();
        if centred {
            centre(&mut v);
        }
        let scale = scale_of(&v, eps);
        for (i, v) in v.into_iter().enumerate() {
            let gain = if has_gain { gain.get(i) } else { 1.0 };
            let bias = if has_bias { bias.get(i) } else { 0.0 };
            out.set(at + i, v * scale * gain + bias);
        }
    }
}

/// One program per row and head.
fn programs(launch: &Launch<'_>) -> impl Iterator<Item = (usize, usize)> {
    let [rows, heads, _] = launch.grid;
    (0..rows).flat_map(move |row| (0..heads).map(move |head| (row, head)))
}

fn centre(v: &mut [f32]) {
    let mean = v.iter().sum::<f32>() / v.len() as f32;
    v.iter_mut().for_each(|v| *v -= mean);
}

fn scale_of(v: &[f32], eps: f32) -> f32 {
    1.0 / (v.iter().map(|v| v * v).sum::<f32>() / v.len() as f32 + eps).sqrt()
}

pub fn norm_delta(launch: &mut Launch<'_>) {
    let (out, hi, lo) = (launch.array(), launch.array(), launch.array());
    let (plain, plain_of) = (launch.array::<f32>(), launch.array::<u32>());
    let (delta, source, gain) = (launch.array::<f32>(), launch.array::<u32>(), launch.array::<f32>());
    let [per_run, width, ld_plain, ld_delta, ld_out] = std::array::from_fn(|_| launch.int());
    let (centred, eps) = (launch.flag(), launch.float());
    let [has_gain, has_source, to, add] = std::array::from_fn(|_| launch.flag());
    let output = Output { out, hi, lo, mode: launch.int() };
    assert!(width <= width_of(launch), "a norm over {width} in {}", launch.variant);
    assert!(output.mode == 0 || ld_out <= width_of(launch), "padding up to {ld_out} in {}", launch.variant);
    for (row, head) in programs(launch) {
        let of_plain = plain_of.get(row % per_run) as usize;
        let of_delta = if has_source { source.get(row) as usize } else { row };
        let mut c: Vec<f32> = (0..width).map(|i| plain.get(of_plain * ld_plain + head * width + i)).collect();
        let mut d: Vec<f32> = (0..width).map(|i| delta.get(of_delta * ld_delta + head * width + i)).collect();
        if centred {
            centre(&mut c);
            centre(&mut d);
        }
        let sums: Vec<f32> = c.iter().zip(&d).map(|(c, d)| if to { *d } else { c + d }).collect();
        let (before, after) = (scale_of(&c, eps), scale_of(&sums, eps));
        let mean = d.iter().zip(&c).map(|(d, c)| d * (2.0 * c + d)).sum::<f32>() / width as f32;
        let change = -mean * before * before * after * after / (before + after);
        for i in 0..if output.mode == 0 { width } else { ld_out } {
            let at = row * ld_out + head * width + i;
            if i >= width {
                output.put(at, 0.0);
                continue;
            }
            let gain = if has_gain { gain.get(i) } else { 1.0 };
            let there = if add { output.out.get(at) } else { 0.0 };
            let y = if to { d[i] * after - c[i] * before } else { c[i] * change + d[i] * after };
            output.put(at, y * gain + there);
        }
    }
}

pub fn rotate(launch: &mut Launch<'_>) {
    let (x, cos, sin, position) =
        (launch.array::<f32>(), launch.array::<f32>(), launch.array::<f32>(), launch.array::<u32>());
    let [per_run, pairs, d_head, ld, half] = std::array::from_fn(|_| launch.int());
    let interleaved = launch.flag();
    let [rows, blocks, _] = launch.grid;
    assert_eq!(blocks, pairs.div_ceil(launch.tile("b")), "blocks of {pairs} pairs");
    for row in 0..rows {
        let table = position.get(row % per_run) as usize * half;
        for pair in 0..pairs {
            let (at, i) = (row * ld + pair / half * d_head, pair % half);
            let (first, second) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
            let (c, s) = (cos.get(table + i), sin.get(table + i));
            let (a, b) = (x.get(at + first), x.get(at + second));
            x.set(at + first, a * c - b * s);
            x.set(at + second, b * c + a * s);
        }
    }
}

pub fn cut(launch: &mut Launch<'_>) {
    let (out, hi, lo) = (launch.array(), launch.array(), launch.array());
    let (delta, source) = (launch.array::<f32>(), launch.array::<u32>());
    let (width, ld_out, has_source) = (launch.int(), launch.int(), launch.flag());
    let output = Output { out, hi, lo, mode: launch.int() };
    let block = launch.tile("b");
    for (row, part) in programs(launch) {
        let of_delta = if has_source { source.get(row) as usize } else { row };
        for i in part * block..ld_out.min((part + 1) * block) {
            output.put(row * ld_out + i, if i < width { delta.get(of_delta * width + i) } else { 0.0 });
        }
    }
}

/// Elements of all programs of an elementwise kernel over `n` elements.
fn elements(launch: &Launch<'_>, n: usize) -> std::ops::Range<usize> {
    0..n.min(launch.grid[0] * launch.tile("b"))
}

pub fn activate(launch: &mut Launch<'_>) {
    let is_erf = launch.variant == "erf";
    let [out, x, up] = std::array::from_fn(|_| launch.array::<f32>());
    let n = launch.int();
    let (curve, has_up) = ((launch.float(), launch.float()), launch.flag());
    for i in elements(launch, n) {
        let y = activation(x.get(i), curve, is_erf);
        out.set(i, if has_up { y * up.get(i) } else { y });
    }
}

pub fn activate_delta(launch: &mut Launch<'_>) {
    let is_erf = launch.variant == "erf";
    let (out, plain, plain_of) = (launch.array::<f32>(), launch.array::<f32>(), launch.array::<u32>());
    let [delta, plain_up, up] = std::array::from_fn(|_| launch.array::<f32>());
    let [n, width, per_run] = std::array::from_fn(|_| launch.int());
    let (curve, has_up) = ((launch.float(), launch.float()), launch.flag());
    for i in elements(launch, n) {
        let at = plain_of.get(i / width % per_run) as usize * width + i % width;
        let x = plain.get(at);
        let (before, after) = (activation(x, curve, is_erf), activation(x + delta.get(i), curve, is_erf));
        let d = after - before;
        out.set(i, if has_up { d * plain_up.get(at) + after * up.get(i) } else { d });
    }
}

pub fn add(launch: &mut Launch<'_>) {
    let (x, y) = (launch.array::<f32>(), launch.array::<f32>());
    let n = launch.int();
    elements(launch, n).for_each(|i| x.set(i, x.get(i) + y.get(i)));
}

pub fn gather(launch: &mut Launch<'_>) {
    let (out, x, source) = (launch.array::<u32>(), launch.array::<u32>(), launch.array::<u32>());
    let (width, block) = (launch.int(), launch.tile("b"));
    for (row, part) in programs(launch) {
        for i in part * block..width.min((part + 1) * block) {
            out.set(row * width + i, x.get(source.get(row) as usize * width + i));
        }
    }
}

pub fn put_z(launch: &mut Launch<'_>) {
    let (out, hi, lo) = (launch.array(), launch.array(), launch.array());
    let z = launch.array::<f32>();
    let [nodes, own, source] = std::array::from_fn(|_| launch.array::<u32>());
    let (bias, means) = (launch.array::<f32>(), launch.array::<f32>());
    let (mean_row, mean_step) = (launch.array::<u32>(), launch.array::<f32>());
    let sites = launch.array::<u32>();
    let [per_run, d_head, d_attn, ld_out] = std::array::from_fn(|_| launch.int());
    let full = launch.flag();
    let output = Output { out, hi, lo, mode: launch.int() };
    assert!(d_head <= width_of(launch), "heads of {d_head} in {}", launch.variant);
    let [blocks, n_sites, _] = launch.grid;
    for site in 0..n_sites {
        let [run, head, by] = std::array::from_fn(|i| sites.get(3 * site + i) as usize);
        for r in 0..per_run.min(blocks * launch.tile("br")) {
            let node = nodes.get(r) as usize;
            for col in head * d_head..(head + 1) * d_head {
                let before = z.get(own.get(node) as usize * d_attn + col);
                let mean = || means.get(mean_row.get(node) as usize * d_attn + col);
                let value = match by {
                    1 => 0.0,
                    2 => bias.get(col),
                    3 => z.get(source.get(node) as usize * d_attn + col),
                    4 => mean(),
                    5 => mean() + mean_step.get(node) * (mean() - before),
                    _ => panic!("there is no replacement {by}"),
                };
                let at = (run * per_run + r) * ld_out + col;
                output.put(at, if full { value } else { value - before });
            }
        }
    }
}

pub fn dots(launch: &mut Launch<'_>) {
    let out = launch.array::<f64>();
    let (x, table) = (launch.array::<f32>(), launch.array::<f32>());
    let (rows, entries) = (launch.array::<u32>(), launch.array::<u32>());
    let [per_run, width, n_pairs] = std::array::from_fn(|_| launch.int());
    for (pair, run) in programs(launch) {
        let (row, entry) = (run * per_run + rows.get(pair) as usize, entries.get(pair) as usize);
        let product = |i| f64::from(x.get(row * width + i)) * f64::from(table.get(entry * width + i));
        out.set(run * n_pairs + pair, (0..width).map(product).sum());
    }
}
