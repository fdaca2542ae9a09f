//! The matrix product `C = S + alpha A W`, with the weights packed beforehand.
//!
//! **Order of sums.** `W`'s rows are divided into equal blocks whose length depends only on their number. Within a block,
//! each element of `C` is one chain of fused multiply-adds in order of k, starting at zero; the blocks are added to `C`
//! one after the other. Nothing else affects a value: the number of rows, a row's position among them and the columns
//! computed with it do not change a bit.
//!
//! **Loops.** For up to 126 rows of `A` and one block of `W`'s rows, `A` is copied into tiles of up to 14 rows, laid out
//! in the order in which they are read. Four panels of `W` at a time stay in the L2 cache while every tile is multiplied
//! with each of them, keeping the sums in registers. Meanwhile the next panels are prefetched, a few lines in every step,
//! because prefetching them all at once stalls and the hardware prefetcher is not enough.

mod packed;

pub use packed::{PackedMatrix, PackedRef, PanelMut, UnfilledPanel};

use crate::simd::{Isa, Kernel, NR, Simd, dispatch};
use crate::{MatMut, MatRef};
use std::cell::Cell;
use std::ops::Range;

/// What a product is added to, or subtracted from.
#[derive(Clone, Copy, Debug)]
pub enum Init<'a> {
    /// `C = A W`
    Zero,
    /// `C = b + A W`, with `b` of shape `[n]` added to every row.
    Bias(&'a [f32]),
    /// `C = C + A W`
    Accumulate,
    /// `C = C + b + A W`
    AccumulateBias(&'a [f32]),
    /// `C = C - A W`
    Subtract,
    /// `C = S + A W`, with `S` of C's shape.
    AddTo(MatRef<'a>),
    /// `C = S - A W`, with `S` of C's shape: removes a head's output `z_h W_O^h` from a residual stream.
    SubtractFrom(MatRef<'a>),
}

/// Multiplies `a`, `[rows, k]`, by the block `w`, `[k, n]`, into `c`, `[rows, n]`, according to `init`.
///
/// Each row of `c` depends only on that row of `a` (and of `init`) and on `w`, bit for bit, regardless of the other rows
/// and their number.
///
/// # Panics
/// If the shapes do not fit.
#[track_caller]
pub fn matmul(a: MatRef<'_>, w: PackedRef<'_>, c: MatMut<'_>, init: Init<'_>) {
    matmul_with(Isa::best(), a, w, c, init);
}

/// [`matmul`] with the instructions of `isa`, or portable code if the CPU lacks them.
#[track_caller]
pub fn matmul_with(isa: Isa, a: MatRef<'_>, w: PackedRef<'_>, mut c: MatMut<'_>, init: Init<'_>) {
    let (rows, n) = (c.rows(), c.cols());
    assert_eq!(a.rows(), rows, "rows of A and C");
    assert_eq!(a.cols(), w.k(), "columns of A and rows of W");
    assert_eq!(n, w.n(), "columns of C and of W");
    let (alpha, source, bias) = match init {
        Init::Zero => (1.0, Source::None, None),
        Init::Bias(b) => (1.0, Source::None, Some(b)),
        Init::Accumulate => (1.0, Source::C, None),
        Init::AccumulateBias(b) => (1.0, Source::C, Some(b)),
        Init::Subtract => (-1.0, Source::C, None),
        Init::AddTo(s) => (1.0, Source::Other(s), None),
        Init::SubtractFrom(s) => (-1.0, Source::Other(s), None),
    };
    if let Some(b) = bias {
        assert_eq!(b.len(), n, "length of the bias and columns of W");
    }
    if let Source::Other(s) = &source {
        assert_eq!((s.rows(), s.cols()), (rows, n), "shapes of S and C");
    }
    if rows == 0 || n == 0 {
        return;
    }
    let c_stride = c.stride();
    let c = c.as_mut_ptr();
    let (source, source_stride) = match source {
        Source::None => (std::ptr::null(), 0),
        Source::C => (c.cast_const(), c_stride),
        Source::Other(s) => (s.as_ptr(), s.stride()),
    };
    let bias = bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
    dispatch(isa, Product { a, w, c, c_stride, source, source_stride, bias, alpha });
}

enum Source<'a> {
    None,
    C,
    Other(MatRef<'a>),
}

/// Longest block of `W`'s rows: a panel of it then takes 48 KiB, a tile of `A` 21 KiB.
const MAX_DEPTH: usize = 384;
/// The maximum number of rows of `A` packed together: 189 KiB.
const MAX_BLOCK_ROWS: usize = 126;
/// Panels that each tile goes through: 192 KiB, and as much again being prefetched.
const GROUP: usize = 4;
/// Consecutive values of a row in a packed tile: one cache line.
const LINE: usize = 16;

/// Length of the blocks into which `k` rows of `W` are divided. The last block may be shorter.
fn block_depth(k: usize) -> usize {
    let blocks = k.div_ceil(MAX_DEPTH).max(1);
    k.div_ceil(blocks).next_multiple_of(LINE).max(LINE)
}

/// Part `i` of `n` items divided into `parts` nearly equal parts: a small last part would run at a fraction of the rate.
#[inline(always)]
fn part(n: usize, parts: usize, i: usize) -> Range<usize> {
    i * n / parts..(i + 1) * n / parts
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

thread_local! {
    /// The buffer of packed tiles, reused between calls.
    static TILES: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// A product whose shapes have been checked.
struct Product<'a> {
    /// `[rows, k]`
    a: MatRef<'a>,
    /// `[k, n]`
    w: PackedRef<'a>,
    /// `[rows, n]`
    c: *mut f32,
    c_stride: usize,
    /// `[rows, n]`, possibly `c` itself, or null.
    source: *const f32,
    source_stride: usize,
    /// `[n]`, or null.
    bias: *const f32,
    alpha: f32,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (rows, k) = (self.a.rows(), self.w.k());
        let (max_depth, n_blocks) = (block_depth(k), rows.div_ceil(MAX_BLOCK_ROWS));
        let mut buffer = TILES.take();
        let lines = rows.min(MAX_BLOCK_ROWS) * (max_depth / LINE);
        if buffer.len() < lines {
            buffer.resize(lines, Line([0.0; LINE]));
        }
        for i in 0..n_blocks {
            let block = part(rows, n_blocks, i);
            // `k = 0` still has one (empty) step, which writes `init`.
            for k0 in (0..k.max(1)).step_by(max_depth) {
                let step = k0..k.min(k0 + max_depth);
                // Panels to prefetch beyond the last of this step: those of the next step, or of the next block of rows.
                let next = if step.end < k { Some(step.end) } else { (i + 1 < n_blocks).then_some(0) };
                self.step(s, block.clone(), step, next, &mut buffer);
            }
        }
        TILES.set(buffer);
    }
}

impl Product<'_> {
    /// Adds the products of the rows `block` of `A` with the rows `step` of `W`.
    #[inline(always)]
    fn step<S: Simd>(
        &self,
        s: S,
        block: Range<usize>,
        step: Range<usize>,
        next: Option<usize>,
        buffer: &mut [Line],
    ) {
        let (k0, depth) = (step.start, step.len());
        let tile_lines = depth.div_ceil(LINE);
        let tiles = block.len().div_ceil(S::TILE_ROWS);
        for t in 0..tiles {
            let rows = part(block.len(), tiles, t);
            let tile = &mut buffer[rows.start * tile_lines..rows.end * tile_lines];
            for (i, row) in rows.clone().enumerate() {
                let values = &self.a.row(block.start + row)[step.clone()];
                // Whole lines compile to vector moves; copies of unknown length would each be a function
                // call.
                let mut lines = tile[i..].iter_mut().step_by(rows.len());
                let (whole, rest) = values.as_chunks::<LINE>();
                for (values, line) in whole.iter().zip(&mut lines) {
                    line.0 = *values;
                }
                if let Some(line) = lines.next() {
                    line.0[..rest.len()].copy_from_slice(rest);
                }
            }
        }

        let cols = self.w.cols.clone();
        let panels = cols.start / NR..cols.end.div_ceil(NR);
        // Lines of the next panel to prefetch per line of `A`, so that all tiles together fetch it once.
        let share = (NR * size_of::<f32>() / 64 * LINE).div_ceil(tiles * S::STRIPS);
        for group in panels.clone().step_by(GROUP) {
            for t in 0..tiles {
                let rows = part(block.len(), tiles, t);
                let a = buffer[rows.start * tile_lines..rows.end * tile_lines].as_ptr().cast::<f32>();
                for panel in group..panels.end.min(group + GROUP) {
                    let b = self.w.matrix.panel_ptr(panel, self.w.rows.start + k0);
                    let ahead = match (panel + GROUP < panels.end, next) {
                        (true, _) => Some((panel + GROUP, k0)),
                        (false, Some(k0)) => Some((panels.end.min(panel + GROUP - panels.len()), k0)),
                        (false, None) => None,
                    };
                    let ahead = ahead.filter(|&(panel, _)| panels.contains(&panel)).map_or(
                        Ahead { at: b, share: 0 },
                        |(panel, k0)| Ahead {
                            at: self
                                .w
                                .matrix
                                .panel_ptr(panel, self.w.rows.start + k0)
                                .wrapping_add(t * S::STRIPS * share * tile_lines * LINE),
                            share,
                        },
                    );
                    // The columns needed from the panel, relative to its first.
                    let low = cols.start.saturating_sub(panel * NR);
                    let high = NR.min(cols.end - panel * NR);
                    let col = panel * NR + low - cols.start;
                    // SAFETY: `row` and `col` are inside `c`, and inside `source` and `bias` if given.
                    let target = unsafe { self.target(block.start + rows.start, col, k0 == 0) };
                    for i in 0..rows.len() {
                        let c = target.c.wrapping_add(i * target.c_stride);
                        s.prefetch_to_write(c);
                        s.prefetch_to_write(c.wrapping_add(high - low - 1));
                    }
                    let tile = Tile { a, rows: rows.len(), depth, b, wanted: low..high, target, ahead };
                    // SAFETY: `a` holds the tile's rows, packed; `b` at least `depth` rows of NR; and the target
                    // `rows.len()` rows of `high - low` columns.
                    unsafe { tile.run(s) };
                }
            }
        }
    }
}

/// What to prefetch while a tile is computed: `share` cache lines starting at `at` for each line of a row.
#[derive(Clone, Copy)]
struct Ahead {
    at: *const f32,
    share: usize,
}

/// The destination of a tile's sums: `c = source + bias + alpha * sum`.
#[derive(Clone, Copy)]
struct Target {
    c: *mut f32,
    c_stride: usize,
    source: *const f32,
    source_stride: usize,
    bias: *const f32,
    alpha: f32,
}

static ZEROS: [f32; NR] = [0.0; NR];

impl Product<'_> {
    /// The target of a tile whose first element is `c[row, col]`. After the first block of rows, sums are added to `c`.
    ///
    /// # Safety
    /// `c[row, col]` exists.
    #[inline(always)]
    unsafe fn target(&self, row: usize, col: usize, first: bool) -> Target {
        let zeros = ZEROS.as_ptr();
        // SAFETY: the caller guarantees `[row, col]` in `c`; `source` and `bias` have the same shape or are null.
        unsafe {
            let c = self.c.add(row * self.c_stride + col);
            let (source, source_stride) = match (first, self.source.is_null()) {
                (false, _) => (c.cast_const(), self.c_stride),
                (true, true) => (zeros, 0),
                (true, false) => (self.source.add(row * self.source_stride + col), self.source_stride),
            };
            let bias = if first && !self.bias.is_null() { self.bias.add(col) } else { zeros };
            Target { c, c_stride: self.c_stride, source, source_stride, bias, alpha: self.alpha }
        }
    }
}

/// One tile of `A` times the columns `wanted` of one panel.
#[derive(Clone)]
struct Tile {
    /// A tile of `rows` rows and `depth` columns as [`Product::step`] packs it.
    a: *const f32,
    rows: usize,
    depth: usize,
    /// `[depth, NR]`
    b: *const f32,
    wanted: Range<usize>,
    target: Target,
    ahead: Ahead,
}

impl Tile {
    /// Computes the tile.
    ///
    /// # Safety
    /// `a` and `b` have the documented contents, `rows <= S::TILE_ROWS`, and every part of `target` is valid for `rows`
    /// rows of `wanted.len()` columns.
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        macro_rules! by_rows {
            ($($r:literal)*) => {
                match self.rows {
                    $($r if $r <= S::TILE_ROWS => s.call(TileOf::<$r>(self)),)*
                    _ => unreachable!("tiles have 1 to TILE_ROWS rows"),
                }
            };
        }
        by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }
}

