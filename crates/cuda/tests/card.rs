//! Every kernel on a real GPU against the plain loops of `fake_driver`, launched with the same arguments on both. Skipped, with a
//! message, if there is no usable GPU.
//!
//!     cargo test --release --workspace --test card -- --nocapture

mod kernel_cases;

use std::cell::RefCell;
use std::collections::BTreeSet;

use cs_cuda::{Arguments, Array, Context, Driver, Kernels, Manifest, Part};
use half::{bf16, f16};

/// One of the two GPUs, real and fake.
struct Side {
    context: Context,
    kernels: Kernels,
    /// The launched kernels.
    launched: RefCell<BTreeSet<String>>,
}

impl Side {
    fn new(driver: &Driver) -> Option<Self> {
        let devices = driver.devices().ok()?;
        let device = devices.iter().find(|device| device.check(driver).is_ok())?;
        let context = Context::new(driver, device).expect("a context");
        let kernels = Kernels::new(&context).expect("kernels");
        Some(Self { context, kernels, launched: RefCell::default() })
    }

    fn floats(&self, values: &[f32]) -> Array<f32> {
        self.context.upload(values).expect("memory")
    }

    fn ints(&self, values: &[u32]) -> Array<u32> {
        self.context.upload(values).expect("memory")
    }

    fn bits(&self, values: &[u16]) -> Array<u16> {
        self.context.upload(values).expect("memory")
    }

    /// Memory that a kernel must fill.
    fn nan(&self, len: usize) -> Array<f32> {
        self.floats(&vec![f32::NAN; len])
    }

    fn nan_bits(&self, len: usize) -> Array<u16> {
        self.bits(&vec![u16::MAX; len])
    }

    fn launch(&self, name: &str, grid: [usize; 3], arguments: Arguments) {
        self.kernels.get(name).expect(name).launch(grid, arguments).expect(name);
        self.launched.borrow_mut().insert(name.to_owned());
    }

    /// The result of a product, which must be bit-identical for every tile; `run` takes the name of a kernel.
    fn in_every_tile(&self, product: &str, columns: usize, run: impl Fn(&str) -> Vec<f32>) -> Vec<f32> {
        if !columns.is_multiple_of(4) {
            return run(&format!("{product}_odd"));
        }
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        let of_tiles: Vec<(String, Vec<f32>)> =
            (self.kernels.candidates(product).into_iter()).map(|name| (name.clone(), run(&name))).collect();
        let (first, result) = &of_tiles[0];
        for (name, other) in &of_tiles {
            assert!(bits(other) == bits(result), "{name} and {first} give different bits");
        }
        result.clone()
    }

    /// Number of programs of an elementwise kernel over `n` elements.
    fn blocks(&self, name: &str, n: usize) -> usize {
        n.div_ceil(self.kernels.get(name).expect(name).shape.b)
    }

    fn tiles(&self, name: &str, m: usize, n: usize) -> [usize; 3] {
        let shape = &self.kernels.get(name).expect(name).shape;
        [m.div_ceil(shape.bm) * n.div_ceil(shape.bn), 1, 1]
    }
}

/// Cheap numbers between -1 and 1.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn vector(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    fn below(&mut self, bound: usize, n: usize) -> Vec<u32> {
        (0..n)
            .map(|_| ((self.next() * 0.5 + 0.5) * bound as f32) as u32)
            .map(|i| i.min(bound as u32 - 1))
            .collect()
    }
}

fn padded(n: usize) -> usize {
    n.next_multiple_of(64)
}

/// `[rows, cols]` in two parts, padded.
fn split(values: &[f32], cols: usize, is_brain: bool) -> (Vec<u16>, Vec<u16>) {
    let (mut hi, mut lo) = (vec![], vec![]);
    for row in values.chunks_exact(cols) {
        for &x in row.iter().chain(std::iter::repeat_n(&0.0, padded(cols) - cols)) {
            if is_brain {
                let first = bf16::from_f32(x);
                hi.push(first.to_bits());
                lo.push(bf16::from_f32(x - first.to_f32()).to_bits());
            } else {
                let first = f16::from_f32(x);
                hi.push(first.to_bits());
                lo.push(f16::from_f32((x - first.to_f32()) * 2048.0).to_bits());
            }
        }
    }
    (hi, lo)
}

