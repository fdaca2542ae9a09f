//! Reading a joint table from CSV: this program's, the published study's, or any other with the same six columns; for any
//! contrast.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::columns::{
    DETAIL, INFO_NUMBER, INFO_PAIR, INFO_TEXT, PERFORMANCE, REQUIRED, delta_column, probability_prefix,
};
use super::row::Row;
use super::{HeadRow, JointTable, ModelHeads, ModelInfo};
use crate::contrast::{Contrast, Side};
use crate::effect::{Effect, EffectDetail};
use crate::error::{AnalysisError, Result};
use crate::known_models;

/// Default limit on rows for [`import`]: a hundred times the heads of the 17 known models.
pub const MAX_ROWS: usize = 1_000_000;

/// A head that occurs in a table more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateHead {
    /// The model.
    pub model: String,
    /// Its block.
    pub layer: u32,
    /// Its head.
    pub head: u32,
    /// Lines of the first two rows with it, counted from 1 as editors do.
    pub lines: [u64; 2],
}

/// A table as read, with the information that an audit needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// All rows, including duplicates.
    pub table: JointTable,
    /// Every row that repeats a head.
    pub duplicates: Vec<DuplicateHead>,
    /// Number of `NaN` cells (in any spelling), by model and task. They count as missing.
    pub n_nan: HashMap<(String, Side), usize>,
}

impl Import {
    /// The table for analysis, in which every head must occur only once.
    ///
    /// # Errors
    /// [`AnalysisError::Format`] with the lines of the first duplicate.
    pub fn into_table(self, path: &Path) -> Result<JointTable> {
        match self.duplicates.first() {
            None => Ok(self.table),
            Some(d) => Err(AnalysisError::format(
                path,
                format!("lines {} and {}", d.lines[0], d.lines[1]),
                format!(
                    "both hold {} L{}H{} ({} duplicate rows in total)",
                    d.model,
                    d.layer,
                    d.head,
                    self.duplicates.len()
                ),
                "keep one row for each head",
            )),
        }
    }
}

/// Reads a joint table of at most `max_rows` rows from a CSV file, in any order of rows and columns.
///
/// It needs columns `family, model, layer, head`, and `delta_<task>` for each of two tasks; this program's further columns are
/// used if present, others are ignored. With `delta_ioi` and `delta_anti`, the tasks are those of the published study; otherwise
/// those of the first two such columns. An empty cell (or `NaN`) is a missing value.
///
/// # Errors
/// [`AnalysisError::Io`] or [`AnalysisError::Format`], naming line and column.
pub fn import(path: &Path, max_rows: usize) -> Result<Import> {
    let file = File::open(path).map_err(AnalysisError::io("read", path))?;
    import_reader(file, path, max_rows)
}

/// [`import`] from any reader; `path` is only used in error messages.
///
/// # Errors
/// See [`import`].
pub fn import_reader(reader: impl Read, path: &Path, max_rows: usize) -> Result<Import> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(reader);
    let header = reader.headers().map_err(|e| csv_error(path, &e))?.clone();
    let columns = Columns::find(&header, path)?;
    let mut models = Models::default();
    let mut record = csv::StringRecord::new();
    let mut n_rows = 0usize;
    while reader.read_record(&mut record).map_err(|e| csv_error(path, &e))? {
        n_rows += 1;
        if n_rows > max_rows {
            return Err(AnalysisError::format(
                path,
                format!("row {n_rows}"),
                format!("the table has more than {max_rows} rows, too many for a table of heads"),
                "check that this is a joint table, or allow more with --max-rows",
            ));
        }
        let line = record.position().map_or(0, csv::Position::line);
        models.add(&Row { path, line, record: &record }, &columns)?;
    }
    if n_rows == 0 {
        return Err(AnalysisError::format(
            path,
            "line 2",
            "no rows after the header",
            "give one row per head",
        ));
    }
    Ok(models.finish(columns.contrast, columns.taus))
}

