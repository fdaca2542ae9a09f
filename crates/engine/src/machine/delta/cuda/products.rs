//! Products, with their epilogues in the same kernel.

use std::ops::Range;

use cs_cuda::{Arguments, Array};

use super::arrays::{Floats, Form, Matrix, Split, Weights, padded};
use super::{Card, HeadsRule, Ints, MlpIn, Parts, Residual, Result, Span, Stored, curve};

/// The rows that `source` selects: those of the left operand, or of the residual.
#[derive(Clone, Copy)]
enum Source<'a> {
    None,
    Left(&'a Array<u32>),
    Residual(&'a Array<u32>),
}

impl Source<'_> {
    fn add_to(self, arguments: Arguments) -> (Arguments, usize) {
        match self {
            Source::None => (arguments.array(None::<&Array<u32>>), 0),
            Source::Left(rows) => (arguments.array(rows), 1),
            Source::Residual(rows) => (arguments.array(rows), 2),
        }
    }
}

/// `out = residual + a W[:, columns]`, all rows of `out` as wide as `columns`.
struct Product<'a> {
    rows: usize,
    w: &'a Matrix,
    columns: Range<usize>,
    residual: Option<&'a Array<f32>>,
    source: Source<'a>,
    out: &'a Array<f32>,
}

impl Card {
    /// Whether differences, and weights, have a second part.
    fn has_second(&self, lo: Option<&Array<u16>>) -> (bool, bool) {
        let two = matches!(self.parts, Parts::F16 { two: true } | Parts::Bf16 { two: true });
        (two, lo.is_some())
    }

