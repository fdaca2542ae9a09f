//! The joint table of a study's folder.

use std::fs;

use super::{JointTable, ScanPair, from_scans};
use crate::error::{AnalysisError, Result};
use crate::layout::{ANTI_REPEAT, IOI, Layout, scan_prefix};
use crate::per_prompt::PerPromptScan;
use crate::scan_file::ScanFile;

/// Names of the models whose IOI scan lies in a study's folder, in no order that matters.
///
/// # Errors
/// When the folder or a scan cannot be read.
pub fn scanned_models(layout: &Layout) -> Result<Vec<String>> {
    let folder = layout.results();
    let begin = format!("{}_logitdiff_scan_", scan_prefix(IOI));
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).map_err(AnalysisError::io("read the folder", &folder))? {
        let entry = entry.map_err(AnalysisError::io("read the folder", &folder))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&begin) && name.ends_with(".json") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    paths.iter().map(|path| Ok(ScanFile::read(path)?.model_name)).collect()
}

/// The joint table of these models' scans. Where the side files of both scans are there too, the table says what the
/// prompts add to the uncertainty of the correlations; else their intervals cover the heads alone, and say so.
///
/// # Errors
/// When a model lacks a scan on either task, a file cannot be read, or [`from_scans`] finds that they do not fit.
pub fn from_study(layout: &Layout, models: &[String]) -> Result<JointTable> {
    let pairs: Vec<ScanPair> = models.iter().map(|model| pair(layout, model)).collect::<Result<_>>()?;
    from_scans(&pairs)
}

fn pair(layout: &Layout, model: &str) -> Result<ScanPair> {
    let scan = |task: &str| {
        let path = layout.scan(task, model);
        if !path.exists() {
            return Err(AnalysisError::inconsistent(
                format!("model {model}"),
                format!("no scan on {task} ({} is missing)", path.display()),
                format!("scan it: circuit-scaling scan --models {model} --task {}", task.replace('_', "-")),
            ));
        }
        ScanFile::read(&path)
    };
    let pair = ScanPair::new(scan(IOI)?, scan(ANTI_REPEAT)?);
    let sides = [IOI, ANTI_REPEAT].map(|task| layout.per_prompt(task, model));
    if sides.iter().all(|path| path.exists()) {
        pair.with_prompts(&PerPromptScan::read(&sides[0])?, &PerPromptScan::read(&sides[1])?)
    } else {
        Ok(pair)
    }
}