fn csv_error(path: &Path, error: &csv::Error) -> AnalysisError {
    let line = error.position().map_or_else(|| "CSV".to_owned(), |p| format!("line {}", p.line()));
    let (problem, fix) = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            (format!("{len} cells under {expected_len} columns"), "give every row a cell for each column")
        }
        csv::ErrorKind::Utf8 { .. } => ("text is not UTF-8".to_owned(), "save the table as UTF-8"),
        _ => (error.to_string(), "check that this is a CSV file"),
    };
    AnalysisError::format(path, line, problem, fix)
}

/// Positions of the columns in use.
struct Columns {
    contrast: Contrast,
    /// Of [`REQUIRED`].
    required: [usize; 4],
    /// Of each task's Δ.
    deltas: [usize; 2],
    /// `(task, index into DETAIL, position)`
    detail: Vec<(Side, usize, usize)>,
    /// `(task, index into taus, position)`
    probabilities: Vec<(Side, usize, usize)>,
    taus: Vec<f64>,
    params_m: Option<usize>,
    n_layers: Option<usize>,
    n_heads: Option<usize>,
    /// `(index into INFO_TEXT, position)`
    info: Vec<(usize, usize)>,
    /// `(task, index into PERFORMANCE, position)`
    performance: Vec<(Side, usize, usize)>,
    /// `(index into INFO_NUMBER, position)`
    numbers: Vec<(usize, usize)>,
    /// `(index into INFO_PAIR, positions of both)`
    pairs: Vec<(usize, [usize; 2])>,
}

impl Columns {
    fn find(header: &csv::StringRecord, path: &Path) -> Result<Self> {
        let position = |name: &str| header.iter().position(|column| column == name);
        if header.iter().all(str::is_empty) {
            return Err(AnalysisError::format(
                path,
                "line 1",
                "the file is empty",
                format!("a joint table has the columns {}", columns_needed()),
            ));
        }
        let place_of = |name: &str| -> Result<usize> {
            let others: Vec<usize> = (0..header.len()).filter(|&i| &header[i] == name).collect();
            match others[..] {
                [one] => Ok(one),
                [] => {
                    let fix = if header.len() == 1 && header[0].contains([';', '\t']) {
                        "separate the columns by commas".to_owned()
                    } else {
                        format!("a joint table has the columns {}", columns_needed())
                    };
                    Err(AnalysisError::format(path, "line 1", format!("no column `{name}`"), fix))
                }
                _ => Err(AnalysisError::format(
                    path,
                    "line 1",
                    format!("column `{name}` occurs {} times", others.len()),
                    "keep one of them",
                )),
            }
        };
        let mut required = [0; 4];
        for (place, name) in required.iter_mut().zip(REQUIRED) {
            *place = place_of(name)?;
        }
        let contrast = contrast_of(header);
        let [a, b] = contrast.keys().map(delta_column);
        let deltas = [place_of(&a)?, place_of(&b)?];
        let mut found = Self {
            contrast,
            required,
            deltas,
            detail: Vec::new(),
            probabilities: Vec::new(),
            taus: Vec::new(),
            params_m: position("params_m"),
            n_layers: position("n_layers"),
            n_heads: position("n_heads"),
            info: INFO_TEXT
                .iter()
                .enumerate()
                .filter_map(|(i, (name, _))| Some((i, position(name)?)))
                .collect(),
            performance: Vec::new(),
            numbers: INFO_NUMBER
                .iter()
                .enumerate()
                .filter_map(|(i, (name, _))| Some((i, position(name)?)))
                .collect(),
            pairs: INFO_PAIR
                .iter()
                .enumerate()
                .filter_map(|(i, column)| Some((i, [position(column.names[0])?, position(column.names[1])?])))
                .collect(),
        };
        // In ascending order, regardless of the order of the columns.
        let keys = found.contrast.keys().map(str::to_owned);
        found.taus = keys.iter().flat_map(|key| header.iter().filter_map(move |n| tau_of(key, n))).collect();
        found.taus.sort_by(f64::total_cmp);
        found.taus.dedup();
        for (side, key) in Side::BOTH.into_iter().zip(&keys) {
            for (index, column) in DETAIL.iter().enumerate() {
                let place = position(&column.template.replace("{}", key));
                found.detail.extend(place.map(|place| (side, index, place)));
            }
            for (index, (template, _)) in PERFORMANCE.iter().enumerate() {
                let place = position(&template.replace("{}", key));
                found.performance.extend(place.map(|place| (side, index, place)));
            }
            for (place, name) in header.iter().enumerate() {
                let index = tau_of(key, name).and_then(|tau| found.taus.iter().position(|&t| t == tau));
                found.probabilities.extend(index.map(|index| (side, index, place)));
            }
        }
        Ok(found)
    }
}

