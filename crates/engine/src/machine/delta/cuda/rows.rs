//! Row-wise operations: norms, rotation, activation functions, splitting, gathering, logits.

use cs_cuda::{Arguments, Array};
use cs_model::spec::{Activation, RotaryPairing};

use super::arrays::{Floats, Form, Split, Target, padded};
use super::{Card, Changed, HeadsRule, Ints, NormOut, NormWeights, Result, Span, curve};

/// Row widths that norms are compiled for.
const NORM_WIDTHS: [usize; 5] = [256, 1024, 2048, 4096, 8192];

/// The smallest of `widths` that fits `width`; [`Card::cannot`] has checked that there is one.
pub(super) fn fitting(widths: &[usize], width: usize) -> usize {
    widths.iter().copied().find(|&w| w >= width).unwrap_or_else(|| panic!("a row of {width} has no kernel"))
}

/// The input and output of a norm's differences.
struct NormChange<'a> {
    heads: usize,
    width: usize,
    plain: (&'a Array<f32>, usize),
    delta: (&'a Array<f32>, usize),
    /// Whether `delta` is the changed value itself.
    to: bool,
    add: bool,
    target: Target<'a>,
}

impl Card {
    /// `out = norm(x)` of `heads` consecutive parts of each row, in rows of `ld`.
    pub(super) fn norm_rows(
        &self,
        norm: &NormWeights<Self>,
        (rows, heads): (usize, usize),
        width: usize,
        ld: usize,
        x: &Floats,
        out: &Floats,
    ) -> Result<()> {
        let kernel = self.kernel(&format!("norm_{}", fitting(&NORM_WIDTHS, width)))?;
        let (gain, bias) = (optional(norm.gain.as_ref())?, optional(norm.bias.as_ref())?);
        let arguments = Arguments::new().array(out.get()?).array(x.get()?).array(gain).array(bias);
        let arguments = arguments.ints([width, ld]).flag(norm.centred).float(norm.eps);
        kernel.launch([rows, heads, 1], arguments.flag(gain.is_some()).flag(bias.is_some()))
    }

    fn launch_norm_change(
        &self,
        span: &Span<'_, Self>,
        norm: &NormWeights<Self>,
        what: &NormChange<'_>,
    ) -> Result<()> {
        let NormChange { heads, width, plain, delta, to, add, target } = what;
        let widest = if target.mode == 0 { *width } else { target.width };
        let kernel = self.kernel(&format!("norm_delta_{}", fitting(&NORM_WIDTHS, widest)))?;
        let (gain, from) = (optional(norm.gain.as_ref())?, span.from.map(Ints::get).transpose()?);
        let arguments = Arguments::new().array(target.floats).array(target.hi).array(target.lo);
        let arguments =
            arguments.array(plain.0).array(span.plain.get()?).array(delta.0).array(from).array(gain);
        let arguments = arguments.ints([span.per_run, *width, plain.1, delta.1, target.width]);
        let arguments =
            arguments.flag(norm.centred).float(norm.eps).flag(gain.is_some()).flag(from.is_some());
        let rows = span.n_runs * span.per_run;
        kernel.launch([rows, *heads, 1], arguments.flag(*to).flag(*add).int(target.mode))
    }

    pub(super) fn norm_change(
        &self,
        span: &Span<'_, Self>,
        norm: &NormWeights<Self>,
        cols: usize,
        plain: &Floats,
        changed: Changed<'_, Self>,
        out: NormOut<'_, Self>,
    ) -> Result<()> {
        let (delta, to) = match changed {
            Changed::By(delta) => (delta, false),
            Changed::To(sum) => (sum, true),
        };
        let (target, add) = match &out {
            NormOut::Split(split) => (self.target(split)?, false),
            NormOut::Set(floats) => (Target::floats(floats.get()?, cols), false),
            NormOut::Add(floats) => (Target::floats(floats.get()?, cols), true),
        };
        let (plain, delta) = ((plain.get()?, cols), (delta.get()?, cols));
        let what = NormChange { heads: 1, width: cols, plain, delta, to, add, target };
        self.launch_norm_change(span, norm, &what)
    }

    /// `norm(raw + δ) − norm(raw)` in place, of `heads` parts of rows of `cols`.
    pub(super) fn norm_heads_change(
        &self,
        span: &Span<'_, Self>,
        norm: &NormWeights<Self>,
        (heads, width): (usize, usize),
        cols: usize,
        raw: &Floats,
        delta: &Floats,
    ) -> Result<()> {
        let (delta, raw) = (delta.get()?, raw.get()?);
        let target = Target::floats(delta, cols);
        let what = NormChange {
            heads,
            width,
            plain: (raw, cols),
            delta: (delta, cols),
            to: false,
            add: false,
            target,
        };
        self.launch_norm_change(span, norm, &what)
    }

    /// Rotates the leading heads of `rows` rows of `cols`, if the model does.
    pub(super) fn rotate(
        &self,
        rule: &HeadsRule<'_, Self>,
        rows: usize,
        per_run: usize,
        cols: usize,
        heads: &Floats,
    ) -> Result<()> {
        let Some(rotation) = &rule.rotary else { return Ok(()) };
        let kernel = self.kernel("rotate")?;
        let arguments =
            Arguments::new().array(heads.get()?).array(rotation.cos.get()?).array(rotation.sin.get()?);
        let arguments = arguments.array(rotation.position.get()?);
        let pairs = rule.turned / rule.d_head * rotation.half;
        let arguments = arguments.ints([per_run, pairs, rule.d_head, cols, rotation.half]);
        let is_interleaved = rotation.pairing == RotaryPairing::Interleaved;
        kernel.launch([rows, pairs.div_ceil(kernel.shape.b), 1], arguments.flag(is_interleaved))
    }

    pub(super) fn cut_rows(
        &self,
        span: &Span<'_, Self>,
        cols: usize,
        delta: &Floats,
        out: &Split,
    ) -> Result<()> {
        let (target, from) = (self.target(out)?, span.from.map(Ints::get).transpose()?);
        let kernel = self.kernel("cut")?;
        let arguments = Arguments::new().array(target.floats).array(target.hi).array(target.lo);
        let arguments = arguments.array(delta.get()?).array(from).ints([cols, target.width]);
        let blocks = target.width.div_ceil(kernel.shape.b);
        let rows = span.n_runs * span.per_run;
        kernel.launch([rows, blocks, 1], arguments.flag(from.is_some()).int(target.mode))
    }

    pub(super) fn add(&self, x: &Floats, y: &Floats) -> Result<()> {
        let kernel = self.kernel("add")?;
        let arguments = Arguments::new().array(x.get()?).array(y.get()?).int(x.len);
        kernel.launch([x.len.div_ceil(kernel.shape.b), 1, 1], arguments)
    }

    pub(super) fn activate(
        &self,
        activation: Activation,
        gate: Option<&Floats>,
        hidden: &Floats,
        out: &Floats,
    ) -> Result<()> {
        let (act, a, b) = curve(activation);
        let kernel = self.kernel(&format!("activate_{act}"))?;
        let (x, up) = match gate {
            Some(gate) => (gate.get()?, Some(hidden.get()?)),
            None => (hidden.get()?, None),
        };
        let arguments = Arguments::new().array(out.get()?).array(x).array(up).int(out.len);
        kernel
            .launch([out.len.div_ceil(kernel.shape.b), 1, 1], arguments.float(a).float(b).flag(up.is_some()))
    }

    #[expect(clippy::too_many_arguments, reason = "two products, their inputs and their destination")]
    pub(super) fn activate_change(
        &self,
        span: &Span<'_, Self>,
        activation: Activation,
        plain: &Floats,
        delta: &Array<f32>,
        up: Option<(&Floats, &Array<f32>)>,
        (rows, cols): (usize, usize),
        out: &Array<f32>,
    ) -> Result<()> {
        let (act, a, b) = curve(activation);
        let kernel = self.kernel(&format!("activate_delta_{act}"))?;
        let plain_up = up.map(|(plain, _)| plain.get()).transpose()?;
        let n = rows * cols;
        let arguments = Arguments::new().array(out).array(plain.get()?).array(span.plain.get()?).array(delta);
        let arguments = arguments.array(plain_up).array(up.map(|(_, up)| up)).ints([n, cols, span.per_run]);
        kernel.launch([n.div_ceil(kernel.shape.b), 1, 1], arguments.float(a).float(b).flag(up.is_some()))
    }

    /// Rows of 32-bit words.
    fn gather_words<T: cs_cuda::Element>(
        &self,
        x: &Array<T>,
        out: &mut Array<T>,
        (rows, words): (usize, usize),
        from: Option<&Ints>,
    ) -> Result<()> {
        let Some(from) = from else { return out.copy_from(0, x, 0..out.len()) };
        let kernel = self.kernel("gather")?;
        let arguments = Arguments::new().array(&*out).array(x).array(from.get()?).int(words);
        kernel.launch([rows, words.div_ceil(kernel.shape.b), 1], arguments)
    }

    pub(super) fn gather_floats(
        &self,
        x: &Floats,
        cols: usize,
        rows: usize,
        from: Option<&Ints>,
    ) -> Result<Array<f32>> {
        let mut out = self.context.array(rows * cols)?;
        self.gather_words(x.get()?, &mut out, (rows, cols), from)?;
        Ok(out)
    }

    pub(super) fn gather_split(&self, x: &Split, rows: usize, from: Option<&Ints>) -> Result<Form> {
        let width = padded(x.cols);
        let halves = |x: &Array<u16>| -> Result<Array<u16>> {
            let mut out = self.context.array(rows * width)?;
            self.gather_words(x, &mut out, (rows, width / 2), from)?;
            Ok(out)
        };
        Ok(match x.get()? {
            Form::Floats(floats) => {
                let mut out = self.context.array(rows * x.cols)?;
                self.gather_words(floats, &mut out, (rows, x.cols), from)?;
                Form::Floats(out)
            }
            Form::Halves { hi, lo } => {
                Form::Halves { hi: halves(hi)?, lo: lo.as_ref().map(halves).transpose()? }
            }
        })
    }

    pub(super) fn dot_pairs(
        &self,
        (n_runs, per_run, cols): (usize, usize, usize),
        x: &Floats,
        table: &Floats,
        pairs: &[(u32, u32)],
    ) -> Result<Vec<f64>> {
        let (rows, entries): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
        let (rows, entries) = (self.context.upload(&rows)?, self.context.upload(&entries)?);
        let out: Array<f64> = self.context.array(n_runs * pairs.len())?;
        let kernel = self.kernel("dots")?;
        let arguments = Arguments::new().array(&out).array(x.get()?).array(table.get()?);
        let arguments = arguments.array(&rows).array(&entries).ints([per_run, cols, pairs.len()]);
        kernel.launch([pairs.len(), n_runs, 1], arguments)?;
        out.to_vec()
    }
}

fn optional(floats: Option<&Floats>) -> Result<Option<&Array<f32>>> {
    floats.map(Floats::get).transpose()
}