/// A tile with a fixed number of rows, so that the sums stay in registers. Only created by [`Tile::run`].
struct TileOf<const R: usize>(Tile);

impl<const R: usize> Kernel for TileOf<R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tile { a, depth, b, wanted, target, mut ahead, .. } = self.0;
        let width = 2 * S::LANES;
        for first in (0..NR).step_by(width) {
            let strip = first.max(wanted.start)..(first + width).min(wanted.end);
            if strip.is_empty() {
                continue;
            }
            // SAFETY: `Tile::run`'s caller guarantees `a`, `b` and, inside `wanted`, the target.
            unsafe {
                let sums = sums::<S, R>(s, depth, a, b.add(first), &mut ahead);
                let target = target.shifted(strip.start - wanted.start);
                if strip.len() == width {
                    let (alpha, step) = (s.splat(target.alpha), S::LANES);
                    let bias = [s.load(target.bias), s.load(target.bias.add(step))];
                    for (i, sum) in sums.iter().enumerate() {
                        let from = target.source.add(i * target.source_stride);
                        let to = target.c.add(i * target.c_stride);
                        let v = [s.add(s.load(from), bias[0]), s.add(s.load(from.add(step)), bias[1])];
                        s.store(to, s.mul_add(sum[0], alpha, v[0]));
                        s.store(to.add(step), s.mul_add(sum[1], alpha, v[1]));
                    }
                } else {
                    let mut lines = [[0.0; NR]; R];
                    for (line, sum) in lines.iter_mut().zip(&sums) {
                        s.store(line.as_mut_ptr(), sum[0]);
                        s.store(line.as_mut_ptr().add(S::LANES), sum[1]);
                    }
                    target.add_part(&lines, strip.start - first, strip.len());
                }
            }
        }
    }
}

