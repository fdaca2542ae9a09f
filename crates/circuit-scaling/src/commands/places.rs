//! Paths of a study's files: for the final message of `run`, and as inputs of later stages.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use cs_analysis::contrast::{Contrast, IOI};
use cs_analysis::layout::Layout;
use cs_circuits::task::Task;

use super::scan::NAME_OF_IOI_SCANS;
use crate::args::Stage;
use crate::digest::Digest256;

/// One line for each output of these stages.
pub fn where_to_look(layout: &Layout, stages: &[Stage], tasks: &[Task]) -> String {
    let places = [
        (Stage::Report, "Open in a browser", layout.root().join(cs_report::html::FILE_NAME)),
        (Stage::Notes, "Notes", layout.notes()),
        (Stage::Figures, "Figures", layout.figures()),
        (Stage::Tables, "Tables", layout.tables()),
        (Stage::Scan, "Scans and prompts", layout.results()),
    ];
    let mut text = String::from("\n");
    for (_, what, path) in places.iter().filter(|(stage, ..)| stages.contains(stage)) {
        let _ = writeln!(text, "{what:18} {}", path.display());
    }
    if stages.contains(&Stage::Scan) && tasks.iter().any(|task| task.name() == IOI) {
        let _ = writeln!(text, "{:18} {NAME_OF_IOI_SCANS}", "");
    }
    text
}

/// Path and hash of every file that the stages before the presentation have written so far.
pub fn found(layout: &Layout, contrasts: &[Contrast]) -> Vec<(PathBuf, Option<Digest256>)> {
    let mut folders = vec![layout.tables(), layout.attention_folder()];
    for contrast in contrasts {
        folders.push(layout.ablation_folder(contrast));
        folders.extend(layout.causal_results(contrast, "v").parent().map(Path::to_owned));
    }
    let entries = folders.into_iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let with_digest = |path: PathBuf| {
        let digest = Digest256::of_file(&path);
        (path.strip_prefix(layout.root()).map(Path::to_owned).unwrap_or(path), digest)
    };
    paths.into_iter().map(with_digest).collect()
}
