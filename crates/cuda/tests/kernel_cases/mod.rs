//! Cases of row-wise kernels, and of kernels that replace heads.

use cs_cuda::{Arguments, Array};

use super::{Case, Draw, Forest, Side, joined, padded};

/// The format of a difference: float32 (0), two parts of float16 (1) or bfloat16 (2), one part of float16 (3) or bfloat16
/// (4).
struct Out {
    mode: usize,
    floats: Array<f32>,
    hi: Array<u16>,
    lo: Array<u16>,
}

impl Out {
    /// `len` elements, filled with NaN that a kernel must overwrite, or with zeros that it may leave.
    fn new(side: &Side, mode: usize, len: usize, zeros: bool) -> Self {
        let (floats, halves) = if zeros {
            (side.floats(&vec![0.0; len]), [side.bits(&vec![0; len]), side.bits(&vec![0; len])])
        } else {
            (side.nan(len), [side.nan_bits(len), side.nan_bits(len)])
        };
        let [hi, lo] = halves;
        Self { mode, floats, hi, lo }
    }

    fn arguments(&self) -> Arguments {
        let (halves, two) = (self.mode > 0, matches!(self.mode, 1 | 2));
        let arguments = Arguments::new().array((!halves).then_some(&self.floats));
        arguments.array(halves.then_some(&self.hi)).array(two.then_some(&self.lo))
    }

    fn values(&self) -> Vec<f32> {
        if self.mode == 0 {
            return self.floats.to_vec().expect("a result");
        }
        let hi = self.hi.to_vec().expect("a result");
        let lo = if self.mode <= 2 { self.lo.to_vec().expect("a result") } else { vec![0; hi.len()] };
        joined(&hi, &lo, self.mode.is_multiple_of(2))
    }
}

/// Maximum differences by mode: a sum may be rounded either way in its last part.
fn bound(mode: usize) -> f32 {
    [2e-6, 2e-6, 4e-5, 1e-3, 8e-3][mode]
}

