//! The scan's per-prompt file: the logit difference of every prompt, with each head ablated and with none.
//!
//! The scan file is computed from it, so statistics can be redone without the model. It is an ordinary safetensors file: `base`
//! `[n_distinct]`, `ablated` `[n_layers * n_heads, n_distinct]`, `direct` likewise (absent for post-norm models), `weight` `[n_distinct]`,
//! `split` `[n_distinct]` (0 discovery, 1 held-out, 2 all), `template` `[n_distinct]` (numbered from 0), `base_correct` `[n_distinct]` (0
//! or 1), and the scan's description as JSON under the one metadata key `scan`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{AnalysisError, Result};
use crate::files::write_bytes;
use crate::scan_file::{ScanMeta, Split, are_heads_of};

/// Logit differences per prompt for one model and task.
#[derive(Debug, Clone, PartialEq)]
pub struct PerPromptScan {
    /// What was scanned, and how.
    pub meta: ScanMeta,
    /// Logit difference of each distinct prompt, without ablation. `[n_distinct]`
    pub base: Vec<f32>,
    /// Logit difference with one head ablated, row by row ordered by layer and head. `[n_layers * n_heads, n_distinct]`,
    /// or fewer rows where only some heads were scanned.
    pub ablated: Vec<f32>,
    /// Each head's [direct effect](crate::direct), row by row like `ablated`; `None` for models that have none (post-norm).
    pub direct: Option<Vec<f32>>,
    /// How often each distinct prompt was drawn. `[n_distinct]`
    pub weight: Vec<u32>,
    /// The split each prompt belongs to. `[n_distinct]`
    pub split: Vec<Split>,
    /// The template each prompt was made from, by number. `[n_distinct]`
    pub template: Vec<u32>,
    /// Whether the correct name has the highest logit of all candidate names, without ablation.
    /// `[n_distinct]`
    pub base_correct: Vec<bool>,
}

/// Effects of all heads on the prompts of one split.
#[derive(Debug, Clone, PartialEq)]
pub struct Differences {
    /// `[n_heads_total]` of `[n_prompts]`, in logits.
    pub heads: Vec<Vec<f64>>,
    /// How often each prompt was drawn. `[n_prompts]`
    pub weights: Vec<u32>,
    /// The template of each prompt, by number. `[n_prompts]`
    pub templates: Vec<u32>,
}

impl PerPromptScan {
    /// Number of distinct prompts.
    #[must_use]
    pub fn n_distinct(&self) -> usize {
        self.base.len()
    }

    /// Number of heads that were scanned: all of the model's, unless [`ScanMeta::only_heads`] says otherwise.
    #[must_use]
    pub fn n_scanned_heads(&self) -> usize {
        match &self.meta.only_heads {
            None => (self.meta.n_layers as usize).saturating_mul(self.meta.n_heads as usize),
            Some(only) => only.len(),
        }
    }

    /// The logit differences with head `index` of [`ScanMeta::scanned_heads`] (layer · n_heads + head where all heads were
    /// scanned) ablated. `[n_distinct]`
    #[must_use]
    pub fn ablated_head(&self, index: usize) -> &[f32] {
        &self.ablated[index * self.n_distinct()..(index + 1) * self.n_distinct()]
    }

    /// Positions of the prompts of one split.
    #[must_use]
    pub fn prompts_of(&self, split: Split) -> Vec<usize> {
        (0..self.n_distinct()).filter(|&p| self.split[p] == split).collect()
    }

    /// Each head's effect on each prompt of one split: logit difference with the head ablated minus without.
    #[must_use]
    pub fn differences(&self, split: Split) -> Differences {
        let prompts = self.prompts_of(split);
        let of_head = |head: usize| {
            let ablated = self.ablated_head(head);
            prompts.iter().map(|&p| f64::from(ablated[p]) - f64::from(self.base[p])).collect()
        };
        Differences {
            heads: (0..self.n_scanned_heads()).map(of_head).collect(),
            weights: prompts.iter().map(|&p| self.weight[p]).collect(),
            templates: prompts.iter().map(|&p| self.template[p]).collect(),
        }
    }

    /// Each head's direct effect on each prompt of one split, `[n_scanned_heads]` of `[n_prompts]`, in logits; `None` for models
    /// that have none.
    #[must_use]
    pub fn direct_differences(&self, split: Split) -> Option<Vec<Vec<f64>>> {
        let (direct, prompts) = (self.direct.as_ref()?, self.prompts_of(split));
        let of_head = |head: &[f32]| prompts.iter().map(|&p| f64::from(head[p])).collect();
        Some(direct.chunks_exact(self.n_distinct()).map(of_head).collect())
    }

