//! `head_map_<task>_<model>`: Δ of every head of one scan, by layer and head.

use cs_analysis::categories::DEFAULT_TAU;
use cs_analysis::scan_file::ScanFile;

use super::layers::{about_colors, cells, color_bar, see_strongest, strongest};
use super::legend::{Entry, Symbol};
use super::model_figure;
use super::page::{Figure, Sheet, Style, mm};
use super::palette::{GROUND, task_label};
use crate::error::Result;
use crate::words;

/// Height of the colour bar.
const BAR_MM: f64 = 11.0;

/// Draws a scan. Heads that were not scanned are grey.
///
/// # Errors
/// If the drawing library fails.
pub fn head_map(scan: &ScanFile) -> Result<Figure> {
    let (n_layers, n_heads) = (scan.meta.n_layers as usize, scan.meta.n_heads as usize);
    let limit = scan.heads.iter().fold(0.0f64, |most, head| most.max(head.delta.abs()));
    let name = model_figure(&format!("head_map_{}", scan.meta.task), &scan.meta.model_name);
    let title = format!("{}, {}", scan.meta.model_name, task_label(&scan.meta.task));
    let all_scanned = scan.heads.len() == n_layers * n_heads;
    let legend =
        if all_scanned { Vec::new() } else { vec![Entry::new(Symbol::Swatch(GROUND), "not scanned")] };
    let caption = format!(
        "n = {} on {} ({} ablation). {}",
        words::counted(scan.heads.len(), "head", "heads"),
        words::counted(scan.baseline.n_prompts as usize, "prompt", "prompts"),
        scan.meta.ablation,
        about_colors(DEFAULT_TAU),
    );
    let rows_mm = (n_layers as f64 * 2.2).clamp(30.0, 96.0);
    let see = see_strongest(
        strongest(&task_label(&scan.meta.task), scan.heads.iter().map(|h| (h.layer, h.head, h.delta)))
            .into_iter(),
    );
    let sheet = Sheet { name: &name, title: &title, body_mm: rows_mm + 10.0 + BAR_MM, legend, see, caption };
    sheet.draw(&Style::default(), |body| {
        let (_, height) = body.dim_in_pixel();
        let (upper, lower) = body.split_vertically(height as i32 - mm(BAR_MM));
        let heads = scan.heads.iter().map(|h| (h.layer, h.head, h.delta));
        let titles = ["", "head", "layer"].map(str::to_owned);
        cells(&upper, titles, heads, (n_layers, n_heads), (limit, DEFAULT_TAU))?;
        color_bar(&lower, limit)
    })
}