fn joined(hi: &[u16], lo: &[u16], is_brain: bool) -> Vec<f32> {
    let join = |(&hi, &lo): (&u16, &u16)| {
        if is_brain {
            bf16::from_bits(hi).to_f32() + bf16::from_bits(lo).to_f32()
        } else {
            f16::from_bits(hi).to_f32() + f16::from_bits(lo).to_f32() / 2048.0
        }
    };
    hi.iter().zip(lo).map(join).collect()
}

/// Rows padded down to a multiple of 64.
fn padded_rows(values: &[f32], cols: usize) -> Vec<f32> {
    let mut out = values.to_vec();
    out.resize(padded(values.len() / cols) * cols, 0.0);
    out
}

fn compare(name: &str, card: &[f32], host: &[f32], bound: f32) {
    assert_eq!(card.len(), host.len());
    let largest = host.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    assert!(host.iter().all(|x| x.is_finite()) && largest > 0.0, "{name}: the host's");
    let off = card
        .iter()
        .zip(host)
        .fold(0.0f32, |max, (a, b)| if a.is_nan() { f32::NAN } else { max.max((a - b).abs()) });
    println!("{name:28} largest difference {:.1e}", off / largest);
    assert!(off / largest <= bound, "{name}: {:.1e} of the largest", off / largest);
}

type Case = Box<dyn Fn(&Side) -> Vec<f32>>;

fn products(cases: &mut Vec<(String, Case, f32)>) {
    // Every kind of width: aligned, odd, smaller and larger than a tile.
    for (m, k, n) in [(300, 192, 260), (37, 50, 70), (1, 50, 72), (5, 15, 31)] {
        for (half, is_brain) in [("f16", false), ("bf16", true)] {
            let bound = if is_brain { 4e-5 } else { 1e-5 };
            let mut draw = Draw(1);
            let (a, w) = (split(&draw.vector(m * k), k, is_brain), draw.vector(k * n));
            let w = split(&padded_rows(&w, n), n, is_brain);
            let (residual, source) = (draw.vector(m * n), draw.below(m, m));
            let (parts, weights) = (a.clone(), w.clone());
            let name = format!("product_{half}");
            let of = name.clone();
            let case = move |side: &Side| {
                let (hi, lo) = (side.bits(&parts.0), side.bits(&parts.1));
                let (w, w_lo) = (side.bits(&weights.0), side.bits(&weights.1));
                let (residual, source) = (side.floats(&residual), side.ints(&source));
                side.in_every_tile(&of, n, |of| {
                    let out = side.nan(m * n);
                    let arguments = Arguments::new().array(&hi).array(&lo).array(&w).array(&w_lo).array(&out);
                    let arguments = arguments.array(&residual).array(&source).ints([m, n, padded(k)]);
                    let arguments = arguments.flag(true).flag(true).float(0.5).ints([padded(n), n]);
                    side.launch(of, side.tiles(of, m, n), arguments.flag(true).int(2));
                    out.to_vec().expect("a result")
                })
            };
            cases.push((format!("{name} {m} {k} {n}"), Box::new(case), bound));
            if n % 4 != 0 {
                continue;
            }
            for (kind, act) in [("act", "sig"), ("act", "erf"), ("gate", "sig"), ("gate", "erf")] {
                let name = format!("product_{kind}_{half}_{act}");
                let of = name.clone();
                let (parts, weights) = (a.clone(), w.clone());
                let nodes = 7;
                let (plain, plain_up, up) =
                    (draw.vector(nodes * n), draw.vector(nodes * n), draw.vector(m * n));
                let plain_of = draw.below(nodes, 10);
                let case = move |side: &Side| {
                    let (hi, lo) = (side.bits(&parts.0), side.bits(&parts.1));
                    let w = side.bits(&weights.0);
                    let (plain, plain_of) = (side.floats(&plain), side.ints(&plain_of));
                    let (plain_up, up) = (side.floats(&plain_up), side.floats(&up));
                    side.in_every_tile(&of, n, |of| {
                        let outs = [(); 2].map(|()| side.nan_bits(m * padded(n)));
                        let arguments = Arguments::new().array(&hi).array(&lo).array(&w).array(&w);
                        let arguments = arguments.array(&outs[0]).array(&outs[1]);
                        let mut arguments = arguments.array(&plain).array(&plain_of);
                        if kind == "gate" {
                            arguments = arguments.array(&plain_up).array(&up);
                        }
                        let arguments = arguments.ints([m, n, padded(k)]).flag(true).flag(false).float(1.0);
                        let arguments = arguments.ints([padded(n), n, padded(n), 10]);
                        let arguments = arguments.float(1.595_769_2).float(0.071_354_81);
                        side.launch(of, side.tiles(of, m, padded(n)), arguments);
                        let [hi, lo] = outs.map(|out| out.to_vec().expect("a result"));
                        joined(&hi, &lo, is_brain)
                    })
                };
                cases.push((format!("{name} {m} {k} {n}"), Box::new(case), bound));
            }
        }
        for stored in ["f32", "f16", "bf16", "pair"] {
            let name = format!("product_f32_{stored}");
            let mut draw = Draw(2);
            let (x, w, bias) = (draw.vector(m * k), draw.vector(k * n), draw.vector(n));
            let mut floats = vec![0.0; k * padded(n)];
            for (to, from) in floats.chunks_exact_mut(padded(n)).zip(w.chunks_exact(n)) {
                to[..n].copy_from_slice(from);
            }
            let halves = split(&w, n, stored == "bf16");
            let of = name.clone();
            let case = move |side: &Side| {
                let (x, bias, out) = (side.floats(&x), side.floats(&bias), side.nan(m * n));
                let (w, hi, lo) = (side.floats(&floats), side.bits(&halves.0), side.bits(&halves.1));
                let arguments = Arguments::new().array(&x);
                let arguments = match stored {
                    "f32" => arguments.array(&w).array(&w),
                    _ => arguments.array(&hi).array(&lo),
                };
                let arguments =
                    arguments.array(&bias).array(&out).array(None::<&Array<f32>>).array(None::<&Array<u32>>);
                let arguments =
                    arguments.ints([m, n, k]).float(2.0).int(padded(n)).flag(true).flag(false).int(0);
                side.launch(&of, side.tiles(&of, m, n), arguments);
                out.to_vec().expect("a result")
            };
            cases.push((format!("{name} {m} {k} {n}"), Box::new(case), 2e-6));
        }
    }
}

