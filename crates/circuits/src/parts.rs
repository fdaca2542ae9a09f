//! Divides a study into parts of equal cost, for many machines.
//!
//! Work comes as [`Line`]s: the heads of a scan, the sets of an ablation. A line may be cut between any two of its items, since the
//! result of a branch does not depend on the other branches; every piece repeats the line's plain run, and every part loads the
//! models that it runs. [`cut`] goes through all lines in order, so a part consists of adjacent lines and few models.

use std::ops::Range;

/// Work that may be cut between its items. Costs are in any common unit, such as floating-point operations.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The model that it runs, by its index in the study.
    pub model: usize,
    /// The cost of every piece of the line in addition to its items: plain runs.
    pub base: f64,
    /// The cost of each item.
    pub items: Vec<f64>,
}

/// Consecutive items of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The index of the line.
    pub line: usize,
    /// The items.
    pub items: Range<usize>,
}

/// Divides lines into `n_parts` parts whose costs differ by little more than an item; some parts are empty if there are fewer
/// items. `loading` is the cost of loading each model. Lines of one model should be adjacent.
#[must_use]
pub fn cut(lines: &[Line], loading: &[f64], n_parts: usize) -> Vec<Vec<Piece>> {
    // The repeated cost depends on where lines are cut, so the cost of a part is found by search: if it is too low, the last
    // part, which takes the rest, exceeds it.
    let whole = walk(lines, loading, 1, f64::INFINITY);
    let (mut low, mut high) = (0.0, cost(&whole[0], lines, loading));
    for _ in 0..60 {
        let goal = f64::midpoint(low, high);
        let parts = walk(lines, loading, n_parts, goal);
        let last = parts.last().map_or(0.0, |part| cost(part, lines, loading));
        if last > goal {
            low = goal;
        } else {
            high = goal;
        }
    }
    walk(lines, loading, n_parts, high)
}

/// Fills one part after the other until each has about `goal`; the last takes the rest. If a part exceeds its share, the next
/// gets less, so that differences do not add up.
fn walk(lines: &[Line], loading: &[f64], n_parts: usize, goal: f64) -> Vec<Vec<Piece>> {
    let mut parts = vec![Vec::new()];
    let (mut cost, mut spent, mut loaded) = (0.0, 0.0, None);
    for (index, line) in lines.iter().enumerate() {
        let mut from = 0;
        for (at, item) in line.items.iter().enumerate() {
            let price = |loaded: Option<usize>, starts: bool| {
                let load = if loaded == Some(line.model) { 0.0 } else { loading[line.model] };
                if starts { item + line.base + load } else { *item }
            };
            let mut more = price(loaded, at == from);
            let room = goal * parts.len() as f64 - spent - cost;
            if cost > 0.0 && parts.len() < n_parts && room < more / 2.0 {
                add(&mut parts, index, from..at);
                parts.push(Vec::new());
                spent += cost;
                (cost, loaded, from) = (0.0, None, at);
                more = price(loaded, true);
            }
            cost += more;
            loaded = Some(line.model);
        }
        add(&mut parts, index, from..line.items.len());
    }
    parts.resize(n_parts, Vec::new());
    parts
}

/// Adds a piece to the last part, unless it is empty.
fn add(parts: &mut [Vec<Piece>], line: usize, items: Range<usize>) {
    if let (Some(part), false) = (parts.last_mut(), items.is_empty()) {
        part.push(Piece { line, items });
    }
}

/// The cost of a part: its items, the plain run of each piece, and the loading of each model.
#[must_use]
pub fn cost(part: &[Piece], lines: &[Line], loading: &[f64]) -> f64 {
    let mut loaded = None;
    let mut total = 0.0;
    for piece in part {
        let line = &lines[piece.line];
        if loaded.replace(line.model) != Some(line.model) {
            total += loading[line.model];
        }
        total += line.base + line.items[piece.items.clone()].iter().sum::<f64>();
    }
    total
}