pub fn rows(cases: &mut Vec<(String, Case, f32)>) {
    for (interleaved, d_head, half) in [(false, 64, 32), (true, 20, 10), (false, 80, 10), (true, 256, 128)] {
        let (rows, per_run, heads) = (9, 4, 3);
        let ld = heads * d_head + 7;
        let mut draw = Draw(7);
        let (x, cos, sin) = (draw.vector(rows * ld), draw.vector(20 * half), draw.vector(20 * half));
        let position = draw.below(20, per_run);
        let case = move |side: &Side| {
            let out = side.floats(&x);
            let (cos, sin, position) = (side.floats(&cos), side.floats(&sin), side.ints(&position));
            let arguments = Arguments::new().array(&out).array(&cos).array(&sin).array(&position);
            let arguments = arguments.ints([per_run, heads * half, d_head, ld, half]).flag(interleaved);
            side.launch("rotate", [rows, side.blocks("rotate", heads * half), 1], arguments);
            out.to_vec().expect("a result")
        };
        cases.push((format!("rotate {d_head} {half}"), Box::new(case), 2e-6));
    }
    for (mode, width, picks) in
        [(0, 50, true), (1, 1100, true), (2, 50, false), (3, 64, true), (4, 1100, false)]
    {
        let m = 9;
        let mut draw = Draw(8);
        let (delta, source) = (draw.vector(m * width), draw.below(m, m));
        let case = move |side: &Side| {
            let ld = if mode == 0 { width } else { padded(width) };
            let out = Out::new(side, mode, m * ld, false);
            let (delta, source) = (side.floats(&delta), side.ints(&source));
            let arguments = out.arguments().array(&delta).array(picks.then_some(&source));
            side.launch(
                "cut",
                [m, side.blocks("cut", ld), 1],
                arguments.ints([width, ld]).flag(picks).int(mode),
            );
            out.values()
        };
        cases.push((format!("cut {width}, mode {mode}"), Box::new(case), 0.0));
    }
    for width in [5, 3000] {
        let (rows, out_rows) = (7, 11);
        let mut draw = Draw(9);
        let (x, source) = (draw.vector(rows * width), draw.below(rows, out_rows));
        let case = move |side: &Side| {
            let (x, source, out) = (side.floats(&x), side.ints(&source), side.nan(out_rows * width));
            let arguments = Arguments::new().array(&out).array(&x).array(&source).int(width);
            side.launch("gather", [out_rows, side.blocks("gather", width), 1], arguments);
            out.to_vec().expect("a result")
        };
        cases.push((format!("gather {width}"), Box::new(case), 0.0));
    }
    for n in [1, 3000] {
        let mut draw = Draw(10);
        let (x, y) = (draw.vector(n), draw.vector(n));
        let case = move |side: &Side| {
            let (x, y) = (side.floats(&x), side.floats(&y));
            side.launch("add", [side.blocks("add", n), 1, 1], Arguments::new().array(&x).array(&y).int(n));
            x.to_vec().expect("a result")
        };
        cases.push((format!("add {n}"), Box::new(case), 0.0));
    }
    for (width, runs, per_run) in [(5, 3, 4), (1600, 2, 3)] {
        let (entries, n_pairs) = (6, 5);
        let mut draw = Draw(11);
        let (x, table) = (draw.vector(runs * per_run * width), draw.vector(entries * width));
        let (of_x, of_table) = (draw.below(per_run, n_pairs), draw.below(entries, n_pairs));
        let case = move |side: &Side| {
            let (x, table) = (side.floats(&x), side.floats(&table));
            let (of_x, of_table) = (side.ints(&of_x), side.ints(&of_table));
            let out: Array<f64> = side.context.upload(&vec![f64::NAN; runs * n_pairs]).expect("memory");
            let arguments =
                Arguments::new().array(&out).array(&x).array(&table).array(&of_x).array(&of_table);
            side.launch("dots", [n_pairs, runs, 1], arguments.ints([per_run, width, n_pairs]));
            out.to_vec().expect("a result").into_iter().map(|x| x as f32).collect()
        };
        cases.push((format!("dots {width}"), Box::new(case), 2e-7));
    }
    for (act, gated) in [("sig", false), ("sig", true), ("erf", false), ("erf", true)] {
        let (rows, width, nodes, per_run) = (12, 300, 5, 4);
        let n = rows * width;
        let mut draw = Draw(12);
        let (plain, plain_up) = (draw.vector(nodes * width), draw.vector(nodes * width));
        let (delta, up, plain_of) = (draw.vector(n), draw.vector(n), draw.below(nodes, per_run));
        let name = format!("activate_delta_{act}");
        let of = name.clone();
        let case = move |side: &Side| {
            let (plain, plain_up) = (side.floats(&plain), side.floats(&plain_up));
            let (delta, up, plain_of) = (side.floats(&delta), side.floats(&up), side.ints(&plain_of));
            let out = side.nan(n);
            let arguments = Arguments::new().array(&out).array(&plain).array(&plain_of).array(&delta);
            let arguments = arguments.array(gated.then_some(&plain_up)).array(gated.then_some(&up));
            let arguments = arguments.ints([n, width, per_run]).float(1.595_769_2).float(0.071_354_81);
            side.launch(&of, [side.blocks(&of, n), 1, 1], arguments.flag(gated));
            out.to_vec().expect("a result")
        };
        cases.push((format!("{name}, gated {gated}"), Box::new(case), 4e-6));
    }
}