    /// The split that heads are picked on: `discovery`, or `all` where the protocol has none.
    #[must_use]
    pub fn main_split(&self) -> Split {
        if self.split.contains(&Split::All) { Split::All } else { Split::Discovery }
    }

    /// Checks that the arrays are consistent and finite.
    ///
    /// # Errors
    /// [`AnalysisError::Inconsistent`] with the first problem.
    pub fn check(&self) -> Result<()> {
        let n = self.n_distinct();
        let fault = |problem: String, fix: &str| {
            let what = format!("scan of {} on {}", self.meta.model_name, self.meta.task);
            Err(AnalysisError::inconsistent(what, problem, fix))
        };
        const AGAIN: &str = "scan the model again";
        if n == 0 {
            return fault("no prompts".into(), "draw at least one prompt");
        }
        if self.n_scanned_heads() == 0 {
            return fault("no heads".into(), AGAIN);
        }
        let (n_layers, n_heads) = (self.meta.n_layers, self.meta.n_heads);
        if self.meta.only_heads.as_ref().is_some_and(|only| !are_heads_of(only, n_layers, n_heads)) {
            return fault("`only_heads` are not heads of the model in order".into(), AGAIN);
        }
        let of_heads = self.n_scanned_heads().saturating_mul(n);
        let lengths = [
            ("ablated", self.ablated.len(), of_heads),
            ("direct", self.direct.as_ref().map_or(of_heads, Vec::len), of_heads),
            ("weight", self.weight.len(), n),
            ("split", self.split.len(), n),
            ("template", self.template.len(), n),
            ("base_correct", self.base_correct.len(), n),
        ];
        for (name, found, expected) in lengths {
            if found != expected {
                return fault(format!("`{name}` has {found} entries instead of {expected}"), AGAIN);
            }
        }
        if let Some(prompt) = self.weight.iter().position(|&w| w == 0) {
            return fault(format!("prompt {prompt} has weight 0"), "leave it out");
        }
        if self.split.contains(&Split::All) && self.split.iter().any(|&s| s != Split::All) {
            return fault("some prompts belong to a split and some to none".into(), AGAIN);
        }
        if self.split.iter().all(|&s| s == Split::HeldOut) {
            return fault(
                "every prompt is held out".into(),
                "draw more prompts, so that some are for discovery",
            );
        }
        if let Some(prompt) = self.base.iter().position(|x| !x.is_finite()) {
            return fault(
                format!("the logit difference of prompt {prompt} is not a finite number"),
                "check the checkpoint's weights",
            );
        }
        if let Some(place) = self.ablated.iter().position(|x| !x.is_finite()) {
            let (head, prompt) = (self.meta.scanned_heads()[place / n], place % n);
            return fault(
                format!("the logit difference of prompt {prompt} without head {head} is not a finite number"),
                "check the checkpoint's weights",
            );
        }
        if let Some(place) = self.direct.iter().flatten().position(|x| !x.is_finite()) {
            let (head, prompt) = (self.meta.scanned_heads()[place / n], place % n);
            return fault(
                format!("the direct effect of head {head} on prompt {prompt} is not a finite number"),
                "check the checkpoint's weights",
            );
        }
        Ok(())
    }

    /// Joins scans of some heads each, in order, into one scan of all heads; `None` if their prompts, method or model
    /// differ, or a head is missing.
    #[must_use]
    pub fn join(pieces: &[Self]) -> Option<Self> {
        let first = pieces.first()?;
        let common = |scan: &Self| ScanMeta { only_heads: None, ..scan.meta.clone() };
        let direct = first.direct.as_ref().map(|_| vec![]);
        let mut whole = Self { meta: common(first), ablated: vec![], direct, ..first.clone() };
        for piece in pieces {
            let alike = common(piece) == whole.meta
                && piece.base == whole.base
                && (&piece.weight, &piece.split, &piece.template, &piece.base_correct)
                    == (&whole.weight, &whole.split, &whole.template, &whole.base_correct);
            if !alike {
                return None;
            }
            whole.ablated.extend(&piece.ablated);
            match (&mut whole.direct, &piece.direct) {
                (Some(whole), Some(piece)) => whole.extend(piece),
                (None, None) => {}
                _ => return None,
            }
        }
        let heads: Vec<_> = pieces.iter().flat_map(|piece| piece.meta.scanned_heads()).collect();
        (heads == whole.meta.scanned_heads() && whole.check().is_ok()).then_some(whole)
    }