fn rows(cases: &mut Vec<(String, Case, f32)>) {
    for (width, block) in [(50, 256), (768, 1024), (1600, 2048), (3000, 4096), (5120, 8192)] {
        let (m, nodes) = (9, 4);
        let mut draw = Draw(3);
        let (x, delta) = (draw.vector(nodes * width), draw.vector(m * width));
        let (gain, bias, plain_of) = (draw.vector(width), draw.vector(width), draw.below(nodes, 3));
        let (of_x, of_gain) = (x.clone(), gain.clone());
        let case = move |side: &Side| {
            let (x, gain, bias) = (side.floats(&of_x), side.floats(&of_gain), side.floats(&bias));
            let out = side.nan(nodes * width);
            let arguments =
                Arguments::new().array(&out).array(&x).array(&gain).array(&bias).ints([width, width]);
            side.launch(
                &format!("norm_{block}"),
                [nodes, 1, 1],
                arguments.flag(true).float(1e-5).flag(true).flag(true),
            );
            out.to_vec().expect("a result")
        };
        cases.push((format!("norm_{block}"), Box::new(case), 2e-6));
        let case = move |side: &Side| {
            let (x, delta, gain) = (side.floats(&x), side.floats(&delta), side.floats(&gain));
            let plain_of = side.ints(&plain_of);
            let (hi, lo) = (side.nan_bits(m * padded(width)), side.nan_bits(m * padded(width)));
            let arguments =
                Arguments::new().array(None::<&Array<f32>>).array(&hi).array(&lo).array(&x).array(&plain_of);
            let arguments = arguments.array(&delta).array(None::<&Array<u32>>).array(&gain);
            let arguments = arguments.ints([3, width, width, width, padded(width)]).flag(true).float(1e-5);
            let arguments = arguments.flag(true).flag(false).flag(false).flag(false).int(1);
            side.launch(&format!("norm_delta_{block}"), [m, 1, 1], arguments);
            joined(&hi.to_vec().expect("a result"), &lo.to_vec().expect("a result"), false)
        };
        cases.push((format!("norm_delta_{block}"), Box::new(case), 4e-6));
    }
    for (act, gated) in [("sig", true), ("erf", false)] {
        let n = 3000;
        let mut draw = Draw(4);
        let (x, up) = (draw.vector(n), draw.vector(n));
        let case = move |side: &Side| {
            let (x, up, out) = (side.floats(&x), side.floats(&up), side.nan(n));
            let arguments =
                Arguments::new().array(&out).array(&x).array(&up).int(n).float(1.0).float(0.0).flag(gated);
            let name = format!("activate_{act}");
            side.launch(&name, [side.blocks(&name, n), 1, 1], arguments);
            out.to_vec().expect("a result")
        };
        cases.push((format!("activate_{act}"), Box::new(case), 2e-6));
    }
}