/// `z` replaced by zeros, the bias, the source's, the mean, and a step from the mean.
pub fn replacements(cases: &mut Vec<(String, Case, f32)>) {
    for (d_head, width, full, mode) in
        [(20, 32, false, 1), (64, 64, true, 0), (80, 128, false, 2), (256, 256, false, 3), (32, 32, false, 0)]
    {
        let (nodes, queries, runs, heads) = (12, 37, 3, 4);
        let d_attn = heads * d_head;
        let mut draw = Draw(13);
        let (z, bias, means) = (draw.vector(nodes * d_attn), draw.vector(d_attn), draw.vector(6 * d_attn));
        let [node, own, source] = [queries, nodes, nodes].map(|n| draw.below(nodes, n));
        let (mean_row, mean_step) = (draw.below(6, nodes), draw.vector(nodes));
        // Each kind once, at separate heads and runs.
        let sites: Vec<u32> = (1..=5).flat_map(|by| [by % runs, by % heads as u32, by]).collect();
        let case = move |side: &Side| {
            let ld = if mode == 0 { d_attn } else { padded(d_attn) };
            let out = Out::new(side, mode, runs as usize * queries * ld, true);
            let (z, bias, means) = (side.floats(&z), side.floats(&bias), side.floats(&means));
            let [node, own, source, mean_row, sites] =
                [&node, &own, &source, &mean_row, &sites].map(|values| side.ints(values));
            let arguments = out.arguments().array(&z).array(&node).array(&own).array(&source).array(&bias);
            let mean_step = side.floats(&mean_step);
            let arguments = arguments.array(&means).array(&mean_row).array(&mean_step).array(&sites);
            let name = format!("put_z_{width}");
            let blocks = queries.div_ceil(side.kernels.get(&name).expect("a kernel").shape.br);
            let arguments = arguments.ints([queries, d_head, d_attn, ld]).flag(full).int(mode);
            side.launch(&name, [blocks, 5, 1], arguments);
            out.values()
        };
        cases.push((format!("put_z_{width}, mode {mode}"), Box::new(case), bound(mode)));
    }
}

/// Heads with recomputed attention, with every kind of replacement of its inputs.
pub fn attention_again(cases: &mut Vec<(String, Case, f32)>) {
    for (d_head, width, full, mode, has_delta) in [
        (20, 32, false, 1, true),
        (64, 64, true, 0, true),
        (80, 128, false, 0, false),
        (256, 256, false, 2, true),
    ] {
        let forest = Forest::new();
        let (n, runs, heads, kv_heads) = (forest.n, 3usize, 4usize, 2usize);
        let (d_attn, d_kv) = (heads * d_head, kv_heads * d_head);
        let mut draw = Draw(14);
        let (q, kv, z) = (draw.vector(n * d_attn), draw.vector(n * 2 * d_kv), draw.vector(n * d_attn));
        let (dq, dkv) = (draw.vector(runs * n * d_attn), draw.vector(runs * n * 2 * d_kv));
        let (source, bias) = (draw.below(n, n), draw.vector(d_attn));
        // Run and head; replacements of queries, keys and values: 0 none, 1 zeros, 2 the bias, 3 the source's.
        let sites: [[u32; 5]; 6] = [
            [0, 0, 0, 0, 2],
            [0, 1, 0, 3, 3],
            [1, 2, 3, 0, 0],
            [1, 3, 1, 0, 0],
            [2, 0, 0, 1, 0],
            [2, 3, 0, 0, 1],
        ];
        let case = move |side: &Side| {
            let name = format!("attend_again_{width}");
            let ld = if mode == 0 { d_attn } else { padded(d_attn) };
            let out = Out::new(side, mode, runs * n * ld, true);
            let (q, kv, z) = (side.floats(&q), side.floats(&kv), side.floats(&z));
            let (dq, dkv) = (side.floats(&dq), side.floats(&dkv));
            let (source, bias, sites) = (side.ints(&source), side.floats(&bias), side.ints(&sites.concat()));
            let arguments = out.arguments().array(&q).array(&kv).array((!full).then_some(&z));
            let arguments = arguments.array(has_delta.then_some(&dq)).array(has_delta.then_some(&dkv));
            let tiles = forest.tiles(side, &name);
            let arguments = tiles.arguments(arguments);
            let arguments = arguments.ints([n, n, d_head, heads / kv_heads, d_attn, d_kv, ld]);
            let arguments = arguments.float(0.2).float(0.0).int(25).flag(has_delta).flag(full).int(mode);
            let arguments = arguments.array(&sites).array(&source).array(&bias);
            side.launch(&name, [tiles.n, 6, 1], arguments);
            out.values()
        };
        cases.push((format!("attend_again_{width}, mode {mode}"), Box::new(case), bound(mode).max(1e-5)));
    }
}
