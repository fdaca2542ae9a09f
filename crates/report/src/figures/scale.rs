//! Axes: their range, scale, ticks and title.

/// The scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Linear.
    Linear,
    /// Logarithmic.
    Log,
    /// Linear near 0 and logarithmic far from it, for both signs: asinh(x / width).
    Asinh(f64),
}

impl Scale {
    /// The position of a value along the axis, in the scale's units.
    #[must_use]
    pub fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
            Self::Asinh(width) => (value / width).asinh(),
        }
    }

    /// The value at a position along the axis.
    #[must_use]
    pub fn value(self, place: f64) -> f64 {
        match self {
            Self::Linear => place,
            Self::Log => 10f64.powf(place),
            Self::Asinh(width) => place.sinh() * width,
        }
    }
}

/// One axis of a panel.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The scale.
    pub scale: Scale,
    /// Value at the left or bottom end.
    pub low: f64,
    /// Value at the right or top end.
    pub high: f64,
    /// Values with a tick, and their labels.
    pub ticks: Vec<(f64, String)>,
    /// The title, with its unit.
    pub title: String,
}

impl Axis {
    /// A linear axis over `values`, with a small margin at both ends and about `n_ticks` ticks.
    pub fn linear(title: &str, values: impl IntoIterator<Item = f64>, n_ticks: usize) -> Self {
        let (low, high) = padded(Scale::Linear, values, 0.05).unwrap_or((-1.0, 1.0));
        Self::linear_between(title, low, high, n_ticks)
    }

    /// A linear axis with fixed ends.
    #[must_use]
    pub fn linear_between(title: &str, low: f64, high: f64, n_ticks: usize) -> Self {
        let step = nice_step((high - low) / n_ticks.max(1) as f64);
        let decimals = (-step.log10().floor()).max(0.0) as usize + usize::from(is_quarter(step));
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let ticks = (first..=last).map(|i| i as f64 * step).map(|v| (v, decimal(v, decimals))).collect();
        Self { scale: Scale::Linear, low, high, ticks, title: title.into() }
    }

    /// A linear axis of counts: from 0, ticks at whole numbers.
    #[must_use]
    pub fn counts(title: &str, largest: usize, n_ticks: usize) -> Self {
        let high = (largest as f64 * 1.08).max(1.0);
        let step = nice_step(high / n_ticks as f64).max(1.0).round();
        let ticks = (0..=(high / step) as i64).map(|i| i as f64 * step).map(|v| (v, decimal(v, 0))).collect();
        Self { scale: Scale::Linear, low: 0.0, high, ticks, title: title.into() }
    }

    /// A logarithmic axis over sizes in millions of parameters.
    pub fn sizes(values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = padded(Scale::Log, values, 0.06).unwrap_or((10.0, 1000.0));
        // At least half a decade, so that the axis has some length even for a single size.
        let lacking = 0.5 - (high / low).log10();
        if lacking > 0.0 {
            low /= 10f64.powf(lacking / 2.0);
            high *= 10f64.powf(lacking / 2.0);
        }
        let all = |steps: &[f64]| -> Vec<f64> {
            let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
            let values = decades.flat_map(|d| steps.iter().map(move |s| s * 10f64.powi(d)));
            values.filter(|v| (low..=high).contains(v)).collect()
        };
        let candidates: [&[f64]; 4] =
            [&[1.0], &[1.0, 3.0], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0]];
        let ticks = candidates.iter().map(|steps| all(steps)).find(|t| t.len() >= 3);
        let ticks = ticks.unwrap_or_else(|| all(candidates[3]));
        let ticks = ticks.into_iter().map(|v| (v, size_label(v))).collect();
        Self { scale: Scale::Log, low, high, ticks, title: "parameters (log scale)".into() }
    }

    /// An axis of effects in logits that resolves both small and large ones: nearly linear within ±`tau`, logarithmic
    /// beyond.
    pub fn effects(title: &str, values: impl IntoIterator<Item = f64>, tau: f64) -> Self {
        let scale = Scale::Asinh(tau);
        let all = values.into_iter().chain([-2.0 * tau, 2.0 * tau]);
        let (low, high) = padded(scale, all, 0.05).unwrap_or((-1.0, 1.0));
        let reach = low.abs().max(high.abs());
        let mut sizes = Vec::new();
        let mut decade = 10f64.powf((2.0 * tau).log10().ceil());
        while decade <= reach {
            sizes.push(decade);
            decade *= 10.0;
        }
        if sizes.len() < 2 {
            let thirds: Vec<f64> = sizes
                .iter()
                .flat_map(|s| [s * 0.3, s * 3.0])
                .filter(|s| *s > 2.0 * tau && *s < reach)
                .collect();
            sizes.extend(thirds);
        }
        if sizes.is_empty() {
            sizes.push(nice_step(reach * 0.6));
        }
        let mut ticks = vec![(0.0, "0".to_owned())];
        for size in sizes {
            // Whole decades and thirds of them: as many decimals as the size has leading zeros.
            let decimals = (-size.log10().floor()).max(0.0) as usize;
            for value in [-size, size] {
                if (low..=high).contains(&value) {
                    ticks.push((value, decimal(value, decimals)));
                }
            }
        }
        ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { scale, low, high, ticks, title: title.into() }
    }

    /// A value moved along the axis by a share of its length.
    #[must_use]
    pub fn shifted(&self, value: f64, share: f64) -> f64 {
        let range = self.range();
        self.scale.value(self.scale.place(value) + share * (range.end - range.start))
    }

    /// The ends of the axis as positions.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<f64> {
        self.scale.place(self.low)..self.scale.place(self.high)
    }
}

