//! `head_map_<task>_<model>`: Δ of every head of one scan, by layer and head.

use cs_analysis::scan_file::ScanFile;

use super::layers::{color_bar, indices, see_strongest, shade, strongest};
use super::model_figure;
use super::page::{Area, DrawError, Entry, Figure, Sheet, Style, Symbol, mm};
use super::palette::{FAINT, GROUND, diverging};
use super::panel::Panel;
use crate::error::Result;
use crate::words;

/// Height of the colour bar.
const BAR_MM: f64 = 11.0;

/// Draws a scan. Heads that were not scanned are grey.
///
/// # Errors
/// When the drawing library refuses something.
pub fn head_map(scan: &ScanFile) -> Result<Figure> {
    let (n_layers, n_heads) = (scan.meta.n_layers as usize, scan.meta.n_heads as usize);
    let limit = scan.heads.iter().fold(0.0f64, |most, head| most.max(head.delta.abs()));
    let name = model_figure(&format!("head_map_{}", scan.meta.task), &scan.meta.model_name);
    let title = format!("{}, {}", scan.meta.model_name, scan.meta.task);
    let all_scanned = scan.heads.len() == n_layers * n_heads;
    let legend =
        if all_scanned { Vec::new() } else { vec![Entry::new(Symbol::Swatch(GROUND), "not scanned")] };
    let caption = format!(
        "n = {} on {} ({} ablation). Blue: the head helps the task; red: it hinders. The colour follows √|Δ|, to the largest |Δ|.",
        words::counted(scan.heads.len(), "head", "heads"),
        words::counted(scan.baseline.n_prompts as usize, "prompt", "prompts"),
        scan.meta.ablation,
    );
    let rows_mm = (n_layers as f64 * 2.2).clamp(30.0, 96.0);
    let see = see_strongest(
        strongest(&scan.meta.task, scan.heads.iter().map(|h| (h.layer, h.head, h.delta))).into_iter(),
    );
    let sheet = Sheet { name: &name, title: &title, body_mm: rows_mm + 10.0 + BAR_MM, legend, see, caption };
    sheet.draw(&Style::default(), |body| {
        let (_, height) = body.dim_in_pixel();
        let (upper, lower) = body.split_vertically(height as i32 - mm(BAR_MM));
        cells(&upper, scan, (n_layers, n_heads), limit)?;
        color_bar(&lower, limit)
    })
}

fn cells(
    area: &Area,
    scan: &ScanFile,
    (n_layers, n_heads): (usize, usize),
    limit: f64,
) -> std::result::Result<(), DrawError> {
    let panel = Panel::new(area, "", indices("head", n_heads, 16), indices("layer", n_layers, 12))?;
    let (right, top) = (n_heads as f64 - 0.5, n_layers as f64 - 0.5);
    panel.block((-0.5, top), (right, -0.5), GROUND, 1.0)?;
    for head in &scan.heads {
        let (x, y) = (f64::from(head.head), f64::from(head.layer));
        panel.block((x - 0.5, y + 0.5), (x + 0.5, y - 0.5), diverging(shade(head.delta, limit)), 1.0)?;
    }
    panel.line(&[(-0.5, top), (right, top), (right, -0.5)], FAINT, 0.5)
}
