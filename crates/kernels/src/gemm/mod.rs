//! The matrix product `C = S + alpha A W`, with the weights packed beforehand.
//!
//! **Order of sums.** `W`'s rows are cut into equal blocks whose length depends on their number alone. Within a block,
//! each element of `C` is one chain of fused multiply-adds in order of k, started at zero; the blocks are added to `C` one
//! after the other. Nothing else enters into a value: the number of rows, a row's place among them and the columns
//! computed with it change no bit.
//!
//! **Loops.** For each block of `W`'s rows and each group of panels that fits into the L2 cache, `A` is walked in tiles of
//! up to 14 rows. A tile is copied next to each other (row strides of a power of two would collide in the L1 cache) and
//! multiplied with every panel of the group, the accumulators staying in registers.

mod packed;

pub use packed::{PackedMatrix, PackedRef};

use crate::simd::{Isa, Kernel, Simd, dispatch};
use crate::{MatMut, MatRef};
use packed::NR;
use std::mem::MaybeUninit;

/// What a product is added to, and with which sign.
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
    /// `C = S - A W`, with `S` of C's shape: takes a head's output `z_h W_O^h` out of a residual stream.
    SubtractFrom(MatRef<'a>),
}

/// Multiplies `a`, `[rows, k]`, with the block `w`, `[k, n]`, into `c`, `[rows, n]`, as `init` says.
///
/// Each row of `c` depends on that row of `a` (and of `init`) and on `w` alone, bit for bit, whatever the other rows are
/// and however many.
///
/// # Panics
/// If the shapes do not fit.
#[track_caller]
pub fn matmul(a: MatRef<'_>, w: PackedRef<'_>, c: MatMut<'_>, init: Init<'_>) {
    matmul_with(Isa::best(), a, w, c, init);
}

/// [`matmul`] with the instructions of `isa`, or plain ones where this CPU lacks them.
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

/// Longest block of `W`'s rows: a tile of `A` (14 rows of it) then fills half of a 48 KiB L1 cache.
const MAX_DEPTH: usize = 512;
/// Rows of the copied tile are this far apart, so that they start in different sets of the L1 cache.
const TILE_STRIDE: usize = MAX_DEPTH + 16;
/// Most rows of a tile.
const MAX_ROWS: usize = 14;
/// Values of `W` in a group of panels: 512 KiB, half of an L2 cache of 1 MiB.
const GROUP_VALUES: usize = 128 * 1024;

/// Length of the blocks that `k` rows of `W` are cut into. The last block is shorter.
fn block_depth(k: usize) -> usize {
    let blocks = k.div_ceil(MAX_DEPTH).max(1);
    k.div_ceil(blocks).next_multiple_of(8)
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
    /// `[rows, n]`, maybe `c` itself, or null.
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
        let (rows, k, cols) = (self.a.rows(), self.w.k(), self.w.cols.clone());
        let depth = block_depth(k);
        let first_panel = cols.start / NR;
        let panels = cols.end.div_ceil(NR) - first_panel;
        let group = (GROUP_VALUES / (depth.max(1) * NR)).max(1);
        let tiles = rows.div_ceil(S::TILE_ROWS);
        let mut copy = Tile([MaybeUninit::uninit(); MAX_ROWS * TILE_STRIDE]);
        let copy = copy.0.as_mut_ptr().cast::<f32>();

        // `k = 0` still has one (empty) block, which writes `init`.
        for k0 in (0..k.max(1)).step_by(depth.max(1)) {
            let depth = depth.min(k - k0);
            for group_start in (0..panels).step_by(group) {
                let group_end = panels.min(group_start + group);
                for t in 0..tiles {
                    // Tiles of nearly equal height: a small last one would run at a fraction of the rate.
                    let (row, end) = (t * rows / tiles, (t + 1) * rows / tiles);
                    for i in 0..end - row {
                        let from = self.a.row(row + i)[k0..][..depth].as_ptr();
                        // SAFETY: `from` is a slice of `depth` values; `i < MAX_ROWS` and `depth <= TILE_STRIDE`, so the
                        // target lies inside `copy`.
                        unsafe { std::ptr::copy_nonoverlapping(from, copy.add(i * TILE_STRIDE), depth) };
                    }
                    for panel in group_start..group_end {
                        let panel = first_panel + panel;
                        let b = self.w.matrix.panel_ptr(panel, self.w.rows.start + k0);
                        // The panel's columns that are wanted, counted from its first.
                        let low = cols.start.saturating_sub(panel * NR);
                        let high = NR.min(cols.end - panel * NR);
                        let col = (panel * NR + low) - cols.start;
                        // SAFETY: `row` and `col` lie inside `c`, and inside `source` and `bias` where those are given.
                        let target = unsafe { self.target(row, col, k0 == 0) };
                        // SAFETY: `copy` holds `end - row` rows of `depth` values, `b` at least `depth` rows of NR, and
                        // the target has `end - row` rows of `high - low` columns.
                        unsafe { tile(s, end - row, depth, copy, b, low, high, target) };
                    }
                }
            }
        }
    }
}

