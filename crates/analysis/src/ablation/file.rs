//! One model's ablation as a file, so that an interrupted study can resume. Fields are named after the tasks, as in the
//! tables.

use std::path::Path;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::tables::{DELTA, ENDS, REMOVED, SCORES, TOGETHER, figures, read_figures};
use super::{ModelAblation, RawRow, SummaryRow};
use crate::contrast::{Contrast, Side};
use crate::dissociation::Dissociation;
use crate::error::{AnalysisError, Result};
use crate::files::{read_json, write_json};
use crate::json_object::Fields;

/// `results/ablation/ablation_<model>.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct AblationFile {
    /// Hero heads against random heads.
    pub ablation: ModelAblation,
    /// Double dissociation.
    pub dissociation: Dissociation,
}

impl AblationFile {
    /// Writes the file, atomically.
    ///
    /// # Errors
    /// [`Io`](crate::error::AnalysisError::Io) when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }

    /// Reads a file of this contrast written by [`Self::write`].
    ///
    /// # Errors
    /// If the file cannot be read or has other contents.
    pub fn read(path: &Path, contrast: &Contrast) -> Result<Self> {
        let fix = "delete the file and run circuit-scaling ablate again";
        let mut fields: Fields = read_json(path, fix)?;
        let mut read = || -> Read<Self> {
            Ok(Self {
                ablation: read_ablation(contrast, fields.take("ablation")?)?,
                dissociation: read_dissociation(contrast, fields.take("dissociation")?)?,
            })
        };
        read().map_err(|problem| AnalysisError::format(path, "file", problem, fix))
    }
}

type Read<T> = std::result::Result<T, String>;

impl Serialize for AblationFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ablation", &self.ablation)?;
        map.serialize_entry("dissociation", &self.dissociation)?;
        map.end()
    }
}

/// A part of a file, with the contrast that determines its field names.
struct Named<'a, T>(&'a Contrast, &'a T);

impl Serialize for Named<'_, Vec<RawRow>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.1.iter().map(|row| Named(self.0, row)))
    }
}

impl Serialize for Named<'_, Vec<SummaryRow>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.1.iter().map(|row| Named(self.0, row)))
    }
}

impl Serialize for Named<'_, RawRow> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Self(contrast, row) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("selection", &row.selection)?;
        map.serialize_entry("k", &row.k)?;
        map.serialize_entry("kind", &row.kind)?;
        map.serialize_entry("index", &row.index)?;
        map.serialize_entry("heads", &row.heads)?;
        for (key, means) in contrast.keys().iter().zip(&row.tasks) {
            map.serialize_entry(key, means)?;
        }
        map.end()
    }
}

fn read_row(contrast: &Contrast, mut fields: Fields) -> Read<RawRow> {
    let [a, b] = contrast.keys();
    Ok(RawRow {
        selection: fields.take("selection")?,
        k: fields.take("k")?,
        kind: fields.take("kind")?,
        index: fields.take("index")?,
        heads: fields.take("heads")?,
        tasks: [fields.take(a)?, fields.take(b)?],
    })
}

impl Serialize for Named<'_, SummaryRow> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Self(contrast, row) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("family", &row.family)?;
        map.serialize_entry("model", &row.model)?;
        map.serialize_entry("k", &row.k)?;
        map.serialize_entry("set_type", &row.set_type)?;
        for (name, figure) in figures(contrast, row, &SCORES) {
            map.serialize_entry(&name, &figure)?;
        }
        map.serialize_entry("n_sets", &row.n_sets)?;
        for (name, figure) in figures(contrast, row, &ENDS) {
            map.serialize_entry(&name, &figure)?;
        }
        map.serialize_entry("interval_over", &row.interval_over)?;
        for (name, figure) in figures(contrast, row, &DELTA) {
            map.serialize_entry(&name, &figure)?;
        }
        map.serialize_entry("selection", &row.selection)?;
        map.serialize_entry("status", &row.status)?;
        map.serialize_entry("split", &row.split)?;
        for side in Side::BOTH {
            map.serialize_entry(&format!("n_sets_{}", contrast.key(side)), &row.on(side).n_sets)?;
        }
        for (name, figure) in figures(contrast, row, &TOGETHER).chain(figures(contrast, row, &REMOVED)) {
            map.serialize_entry(&name, &figure)?;
        }
        map.end()
    }
}

