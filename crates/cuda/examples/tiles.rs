//! Times every tile of every product on a GPU, at the shapes of real models, and writes the fastest tile for each shape.
//!
//!     cargo run --release -p cs-cuda --example tiles -- [crates/cuda/carried/tiles.csv] [rows ...]
//!
//! Rates count useful work: the operations of one float32 product per second. Differences have two parts; weights have one, or two with
//! `float32 weights`. Errors are relative errors of some of a product's sums against float64. Without a file nothing is written. The
//! file's lines for other architectures are kept. Rows are 1,024 to 32,768 unless given.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use cs_cuda::{Arguments, Array, Context, Driver, Kernels};
use half::{bf16, f16};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ROWS: [usize; 3] = [1024, 8192, 32768];
/// Number of nodes of the plain run.
const NODES: usize = 512;
/// Approximate time per measurement.
const SECONDS: f64 = 0.03;

/// A product, its shape without rows, whether weights have two parts, and the model with this shape.
type Case = (&'static str, [usize; 2], bool, &'static str);

const CASES: [Case; 17] = [
    ("product_f16", [768, 768], true, "gpt2, float32 weights"),
    ("product_f16", [768, 1536], true, "gpt2, float32 weights"),
    ("product_f16", [3072, 768], true, "gpt2, float32 weights"),
    ("product_act_f16_sig", [768, 3072], true, "gpt2, float32 weights"),
    ("product_f16", [1600, 1600], true, "gpt2-xl, float32 weights"),
    ("product_f16", [1600, 3200], true, "gpt2-xl, float32 weights"),
    ("product_f16", [6400, 1600], true, "gpt2-xl, float32 weights"),
    ("product_act_f16_sig", [1600, 6400], true, "gpt2-xl, float32 weights"),
    ("product_f16", [2560, 2560], false, "pythia-2.8b"),
    ("product_f16", [2560, 5120], false, "pythia-2.8b"),
    ("product_f16", [10240, 2560], false, "pythia-2.8b"),
    ("product_act_f16_erf", [2560, 10240], false, "pythia-2.8b"),
    ("product_bf16", [4096, 4096], false, "llama-3.1-8b"),
    ("product_bf16", [4096, 2048], false, "llama-3.1-8b"),
    ("product_bf16", [14336, 4096], false, "llama-3.1-8b"),
    ("product_gate_bf16_sig", [4096, 14336], false, "llama-3.1-8b"),
    ("product_gate_f16_sig", [4096, 14336], false, "an 8 B model in float16"),
];

/// Halves in a repeating pattern, so that the GPU's contents are known without a copy.
struct Halves {
    block: Vec<u16>,
    array: Array<u16>,
    is_brain: bool,
}

impl Halves {
    /// Values between -`size` and `size`, a linear congruential generator's high bits.
    fn new(context: &Context, len: usize, size: f32, is_brain: bool) -> Result<Self> {
        let mut state = len as u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * size
        };
        let bits = |x| if is_brain { bf16::from_f32(x).to_bits() } else { f16::from_f32(x).to_bits() };
        // A prime length, so that no two rows or columns are the same.
        let block: Vec<u16> = (0..1_000_003).map(|_| bits(next())).collect();
        let (one, mut array) = (context.upload(&block)?, context.array(len)?);
        for at in (0..len).step_by(block.len()) {
            array.copy_from(at, &one, 0..block.len().min(len - at))?;
        }
        Ok(Self { block, array, is_brain })
    }

    fn get(&self, at: usize) -> f64 {
        let bits = self.block[at % self.block.len()];
        f64::from(if self.is_brain { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() })
    }
}

/// The operands of one product.
struct Operands {
    shape: [usize; 3],
    pair: bool,
    hi: Halves,
    lo: Halves,
    w: Halves,
    w_lo: Halves,
    out: Array<f32>,
    outs: [Array<u16>; 2],
    plain: [Array<f32>; 2],
    plain_of: Array<u32>,
}

impl Operands {
    fn new(context: &Context, kernel: &str, shape: [usize; 3], pair: bool) -> Result<Self> {
        let ([m, k, n], is_brain) = (shape, kernel.contains("bf16"));
        let is_plain = !kernel.contains("_act_") && !kernel.contains("_gate_");
        let halves = |len, size| Halves::new(context, len, size, is_brain);
        // Second parts of realistic size, in their unit.
        let lo = if is_brain { 1.0 / 512.0 } else { 1.0 };
        let of_halves = if is_plain { 0 } else { m * n };
        Ok(Self {
            shape,
            pair,
            hi: halves(m * k, 1.0)?,
            lo: halves(m * k, lo)?,
            w: halves(k * n, 0.05)?,
            w_lo: halves(if pair { k * n } else { 1 }, 0.05)?,
            // A gate reads the gated values there.
            out: context.zeros(if is_plain || kernel.contains("_gate_") { m * n } else { 0 })?,
            outs: [context.array(of_halves)?, context.array(of_halves)?],
            plain: [context.zeros(NODES * n)?, context.zeros(NODES * n)?],
            plain_of: context.upload(&(0..NODES as u32).collect::<Vec<_>>())?,
        })
    }

