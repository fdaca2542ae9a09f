//! `circuit_scaling._native.Model`. Arrays are numpy's; anything with many fields is returned as the JSON of the result files.

use std::sync::Arc;

use circuit_scaling::prelude::{self, Activation, HeadScan, Options, Split};
use cs_analysis::ablation::Outcome;
use cs_analysis::scan_file::ScanFile;
use cs_analysis::stats::bootstrap::weighted_mean;
use cs_model::checkpoint::Dtype;
use cs_model::{InMemory, InMemoryTensor, ModelFiles};
use numpy::{IntoPyArray, PyArray1, PyArrayDyn, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{self, EditArg, SetupArg};
use crate::background;
use crate::errors::{exception, input};
use crate::lent::Lent;

/// A model in memory.
#[pyclass(frozen, module = "circuit_scaling._native")]
pub struct Model {
    model: Arc<prelude::Model>,
}

/// A parameter as passed from Python: name, type, shape and bytes.
type TensorArg<'py> = (String, String, Vec<usize>, Bound<'py, PyArray1<u8>>);

#[pymethods]
impl Model {
    #[staticmethod]
    fn load(py: Python<'_>, name: String, device: &str, precision: Option<&str>) -> PyResult<Self> {
        let (device, precision) = arguments::device(device, precision)?;
        let load = move |_: prelude::Observer<'_>| prelude::Model::load_on(&name, &device, precision);
        let model = background::run(py, None, load)?;
        Ok(Self { model: Arc::new(model) })
    }

    #[staticmethod]
    fn from_memory(
        py: Python<'_>,
        name: String,
        files: std::collections::BTreeMap<String, Vec<u8>>,
        tensors: Vec<TensorArg<'_>>,
        device: &str,
        precision: Option<&str>,
    ) -> PyResult<Self> {
        let (device, precision) = arguments::device(device, precision)?;
        let tensors = tensors.into_iter().map(tensor).collect::<PyResult<Vec<_>>>()?;
        let files = ModelFiles::Memory(Arc::new(InMemory { name, files, tensors }));
        let load = move |_: prelude::Observer<'_>| prelude::Model::from_files_on(&files, &device, precision);
        let model = background::run(py, None, load)?;
        Ok(Self { model: Arc::new(model) })
    }