fn read_summary_row(contrast: &Contrast, mut fields: Fields) -> Read<SummaryRow> {
    let mut tasks = read_figures(contrast, |name| fields.take(name))?;
    for (key, task) in contrast.keys().into_iter().zip(&mut tasks) {
        task.n_sets = fields.take(&format!("n_sets_{key}"))?;
    }
    Ok(SummaryRow {
        tasks,
        family: fields.take("family")?,
        model: fields.take("model")?,
        k: fields.take("k")?,
        set_type: fields.take("set_type")?,
        n_sets: fields.take("n_sets")?,
        interval_over: fields.take("interval_over")?,
        selection: fields.take("selection")?,
        status: fields.take("status")?,
        split: fields.take("split")?,
    })
}

impl Serialize for ModelAblation {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("origin", &self.origin)?;
        map.serialize_entry("settings", &self.settings)?;
        map.serialize_entry("n_candidates", &self.n_candidates)?;
        map.serialize_entry("n_prompts", &self.n_prompts)?;
        map.serialize_entry("rows", &Named(&self.contrast, &self.rows))?;
        map.serialize_entry("summary", &Named(&self.contrast, &self.summary))?;
        map.serialize_entry("tests", &self.tests)?;
        map.serialize_entry("areas", &self.areas)?;
        map.serialize_entry("notes", &self.notes)?;
        map.end()
    }
}

fn read_ablation(contrast: &Contrast, mut fields: Fields) -> Read<ModelAblation> {
    let rows: Vec<Fields> = fields.take("rows")?;
    let summary: Vec<Fields> = fields.take("summary")?;
    Ok(ModelAblation {
        contrast: contrast.clone(),
        origin: fields.take("origin")?,
        settings: fields.take("settings")?,
        n_candidates: fields.take("n_candidates")?,
        n_prompts: fields.take("n_prompts")?,
        rows: rows.into_iter().map(|row| read_row(contrast, row)).collect::<Read<_>>()?,
        summary: summary.into_iter().map(|row| read_summary_row(contrast, row)).collect::<Read<_>>()?,
        tests: fields.take("tests")?,
        areas: fields.take("areas")?,
        notes: fields.take("notes")?,
    })
}

impl Serialize for Dissociation {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("origin", &self.origin)?;
        map.serialize_entry("settings", &self.settings)?;
        map.serialize_entry("scan_ablation", &self.scan_ablation)?;
        map.serialize_entry("n_heads", &self.n_heads)?;
        map.serialize_entry("shares", &self.shares)?;
        map.serialize_entry("index", &self.index)?;
        map.serialize_entry("index_status", &self.index_status)?;
        map.serialize_entry("k", &self.k)?;
        map.serialize_entry("damage", &self.damage)?;
        for (key, difference) in self.contrast.keys().iter().zip(&self.own_minus_other) {
            map.serialize_entry(&format!("{key}_contrast"), difference)?;
        }
        map.serialize_entry("interaction", &self.interaction)?;
        map.serialize_entry("interaction_p_value", &self.interaction_p_value)?;
        map.serialize_entry("double_dissociation", &self.double_dissociation)?;
        map.serialize_entry("lesion_status", &self.lesion_status)?;
        map.end()
    }
}

fn read_dissociation(contrast: &Contrast, mut fields: Fields) -> Read<Dissociation> {
    let [a, b] = contrast.keys().map(|key| format!("{key}_contrast"));
    Ok(Dissociation {
        contrast: contrast.clone(),
        origin: fields.take("origin")?,
        settings: fields.take("settings")?,
        scan_ablation: fields.take("scan_ablation")?,
        n_heads: fields.take("n_heads")?,
        shares: fields.take("shares")?,
        index: fields.take("index")?,
        index_status: fields.take("index_status")?,
        k: fields.take("k")?,
        damage: fields.take("damage")?,
        own_minus_other: [fields.take(&a)?, fields.take(&b)?],
        interaction: fields.take("interaction")?,
        interaction_p_value: fields.take("interaction_p_value")?,
        double_dissociation: fields.take("double_dissociation")?,
        lesion_status: fields.take("lesion_status")?,
    })
}
