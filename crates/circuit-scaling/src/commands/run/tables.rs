//! The stages of a run that need no model: tables, figures, notes and the page, each regenerated when its inputs have changed.

use std::path::PathBuf;

use cs_analysis::contrast::Contrast;
use cs_analysis::files::write_bytes;
use cs_analysis::layout::Layout;
use cs_analysis::study::Study;
use cs_analysis::study_scans::StudyScans;
use cs_report::Extras;
use cs_report::figures::{Format, draw_all};
use serde_json::json;

use super::Run;
use crate::commands::places::found;
use crate::commands::presentation::STYLED;
use crate::commands::tables::text;
use crate::digest::Digest256;
use crate::error::CliError;
use crate::study_folder::own_file;

/// The summary of the tables, among the program's own files.
const SUMMARY: &str = "summary.txt";

impl Run {
    /// Makes all tables and returns the summary.
    pub(super) fn tables(&mut self) -> Result<String, CliError> {
        let inputs = self.inputs_of_tables();
        let summary = self.folder.own(SUMMARY);
        if self.folder.is_done("tables", &inputs) {
            return std::fs::read_to_string(&summary)
                .map_err(|source| CliError::Out { path: summary, source });
        }
        let study = self.make_study()?;
        let text = text::study(&study);
        self.folder.put("tables", inputs, self.display, |layout| {
            let summary = own_file(layout, SUMMARY);
            write_bytes(&summary, text.as_bytes())?;
            Ok([study.write(layout)?, vec![summary]].concat())
        })?;
        self.study = Some(study);
        Ok(text)
    }

    /// The scans for the tables: this run's, and the others in its folder.
    fn scanned(&self) -> Vec<(String, Vec<String>)> {
        let (own, tasks) = (self.names(), self.task_names());
        let of_rest = |task: &String| self.rest.scanned.iter().find(|(name, _)| name == task);
        let with_rest = |task: &String| {
            let rest = of_rest(task).map_or(&[][..], |(_, models)| models);
            (task.clone(), [&own[..], rest].concat())
        };
        let further = self.rest.scanned.iter().filter(|(task, _)| !tasks.contains(task)).cloned();
        tasks.iter().map(with_rest).chain(further).collect()
    }

    /// The contrasts for the tables.
    fn all_contrasts(&self) -> Vec<Contrast> {
        self.contrasts.iter().chain(&self.rest.contrasts).cloned().collect()
    }

    /// Everything that the tables depend on.
    fn inputs_of_tables(&self) -> Digest256 {
        let layout = &self.folder.layout;
        let of_task = |(task, models): &(String, Vec<String>)| -> Vec<_> {
            let paths =
                models.iter().flat_map(|model| [layout.scan(task, model), layout.per_prompt(task, model)]);
            paths.map(|path| Digest256::of_file(&path)).collect()
        };
        let scans: Vec<_> = self.scanned().iter().flat_map(of_task).collect();
        let contrasts: Vec<String> = self.all_contrasts().iter().map(ToString::to_string).collect();
        let tables = &self.args.tables;
        Digest256::of(&json!({
            "version": env!("CARGO_PKG_VERSION"), "scans": scans, "contrasts": contrasts,
            "tau": tables.tau, "top_k": tables.top_k, "pairs": tables.pairs,
        }))
    }

    /// The tables of the whole study, from its scans.
    fn make_study(&self) -> Result<Study, CliError> {
        let scans = StudyScans::read(&self.folder.layout, &self.scanned())?;
        Ok(Study::new(&scans, &self.all_contrasts(), &self.args.tables.options()?)?)
    }

    /// The same, made once.
    pub(super) fn study(&mut self) -> Result<&Study, CliError> {
        if self.study.is_none() {
            self.study = Some(self.make_study()?);
        }
        // It was set above if it was missing.
        self.study.as_ref().ok_or_else(|| CliError::NoScans { folder: self.folder.layout.root().to_owned() })
    }

    /// Draws the figures.
    pub(super) fn figures(&mut self) -> Result<(), CliError> {
        let mut missing = Vec::new();
        let styled = self.folder.layout.figures().join(STYLED);
        let mut is_behind = false;
        self.present("figures", |study, extras, layout| {
            is_behind = styled.is_dir();
            let drawn = draw_all(study, extras, &layout.figures(), &[Format::Png, Format::Svg])?;
            missing = drawn.not_drawn;
            Ok(drawn.files)
        })?;
        missing.iter().for_each(|m| self.display.note(&format!("not drawn: {}: {}", m.name, m.why)));
        if is_behind {
            self.display.note(&format!(
                "the figures in {} are older than the study: draw them again with circuit-scaling plot",
                styled.display()
            ));
        }
        Ok(())
    }

    /// Writes the notes.
    pub(super) fn notes(&mut self) -> Result<(), CliError> {
        self.present("notes", |study, extras, layout| {
            Ok(cs_report::notes::write_all(study, extras, &layout.notes())?)
        })
    }

    /// Writes the page.
    pub(super) fn report(&mut self) -> Result<(), CliError> {
        self.present("report", |study, extras, layout| {
            let path = layout.root().join(cs_report::html::FILE_NAME);
            cs_report::html::write(study, extras, &path)?;
            Ok(vec![path])
        })
    }

    /// Runs a presentation stage, unless its inputs are unchanged.
    fn present(
        &mut self,
        stage: &str,
        make: impl FnOnce(&Study, &Extras, &Layout) -> Result<Vec<PathBuf>, CliError>,
    ) -> Result<(), CliError> {
        let layout = self.folder.layout.clone();
        let inputs = Digest256::of(
            &json!({ "tables": self.inputs_of_tables(), "found": found(&layout, &self.all_contrasts()) }),
        );
        if self.folder.is_done(stage, &inputs) {
            self.display.detail(&format!("{stage}: done"));
            return Ok(());
        }
        self.study()?;
        let Self { folder, study: Some(study), display, .. } = self else { return Ok(()) };
        let extras = Extras::read(&layout, study)?;
        folder.put(stage, inputs, *display, |layout| make(study, &extras, layout)).map(drop)
    }
}
