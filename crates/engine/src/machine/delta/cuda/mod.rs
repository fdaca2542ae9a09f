//! The operations on an NVIDIA GPU: each is one or a few kernels of `tools/gpu_kernels`, launched in order on one stream.
//!
//! Halves and weights are padded with zeros to widths of 64, so that products need no mask along the summed dimension. The first
//! failure is recorded; from then on nothing is launched, and [`Ops::status`] returns it.

mod arrays;
mod heads;
mod products;
mod rows;

use std::ops::Range;

use cs_cuda::{Context, CudaError, Driver, Kernel, Kernels};
use cs_model::spec::{Activation, ModelSpec};

use super::ops::{
    Changed, DeltaHeads, HeadsRule, MlpIn, NormOut, NormWeights, Ops, Parts, PlainHeads, PutZ, Recompute,
    Residual, Scores, Span, Stored, Values, Z,
};
use super::packed::Packed;
use crate::device::Device;
use crate::error::EngineError;
use crate::forest::Forest;
use crate::machine::Rows;
use arrays::{Floats, Ints, Kept, Matrix, Split};
use heads::Tree;

/// Rows of a stack that are enough to keep a large GPU busy.
const ENOUGH_ROWS: usize = 1 << 16;
/// Maximum row width of norms, and maximum head width.
const WIDEST_ROW: usize = 8192;
const WIDEST_HEAD: usize = 256;

/// A GPU with everything needed to run one model.
pub(crate) struct Card {
    context: Context,
    kernels: Kernels,
    parts: Parts,
    stored: Stored,
    failure: Option<CudaError>,
}

/// The error of an operation on an array that could not be made; [`Card::failure`] has the reason.
fn missing() -> CudaError {
    CudaError::Archive { what: "an array is missing".to_owned() }
}

type Result<T> = std::result::Result<T, CudaError>;

impl Card {
    /// Opens a GPU.
    pub fn open(ordinal: usize, parts: Parts, stored: Stored) -> Result<Self> {
        let driver = Driver::open()?;
        let devices = driver.devices()?;
        let count = devices.len();
        let device = devices.get(ordinal).ok_or(CudaError::NoSuchDevice { ordinal, count })?;
        device.check(&driver)?;
        let context = Context::new(&driver, device)?;
        let kernels = Kernels::new(&context)?;
        Ok(Self { context, kernels, parts, stored, failure: None })
    }

    /// Why a model cannot be run on a GPU, if so.
    pub fn cannot(spec: &ModelSpec) -> Option<String> {
        let widest = spec.d_model.max(spec.d_attn());
        let heads = (spec.d_head > WIDEST_HEAD).then(|| {
            format!(
                "heads have {} dimensions, but the GPU kernels support at most {WIDEST_HEAD}",
                spec.d_head
            )
        });
        heads.or((widest > WIDEST_ROW)
            .then(|| format!("rows have {widest} columns, but the GPU kernels support at most {WIDEST_ROW}")))
    }

    fn kernel(&self, name: &str) -> Result<std::sync::Arc<Kernel>> {
        self.kernels.get(name)
    }

    /// Runs `what` unless something has failed, and records its error.
    fn attempt<T>(&mut self, what: impl FnOnce(&Self) -> Result<T>) -> Option<T> {
        if self.failure.is_some() {
            return None;
        }
        match what(self) {
            Ok(value) => Some(value),
            Err(failure) => {
                self.failure = Some(failure);
                None
            }
        }
    }
}

/// The kernel of an activation function, and its two constants: see `tools/gpu_kernels/kernels/common.py`.
fn curve(activation: Activation) -> (&'static str, f32, f32) {
    const TANH: f32 = 2.0 * 0.797_884_6; // 2 √(2/π)
    match activation {
        Activation::GeluTanh => ("sig", TANH, TANH * 0.044_715),
        Activation::Silu => ("sig", 1.0, 0.0),
        Activation::Relu => ("sig", 1e30, 0.0),
        Activation::GeluErf => ("erf", 0.0, 0.0),
    }
}