/// The range of `values`, extended on both sides by a share of its length. `None` for no values.
fn padded(scale: Scale, values: impl IntoIterator<Item = f64>, share: f64) -> Option<(f64, f64)> {
    let ends = values.into_iter().filter(|v| v.is_finite()).map(|v| scale.place(v)).fold(None, |ends, v| {
        let (low, high) = ends.unwrap_or((v, v));
        Some((f64::min(low, v), f64::max(high, v)))
    });
    let (low, high) = ends?;
    let room = if high > low { share * (high - low) } else { low.abs().max(1e-3) * share };
    Some((scale.value(low - room), scale.value(high + room)))
}

/// 1, 2, 2.5 or 5 times a power of ten, not below `raw`.
fn nice_step(raw: f64) -> f64 {
    if !(raw.is_finite() && raw > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|s| s * power)
        .into_iter()
        .find(|s| *s >= raw * (1.0 - 1e-9))
        .unwrap_or(raw)
}

/// Whether a step is 2.5 times a power of ten.
fn is_quarter(step: f64) -> bool {
    let mantissa = step / 10f64.powf(step.log10().floor());
    (mantissa - 2.5).abs() < 1e-6
}

/// A number with this many decimals and a true minus sign.
#[must_use]
pub fn decimal(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let is_zero = text.chars().all(|c| matches!(c, '0' | '.'));
    if value < 0.0 && !is_zero { format!("−{text}") } else { text }
}

/// A number of millions in the field's notation for model sizes: `70M`, `1.4B`, `85k`.
#[must_use]
pub fn size_label(millions: f64) -> String {
    let (value, unit) = match millions {
        m if m >= 1000.0 => (m / 1000.0, "B"),
        m if m >= 1.0 => (m, "M"),
        m => (m * 1000.0, "k"),
    };
    let digits = if value >= 10.0 { 0 } else { 1 };
    let text = format!("{value:.digits$}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_lie_on_the_axis_and_are_few() {
        let axes = [
            Axis::linear("", [0.0, 1.0], 4),
            Axis::linear("", [-0.031, 0.222], 4),
            Axis::linear("", [5.0], 4),
            Axis::linear("", [], 4),
            Axis::counts("", 3, 4),
            Axis::counts("", 0, 4),
            Axis::counts("", 1200, 4),
            Axis::sizes([70.0, 2800.0]),
            Axis::sizes([0.1]),
            Axis::effects("", [-4.0, 2.0], 0.05),
            Axis::effects("", [-0.001, 0.002], 0.05),
            Axis::effects("", [-0.4, 0.3], 0.05),
            Axis::effects("", [-1e4, 3.0], 1e-3),
        ];
        for axis in axes {
            assert!(axis.low < axis.high, "{axis:?}");
            assert!((2..=17).contains(&axis.ticks.len()), "{axis:?}");
            assert!(axis.ticks.iter().all(|t| t.0 >= axis.low - 1e-9 && t.0 <= axis.high + 1e-9), "{axis:?}");
            assert!(axis.ticks.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 != w[1].1), "{axis:?}");
        }
    }

    #[test]
    fn labels_are_as_the_field_writes_them() {
        let labels = [70.0, 124.0, 1400.0, 1558.0, 3000.0, 0.085, 1.0].map(size_label);
        assert_eq!(labels, ["70M", "124M", "1.4B", "1.6B", "3B", "85k", "1M"]);
        assert_eq!((decimal(-0.25, 2), decimal(-0.001, 1)), ("−0.25".into(), "0.0".into()));
    }
}
