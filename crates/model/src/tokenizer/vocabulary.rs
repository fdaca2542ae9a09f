//! `tokenizer.json`, or `vocab.json` and `merges.txt`, → a BPE.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Deserialize;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

use super::special::Declared;
use crate::error::LoadError;
use crate::files::ModelFiles;

const JSON: &str = "tokenizer.json";
const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";

/// Larger ids are treated as damage; this is far above any vocabulary.
const MAX_ID: u32 = 1 << 24;

/// The parts of a `tokenizer.json` that decide whether it is supported.
#[derive(Deserialize)]
struct Outline {
    normalizer: Option<Component>,
    pre_tokenizer: Option<Component>,
    decoder: Option<Component>,
    #[serde(default)]
    added_tokens: Vec<AddedId>,
    model: ModelOutline,
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "type")]
    kind: String,
    /// What `Split` does with the matches.
    behavior: Option<String>,
    #[serde(default, alias = "normalizers", alias = "pretokenizers", alias = "decoders")]
    sequence: Vec<Component>,
}

impl Component {
    /// A component whose kind is not in `kinds`, in a sequence or alone.
    fn other_than(&self, kinds: &[&str]) -> Option<&Component> {
        match self.kind.as_str() {
            "Sequence" => self.sequence.iter().find_map(|inner| inner.other_than(kinds)),
            kind => (!kinds.contains(&kind)).then_some(self),
        }
    }

    /// Whether there is a component of this kind, in a sequence or alone.
    fn has(&self, kind: &str) -> bool {
        self.kind == kind || self.sequence.iter().any(|inner| inner.has(kind))
    }
}

