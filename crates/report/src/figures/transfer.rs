//! Do heads with the same layer and number work on the same task in another model?

use analysis::joint::StudyTask;
use analysis::study::Study;
use analysis::transfer::PairTransfer;
use plotters::style::text_anchor::{HPos, VPos};

use super::page::{COLUMN_MM, Entry, SMALL_PT, Sheet, Symbol, mm, pt, shortened, text, text_width};
use super::palette::{FAINT, INK, Marker, task_color, task_label};
use super::panel::Panel;
use super::scale::{Axis, Scale};
use super::{Drawing, NotDrawn};
use crate::error::Result;
use crate::notes::{SIGNIFICANT, numbers};
use crate::words;

/// More pairs than this do not fit a page.
const MOST_PAIRS: usize = 40;

/// `transfer`: for each pair of models and task, the mean rank of the base model's heads in the target.
pub(super) fn transfer(study: &Study) -> Result<Drawing> {
    let name = "transfer";
    let n_all = study.transfers.len() / 2;
    let pairs: Vec<&PairTransfer> = study.transfers.iter().take(n_all.min(MOST_PAIRS)).collect();
    let placed = study.transfers.iter().filter(|t| t.by_index.mean_frac_rank.is_some()).count();
    if pairs.is_empty() {
        return Ok(Err(NotDrawn::new(name, "the study has no two models to compare")));
    }
    if placed == 0 {
        return Ok(Err(NotDrawn::new(
            name,
            "no head that works on a task in one model has a counterpart of the same layer and number in another",
        )));
    }
    let q_values = numbers(study, "transfer_tests", "q_value_index");
    let model = |i: usize| study.joint.models[i].info.model.as_str();
    let labels: Vec<String> = pairs
        .iter()
        .map(|t| {
            shortened(
                &format!("{} → {}", model(t.pair.base), model(t.pair.target)),
                SMALL_PT,
                mm(COLUMN_MM * 0.5),
            )
        })
        .collect();
    let mut legend: Vec<Entry> = StudyTask::BOTH
        .into_iter()
        .map(|task| {
            Entry::new(
                Symbol::Marker(marker(task), task_color(task), true),
                format!("{}, q ≤ {SIGNIFICANT}", task_label(task)),
            )
        })
        .collect();
    legend.extend(StudyTask::BOTH.into_iter().map(|task| {
        Entry::new(
            Symbol::Marker(marker(task), task_color(task), false),
            format!("{}, q > {SIGNIFICANT}", task_label(task)),
        )
    }));
    legend.push(Entry::new(Symbol::Dashed(FAINT), "chance"));
    let mut caption = format!(
        "Mean rank, in the target, of the heads with the layer and number of the base model's up to {} strongest; 0: the target's \
         strongest, 1: its weakest. n = {} with counterparts, of {} pairs and 2 tasks. q over all tests (transfer_tests.csv).",
        analysis::transfer::BASE_HEADS,
        words::counted(placed, "test", "tests"),
        words::count(n_all),
    );
    if n_all > pairs.len() {
        caption += &format!(" The first {} pairs are shown.", pairs.len());
    }
    let body_mm = 12.0 + 4.0 * pairs.len() as f64;
    let sheet = Sheet { name, title: "", body_mm, legend, caption };
    let figure = sheet.draw(|body| {
        let widest = labels.iter().map(|l| text_width(l, SMALL_PT)).max().unwrap_or(0);
        let (left, right) = body.split_horizontally(widest + pt(4.0));
        let x = Axis::linear_between("mean fractional rank", 0.0, 1.0, 4);
        let y = Axis {
            scale: Scale::Linear,
            low: pairs.len() as f64 - 0.5,
            high: -0.5,
            ticks: Vec::new(),
            title: String::new(),
        };
        let panel = Panel::new(&right, "", x, y)?;
        let inside_top = panel.inside().get_base_pixel().1 - left.get_base_pixel().1;
        for (row, label) in labels.iter().enumerate() {
            let y = inside_top + panel.at(0.0, row as f64).1;
            text(&left, label, (widest + pt(2.0), y), SMALL_PT, &INK, (HPos::Right, VPos::Center))?;
            panel.line(&[(0.0, row as f64), (1.0, row as f64)], super::palette::GROUND, 0.4)?;
        }
        panel.upright(0.5, FAINT)?;
        for (index, transfer) in study.transfers.iter().enumerate() {
            let row = index % n_all;
            let Some(rank) = transfer.by_index.mean_frac_rank.filter(|_| row < pairs.len()) else { continue };
            let shift = if transfer.task == StudyTask::Ioi { -0.16 } else { 0.16 };
            let (at, color) = ((rank, row as f64 + shift), task_color(transfer.task));
            let beats_chance = q_values.get(index).copied().flatten().is_some_and(|q| q <= SIGNIFICANT);
            if beats_chance {
                panel.marker(marker(transfer.task), at, 2.0, color, 1.0)?;
            } else {
                panel.hollow(marker(transfer.task), at, 2.0, color)?;
            }
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}

fn marker(task: StudyTask) -> Marker {
    match task {
        StudyTask::Ioi => Marker::Circle,
        StudyTask::Anti => Marker::Diamond,
    }
}
