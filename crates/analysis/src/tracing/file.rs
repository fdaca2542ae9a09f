//! Results of causal tracing as a file: a JSON list, whose fields are named after the tasks.

use std::path::Path;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{CausalResult, TaskInfluence};
use crate::contrast::{Contrast, Side};
use crate::error::{AnalysisError, Result};
use crate::files::{read_json, write_atomic};
use crate::json_object::Fields;

impl Serialize for CausalResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("family", &self.family)?;
        map.serialize_entry("model", &self.model)?;
        map.serialize_entry("hf_name", &self.hf_name)?;
        map.serialize_entry("category", &self.contrast.category(self.category))?;
        map.serialize_entry("layer", &self.layer)?;
        map.serialize_entry("head", &self.head)?;
        let tasks = || self.contrast.keys().into_iter().zip(&self.tasks);
        for (key, task) in tasks() {
            map.serialize_entry(&format!("mean_{key}_influence"), &task.mean)?;
        }
        for (key, task) in tasks() {
            map.serialize_entry(&format!("{key}_influences"), &task.influences)?;
        }
        for (key, task) in tasks() {
            map.serialize_entry(&format!("delta_{key}"), &task.delta)?;
        }
        map.serialize_entry("strength", &self.strength)?;
        map.serialize_entry("rank", &self.rank)?;
        map.serialize_entry("stream", &self.stream)?;
        for (key, task) in tasks() {
            map.serialize_entry(key, &task.figures)?;
        }
        map.serialize_entry("resampling", &self.resampling)?;
        map.serialize_entry("note", &self.note)?;
        map.serialize_entry("origin", &self.origin)?;
        map.end()
    }
}

/// A result from a file's fields; an error names the field.
fn from_fields(contrast: &Contrast, fields: &mut Fields) -> std::result::Result<CausalResult, String> {
    let category: String = fields.take("category")?;
    let mut on = |side: Side| -> std::result::Result<TaskInfluence, String> {
        let key = contrast.key(side);
        let name = format!("{key}_influences");
        let task = TaskInfluence {
            mean: fields.take(&format!("mean_{key}_influence"))?,
            influences: fields.take(&name)?,
            delta: fields.take(&format!("delta_{key}"))?,
            figures: fields.take(key)?,
        };
        let (found, expected) = (task.influences.len(), task.figures.weights.len());
        if found != expected {
            return Err(format!("field `{name}` has {found} entries for {expected} pairs"));
        }
        Ok(task)
    };
    Ok(CausalResult {
        tasks: [on(Side::A)?, on(Side::B)?],
        category: contrast
            .category_named(&category)
            .ok_or_else(|| format!("field `category`: `{category}` is not a category of {contrast}"))?,
        contrast: contrast.clone(),
        family: fields.take("family")?,
        model: fields.take("model")?,
        hf_name: fields.take("hf_name")?,
        layer: fields.take("layer")?,
        head: fields.take("head")?,
        strength: fields.take("strength")?,
        rank: fields.take("rank")?,
        stream: fields.take("stream")?,
        resampling: fields.take("resampling")?,
        note: fields.take("note")?,
        origin: fields.take("origin")?,
    })
}

/// Writes results, atomically, as a JSON list with one head per line.
///
/// # Errors
/// [`AnalysisError::Io`] when the file cannot be written.
pub fn write_results(path: &Path, results: &[CausalResult]) -> Result<()> {
    write_atomic(path, |out| {
        for (at, result) in results.iter().enumerate() {
            out.write_all(if at == 0 { b"[\n" } else { b",\n" })?;
            serde_json::to_writer(&mut *out, result)?;
        }
        out.write_all(if results.is_empty() { b"[]\n" } else { b"\n]\n" })
    })
}

/// Reads results of this contrast written by [`write_results`].
///
/// # Errors
/// If the file cannot be read or does not have such a list.
pub fn read_results(path: &Path, contrast: &Contrast) -> Result<Vec<CausalResult>> {
    let fix = "trace again";
    let results: Vec<Fields> = read_json(path, fix)?;
    let result = |(at, mut fields): (usize, Fields)| {
        let show = |name: &str| fields.show(name).unwrap_or_default();
        let place = format!("entry {}, {} L{}H{}", at + 1, show("model"), show("layer"), show("head"));
        from_fields(contrast, &mut fields).map_err(|problem| AnalysisError::format(path, place, problem, fix))
    };
    results.into_iter().enumerate().map(result).collect()
}