    /// Everything known about the model without running it.
    fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (model, spec) = (&self.model, self.model.spec());
        let about = PyDict::new(py);
        about.set_item("name", model.name())?;
        about.set_item("hf_name", model.hf_name())?;
        about.set_item("family", model.family())?;
        about.set_item("n_layers", spec.n_layers)?;
        about.set_item("n_heads", spec.n_heads)?;
        about.set_item("n_kv_heads", spec.n_kv_heads)?;
        about.set_item("d_model", spec.d_model)?;
        about.set_item("d_head", spec.d_head)?;
        about.set_item("d_vocab", spec.d_vocab)?;
        about.set_item("n_ctx", spec.n_ctx)?;
        about.set_item("n_params", model.n_params())?;
        about.set_item("device", model.compute().name())?;
        about.set_item("precision", model.compute().precision().as_str())?;
        about.set_item("bos_id", model.tokenizer().ok().and_then(|tokenizer| tokenizer.bos_id()))?;
        about.set_item("notes", model.notes().cloned().collect::<Vec<_>>())?;
        about.set_item("device_notes", model.device_notes())?;
        Ok(about)
    }

    fn weight_hash(&self, py: Python<'_>) -> String {
        py.detach(|| self.model.weight_hash().to_owned())
    }

    fn tokens(&self, text: &str) -> PyResult<Vec<u32>> {
        self.model.tokens(text).map_err(exception)
    }

    fn text(&self, tokens: &Bound<'_, PyAny>) -> PyResult<String> {
        let ids = arguments::token_ids(tokens)?;
        let ids = ids.ok_or_else(|| input("tokens is not a list of token ids: give the result of model.tokens"))?;
        let tokenizer = self.model.tokenizer().map_err(exception)?;
        tokenizer.decode(&ids).map_err(|e| exception(e.into()))
    }

    fn logits<'py>(
        &self,
        py: Python<'py>,
        prompts: &Bound<'py, PyAny>,
        edits: Vec<EditArg<'py>>,
        read: Option<&Bound<'py, PyAny>>,
        memory: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
        let prompts = arguments::prompts(&self.model, prompts)?;
        let edits = arguments::edits(&self.model, edits)?;
        let read = read.map(|read| {
            let ids = arguments::token_ids(read)?;
            ids.ok_or_else(|| input("read is not a list of token ids: give the ids whose logits to read"))
        });
        let (read, options): (Option<Vec<u32>>, Options) =
            (read.transpose()?, arguments::engine_options(memory)?);
        let (model, n_prompts) = (self.model.clone(), prompts.len());
        let logits = background::run(py, None, move |observe| {
            model.logits(&prompts, &edits, read.as_deref(), options, observe)
        })?;
        let n_read = logits.first().map_or(0, Vec::len);
        array(py, logits.concat(), &[n_prompts, n_read])
    }

    fn cache<'py>(
        &self,
        py: Python<'py>,
        prompts: &Bound<'py, PyAny>,
        names: Vec<String>,
    ) -> PyResult<Vec<(Vec<u32>, Bound<'py, PyDict>)>> {
        let prompts = arguments::prompts(&self.model, prompts)?;
        let names: Vec<Activation> =
            names.iter().map(|name| arguments::parse(name)).collect::<PyResult<_>>()?;
        let model = self.model.clone();
        let caches = background::run(py, None, move |_| model.cache(&prompts, &names))?;
        let of_prompt = |cache: prelude::PromptCache| {
            let arrays = PyDict::new(py);
            for (name, values) in cache.arrays {
                arrays.set_item(name.as_str(), array(py, values.values, &values.shape)?)?;
            }
            Ok((cache.tokens, arrays))
        };
        caches.into_iter().map(of_prompt).collect()
    }

    fn scan<'py>(
        &self,
        py: Python<'py>,
        setup: SetupArg<'py>,
        heads: Option<Vec<String>>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (setup, heads) = (setup.setup()?, arguments::heads(heads)?);
        self.model.check_heads(heads.iter().flatten().copied()).map_err(exception)?;
        let model = self.model.clone();
        let scan =
            background::run(py, progress, move |observe| model.scan(&setup, heads.as_deref(), observe))?;
        let HeadScan { file, per_prompt, prompts, notes } = scan;
        let shape = [per_prompt.n_scanned_heads(), per_prompt.n_distinct()];
        let found = PyDict::new(py);
        found.set_item("notes", notes)?;
        found.set_item("file", json(&file)?)?;
        found.set_item("prompts", json(&prompts.prompts)?)?;
        found.set_item("base", per_prompt.base.into_pyarray(py))?;
        found.set_item("ablated", array(py, per_prompt.ablated, &shape)?)?;
        found.set_item("base_correct", per_prompt.base_correct.into_pyarray(py))?;
        Ok(found)
    }

    fn ablate<'py>(
        &self,
        py: Python<'py>,
        setup: SetupArg<'py>,
        sets: Vec<Vec<String>>,
        split: &str,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (setup, split): (_, Split) = (setup.setup()?, arguments::split(split)?);
        let heads = |names: Vec<String>| {
            let heads = arguments::heads(Some(names))?.unwrap_or_default();
            Ok(heads.into_iter().map(|head| (head.layer, head.head)).collect())
        };
        let sets: Vec<Vec<(u32, u32)>> = sets.into_iter().map(heads).collect::<PyResult<_>>()?;
        let model = self.model.clone();
        let ablated =
            background::run(py, progress, move |observe| model.ablate(&setup, &sets, split, observe))?;
        let (outcomes, prompts) = (ablated.outcomes, ablated.prompts);
        let task = outcomes.task.clone();
        let weights = outcomes.weights.clone();
        let all: Vec<Outcome> = std::iter::once(outcomes.base).chain(outcomes.sets).collect();
        let (n_runs, n_prompts) = (all.len(), weights.len());
        let mean = |values: Vec<f64>| weighted_mean(&values, &weights);
        let wide = |values: &[f32]| mean(values.iter().map(|&x| f64::from(x)).collect());
        let correct = |o: &Outcome| o.correct.iter().map(|&c| f64::from(u8::from(c))).collect();
        let found = PyDict::new(py);
        found.set_item("task", task)?;
        found.set_item("notes", ablated.notes)?;
        found.set_item("prompts", json(&prompts.prompts)?)?;
        found.set_item("accuracy", all.iter().map(|o| mean(correct(o))).collect::<Vec<_>>())?;
        found.set_item("logit_diff", all.iter().map(|o| wide(&o.logit_diff)).collect::<Vec<_>>())?;
        found.set_item("mean_diff", all.iter().map(|o| wide(&o.mean_diff)).collect::<Vec<_>>())?;
        let flat = |of: fn(&Outcome) -> &Vec<f32>| all.iter().flat_map(of).copied().collect::<Vec<_>>();
        let shape = [n_runs, n_prompts];
        found.set_item("logit_diffs", array(py, flat(|o| &o.logit_diff), &shape)?)?;
        found.set_item("mean_diffs", array(py, flat(|o| &o.mean_diff), &shape)?)?;
        let correct: Vec<bool> = all.iter().flat_map(|o| &o.correct).copied().collect();
        found.set_item("correct", array(py, correct, &shape)?)?;
        Ok(found)
    }

    fn trace<'py>(
        &self,
        py: Python<'py>,
        setup: SetupArg<'py>,
        heads: Option<Vec<String>>,
        what: (String, String),
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (setup, heads) = (setup.setup()?, arguments::heads(heads)?);
        let (stream, split) = (arguments::parse(&what.0)?, arguments::split(&what.1)?);
        let model = self.model.clone();
        let traced = background::run(py, progress, move |observe| {
            model.trace(&setup, heads.as_deref(), stream, split, observe)
        })?;
        let trace = traced.trace;
        let means: Vec<f64> =
            trace.influences.iter().map(|of_pairs| weighted_mean(of_pairs, &trace.weights)).collect();
        let shape = [traced.heads.len(), trace.clean.len()];
        let found = PyDict::new(py);
        found.set_item("task", trace.task)?;
        found.set_item("notes", traced.notes)?;
        found.set_item("heads", traced.heads.iter().map(|h| (h.layer, h.head)).collect::<Vec<_>>())?;
        found.set_item("pairs", json(&traced.pairs.pairs)?)?;
        found.set_item("clean_mean", weighted_mean(&trace.clean, &trace.weights))?;
        found.set_item("corrupted_mean", weighted_mean(&trace.corrupted, &trace.weights))?;
        found.set_item("clean", trace.clean.into_pyarray(py))?;
        found.set_item("corrupted", trace.corrupted.into_pyarray(py))?;
        found.set_item("influence", means.into_pyarray(py))?;
        found.set_item("influences", array(py, trace.influences.concat(), &shape)?)?;
        found.set_item("n_left_out", trace.n_left_out)?;
        Ok(found)
    }
}