    /// Writes the per-prompt file, atomically. The same scan always gives the same bytes.
    ///
    /// # Errors
    /// If the arrays are inconsistent ([`PerPromptScan::check`]) or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.check()?;
        let n = self.n_distinct();
        let base = little_endian(&self.base, f32::to_le_bytes);
        let ablated = little_endian(&self.ablated, f32::to_le_bytes);
        let weight = little_endian(&self.weight, u32::to_le_bytes);
        let split: Vec<u8> = self.split.iter().map(|&s| split_code(s)).collect();
        let template = little_endian(&self.template, u32::to_le_bytes);
        let base_correct: Vec<u8> = self.base_correct.iter().map(|&c| u8::from(c)).collect();
        let unwritable = |e: &dyn std::fmt::Display| AnalysisError::Io {
            action: "write",
            path: path.to_owned(),
            source: std::io::Error::other(e.to_string()),
        };
        let view = |dtype, shape: &[usize], bytes| {
            TensorView::new(dtype, shape.to_vec(), bytes).map_err(|e| unwritable(&e))
        };
        let direct = self.direct.as_ref().map(|direct| little_endian(direct, f32::to_le_bytes));
        let mut tensors = vec![
            ("base", view(Dtype::F32, &[n], &base)?),
            ("ablated", view(Dtype::F32, &[self.n_scanned_heads(), n], &ablated)?),
            ("weight", view(Dtype::U32, &[n], &weight)?),
            ("split", view(Dtype::U8, &[n], &split)?),
            ("template", view(Dtype::U32, &[n], &template)?),
            ("base_correct", view(Dtype::U8, &[n], &base_correct)?),
        ];
        if let Some(direct) = &direct {
            tensors.push(("direct", view(Dtype::F32, &[self.n_scanned_heads(), n], direct)?));
        }
        // Only one key: the library keeps them in a hash map, so the order of several would vary between runs.
        let scan = serde_json::to_string(&self.meta).map_err(|e| unwritable(&e))?;
        let metadata = HashMap::from([("scan".to_owned(), scan)]);
        let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|e| unwritable(&e))?;
        write_bytes(path, &bytes)
    }

    /// Reads and checks a per-prompt file.
    ///
    /// # Errors
    /// If the file cannot be read, is not a safetensors file, or its arrays are missing or inconsistent.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(AnalysisError::io("read", path))?;
        let fault = |place: &str, problem: String| {
            AnalysisError::format(path, place, problem, "delete the file and scan the model again")
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| fault("header", e.to_string()))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| fault("header", e.to_string()))?;
        let scan = header.metadata().as_ref().and_then(|m| m.get("scan"));
        let scan = scan.ok_or_else(|| fault("header", "no description of the scan".into()))?;
        let meta: ScanMeta = serde_json::from_str(scan)
            .map_err(|e| fault("header", format!("description of the scan: {e}")))?;
        let array = |name: &'static str, dtype: Dtype| {
            let tensor = tensors.tensor(name).map_err(|e| fault(name, e.to_string()))?;
            if tensor.dtype() != dtype {
                return Err(fault(name, format!("has type {:?} instead of {dtype:?}", tensor.dtype())));
            }
            Ok(tensor.data().to_vec())
        };
        let floats = |bytes: Vec<u8>| -> Vec<f32> {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let counts = |bytes: Vec<u8>| -> Vec<u32> {
            bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let split = array("split", Dtype::U8)?;
        let read = Self {
            meta,
            base: floats(array("base", Dtype::F32)?),
            ablated: floats(array("ablated", Dtype::F32)?),
            direct: match tensors.names().contains(&"direct") {
                true => Some(floats(array("direct", Dtype::F32)?)),
                false => None,
            },
            weight: counts(array("weight", Dtype::U32)?),
            split: split
                .into_iter()
                .map(|code| split_of(code).ok_or_else(|| fault("split", format!("unknown code {code}"))))
                .collect::<Result<_>>()?,
            template: counts(array("template", Dtype::U32)?),
            base_correct: array("base_correct", Dtype::U8)?.into_iter().map(|c| c != 0).collect(),
        };
        read.check().map_err(|e| fault("arrays", e.to_string()))?;
        Ok(read)
    }
}

fn little_endian<T: Copy>(values: &[T], bytes: impl Fn(T) -> [u8; 4]) -> Vec<u8> {
    values.iter().flat_map(|&value| bytes(value)).collect()
}

fn split_code(split: Split) -> u8 {
    match split {
        Split::Discovery => 0,
        Split::HeldOut => 1,
        Split::All => 2,
    }
}

fn split_of(code: u8) -> Option<Split> {
    [Split::Discovery, Split::HeldOut, Split::All].get(usize::from(code)).copied()
}