/// A path of 40 nodes with two branches at its end, so that a tile of queries attends to more keys than fit in a
/// block.
struct Forest {
    n: usize,
    paths: Vec<Vec<usize>>,
}

impl Forest {
    fn new() -> Self {
        let path = |mut node: usize| {
            let mut path = vec![node];
            while node > 0 {
                node = if node == 44 { 39 } else { node - 1 };
                path.push(node);
            }
            path.reverse();
            path
        };
        Self { n: 48, paths: (0..48).map(path).collect() }
    }

    /// All nodes as queries, in tiles of a kernel.
    fn tiles(&self, side: &Side, kernel: &str) -> Tiles {
        let (n, bq) = (self.n, side.kernels.get(kernel).expect("a kernel").shape.bq);
        let (mut from, mut count, mut keys) = (vec![], vec![], vec![]);
        for first in (0..n).step_by(bq) {
            let seen: BTreeSet<usize> = self.paths[first..n.min(first + bq)].concat().into_iter().collect();
            from.push(keys.len() as u32);
            count.push(seen.len() as u32);
            keys.extend(seen.into_iter().map(|node| node as u32));
        }
        let nodes: Vec<u32> = (0..n as u32).collect();
        let rows: Vec<u32> = (0..from.len() * bq).map(|r| if r < n { r as u32 } else { u32::MAX }).collect();
        let positions: Vec<u32> = self.paths.iter().map(|path| path.len() as u32 - 1).collect();
        let ends: Vec<u32> =
            (0..n).map(|node| if (40..44).contains(&node) { 44 } else { n as u32 }).collect();
        let arrays = [&rows, &nodes, &from, &count, &keys, &ends, &positions, &nodes];
        Tiles { n: from.len(), arrays: arrays.map(|values| side.ints(values)) }
    }
}

/// Attention's inputs from a forest, in the kernel's order.
struct Tiles {
    n: usize,
    arrays: [Array<u32>; 8],
}

impl Tiles {
    fn arguments(&self, arguments: Arguments) -> Arguments {
        self.arrays.iter().fold(arguments, |arguments, array| arguments.array(array))
    }
}

fn attentions(cases: &mut Vec<(String, Case, f32)>) {
    let heads = [(20, "32"), (64, "64"), (72, "80"), (128, "128"), (256, "256")];
    let odd = [(30, "odd_32"), (63, "odd_64"), (70, "odd_128"), (130, "odd_256")];
    for (d_head, width) in heads.into_iter().chain(odd) {
        let forest = Forest::new();
        let (n, runs, heads, kv_heads) = (forest.n, 3usize, 4usize, 2usize);
        let (d_attn, d_kv) = (heads * d_head, kv_heads * d_head);
        let mut draw = Draw(5);
        let (q, kv, z) = (draw.vector(n * d_attn), draw.vector(n * 2 * d_kv), draw.vector(n * d_attn));
        let (dq, dkv) = (draw.vector(runs * n * d_attn), draw.vector(runs * n * 2 * d_kv));
        let case = move |side: &Side| {
            let name = format!("attend_{width}");
            let (q, kv, z) = (side.floats(&q), side.floats(&kv), side.floats(&z));
            let (dq, dkv, out) = (side.floats(&dq), side.floats(&dkv), side.nan(runs * n * d_attn));
            let none = None::<&Array<u16>>;
            let arguments =
                Arguments::new().array(&out).array(none).array(none).array(&q).array(&kv).array(&z);
            let tiles = forest.tiles(side, &name);
            let arguments = tiles.arguments(arguments.array(&dq).array(&dkv));
            let arguments =
                arguments.ints([n, n, d_head, heads / kv_heads, d_attn, d_kv, d_attn]).float(0.2).float(5.0);
            let arguments = arguments.int(30).flag(true).flag(false).int(0);
            let arguments = arguments.array(none).array(none).array(none);
            side.launch(&name, [tiles.n, heads, runs], arguments);
            out.to_vec().expect("a result")
        };
        cases.push((format!("attend_{width}"), Box::new(case), 1e-5));
    }
}