/// When the last part ends if parts are started in order, each by the first of `n_machines` equal machines that is free.
#[must_use]
pub fn makespan(costs: &[f64], n_machines: usize) -> f64 {
    let mut free_at = vec![0.0f64; n_machines.max(1)];
    for cost in costs {
        if let Some(first) = free_at.iter_mut().min_by(|a, b| a.total_cmp(b)) {
            *first += cost;
        }
    }
    free_at.into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines of models like those of a study, each with layers of equal heads whose cost decreases with
    /// depth.
    fn study(models: &[(usize, usize, f64)]) -> (Vec<Line>, Vec<f64>) {
        let line = |(model, &(n_layers, n_heads, cost)): (usize, &(usize, usize, f64))| {
            let items = (0..n_layers).flat_map(|l| vec![cost * (n_layers - l) as f64; n_heads]).collect();
            Line { model, base: 2.0 * cost * n_layers as f64, items }
        };
        let lines = models.iter().enumerate().flat_map(|model| [line(model), line(model)]).collect();
        (lines, models.iter().map(|m| m.2).collect())
    }

    proptest! {
        /// Every item is in exactly one part, in order, and costs are balanced.
        #[test]
        fn parts_cover_all_and_are_even(
            models in prop::collection::vec((1..12usize, 1..10usize, 0.1..10.0f64), 1..6),
            n_parts in 1..40usize,
        ) {
            let (lines, loading) = study(&models);
            let parts = cut(&lines, &loading, n_parts);
            prop_assert_eq!(parts.len(), n_parts);
            let pieces: Vec<&Piece> = parts.iter().flatten().collect();
            let covered: Vec<(usize, usize)> =
                pieces.iter().flat_map(|p| p.items.clone().map(|i| (p.line, i))).collect();
            let all: Vec<(usize, usize)> =
                lines.iter().enumerate().flat_map(|(l, line)| (0..line.items.len()).map(move |i| (l, i))).collect();
            prop_assert_eq!(covered, all);
            let costs: Vec<f64> = parts.iter().map(|part| cost(part, &lines, &loading)).collect();
            // A cut between items misses by at most two items and the repeated cost before them.
            let largest = lines.iter().flat_map(|l| l.items.iter().map(|i| i + l.base + loading[l.model]));
            let largest = largest.fold(0.0, f64::max);
            let mean = costs.iter().sum::<f64>() / n_parts as f64;
            for cost in costs {
                prop_assert!(cost <= mean + 2.0 * largest, "{cost} of {mean}, items up to {largest}");
            }
        }
    }

    #[test]
    fn fine_items_make_equal_parts() {
        let (lines, loading) = study(&[(12, 12, 1.0), (24, 16, 4.0), (36, 20, 8.0)]);
        let costs: Vec<f64> = cut(&lines, &loading, 16).iter().map(|p| cost(p, &lines, &loading)).collect();
        let (low, high) = costs.iter().fold((f64::MAX, 0.0f64), |(l, h), &c| (l.min(c), h.max(c)));
        assert!(high / low < 1.05, "{low} to {high}");
    }

    #[test]
    fn more_parts_than_items_leaves_some_empty() {
        let lines = [Line { model: 0, base: 1.0, items: vec![1.0; 3] }];
        let parts = cut(&lines, &[5.0], 5);
        assert_eq!(parts.iter().filter(|part| part.is_empty()).count(), 2);
        assert_eq!(cost(&parts[0], &lines, &[5.0]), 7.0);
    }

    #[test]
    fn a_makespan_is_that_of_the_machine_that_ends_last() {
        assert_eq!(makespan(&[3.0, 1.0, 1.0, 1.0], 2), 3.0);
        assert_eq!(makespan(&[1.0; 4], 1), 4.0);
        assert_eq!(makespan(&[1.0; 4], 9), 1.0);
        assert_eq!(makespan(&[], 4), 0.0);
    }
}
