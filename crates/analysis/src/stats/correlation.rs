//! Pearson's and Spearman's correlation, plain and with counts as weights.

/// Which correlation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correlation {
    /// Pearson's product-moment correlation.
    Pearson,
    /// Spearman's rank correlation; ties share the mean of their ranks.
    Spearman,
}

impl Correlation {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Pearson, Self::Spearman];

    /// The name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pearson => "pearson",
            Self::Spearman => "spearman",
        }
    }

    /// The correlation of `x` and `y`; `None` if it is not defined: fewer than 3 points, or no variation.
    #[must_use]
    pub fn of(self, x: &[f64], y: &[f64]) -> Option<f64> {
        debug_assert_eq!(x.len(), y.len());
        match self {
            Self::Pearson => of_values(x, y),
            Self::Spearman => of_values(&ranks(x), &ranks(y)),
        }
    }
}

/// One variable of a correlation, prepared for both kinds.
#[derive(Debug, Clone)]
pub(crate) struct Ranked<'a> {
    values: &'a [f64],
    ranks: Vec<f64>,
}

impl<'a> Ranked<'a> {
    pub fn new(values: &'a [f64]) -> Self {
        Self { values, ranks: ranks(values) }
    }

    /// See [`Correlation::of`].
    pub fn correlation(&self, kind: Correlation, other: &Self) -> Option<f64> {
        match kind {
            Correlation::Pearson => of_values(self.values, other.values),
            Correlation::Spearman => of_values(&self.ranks, &other.ranks),
        }
    }
}

/// Pearson's correlation.
fn of_values(x: &[f64], y: &[f64]) -> Option<f64> {
    let moments = if x.len() < 3 { None } else { Moments::new(x, y, &vec![1.0; x.len()]) };
    moments.map(|m| m.correlation())
}

/// [`Correlation::Pearson`] of `x` and `y`.
#[must_use]
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    Correlation::Pearson.of(x, y)
}

/// [`Correlation::Spearman`] of `x` and `y`.
#[must_use]
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    Correlation::Spearman.of(x, y)
}

/// Ranks from 1; ties share the mean of their ranks.
#[must_use]
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut ranks = vec![0.0; values.len()];
    counted_ranks(values, &ascending(values), &vec![1.0; values.len()], &mut ranks);
    ranks
}

/// Points prepared for correlations with counts as weights, as in a bootstrap over points.
#[derive(Debug, Clone)]
pub(crate) struct Counted<'a> {
    x: &'a [f64],
    y: &'a [f64],
    /// Positions of `x` in ascending order, and of `y`.
    order: [Vec<u32>; 2],
}

impl<'a> Counted<'a> {
    pub fn new(x: &'a [f64], y: &'a [f64]) -> Self {
        Self { x, y, order: [ascending(x), ascending(y)] }
    }

    /// The correlation if point `i` counts `counts[i]` times, on Fisher's scale, with its standard error.
    pub fn on_fisher_scale(&self, kind: Correlation, counts: &[f64]) -> Option<OnFisherScale> {
        self.with_values(kind, counts, |x, y| {
            Moments::new(x, y, counts).map(|m| m.on_fisher_scale(x, y, counts))
        })
    }

    /// Applies `of` to the values that are correlated: the points' own, or their ranks.
    fn with_values<T>(&self, kind: Correlation, counts: &[f64], of: impl FnOnce(&[f64], &[f64]) -> T) -> T {
        match kind {
            Correlation::Pearson => of(self.x, self.y),
            Correlation::Spearman => {
                let mut ranks = [vec![0.0; self.x.len()], vec![0.0; self.x.len()]];
                counted_ranks(self.x, &self.order[0], counts, &mut ranks[0]);
                counted_ranks(self.y, &self.order[1], counts, &mut ranks[1]);
                of(&ranks[0], &ranks[1])
            }
        }
    }
}

/// A correlation on Fisher's scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct OnFisherScale {
    /// artanh r; infinite for r = ±1.
    pub z: f64,
    /// Its distribution-free standard error, from the influence of each point: for standardised u and v, the
    /// influence on r is uv − r(u² + v²)/2, and that on z is 1/(1 − r²) times it. NaN for r = ±1.
    pub standard_error: f64,
}

fn ascending(values: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0u32..).take(values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]).then(a.cmp(&b)));
    order
}

/// Mean ranks if value `i` occurs `counts[i]` times; `order` sorts the values.
fn counted_ranks(values: &[f64], order: &[u32], counts: &[f64], ranks: &mut [f64]) {
    let mut before = 0.0;
    for tied in order.chunk_by(|&a, &b| values[a as usize] == values[b as usize]) {
        let here: f64 = tied.iter().map(|&i| counts[i as usize]).sum();
        for &i in tied {
            ranks[i as usize] = before + 0.5 * (here + 1.0);
        }
        before += here;
    }
}

/// Means and central second moments of weighted points.
#[derive(Debug, Clone, Copy)]
struct Moments {
    total: f64,
    mean: [f64; 2],
    /// Sums of squares of each, and of products.
    squares: [f64; 2],
    products: f64,
}

impl Moments {
    /// `None` if either does not vary.
    fn new(x: &[f64], y: &[f64], counts: &[f64]) -> Option<Self> {
        let total: f64 = counts.iter().sum();
        let mean = |values: &[f64]| values.iter().zip(counts).map(|(v, c)| v * c).sum::<f64>() / total;
        let (mean_x, mean_y) = (mean(x), mean(y));
        let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
        for ((x, y), count) in x.iter().zip(y).zip(counts) {
            let (dx, dy) = (x - mean_x, y - mean_y);
            xx += count * dx * dx;
            yy += count * dy * dy;
            xy += count * dx * dy;
        }
        // After subtracting the rounded mean, a constant leaves rounding errors, not variation.
        let rounding = |mean: f64| total * (mean * f64::EPSILON * 4.0).powi(2);
        if xx <= rounding(mean_x) || yy <= rounding(mean_y) || !(xx * yy).is_normal() {
            return None;
        }
        Some(Self { total, mean: [mean_x, mean_y], squares: [xx, yy], products: xy })
    }

    fn correlation(&self) -> f64 {
        let [xx, yy] = self.squares;
        (self.products / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0)
    }

    /// `x`, `y` and `counts` must be those of the moments.
    fn on_fisher_scale(&self, x: &[f64], y: &[f64], counts: &[f64]) -> OnFisherScale {
        let r = self.correlation();
        let [scale_x, scale_y] = self.squares.map(|sum| (self.total / sum).sqrt());
        let mut influences = 0.0;
        for ((x, y), count) in x.iter().zip(y).zip(counts) {
            let (u, v) = (scale_x * (x - self.mean[0]), scale_y * (y - self.mean[1]));
            let influence = u * v - 0.5 * r * (u * u + v * v);
            influences += count * influence * influence;
        }
        OnFisherScale { z: r.atanh(), standard_error: influences.sqrt() / (self.total * (1.0 - r * r)) }
    }
}