    fn arguments(&self, kernel: &str) -> Arguments {
        let [m, k, n] = self.shape;
        let arguments = Arguments::new().array(&self.hi.array).array(&self.lo.array);
        let arguments = arguments.array(&self.w.array).array(&self.w_lo.array);
        let sizes =
            |arguments: Arguments| arguments.ints([m, n, k]).flag(true).flag(self.pair).float(1.0).int(n);
        if !kernel.contains("_act_") && !kernel.contains("_gate_") {
            let arguments = arguments.array(&self.out).array(&self.out).array(None::<&Array<u32>>);
            return sizes(arguments).int(n).flag(false).int(0);
        }
        let arguments = arguments.array(&self.outs[0]).array(&self.outs[1]).array(&self.plain[0]);
        let mut arguments = arguments.array(&self.plain_of);
        if kernel.contains("_gate_") {
            arguments = arguments.array(&self.plain[1]).array(&self.out);
        }
        sizes(arguments).ints([n, n, NODES]).float(1.0).float(0.0)
    }

    /// The root mean square error of some sums, if the kernel outputs the product itself.
    fn error(&self) -> Result<f64> {
        let ([m, k, n], lo) = (self.shape, if self.hi.is_brain { 1.0 } else { 1.0 / 2048.0 });
        let (mut off, mut size) = (0.0, 0.0);
        for row in (0..m).step_by(m.div_ceil(5)) {
            let found = self.out.read(row * n..(row + 1) * n)?;
            for column in (0..n).step_by(n.div_ceil(7)) {
                let term = |i: usize| {
                    let (a, w) = (row * k + i, i * n + column);
                    let second = if self.pair { self.hi.get(a) * self.w_lo.get(w) } else { 0.0 };
                    (self.hi.get(a) + self.lo.get(a) * lo) * self.w.get(w) + second * lo
                };
                let expected: f64 = (0..k).map(term).sum();
                off += (f64::from(found[column]) - expected).powi(2);
                size += expected.powi(2);
            }
        }
        Ok((off / size).sqrt())
    }
}

/// The time of a kernel in seconds.
fn seconds(context: &Context, once: &dyn Fn() -> Result<()>) -> Result<f64> {
    let timed = |turns: u32| -> Result<f64> {
        let start = Instant::now();
        (0..turns).try_for_each(|_| once())?;
        context.wait()?;
        Ok(start.elapsed().as_secs_f64() / f64::from(turns))
    };
    once()?;
    context.wait()?;
    let turns = (SECONDS / timed(1)?).clamp(1.0, 200.0) as u32;
    timed(turns)
}

/// Replaces a table's lines for an architecture.
fn write(table: &Path, architecture: u32, lines: &[String]) -> Result<()> {
    let text = std::fs::read_to_string(table).map_err(|e| format!("cannot read {}: {e}", table.display()))?;
    let of = |line: &str| line.split(',').next().and_then(|cell| cell.parse::<u32>().ok()).unwrap_or(0);
    let others = text.lines().filter(|line| of(line) != architecture).map(str::to_owned);
    let mut all: Vec<String> = others.chain(lines.iter().cloned()).collect();
    all.sort_by_key(|line| of(line));
    let new = table.with_extension("new");
    std::fs::write(&new, all.join("\n") + "\n").and_then(|()| std::fs::rename(&new, table))?;
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut rows: Vec<usize> =
        args.iter().skip(1).map(|rows| rows.parse()).collect::<std::result::Result<_, _>>()?;
    if rows.is_empty() {
        rows.extend(ROWS);
    }
    let driver = Driver::open()?;
    let devices = driver.devices()?;
    let device = devices.iter().find(|device| device.check(&driver).is_ok());
    let context = Context::new(&driver, device.ok_or("no usable GPU")?)?;
    let kernels = Kernels::new(&context)?;
    println!("{}, driver for CUDA {}", context.device().name, driver.version_text());
    let mut lines = vec![];
    for (kernel, [k, n], pair, whose) in CASES {
        for &m in &rows {
            let operands = Operands::new(&context, kernel, [m, k, n], pair)?;
            let mut rates = vec![];
            for name in kernels.candidates(kernel) {
                let compiled = kernels.get(&name)?;
                let grid = [m.div_ceil(compiled.shape.bm) * n.div_ceil(compiled.shape.bn), 1, 1];
                let once = || Ok(compiled.launch(grid, operands.arguments(kernel))?);
                let tile = name[kernel.len() + 1..].to_owned();
                rates.push((tile, 2.0 * (m * k) as f64 * n as f64 / seconds(&context, &once)? / 1e12));
            }
            rates.sort_by(|a, b| b.1.total_cmp(&a.1));
            let all: Vec<String> = rates.iter().map(|(tile, rate)| format!("{tile} {rate:.0}")).collect();
            let error = if kernel.contains("_act_") || kernel.contains("_gate_") {
                String::new()
            } else {
                format!(", error {:.1e}", operands.error()?)
            };
            println!("{kernel} {m} x {k} x {n} ({whose}): {} TFLOP/s{error}", all.join(", "));
            if let [(tile, rate), _, ..] = &rates[..] {
                lines.push(format!("{},{kernel},{m},{k},{n},{tile},{rate:.0}", kernels.architecture()));
            }
        }
    }
    match args.first() {
        Some(_) if lines.is_empty() => println!("this GPU has only one tile per product: nothing is written"),
        Some(table) => write(Path::new(table), kernels.architecture(), &lines)?,
        None => {}
    }
    Ok(())
}
