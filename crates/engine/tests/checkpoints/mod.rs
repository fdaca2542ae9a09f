//! The checkpoints in `tests/golden` (see its README), and Transformers' results for them.
#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::path::{Path, PathBuf};

use cs_engine::decoder::Decoder;
use cs_engine::intervention::Branch;
use cs_engine::{Compute, EngineError, Options, Prompt, Readings};
use cs_model::ModelFiles;
use cs_model::checkpoint::Checkpoint;
use cs_model::config::ModelConfig;
use safetensors::SafeTensors;

/// Tolerance relative to max(1, the largest value of a table); float32 noise on these models is a tenth of
/// that.
pub const TOLERANCE: f64 = 2e-5;

pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Those of GPT-2, GPT-NeoX, OPT and GPT-Neo, and those of the families with grouped heads, RMS norms, gates or scaled rotary, without
/// the one that is rejected.
pub fn names() -> Vec<String> {
    let read = |file: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(golden().join(file)).unwrap()).unwrap()
    };
    let lists = [read("index.json"), read("decoders.json")];
    let checkpoints = lists.iter().flat_map(|list| list.as_array().unwrap());
    // It normalizes each head's queries and keys with a separate gain, and is rejected.
    let supported = checkpoints.filter(|c| c["name"] != "stablelm-parallel");
    supported.map(|c| c["name"].as_str().unwrap().to_owned()).collect()
}

pub fn decoder(name: &str) -> Decoder {
    let files = ModelFiles::folder(golden().join(name)).unwrap();
    let config = ModelConfig::open(&files).unwrap();
    let weights = cs_engine::load(&Checkpoint::open(&files, &config).unwrap()).unwrap();
    Decoder::new(config.spec, weights)
}

/// The same on a device, its blocks straight from the file.
pub fn loaded(name: &str, compute: &Compute) -> Decoder {
    loaded_from(&golden().join(name), compute).unwrap()
}

pub fn loaded_from(folder: &Path, compute: &Compute) -> Result<Decoder, EngineError> {
    let files = ModelFiles::folder(folder).unwrap();
    let config = ModelConfig::open(&files).unwrap();
    Decoder::load(config.spec.clone(), &Checkpoint::open(&files, &config).unwrap(), compute)
}

/// The expected values of one checkpoint. Prompts beyond the length at which its rotary frequencies change are left out: the
/// model is only supported up to that length.
pub struct Expected {
    name: String,
    bytes: Vec<u8>,
    n_ctx: usize,
}

impl Expected {
    pub fn read(name: &str) -> Self {
        let bytes = std::fs::read(golden().join(name).join("expected.safetensors")).unwrap();
        let files = ModelFiles::folder(golden().join(name)).unwrap();
        let n_ctx = ModelConfig::open(&files).unwrap().spec.n_ctx;
        Self { name: name.to_owned(), bytes, n_ctx }
    }

    /// The prompts that the model can read.
    pub fn is_read(&self) -> Vec<bool> {
        self.ints("prompt_lengths").iter().map(|&len| len as usize <= self.n_ctx).collect()
    }

    pub fn raw(&self, tensor: &str) -> Option<Vec<[u8; 4]>> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(tensor).ok()?;
        Some(view.data().as_chunks::<4>().0.to_vec())
    }

    pub fn floats(&self, tensor: &str) -> Option<Vec<f64>> {
        Some(self.raw(tensor)?.into_iter().map(|b| f64::from(f32::from_le_bytes(b))).collect())
    }

    pub fn ints(&self, tensor: &str) -> Vec<u32> {
        self.raw(tensor).unwrap().into_iter().map(u32::from_le_bytes).collect()
    }

    pub fn ragged(&self, tensor: &str) -> Vec<Vec<u32>> {
        let all = self.ints(tensor);
        let mut rest = &all[..];
        let take = |len: &u32| {
            let (head, tail) = rest.split_at(*len as usize);
            rest = tail;
            head.to_vec()
        };
        let prompts: Vec<Vec<u32>> = self.ints("prompt_lengths").iter().map(take).collect();
        prompts.into_iter().filter(|prompt| prompt.len() <= self.n_ctx).collect()
    }

    /// Prompts whose groups are their lengths, and whose sources are their partners.
    pub fn prompts(&self) -> Vec<Prompt> {
        let pairs = self.ragged("prompt_tokens").into_iter().zip(self.ragged("partner_tokens"));
        let read = self.ints("correct_ids").into_iter().zip(self.ints("distractor_ids"));
        let read = read.zip(self.is_read()).filter(|(_, is_read)| *is_read);
        pairs
            .zip(read.map(|(ids, _)| ids))
            .map(|((tokens, partner), (correct, distractor))| Prompt {
                group: tokens.len() as u32,
                tokens,
                source: Some(partner),
                weight: 1.0,
                references: None,
                read: vec![correct, distractor],
            })
            .collect()
    }

    pub fn check(&self, tensor: &str, got: &[f64]) {
        let Some(expected) = self.floats(tensor) else { panic!("{}: no {tensor}", self.name) };
        self.compare(tensor, &expected, got);
    }

    /// Checks a table whose last axis is prompts.
    pub fn check_prompts(&self, tensor: &str, got: &[f64]) {
        let Some(expected) = self.floats(tensor) else { panic!("{}: no {tensor}", self.name) };
        let is_read = self.is_read();
        let read = expected.iter().zip(is_read.iter().cycle()).filter(|(_, is_read)| **is_read);
        self.compare(tensor, &read.map(|(x, _)| *x).collect::<Vec<_>>(), got);
    }

    /// Checks the logits at every position of the prompts that the model can read.
    pub fn check_logits(&self, decoder: &Decoder, got: &[f64]) {
        let all = self.floats("logits").unwrap();
        let (mut rest, mut of_read) = (&all[..], vec![]);
        for (len, is_read) in self.ints("prompt_lengths").into_iter().zip(self.is_read()) {
            let (prompt, others) = rest.split_at(len as usize * decoder.spec().d_vocab);
            of_read.extend(prompt.iter().copied().filter(|_| is_read));
            rest = others;
        }
        self.compare("logits", &of_read, got);
    }

    pub fn compare(&self, tensor: &str, expected: &[f64], got: &[f64]) {
        assert_eq!(expected.len(), got.len(), "{}: {tensor}", self.name);
        let scale = expected.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
        for (i, (e, g)) in expected.iter().zip(got).enumerate() {
            assert!((e - g).abs() <= TOLERANCE * scale, "{}: {tensor}[{i}] is {g}, expected {e}", self.name);
        }
    }
}

/// Logit differences of every branch at every prompt, branch by branch.
pub fn differences(decoder: &Decoder, prompts: &[Prompt], branches: &[Branch], memory: usize) -> Vec<f64> {
    let readings = Readings::collect(decoder, prompts, branches, Options { memory }).unwrap();
    let difference = |logits: &[f64]| logits[0] - logits[1];
    let of_branch = |b| (0..prompts.len()).map(move |p| (b, p));
    (0..branches.len()).flat_map(of_branch).map(|(b, p)| difference(readings.branch(b, p))).collect()
}

pub fn heads(decoder: &Decoder) -> Vec<(usize, usize)> {
    let spec = decoder.spec();
    (0..spec.n_layers).flat_map(|l| (0..spec.n_heads).map(move |h| (l, h))).collect()
}