impl Ops for Card {
    type Floats = Floats;
    type Ints = Ints;
    type Split = Split;
    type Matrix = Matrix;
    type Tree = Tree;
    type Kept = Kept;

    fn name(&self) -> String {
        Device::Cuda(vec![self.context.device().ordinal]).to_string()
    }

    fn status(&mut self) -> std::result::Result<(), EngineError> {
        self.attempt(|card| card.context.wait());
        let cs_cuda::Device { ordinal, name, .. } = self.context.device();
        let of_device = |failure: &CudaError| EngineError::Device {
            device: format!("cuda:{ordinal} ({name})"),
            problem: failure.to_string(),
        };
        self.failure.as_ref().map_or(Ok(()), |failure| Err(of_device(failure)))
    }

    fn memory(&self) -> Option<usize> {
        // Leave a share for kernels and fragmentation. If the GPU is lost, `status` reports it.
        self.context.memory().ok().map(|(free, _)| free / 10 * 9)
    }

    fn enough_rows(&self) -> usize {
        ENOUGH_ROWS
    }

    fn parts(&self) -> Parts {
        self.parts
    }

    fn stored(&self) -> Stored {
        self.stored
    }

    fn upload(&mut self, values: &[f32]) -> Floats {
        Floats { array: self.attempt(|card| card.context.upload(values)), len: values.len() }
    }

    fn upload_ints(&mut self, values: &[u32]) -> Ints {
        Ints(self.attempt(|card| card.context.upload(values)))
    }

    fn download(&mut self, floats: &Floats) -> Vec<f32> {
        self.attempt(|_| floats.get()?.to_vec()).unwrap_or_else(|| vec![f32::NAN; floats.len])
    }

    fn floats(&mut self, len: usize, zeroed: bool) -> Floats {
        let array =
            self.attempt(|card| if zeroed { card.context.zeros(len) } else { card.context.array(len) });
        Floats { array, len }
    }

    fn split(&mut self, rows: usize, cols: usize, zeroed: bool) -> Split {
        let form = self.attempt(|card| card.new_split(rows, cols, zeroed));
        Split { cols, form }
    }

    fn matrix(&mut self, packed: &Packed) -> Matrix {
        self.new_matrix(packed)
    }

    fn keep(&mut self, packed: Packed) -> Kept {
        Kept::new(&self.context, packed)
    }

    fn refill(&mut self, matrix: &mut Matrix, by: &Kept) {
        self.attempt(|_| matrix.refill(by));
    }

    fn join(&mut self) {
        self.attempt(|card| card.context.join());
    }

    fn tree(&mut self, forest: &Forest, queries: Rows<'_>, window: Option<usize>, own: &[u32]) -> Tree {
        self.new_tree(forest, queries, window, own)
    }

    fn plain_norm(&mut self, norm: &NormWeights<Self>, cols: usize, x: &Floats, out: &mut Floats) {
        self.attempt(|card| card.norm_rows(norm, (x.len / cols, 1), cols, cols, x, out));
    }

    fn plain_product(
        &mut self,
        rows: usize,
        a: &Floats,
        w: &Matrix,
        columns: Range<usize>,
        bias: Option<&Floats>,
        accumulate: bool,
        out: &mut Floats,
    ) {
        self.attempt(|card| card.float_product(rows, a, w, columns, bias, accumulate, out));
    }

    fn plain_add(&mut self, x: &mut Floats, y: &Floats) {
        self.attempt(|card| card.add(x, y));
    }

    fn plain_heads(&mut self, rule: &HeadsRule<'_, Self>, per_run: usize, cols: usize, heads: &mut Floats) {
        self.attempt(|card| {
            if let Some((norm, width)) = rule.norm {
                card.norm_rows(norm, (per_run, rule.turned / width), width, cols, heads, heads)?;
            }
            card.rotate(rule, per_run, per_run, cols, heads)
        });
    }