/// The columns of the published pair, for messages.
fn columns_needed() -> String {
    let deltas = Contrast::published().keys().map(delta_column);
    format!("{},{}", REQUIRED.join(","), deltas.join(","))
}

/// The tasks of a table; the published pair if it does not say.
fn contrast_of(header: &csv::StringRecord) -> Contrast {
    let published = Contrast::published();
    let has = |name: &str| header.iter().any(|column| column == name);
    if published.keys().iter().all(|key| has(&delta_column(key))) {
        return published;
    }
    // Columns of intervals have the same prefix as the column of Δ itself.
    let is_detail = |name: &str| {
        let ends = DETAIL.iter().filter_map(|column| column.template.strip_prefix("delta_{}"));
        ends.into_iter().any(|end| name.strip_suffix(end).is_some_and(has))
    };
    let mut tasks =
        header.iter().filter(|name| !is_detail(name)).filter_map(|name| name.strip_prefix("delta_"));
    let pair = tasks.next().zip(tasks.next());
    pair.and_then(|(a, b)| Contrast::new(a, b).ok()).unwrap_or(published)
}

/// The τ of a probability column.
fn tau_of(key: &str, column: &str) -> Option<f64> {
    let tau: f64 = column.strip_prefix(&probability_prefix(key))?.parse().ok()?;
    Some(tau).filter(|t| t.is_finite())
}

/// The models read so far.
#[derive(Default)]
struct Models {
    by_name: HashMap<String, usize>,
    models: Vec<ModelHeads>,
    /// Line of each head, parallel to `models[..].heads`.
    lines: Vec<Vec<u64>>,
    n_nan: HashMap<(String, Side), usize>,
}

impl Models {
    fn add(&mut self, row: &Row, columns: &Columns) -> Result<()> {
        let [family, model, layer, head] = columns.required;
        let (family, model) = (row.name(family, "family")?, row.name(model, "model")?);
        let info = read_info(row, columns, family, model)?;
        let index = match self.by_name.get(model) {
            Some(&index) => index,
            None => {
                self.by_name.insert(model.to_owned(), self.models.len());
                self.models.push(ModelHeads { info: info.clone(), heads: Vec::new() });
                self.lines.push(Vec::new());
                self.models.len() - 1
            }
        };
        let known = &self.models[index].info;
        if known.family != info.family {
            return Err(row.error(
                "family",
                format!(
                    "{model} is of family `{}` here and `{}` on line {}",
                    info.family, known.family, self.lines[index][0]
                ),
                "give a model one family, or different names to different models",
            ));
        }
        if *known != info {
            return Err(row.error(
                "model",
                format!(
                    "{model} differs from line {} in its size, shape, origin or performance (params_m, n_layers, n_heads, hf_name, \
                     protocol, ablation, value_bias, reference, seed, program_version, weight_hash, base_logit_diff, …)",
                    self.lines[index][0]
                ),
                "give different names to what was measured differently",
            ));
        }
        let mut effects = [Effect::default(), Effect::default()];
        for ((side, effect), column) in Side::BOTH.into_iter().zip(&mut effects).zip(columns.deltas) {
            let (delta, is_nan) = row.number(column, &delta_column(columns.contrast.key(side)))?;
            effect.delta = delta;
            if is_nan {
                *self.n_nan.entry((model.to_owned(), side)).or_default() += 1;
            }
            effect.detail = read_detail(row, columns, side)?;
        }
        self.models[index].heads.push(HeadRow {
            layer: row.index(layer, "layer")?,
            head: row.index(head, "head")?,
            effects,
        });
        self.lines[index].push(row.line);
        Ok(())
    }