/// Ten times the compute capability of the fake GPU.
const HOST: u32 = 90;

fn host() -> Side {
    Side::new(&Driver::open_at(&cs_fake_cuda_driver::library()).expect("the fake driver")).expect("its card")
}

fn card() -> Option<Side> {
    let card = Driver::open().ok().as_ref().and_then(Side::new);
    if card.is_none() {
        println!("skipped: there is no GPU");
    }
    card
}

/// Without a real GPU, checks the cases themselves: every embedded kernel has one, and its results are
/// finite.
#[test]
fn every_kernel_gives_what_plain_loops_give() {
    let (host, card) = (host(), card());
    let mut cases = vec![];
    products(&mut cases);
    rows(&mut cases);
    attentions(&mut cases);
    kernel_cases::rows(&mut cases);
    kernel_cases::replacements(&mut cases);
    kernel_cases::attention_again(&mut cases);
    for (name, case, bound) in &cases {
        compare(name, &case(card.as_ref().unwrap_or(&host)), &case(&host), *bound);
    }
    let manifest = Manifest::carried().expect("a manifest");
    let of_host = |part: &&Part| !part.ptx && part.architecture == HOST;
    let part = manifest.parts.iter().find(of_host).expect("the fake card's");
    assert_eq!(
        part.kernels.iter().map(|kernel| kernel.name.clone()).collect::<BTreeSet<_>>(),
        host.launched.take(),
        "kernels carried, and those with a case"
    );
}

/// A row's bits depend neither on the number of rows nor on the tile.
#[test]
fn rows_of_products_stand_alone() {
    let Some(card) = card() else { return };
    for (product, is_brain) in [("product_f16", false), ("product_bf16", true)] {
        let (m, k, n) = (1500, 768, 776);
        let mut draw = Draw(6);
        let a = split(&draw.vector(m * k), k, is_brain);
        let w = split(&draw.vector(k * n), n, is_brain);
        let run = |m: usize| {
            let (hi, lo, w) = (card.bits(&a.0[..m * k]), card.bits(&a.1[..m * k]), card.bits(&w.0));
            card.in_every_tile(product, n, |of| {
                let out = card.nan(m * n);
                let arguments = Arguments::new().array(&hi).array(&lo).array(&w).array(&w).array(&out);
                let arguments = arguments.array(None::<&Array<f32>>).array(None::<&Array<u32>>);
                let arguments = arguments.ints([m, n, k]).flag(true).flag(false).float(1.0);
                card.launch(of, card.tiles(of, m, n), arguments.ints([padded(n), n]).flag(false).int(0));
                out.to_vec().expect("a result")
            })
        };
        let whole = run(m);
        for few in [1, 37] {
            assert!(run(few) == whole[..few * n], "{product}: {few} rows have other bits than among {m}");
        }
        let tiles = card.kernels.candidates(product).len();
        println!("{product:28} the same bits in {tiles} tiles, of 1, 37 and {m} rows");
    }
}

/// Takes all of a GPU's memory and holds it for a while, so that another process finds it full.
#[test]
#[ignore = "fills the card: run by tools/gpu_check"]
fn holds_the_card() {
    let Some(card) = card() else { return };
    let mut held = vec![];
    for bytes in [1 << 30, 64 << 20, 8 << 20] {
        while let Ok(block) = card.context.array::<u16>(bytes / 2) {
            held.push(block);
        }
    }
    println!("{} blocks are held", held.len());
    std::thread::sleep(std::time::Duration::from_secs(12));
}