#[repr(C, align(64))]
struct Tile([MaybeUninit<f32>; MAX_ROWS * TILE_STRIDE]);

/// Where a tile's sums go: `c = source + bias + alpha * sum`.
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
    /// The target of a tile whose first element is `c[row, col]`. After the first block of rows, sums go on top of `c`.
    ///
    /// # Safety
    /// `c[row, col]` exists.
    #[inline(always)]
    unsafe fn target(&self, row: usize, col: usize, first: bool) -> Target {
        let zeros = ZEROS.as_ptr();
        // SAFETY: the caller vouches for `[row, col]` in `c`; `source` and `bias` have the same shape or are null.
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

/// One tile of `A` times columns `low..high` of one panel.
///
/// # Safety
/// `a` holds `rows <= S::TILE_ROWS` rows of `depth` values, `TILE_STRIDE` apart; `b` holds `depth` rows of `NR` values;
/// every part of `target` is valid for `rows` rows of `high - low` columns.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the inside of the hot loop")]
unsafe fn tile<S: Simd>(
    s: S,
    rows: usize,
    depth: usize,
    a: *const f32,
    b: *const f32,
    low: usize,
    high: usize,
    target: Target,
) {
    macro_rules! by_rows {
        ($($r:literal)*) => {
            match rows {
                // SAFETY: passed on.
                $($r if $r <= S::TILE_ROWS => unsafe { tile_rows::<S, $r>(s, depth, a, b, low, high, target) },)*
                _ => unreachable!("tiles have 1 to TILE_ROWS rows"),
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// [`tile`] with the number of rows fixed, so that the sums stay in registers.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn tile_rows<S: Simd, const R: usize>(
    s: S,
    depth: usize,
    a: *const f32,
    b: *const f32,
    low: usize,
    high: usize,
    target: Target,
) {
    let width = 2 * S::LANES;
    for strip in (0..NR).step_by(width) {
        if strip + width <= low || strip >= high {
            continue;
        }
        // SAFETY: the caller vouches for `a`, `b` and, inside `low..high`, for the target.
        unsafe {
            let sums = sums::<S, R>(s, depth, a, b.add(strip));
            if low <= strip && strip + width <= high {
                let at = strip - low;
                let (alpha, bias) = (s.splat(target.alpha), target.bias.add(at));
                let bias = [s.load(bias), s.load(bias.add(S::LANES))];
                for (i, sum) in sums.iter().enumerate() {
                    let from = target.source.add(i * target.source_stride + at);
                    let to = target.c.add(i * target.c_stride + at);
                    let v0 = s.add(s.load(from), bias[0]);
                    let v1 = s.add(s.load(from.add(S::LANES)), bias[1]);
                    s.store(to, s.fma(sum[0], alpha, v0));
                    s.store(to.add(S::LANES), s.fma(sum[1], alpha, v1));
                }
            } else {
                let mut line = [0.0f32; NR];
                for (i, sum) in sums.iter().enumerate() {
                    s.store(line.as_mut_ptr(), sum[0]);
                    s.store(line.as_mut_ptr().add(S::LANES), sum[1]);
                    for j in low.max(strip)..high.min(strip + width) {
                        let at = j - low;
                        let from = target.source.add(i * target.source_stride + at).read();
                        // `alpha` is 1 or -1: the product is exact, so this rounds as the fused form above does.
                        let v = (from + target.bias.add(at).read()) + line[j - strip] * target.alpha;
                        target.c.add(i * target.c_stride + at).write(v);
                    }
                }
            }
        }
    }
}

/// `R` rows of `a` times two vectors of columns of `b`, over `depth` values of k.
///
/// # Safety
/// As for [`tile`]; `b` points at the first of the two vectors.
#[inline(always)]
unsafe fn sums<S: Simd, const R: usize>(s: S, depth: usize, a: *const f32, b: *const f32) -> [[S::F; 2]; R] {
    let mut acc = [[s.splat(0.0); 2]; R];
    let mut b = b;
    for k in 0..depth {
        // SAFETY: `k < depth`.
        unsafe {
            let b0 = s.load(b);
            let b1 = s.load(b.add(S::LANES));
            for (i, acc) in acc.iter_mut().enumerate() {
                let x = s.splat(a.add(i * TILE_STRIDE + k).read());
                acc[0] = s.mul_add(x, b0, acc[0]);
                acc[1] = s.mul_add(x, b1, acc[1]);
            }
            b = b.add(NR);
        }
    }
    acc
}