    fn finish(self, contrast: Contrast, taus: Vec<f64>) -> Import {
        let mut duplicates = Vec::new();
        for (model, lines) in self.models.iter().zip(&self.lines) {
            let mut first_line: HashMap<(u32, u32), u64> = HashMap::with_capacity(lines.len());
            for (head, &line) in model.heads.iter().zip(lines) {
                let first = *first_line.entry((head.layer, head.head)).or_insert(line);
                if first != line {
                    duplicates.push(DuplicateHead {
                        model: model.info.model.clone(),
                        layer: head.layer,
                        head: head.head,
                        lines: [first, line],
                    });
                }
            }
        }
        let mut models = self.models;
        for model in &mut models {
            complete_shape(model);
        }
        Import { table: JointTable::new(contrast, models, taus), duplicates, n_nan: self.n_nan }
    }
}

fn read_info(row: &Row, columns: &Columns, family: &str, model: &str) -> Result<ModelInfo> {
    let count = |column: Option<usize>, name: &str| match column {
        Some(column) if !row.cell(column).is_empty() => row.index(column, name).map(Some),
        _ => Ok(None),
    };
    let params_m = match columns.params_m {
        Some(column) => row.number(column, "params_m")?.0,
        None => None,
    };
    if params_m.is_some_and(|size| size <= 0.0) {
        return Err(row.error("params_m", "not above 0".into(), "write the size in millions of parameters"));
    }
    let mut info = ModelInfo {
        family: family.to_owned(),
        model: model.to_owned(),
        params_m: known_models::find(model).map(|known| known.params_m).or(params_m),
        n_layers: count(columns.n_layers, "n_layers")?,
        n_heads: count(columns.n_heads, "n_heads")?,
        ..ModelInfo::default()
    };
    for &(index, column) in &columns.info {
        let text = row.cell(column);
        *INFO_TEXT[index].1(&mut info) = Some(text).filter(|t| !t.is_empty()).map(str::to_owned);
    }
    for &(side, index, column) in &columns.performance {
        let (template, cell) = PERFORMANCE[index];
        let name = template.replace("{}", columns.contrast.key(side));
        *cell(&mut info.performance[side as usize]) = row.number(column, &name)?.0;
    }
    for &(index, column) in &columns.numbers {
        let (name, cell) = INFO_NUMBER[index];
        *cell(&mut info) = row.number(column, name)?.0;
    }
    for &(index, [first, second]) in &columns.pairs {
        let column = &INFO_PAIR[index];
        let pair = row.number(first, column.names[0])?.0.zip(row.number(second, column.names[1])?.0);
        (column.write)(&mut info, pair.map(|(first, second)| [first, second]));
    }
    Ok(info)
}

fn read_detail(row: &Row, columns: &Columns, side: Side) -> Result<Option<Box<EffectDetail>>> {
    let mut detail =
        EffectDetail { prob_abs_delta_ge_tau: vec![None; columns.taus.len()], ..EffectDetail::default() };
    let mut has_any = false;
    let key = columns.contrast.key(side);
    for &(_, index, column) in columns.detail.iter().filter(|c| c.0 == side) {
        let column_name = DETAIL[index].template.replace("{}", key);
        let value = row.number(column, &column_name)?.0;
        has_any |= value.is_some();
        *(DETAIL[index].cell)(&mut detail) = value;
    }
    for &(_, index, column) in columns.probabilities.iter().filter(|c| c.0 == side) {
        let value = row.number(column, &format!("{}…", probability_prefix(key)))?.0;
        has_any |= value.is_some();
        detail.prob_abs_delta_ge_tau[index] = value;
    }
    Ok(has_any.then(|| Box::new(detail)))
}

/// Fills in the shape of a known model, unless the table has heads outside it (another model of that name).
fn complete_shape(model: &mut ModelHeads) {
    let info = &mut model.info;
    let Some(known) = known_models::find(&info.model) else { return };
    let fits = model.heads.iter().all(|h| h.layer < known.n_layers && h.head < known.n_heads);
    if info.n_layers.is_none() && info.n_heads.is_none() && fits {
        info.n_layers = Some(known.n_layers);
        info.n_heads = Some(known.n_heads);
    }
}