    fn plain_attend(&mut self, tree: &Tree, scores: Scores, q: &Floats, kv: &Floats, z: &mut Floats) {
        self.attempt(|card| card.attend_plain(tree, scores, q, kv, z));
    }

    fn plain_activate(
        &mut self,
        activation: Activation,
        gate: Option<&Floats>,
        hidden: &Floats,
        out: &mut Floats,
    ) {
        self.attempt(|card| card.activate(activation, gate, hidden, out));
    }

    fn norm(
        &mut self,
        span: &Span<'_, Self>,
        norm: &NormWeights<Self>,
        cols: usize,
        plain: &Floats,
        changed: Changed<'_, Self>,
        out: NormOut<'_, Self>,
    ) {
        self.attempt(|card| card.norm_change(span, norm, cols, plain, changed, out));
    }

    fn cut(&mut self, span: &Span<'_, Self>, cols: usize, delta: &Floats, out: &mut Split) {
        self.attempt(|card| card.cut_rows(span, cols, delta, out));
    }

    fn product_heads(
        &mut self,
        span: &Span<'_, Self>,
        a: &Split,
        w: &Matrix,
        columns: Range<usize>,
        rule: &HeadsRule<'_, Self>,
        raw: Option<&Floats>,
        out: &mut Floats,
    ) {
        self.attempt(|card| card.heads_product(span, a, w, columns, rule, raw, out));
    }

    fn attend(
        &mut self,
        n_runs: usize,
        tree: &Tree,
        scores: Scores,
        plain: &PlainHeads<Self>,
        delta: &DeltaHeads<Self>,
        out: &mut Z<Self>,
    ) {
        self.attempt(|card| card.attend_stack(n_runs, tree, scores, plain, delta, out));
    }

    fn attend_again(
        &mut self,
        tree: &Tree,
        scores: Scores,
        sites: &[Recompute],
        values: &Values<'_, Self>,
        delta: Option<&DeltaHeads<Self>>,
        out: &mut Z<Self>,
    ) {
        self.attempt(|card| card.attend_sites(tree, scores, sites, values, delta, out));
    }

    fn put_z(
        &mut self,
        tree: &Tree,
        d_head: usize,
        sites: &[PutZ],
        values: &Values<'_, Self>,
        out: &mut Z<Self>,
    ) {
        self.attempt(|card| card.put_values(tree, d_head, sites, values, out));
    }

    fn gather_z(&mut self, z: &Z<Self>, cols: usize, rows: usize, from: Option<&Ints>) -> Z<Self> {
        match z {
            Z::Full(z) => Z::Full(self.gather(z, cols, rows, from)),
            Z::Delta(z) => {
                let form = self.attempt(|card| card.gather_split(z, rows, from));
                Z::Delta(Split { cols, form })
            }
        }
    }

    fn gather(&mut self, x: &Floats, cols: usize, rows: usize, from: Option<&Ints>) -> Floats {
        let array = self.attempt(|card| card.gather_floats(x, cols, rows, from));
        Floats { array, len: rows * cols }
    }

    fn product(
        &mut self,
        span: &Span<'_, Self>,
        a: &Split,
        w: &Matrix,
        residual: Residual<'_, Self>,
        out: &mut Floats,
    ) {
        self.attempt(|card| card.residual_product(span, a, w, residual, out));
    }

    fn product_activate(&mut self, span: &Span<'_, Self>, a: &Split, mlp: &MlpIn<'_, Self>, out: &mut Split) {
        self.attempt(|card| card.hidden_product(span, a, mlp, out));
    }

    fn dots(
        &mut self,
        (n_runs, per_run, cols): (usize, usize, usize),
        x: &Floats,
        table: &Floats,
        pairs: &[(u32, u32)],
    ) -> Vec<f64> {
        let dots = self.attempt(|card| card.dot_pairs((n_runs, per_run, cols), x, table, pairs));
        dots.unwrap_or_else(|| vec![f64::NAN; n_runs * pairs.len()])
    }
}