impl Target {
    /// The target `columns` further to the right.
    ///
    /// # Safety
    /// That column must exist.
    #[inline(always)]
    unsafe fn shifted(self, columns: usize) -> Self {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (c, source, bias) = (self.c.add(columns), self.source.add(columns), self.bias.add(columns));
            Self { c, source, bias, ..self }
        }
    }

    /// Writes columns `first..first + n` of `sums` to the first `n` columns.
    ///
    /// # Safety
    /// The target must have as many rows as `sums`, and `n` columns.
    #[inline(never)]
    unsafe fn add_part(self, sums: &[[f32; NR]], first: usize, n: usize) {
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums[first..][..n].iter().enumerate() {
                // SAFETY: the caller guarantees row `i` and column `j`.
                unsafe {
                    let v = self.source.add(i * self.source_stride + j).read() + self.bias.add(j).read();
                    // `alpha` is 1 or -1: the product is exact, so this rounds like a fused multiply-add.
                    self.c.add(i * self.c_stride + j).write(v + sum * self.alpha);
                }
            }
        }
    }
}

/// `R` rows of `a` times two vectors of columns of `b`, over `depth` values of k.
///
/// # Safety
/// As for [`Tile::run`]; `b` points at the first of the two vectors.
#[inline(always)]
unsafe fn sums<S: Simd, const R: usize>(
    s: S,
    depth: usize,
    mut a: *const f32,
    mut b: *const f32,
    ahead: &mut Ahead,
) -> [[S::F; 2]; R] {
    let mut acc = [[s.splat(0.0); 2]; R];
    macro_rules! multiply {
        ($k:expr) => {
            // SAFETY: the caller guarantees `depth` values of k.
            unsafe {
                let b0 = s.load(b);
                let b1 = s.load(b.add(S::LANES));
                for (i, acc) in acc.iter_mut().enumerate() {
                    let x = s.splat(a.add(i * LINE + $k).read());
                    acc[0] = s.mul_add(x, b0, acc[0]);
                    acc[1] = s.mul_add(x, b1, acc[1]);
                }
                b = b.wrapping_add(NR);
            }
        };
    }
    for _ in 0..depth / LINE {
        for _ in 0..ahead.share {
            s.prefetch(ahead.at);
            ahead.at = ahead.at.wrapping_add(64 / size_of::<f32>());
        }
        for _ in 0..LINE / 4 {
            multiply!(0);
            multiply!(1);
            multiply!(2);
            multiply!(3);
            a = a.wrapping_add(4);
        }
        a = a.wrapping_add((R - 1) * LINE);
    }
    for k in 0..depth % LINE {
        multiply!(k);
    }
    acc
}
