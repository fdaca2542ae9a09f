//! The joint table of a study's folder.

use std::fs;

use super::{JointTable, ScanPair, from_scans};
use crate::error::{AnalysisError, Result};
use crate::layout::{ANTI_REPEAT, IOI, Layout, scan_prefix};
use crate::per_prompt::PerPromptScan;
use crate::scan_file::ScanFile;
use crate::scan_summary::{SummaryOptions, summarise_scan};

/// Names of the models whose scan on `task` lies in a study's folder, in order of file name.
///
/// # Errors
/// When the folder or a scan cannot be read.
pub fn scanned_models(layout: &Layout, task: &str) -> Result<Vec<String>> {
    let folder = layout.results();
    let begin = format!("{}_logitdiff_scan_", scan_prefix(task));
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
    paths.iter().map(|path| Ok(ScanFile::read(path)?.meta.model_name)).collect()
}

/// The joint table of these models' scans, with probabilities of reaching `tau` whether or not the scan files have them.
///
/// # Errors
/// As [`study_pair`], and when [`from_scans`] finds that the scans do not fit each other.
pub fn from_study(layout: &Layout, models: &[String], tau: f64) -> Result<JointTable> {
    let pairs: Vec<ScanPair> =
        models.iter().map(|model| study_pair(layout, model, tau)).collect::<Result<_>>()?;
    from_scans(&pairs)
}

/// Both scans of a model. Where their side files are there too, the pair says what the prompts add to the uncertainty of
/// the correlations (else their intervals cover the heads alone, and say so), and thresholds beside those of the scan
/// files can be asked about.
///
/// # Errors
/// When the model lacks a scan on either task, or a file cannot be read.
pub fn study_pair(layout: &Layout, model: &str, tau: f64) -> Result<ScanPair> {
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
    let mut pair = ScanPair::new(scan(IOI)?, scan(ANTI_REPEAT)?);
    let sides = [IOI, ANTI_REPEAT].map(|task| layout.per_prompt(task, model));
    if !sides.iter().all(|path| path.exists()) {
        return Ok(pair);
    }
    let [ioi, anti] = [PerPromptScan::read(&sides[0])?, PerPromptScan::read(&sides[1])?];
    pair = pair.with_prompts(&ioi, &anti)?;
    for (scan, side) in [(&mut pair.ioi, &ioi), (&mut pair.anti, &anti)] {
        if tau > 0.0 && !scan.taus.contains(&tau) {
            *scan = summarise_scan(side, &options_of(scan, tau))?;
        }
    }
    Ok(pair)
}

/// What a scan file was summarised with, and one threshold more.
fn options_of(scan: &ScanFile, tau: f64) -> SummaryOptions {
    let mut options = SummaryOptions { taus: scan.taus.clone(), ..SummaryOptions::default() };
    if let Some(resampling) = &scan.resampling {
        options.resampling = resampling.clone();
    }
    options.taus.push(tau);
    options
}