#[derive(Deserialize)]
struct AddedId {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct ModelOutline {
    // Old files omit the type.
    #[serde(rename = "type")]
    kind: Option<String>,
    dropout: Option<f32>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    vocab: HashMap<String, u32>,
}

/// The tokenizer without the tokens that other files declare, and the label of its file.
pub(super) fn read(
    files: &ModelFiles,
    declared: &mut Declared,
) -> Result<Option<(tokenizers::Tokenizer, String)>, LoadError> {
    let mut in_json = None;
    let (mut tokenizer, label) = if let Some(json) = files.read(JSON)? {
        let label = files.label(JSON);
        let tokenizer = from_json(&json).map_err(|problem| error(&label, problem))?;
        in_json = byte_level(&tokenizer).map(|level| level.add_prefix_space);
        (tokenizer, label)
    } else if let Some(vocab) = files.read(VOCAB)? {
        let label = files.label(VOCAB);
        let merges_label = files.label(MERGES);
        let Some(merges) = files.read(MERGES)? else {
            return Err(LoadError::MissingFile {
                file: merges_label,
                fix: format!("{VOCAB} needs it, unless there is a {JSON}"),
            });
        };
        (from_vocab(&vocab, &label, &merges, &merges_label)?, label)
    } else {
        return Ok(None);
    };
    if let Some(level) = byte_level(&tokenizer) {
        let (add, note) = declared.prefix_space(in_json);
        tokenizer.with_pre_tokenizer(Some(level.add_prefix_space(add)));
        declared.notes.extend(note.map(|note| format!("{label}: {note}")));
    }
    Ok(Some((tokenizer, label)))
}

/// The error for a model without a tokenizer.
pub(super) fn missing(files: &ModelFiles) -> LoadError {
    LoadError::MissingFile {
        file: files.label(JSON),
        fix: format!("put the model's {JSON}, or its {VOCAB} and {MERGES}, there"),
    }
}

fn from_json(json: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    let outline: Outline =
        serde_json::from_slice(json).map_err(|e| format!("is not a BPE tokenizer.json ({e})"))?;
    check_outline(&outline)?;
    // `tokenizers` panics on some files that the check above rejects (a subword prefix longer than a token).
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(json)
        .map_err(|e| format!("is not a valid tokenizer.json ({e})"))?;
    // A file may contain truncation and padding settings from a training run.
    tokenizer.with_padding(None).with_truncation(None).map_err(|e| e.to_string())?;
    for AddedId { id, content } in &outline.added_tokens {
        let found = tokenizer.token_to_id(content);
        if found != Some(*id) {
            return Err(format!(
                "gives the added token {content:?} the id {id}, but its position makes it {found:?}"
            ));
        }
    }
    Ok(tokenizer)
}

/// Accepts byte-level BPE, or BPE with byte fallback, and only components that drop nothing: these can encode every
/// text.
fn check_outline(outline: &Outline) -> Result<(), String> {
    let model = &outline.model;
    if !matches!(model.kind.as_deref(), None | Some("BPE")) {
        let kind = model.kind.as_deref().unwrap_or("null");
        return Err(format!("has a model of type {kind}, but only BPE is supported"));
    }
    let only = |what: &str, component: &Option<Component>, kinds: &[&str]| match component
        .as_ref()
        .and_then(|component| component.other_than(kinds))
    {
        None => Ok(()),
        Some(other) => {
            Err(format!("has a {what} of type {}, but only {} are supported", other.kind, kinds.join(", ")))
        }
    };
    only("normalizer", &outline.normalizer, &["NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace"])?;
    only("pre_tokenizer", &outline.pre_tokenizer, &["ByteLevel", "Split", "Digits", "Metaspace"])?;
    let decoders = ["ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"];
    only("decoder", &outline.decoder, &decoders)?;
    if outline.pre_tokenizer.as_ref().is_some_and(drops_matches) {
        return Err("has a pre_tokenizer that removes a part of the text".to_owned());
    }
    if model.dropout.is_some_and(|p| p != 0.0) {
        return Err("sets \"dropout\", which makes tokens random".to_owned());
    }
    let is_set = |affix: &Option<String>| affix.as_ref().is_some_and(|a| !a.is_empty());
    if is_set(&model.continuing_subword_prefix) || is_set(&model.end_of_word_suffix) {
        return Err("marks subwords, which is not supported".to_owned());
    }
    let has = |component: &Option<Component>, kind: &str| component.as_ref().is_some_and(|c| c.has(kind));
    let is_byte_level = has(&outline.pre_tokenizer, "ByteLevel");
    if is_byte_level != has(&outline.decoder, "ByteLevel") {
        let (one, other) =
            if is_byte_level { ("pre_tokenizer", "decoder") } else { ("decoder", "pre_tokenizer") };
        return Err(format!("has a {one} of type ByteLevel, but a {other} of another"));
    }
    check_ids(&model.vocab)?;
    match is_byte_level {
        true => check_alphabet(&model.vocab)?,
        false if model.byte_fallback => check_fallback(&model.vocab)?,
        false => {
            return Err(
                "is not a byte-level BPE and has no byte fallback, so it would drop a part of some texts"
                    .to_owned(),
            );
        }
    }
    match outline.added_tokens.iter().find(|token| token.id > MAX_ID) {
        Some(token) => {
            Err(format!("gives {:?} the id {}, which is beyond {MAX_ID}", token.content, token.id))
        }
        None => Ok(()),
    }
}

/// Whether a `Split` removes what it finds.
fn drops_matches(component: &Component) -> bool {
    component.behavior.as_deref() == Some("Removed") || component.sequence.iter().any(drops_matches)
}

/// Requires unique and plausible ids.
fn check_ids(vocab: &HashMap<String, u32>) -> Result<(), String> {
    let mut by_id = BTreeMap::new();
    for (token, &id) in vocab {
        if id > MAX_ID {
            return Err(format!("gives {token:?} the id {id}, which is beyond {MAX_ID}"));
        }
        if let Some(other) = by_id.insert(id, token) {
            let (a, b) = (other.min(token), other.max(token));
            return Err(format!("gives the id {id} to both {a:?} and {b:?}"));
        }
    }
    Ok(())
}

/// Requires a token for every byte of common UTF-8, in the characters that byte-level BPE uses for them.
fn check_alphabet(vocab: &HashMap<String, u32>) -> Result<(), String> {
    // Bytes 0xC0, 0xC1 and 0xF5 to 0xFF, which represent themselves in the alphabet, occur in no text; Pythia's
    // tokenizer lacks them.
    let in_utf8 = |c: &char| !matches!(c, 'À' | 'Á' | 'õ'..='ÿ');
    let is_rare = |c: &char| rare_bytes().any(|(_, rare)| rare == *c);
    let bytes: BTreeSet<char> =
        ByteLevel::alphabet().into_iter().filter(|c| in_utf8(c) && !is_rare(c)).collect();
    match bytes.iter().find(|c| !vocab.contains_key(c.encode_utf8(&mut [0; 4]) as &str)) {
        Some(c) => {
            Err(format!("has no token for every byte: {c:?} is missing, and some text would be dropped"))
        }
        None => Ok(()),
    }
}

/// Bytes that a tokenizer may lack, as SmolLM2's does, and the characters that byte-level BPE uses for them: control
/// characters, and the first bytes of characters beyond the planes in use. A text that contains one is rejected.
fn rare_bytes() -> impl Iterator<Item = (u8, char)> {
    let controls = (0..0x20u8).filter(|byte| !matches!(byte, b'\t' | b'\n' | b'\r'));
    let controls = controls.filter_map(|byte| Some((byte, char::from_u32(0x100 + u32::from(byte))?)));
    controls.chain((0xf1..=0xf4).map(|byte| (byte, char::from(byte))))
}

/// The bytes for which a tokenizer has no token, and which it would drop.
pub(super) fn unknown_bytes(tokenizer: &tokenizers::Tokenizer) -> Vec<u8> {
    let is_byte_level = tokenizer
        .get_decoder()
        .is_some_and(|decoder| matches!(decoder, tokenizers::DecoderWrapper::ByteLevel(_)));
    let is_unknown = |c: char| tokenizer.token_to_id(c.encode_utf8(&mut [0; 4])).is_none();
    rare_bytes().filter(|&(_, c)| is_byte_level && is_unknown(c)).map(|(byte, _)| byte).collect()
}

/// Requires a token for every byte of UTF-8, in the notation of byte fallback.
fn check_fallback(vocab: &HashMap<String, u32>) -> Result<(), String> {
    let in_utf8 = |byte: &u8| !matches!(byte, 0xc0 | 0xc1 | 0xf5..);
    let name = |byte: u8| format!("<0x{byte:02X}>");
    match (0..=u8::MAX).filter(in_utf8).map(name).find(|token| !vocab.contains_key(token)) {
        Some(token) => {
            Err(format!("has no token for every byte: {token:?} is missing, and some text would be dropped"))
        }
        None => Ok(()),
    }
}

fn from_vocab(
    vocab: &[u8],
    vocab_label: &str,
    merges: &[u8],
    merges_label: &str,
) -> Result<tokenizers::Tokenizer, LoadError> {
    let vocab: HashMap<String, u32> = serde_json::from_slice(vocab)
        .map_err(|e| error(vocab_label, format!("is not a map from tokens to ids ({e})")))?;
    check_ids(&vocab).and_then(|()| check_alphabet(&vocab)).map_err(|problem| error(vocab_label, problem))?;
    let merges = parse_merges(merges, &vocab).map_err(|problem| error(merges_label, problem))?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocab.into_iter().collect::<tokenizers::models::bpe::Vocab>(), merges)
        .build()
        .map_err(|e| error(merges_label, format!("does not fit {VOCAB} ({e})")))?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    // GPT-2's own pre-tokenizer, which GPT-Neo and OPT share; Transformers builds the same from these two files.
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

/// One merge per line, `left right`, most frequent first, after an optional version line.
fn parse_merges(merges: &[u8], vocab: &HashMap<String, u32>) -> Result<Vec<(String, String)>, String> {
    let text = std::str::from_utf8(merges).map_err(|e| format!("is not UTF-8 ({e})"))?;
    let mut pairs = Vec::new();
    let mut seen = HashSet::new();
    for (i, line) in text.lines().enumerate() {
        if line.is_empty() || (i == 0 && line.starts_with("#version")) {
            continue;
        }
        let line_number = i + 1;
        let Some((left, right)) = line.split_once(' ').filter(|(_, right)| !right.contains(' ')) else {
            return Err(format!("has no pair of tokens in line {line_number}: {line:?}"));
        };
        let merged = format!("{left}{right}");
        if let Some(unknown) = [left, right, &merged].into_iter().find(|&token| !vocab.contains_key(token)) {
            return Err(format!(
                "merges {line:?} in line {line_number}, but {VOCAB} has no token {unknown:?}"
            ));
        }
        if !seen.insert(line) {
            return Err(format!("merges {line:?} a second time in line {line_number}"));
        }
        pairs.push((left.to_owned(), right.to_owned()));
    }
    Ok(pairs)
}

/// A tokenizer's byte-level pre-tokenizer.
fn byte_level(tokenizer: &tokenizers::Tokenizer) -> Option<ByteLevel> {
    match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::ByteLevel(level)) => Some(*level),
        _ => None,
    }
}

fn error(file: &str, problem: String) -> LoadError {
    LoadError::Tokenizer {
        file: file.to_owned(),
        problem,
        fix: "use the tokenizer files that belong to this checkpoint".to_owned(),
    }
}