/// The program's figure of a scan file, given as JSON: its name and the SVG.
#[pyfunction]
pub fn head_map(file: &str) -> PyResult<(String, String)> {
    let scan: ScanFile =
        serde_json::from_str(file).map_err(|e| input(format!("this is not a scan file: {e}")))?;
    let figure = cs_report::figures::head_map(&scan).map_err(|e| exception(e.into()))?;
    Ok((figure.name, figure.svg))
}

/// A parameter, read in place.
fn tensor((name, dtype, shape, bytes): TensorArg<'_>) -> PyResult<InMemoryTensor> {
    let dtype = match dtype.as_str() {
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "float64" => Dtype::F64,
        _ => {
            return Err(input(format!(
                "parameter {name:?} is of type {dtype}; supported are float32, float16, bfloat16 and float64: \
                 dequantise the model first"
            )));
        }
    };
    let bytes =
        Lent::new(&bytes).ok_or_else(|| input(format!("parameter {name:?} is not contiguous in memory")))?;
    Ok(InMemoryTensor { name, dtype, shape, bytes: Arc::new(bytes) })
}

/// Numbers in row-major order as an array of this shape, without a copy.
fn array<'py, T: numpy::Element>(
    py: Python<'py>,
    values: Vec<T>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    values.into_pyarray(py).reshape(shape)
}

fn json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|e| input(e.to_string()))
}