    fn half(&self) -> &'static str {
        if matches!(self.parts, Parts::Bf16 { .. }) { "bf16" } else { "f16" }
    }

    fn product_of(&self, a: &Split, what: &Product<'_>) -> Result<()> {
        match a.get()? {
            Form::Floats(x) => self.product_of_floats(x, None, what),
            Form::Halves { hi, lo } => self.product_of_halves((hi, lo.as_ref()), what),
        }
    }

    fn product_of_halves(
        &self,
        (hi, lo): (&Array<u16>, Option<&Array<u16>>),
        what: &Product<'_>,
    ) -> Result<()> {
        let Product { rows, w, columns, residual, source, out } = what;
        let (Weights::Halves { hi: w_hi, lo: w_lo }, first) = w.columns_from(columns.start)? else {
            unreachable!("halves are multiplied by halves")
        };
        let name = format!("product_{}", self.half());
        // Unaligned rows of float32 have a separate kernel.
        let kernel = match columns.len().is_multiple_of(4) {
            true => self.kernels.tiled(&name, [*rows, padded(w.d_in), columns.len()])?,
            false => self.kernel(&format!("{name}_odd"))?,
        };
        let tiles = rows.div_ceil(kernel.shape.bm) * columns.len().div_ceil(kernel.shape.bn);
        let (two, pair) = self.has_second(w_lo.as_ref());
        let w_lo_from = w_lo.as_ref().unwrap_or(w_hi);
        let arguments = Arguments::new().array(hi).array(lo);
        let arguments = arguments.array_from(w_hi, first).array_from(w_lo_from, first);
        let (arguments, source_of) = source.add_to(arguments.array(*out).array(*residual));
        let arguments = arguments.ints([*rows, columns.len(), padded(w.d_in)]).flag(two).flag(pair);
        let arguments = arguments.float(w.scale).ints([w.width(), columns.len()]);
        kernel.launch([tiles, 1, 1], arguments.flag(residual.is_some()).int(source_of))
    }

    fn product_of_floats(&self, x: &Array<f32>, bias: Option<&Array<f32>>, what: &Product<'_>) -> Result<()> {
        let Product { rows, w, columns, residual, source, out } = what;
        let stored = match self.stored {
            Stored::F32 => "f32",
            Stored::F16 => "f16",
            Stored::Bf16 => "bf16",
            Stored::F16Pair => "pair",
        };
        let kernel = self.kernel(&format!("product_f32_{stored}"))?;
        let tiles = rows.div_ceil(kernel.shape.bm) * columns.len().div_ceil(kernel.shape.bn);
        let arguments = Arguments::new().array(x);
        let arguments = match w.columns_from(columns.start)? {
            (Weights::Floats(w), first) => arguments.array_from(w, first).array_from(w, first),
            (Weights::Halves { hi, lo }, first) => {
                arguments.array_from(hi, first).array_from(lo.as_ref().unwrap_or(hi), first)
            }
        };
        let arguments = match bias {
            Some(bias) => arguments.array_from(bias, columns.start),
            None => arguments.array(None::<&Array<f32>>),
        };
        let (arguments, source_of) = source.add_to(arguments.array(*out).array(*residual));
        let arguments = arguments.ints([*rows, columns.len(), w.d_in]).float(w.scale).int(w.width());
        let arguments = arguments.flag(bias.is_some()).flag(residual.is_some()).int(source_of);
        kernel.launch([tiles, 1, 1], arguments)
    }

    #[expect(clippy::too_many_arguments, reason = "a product and its destination")]
    pub(super) fn float_product(
        &self,
        rows: usize,
        a: &Floats,
        w: &Matrix,
        columns: Range<usize>,
        bias: Option<&Floats>,
        accumulate: bool,
        out: &Floats,
    ) -> Result<()> {
        let (bias, out) = (bias.map(Floats::get).transpose()?, out.get()?);
        let residual = accumulate.then_some(out);
        let what = Product { rows, w, columns, residual, source: Source::None, out };
        self.product_of_floats(a.get()?, bias, &what)
    }

    pub(super) fn residual_product(
        &self,
        span: &Span<'_, Self>,
        a: &Split,
        w: &Matrix,
        residual: Residual<'_, Self>,
        out: &Floats,
    ) -> Result<()> {
        let out = out.get()?;
        let (residual, source) = match (residual, span.from) {
            (Residual::Zero, _) => (None, Source::None),
            (Residual::Own, _) => (Some(out), Source::None),
            (Residual::Rows(rows), None) => (Some(rows.get()?), Source::None),
            (Residual::Rows(rows), Some(from)) => (Some(rows.get()?), Source::Residual(from.get()?)),
        };
        let rows = span.n_runs * span.per_run;
        self.product_of(a, &Product { rows, w, columns: 0..w.d_out, residual, source, out })
    }

    #[expect(clippy::too_many_arguments, reason = "a product and its epilogue")]
    pub(super) fn heads_product(
        &self,
        span: &Span<'_, Self>,
        a: &Split,
        w: &Matrix,
        columns: Range<usize>,
        rule: &HeadsRule<'_, Self>,
        raw: Option<&Floats>,
        out: &Floats,
    ) -> Result<()> {
        let (rows, cols) = (span.n_runs * span.per_run, columns.len());
        let source = span.from.map(Ints::get).transpose()?.map_or(Source::None, Source::Left);
        self.product_of(a, &Product { rows, w, columns, residual: None, source, out: out.get()? })?;
        if let (Some((norm, width)), Some(raw)) = (rule.norm, raw) {
            let own = Span { from: None, ..*span };
            self.norm_heads_change(&own, norm, (rule.turned / width, width), cols, raw, out)?;
        }
        self.rotate(rule, rows, span.per_run, cols, out)
    }

    pub(super) fn hidden_product(
        &self,
        span: &Span<'_, Self>,
        a: &Split,
        mlp: &MlpIn<'_, Self>,
        out: &Split,
    ) -> Result<()> {
        let rows = span.n_runs * span.per_run;
        let d_mlp = mlp.w_in.d_out;
        let product = |w| -> Result<Array<f32>> {
            let out = self.context.array(rows * d_mlp)?;
            let what =
                Product { rows, w, columns: 0..d_mlp, residual: None, source: Source::None, out: &out };
            self.product_of(a, &what)?;
            Ok(out)
        };
        // The additional input of the last product's kernel: with a gate, the difference of the gated values.
        let up = mlp.gate.map(|_| product(mlp.w_in)).transpose()?;
        let (w, plain) = mlp.gate.unwrap_or((mlp.w_in, mlp.plain_in));
        let gated = up.as_ref().map(|up| (mlp.plain_in, up));
        let (act, first, second) = curve(mlp.activation);
        match (a.get()?, out.get()?) {
            (Form::Floats(_), Form::Floats(out)) => {
                let delta = product(w)?;
                self.activate_change(span, mlp.activation, plain, &delta, gated, (rows, d_mlp), out)
            }
            // Unaligned rows, which only small models have: in separate steps.
            (Form::Halves { .. }, _) if !d_mlp.is_multiple_of(4) => {
                let (delta, change) = (product(w)?, self.context.array(rows * d_mlp)?);
                self.activate_change(span, mlp.activation, plain, &delta, gated, (rows, d_mlp), &change)?;
                let change = Floats { len: change.len(), array: Some(change) };
                self.cut_rows(span, d_mlp, &change, out)
            }
            (Form::Halves { hi, lo }, Form::Halves { hi: out_hi, lo: out_lo }) => {
                let Weights::Halves { hi: w_hi, lo: w_lo } = w.get()? else {
                    unreachable!("halves are multiplied by halves")
                };
                let gate = if gated.is_some() { "gate" } else { "act" };
                let name = format!("product_{gate}_{}_{act}", self.half());
                let kernel = self.kernels.tiled(&name, [rows, padded(w.d_in), d_mlp])?;
                let width = padded(d_mlp);
                let tiles = rows.div_ceil(kernel.shape.bm) * width.div_ceil(kernel.shape.bn);
                let (two, pair) = self.has_second(w_lo.as_ref());
                let arguments =
                    Arguments::new().array(hi).array(lo.as_ref()).array(w_hi).array(w_lo.as_ref());
                let arguments = arguments.array(out_hi).array(out_lo.as_ref());
                let mut arguments = arguments.array(plain.get()?).array(span.plain.get()?);
                if let Some((plain_up, up)) = gated {
                    arguments = arguments.array(plain_up.get()?).array(up);
                }
                let arguments =
                    arguments.ints([rows, d_mlp, padded(w.d_in)]).flag(two).flag(pair).float(w.scale);
                let arguments = arguments.ints([w.width(), d_mlp, width, span.per_run]);
                kernel.launch([tiles, 1, 1], arguments.float(first).float(second))
            }
            _ => unreachable!("all splits have one format"),
        }
    }
}
