//! Conversion of Python's arguments to the library's types.

use std::str::FromStr;

use circuit_scaling::args::memory;
use circuit_scaling::prelude::{
    DeviceChoice, HeadEdit, HeadId, HoldOut, Model, Options, Precision, PromptOptions, Protocol, Resampling, RowTask, ScanOptions, Setup,
    Split, Stream, Task, Value,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use crate::errors::{exception, input};

/// Parses text as one of the library's types, whose own message says what is wrong with it.
pub fn parse<T: FromStr<Err = String>>(text: &str) -> PyResult<T> {
    text.parse().map_err(input)
}

/// The device and precision to run a model with.
pub fn device(device: &str, precision: Option<&str>) -> PyResult<(DeviceChoice, Option<Precision>)> {
    Ok((parse(device)?, precision.map(parse).transpose()?))
}

/// Prompts as token ids: a text, or a sequence of texts and sequences of ids.
pub fn prompts(model: &Model, given: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u32>>> {
    if given.is_instance_of::<PyString>() {
        return Ok(vec![prompt(model, given)?]);
    }
    let items = given.try_iter().map_err(|_| not_prompts(given))?;
    items.map(|item| prompt(model, &item?)).collect()
}

fn prompt(model: &Model, given: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    if let Ok(text) = given.cast::<PyString>() {
        return model.tokens(&text.to_cow()?).map_err(exception);
    }
    token_ids(given)?.ok_or_else(|| not_prompts(given))
}

/// A sequence of token ids; `None` if it is something else.
pub fn token_ids(given: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u32>>> {
    let Ok(items) = given.try_iter() else { return Ok(None) };
    let mut ids = Vec::new();
    for item in items {
        let item = item?;
        if item.is_instance_of::<PyBool>() {
            return Ok(None);
        }
        match item.extract::<u32>() {
            Ok(id) => ids.push(id),
            Err(error) if error.is_instance_of::<PyTypeError>(given.py()) => return Ok(None),
            Err(_) => return Err(input(format!("{item} is not a token id: ids count from 0"))),
        }
    }
    Ok(Some(ids))
}

fn not_prompts(given: &Bound<'_, PyAny>) -> PyErr {
    let kind = given.get_type().name().map_or_else(|_| "this".to_owned(), |name| name.to_string());
    input(format!(
        "prompts are a text, or a list of texts and of lists of token ids, not `{kind}`: [model.tokens(text)] is a list of one \
         prompt"
    ))
}

/// Heads by name, each once.
pub fn heads(given: Option<Vec<String>>) -> PyResult<Option<Vec<HeadId>>> {
    let Some(names) = given else { return Ok(None) };
    let heads = names.iter().map(|name| parse(name)).collect::<PyResult<Vec<HeadId>>>()?;
    match heads.is_empty() {
        true => Err(input("heads is empty: name some, such as \"L9H6\", or omit it for all")),
        false => Ok(Some(heads)),
    }
}

/// One `circuit_scaling.Edit`: heads whose stream is replaced in the same way.
#[derive(FromPyObject)]
pub struct EditArg<'py> {
    heads: Vec<String>,
    stream: String,
    kind: String,
    value_bias: String,
    prompts: Bound<'py, PyAny>,
}

/// Edits in the library's form.
pub fn edits(model: &Model, given: Vec<EditArg<'_>>) -> PyResult<Vec<HeadEdit>> {
    let mut edits = Vec::new();
    for EditArg { heads: names, stream, kind, value_bias, prompts: others } in given {
        let value = match kind.as_str() {
            "zero" => Value::Zero(parse(&value_bias)?),
            "source" => Value::Source(prompts(model, &others)?),
            "mean" => Value::Mean(prompts(model, &others)?),
            _ => return Err(input(format!("unknown edit `{kind}`: use zero, source or mean"))),
        };
        let stream: Stream = parse(&stream)?;
        for head in heads(Some(names))?.into_iter().flatten() {
            edits.push(HeadEdit { head, stream, value: value.clone() });
        }
    }
    Ok(edits)
}

/// Bytes for activations: a number, or text such as "512M".
pub fn engine_options(given: &Bound<'_, PyAny>) -> PyResult<Options> {
    let text = given.str()?;
    Ok(Options { memory: memory(&text.to_cow()?).map_err(input)? })
}

/// The keyword arguments of a call about a task.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct SetupArg<'py> {
    task: String,
    rows: Option<Vec<u8>>,
    prompts: Option<i64>,
    seed: u64,
    protocol: String,
    hold_out: String,
    ablation: String,
    value_bias: String,
    reference: String,
    resamples: u32,
    memory: Bound<'py, PyAny>,
}

impl SetupArg<'_> {
    /// The same in the library's form.
    pub fn setup(self) -> PyResult<Setup> {
        let n_prompts = self.prompts.map(usize::try_from).transpose();
        let n_prompts = n_prompts.map_err(|_| input("prompts is below 0: ask for two or more"))?;
        let task = match &self.rows {
            None => Task::load(&self.task),
            Some(rows) => RowTask::from_bytes(rows, &format!("{}.jsonl", self.task)).map(Task::Rows),
        };
        let mut setup = Setup::new(task.map_err(|e| exception(e.into()))?);
        setup.prompts = PromptOptions {
            protocol: parse::<Protocol>(&self.protocol)?,
            seed: self.seed,
            n_prompts,
            hold_out: parse::<HoldOut>(&self.hold_out)?,
            min_names: None,
        };
        setup.ablation = ScanOptions {
            ablation: parse(&self.ablation)?,
            value_bias: parse(&self.value_bias)?,
            reference: parse(&self.reference)?,
            engine: engine_options(&self.memory)?,
        };
        let Resampling { level, .. } = setup.resampling;
        setup.resampling = Resampling { n_resamples: self.resamples, n_permutations: self.resamples, level };
        Ok(setup)
    }
}

/// A split by its name in files.
pub fn split(text: &str) -> PyResult<Split> {
    let splits = [Split::Discovery, Split::HeldOut, Split::All];
    let found = splits.into_iter().find(|split| split.as_str() == text);
    found.ok_or_else(|| input(format!("unknown split `{text}`: use discovery, held_out or all")))
}
