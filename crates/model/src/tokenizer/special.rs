//! The tokens that `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` declare, including BOS.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::LoadError;
use crate::families::Bos;
use crate::files::ModelFiles;

const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";

/// Keys under which both files name special tokens.
const ROLES: &[&str] =
    &["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The declarations in the files next to a vocabulary.
#[derive(Default)]
pub(super) struct Declared {
    /// The BOS and the label of the file that names it.
    bos: Option<(String, String)>,
    /// Tokens in the order of their ids.
    with_id: BTreeMap<u32, AddedToken>,
    /// Tokens that are special if the vocabulary has them.
    by_name: Vec<AddedToken>,
    /// Whether a text's first word is encoded as if preceded by a space.
    add_prefix_space: Option<bool>,
    /// Whether a BOS is added before a text.
    add_bos_token: Option<bool>,
    /// The tokenizer's Python class, without `Fast`.
    class: Option<String>,
    /// Whether `tokenizer_config.json` has the list of added tokens.
    lists_added_tokens: bool,
    /// Remarks for the user about the files, one line each.
    pub(super) notes: Vec<String>,
}

impl Declared {
    /// Reads those of the three files that exist.
    pub(super) fn read(files: &ModelFiles) -> Result<Self, LoadError> {
        let mut declared = Declared::default();
        if let Some(config) = object(files, CONFIG)? {
            declared.add_prefix_space = config.get("add_prefix_space").and_then(Value::as_bool);
            declared.add_bos_token = config.get("add_bos_token").and_then(Value::as_bool);
            let class = config.get("tokenizer_class").and_then(Value::as_str);
            declared.class = class.map(|name| name.strip_suffix("Fast").unwrap_or(name).to_owned());
            declared.read_roles(&config, &files.label(CONFIG))?;
            if let Some(Value::Object(tokens)) = config.get("added_tokens_decoder") {
                for (id, value) in tokens {
                    let token = token(value).zip(id.parse().ok());
                    let Some((token, id)) = token else {
                        return Err(malformed(&files.label(CONFIG), "added_tokens_decoder"));
                    };
                    declared.with_id.insert(id, token);
                }
                declared.lists_added_tokens = true;
            }
        }
        if let Some(special) = object(files, SPECIAL)? {
            let label = files.label(SPECIAL);
            let of_config = declared.bos.take();
            declared.read_roles(&special, &label)?;
            // As in Transformers: if the config lists the added tokens, the older file is ignored.
            let (used, stale) = match (of_config, declared.bos.take()) {
                (Some(config), Some(map)) if declared.lists_added_tokens => (Some(config), Some(map)),
                (Some(config), Some(map)) => (Some(map), Some(config)),
                (config, map) => (config.or(map), None),
            };
            if let (Some((used, from)), Some((stale, other))) = (&used, stale)
                && *used != stale
            {
                declared.notes.push(format!(
                    "{other}: names the bos_token {stale:?}, but {from} names {used:?}, which is used; correct or remove \
                     the wrong one"
                ));
            }
            declared.bos = used;
        }
        if let Some(added) = object(files, ADDED)? {
            for (content, id) in added {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                let id = id.ok_or_else(|| malformed(&files.label(ADDED), &content))?;
                declared.with_id.entry(id).or_insert_with(|| AddedToken::from(content, false));
            }
        }
        Ok(declared)
    }

    /// Whether a text's first word is encoded as if preceded by a space; `in_json` is the setting in `tokenizer.json`, if there
    /// is one. The classes of GPT-2 and GPT-NeoX build their own pre-tokenizer using only the config's setting (false by
    /// default); the generic classes use the one in `tokenizer.json`. The second value is a remark for the user.
    pub(super) fn prefix_space(&self, in_json: Option<bool>) -> (bool, Option<String>) {
        let by_config = self.add_prefix_space.unwrap_or(false);
        match (self.class.as_deref(), in_json) {
            (Some("TokenizersBackend"), Some(in_json)) => (in_json, None),
            (Some("PreTrainedTokenizer"), Some(in_json)) if by_config != in_json => {
                let note = format!(
                    "\"add_prefix_space\" is {in_json} in tokenizer.json, and {by_config} by {CONFIG}: Transformers 5 takes the \
                     former, as here, and 4 the latter"
                );
                (in_json, Some(note))
            }
            _ => (by_config, None),
        }
    }

    fn read_roles(&mut self, map: &Map<String, Value>, label: &str) -> Result<(), LoadError> {
        for &role in ROLES {
            let Some(value) = map.get(role).filter(|value| !value.is_null()) else { continue };
            let mut token = token(value).ok_or_else(|| malformed(label, role))?;
            token.special = true;
            if role == "bos_token" && self.bos.is_none() {
                self.bos = Some((token.content.clone(), label.to_owned()));
            }
            self.by_name.push(token);
        }
        if let Some(Value::Array(tokens)) = map.get("additional_special_tokens") {
            for value in tokens {
                let mut token = token(value).ok_or_else(|| malformed(label, "additional_special_tokens"))?;
                token.special = true;
                self.by_name.push(token);
            }
        }
        Ok(())
    }

    /// Adds the declared tokens that a tokenizer does not yet treat as added. Those without an id are added only
    /// if they are in the vocabulary: the model has no row for any others.
    pub(super) fn add_to(&self, tokenizer: &mut tokenizers::Tokenizer, file: &str) -> Result<(), LoadError> {
        let is_added = |tokenizer: &tokenizers::Tokenizer, content: &str| {
            tokenizer.get_added_vocabulary().get_vocab().contains_key(content)
        };
        for (&id, token) in &self.with_id {
            if !is_added(tokenizer, &token.content) {
                tokenizer.add_tokens(std::slice::from_ref(token));
            }
            let found = tokenizer.token_to_id(&token.content);
            if found != Some(id) {
                return Err(LoadError::Tokenizer {
                    file: file.to_owned(),
                    problem: format!(
                        "has {} as the id of {:?}, which {CONFIG} or {ADDED} gives the id {id}",
                        found.map_or_else(|| "nothing".to_owned(), |id| id.to_string()),
                        token.content
                    ),
                    fix: "use tokenizer files that belong together".to_owned(),
                });
            }
        }
        for token in &self.by_name {
            if !is_added(tokenizer, &token.content) && tokenizer.token_to_id(&token.content).is_some() {
                tokenizer.add_special_tokens(std::slice::from_ref(token));
            }
        }
        Ok(())
    }
}

/// The id of the BOS according to the family's rule; `None` if the model has none.
pub(super) fn bos_id(
    tokenizer: &tokenizers::Tokenizer,
    file: &str,
    declared: &mut Declared,
    rule: Bos,
    config_bos: Option<u32>,
    files: &ModelFiles,
) -> Result<Option<u32>, LoadError> {
    match rule {
        Bos::Always(content) => always(tokenizer, file, declared, content, config_bos, files).map(Some),
        Bos::AsTokenizer => as_tokenizer(tokenizer, file, declared, files),
    }
}

/// The BOS named by the tokenizer's files, else `bos_token_id` of `config.json`, else the family's own. If both of the
/// first two are given, they must agree.
fn always(
    tokenizer: &tokenizers::Tokenizer,
    file: &str,
    declared: &Declared,
    content: &str,
    config_bos: Option<u32>,
    files: &ModelFiles,
) -> Result<u32, LoadError> {
    if let Some((content, label)) = &declared.bos {
        let id = declared_id(tokenizer, file, content, label)?;
        return match config_bos {
            Some(other) if other != id => Err(LoadError::Tokenizer {
                file: label.clone(),
                problem: format!(
                    "names the bos_token {content:?} with id {id}, but {} sets \"bos_token_id\": {other}",
                    files.label("config.json")
                ),
                fix: "correct the wrong one: a prompt begins with exactly one BOS".to_owned(),
            }),
            _ => Ok(id),
        };
    }
    if let Some(id) = config_bos.filter(|&id| tokenizer.id_to_token(id).is_some()) {
        return Ok(id);
    }
    tokenizer.token_to_id(content).ok_or_else(|| LoadError::Tokenizer {
        file: file.to_owned(),
        problem: format!("has no BOS: neither a declared one nor {content:?}"),
        fix: format!("name one as \"bos_token\" in {CONFIG}"),
    })
}

fn declared_id(
    tokenizer: &tokenizers::Tokenizer,
    file: &str,
    content: &str,
    label: &str,
) -> Result<u32, LoadError> {
    tokenizer.token_to_id(content).ok_or_else(|| LoadError::Tokenizer {
        file: label.to_owned(),
        problem: format!("names the bos_token {content:?}, which {file} does not have"),
        fix: "use tokenizer files that belong together".to_owned(),
    })
}

/// The token that the tokenizer adds before a text: by the post-processor of `tokenizer.json`, or by `add_bos_token`
/// without one.
fn as_tokenizer(
    tokenizer: &tokenizers::Tokenizer,
    file: &str,
    declared: &mut Declared,
    files: &ModelFiles,
) -> Result<Option<u32>, LoadError> {
    if tokenizer.get_post_processor().is_none() {
        let bos = declared.bos.as_ref().filter(|_| declared.add_bos_token == Some(true));
        return bos.map(|(content, label)| declared_id(tokenizer, file, content, label)).transpose();
    }
    const SOME_TEXT: &str = "a";
    let encode = |special| tokenizer.encode_fast(SOME_TEXT, special).map(|e| e.get_ids().to_vec());
    let (Ok(bare), Ok(with)) = (encode(false), encode(true)) else {
        return Err(LoadError::Tokenizer {
            file: file.to_owned(),
            problem: format!("cannot encode {SOME_TEXT:?}"),
            fix: "fetch it again".to_owned(),
        });
    };
    let n_before = (0..with.len()).find(|&n| with[n..].starts_with(&bare)).unwrap_or(0);
    let found = match &with[..n_before] {
        [] => None,
        &[id] => Some(id),
        several => {
            return Err(LoadError::Tokenizer {
                file: file.to_owned(),
                problem: format!("puts {} tokens before a text", several.len()),
                fix: "use a tokenizer that adds only a BOS, or nothing".to_owned(),
            });
        }
    };
    if let Some(add) = declared.add_bos_token.filter(|&add| add != found.is_some()) {
        declared.notes.push(format!(
            "{}: sets \"add_bos_token\" to {add}, but {file} puts {}; Transformers 5 takes the latter, as here, and 4 the \
             former for tokenizers of Llama's and Gemma's class",
            files.label(CONFIG),
            if add { "none before a text" } else { "one before every text" }
        ));
    }
    Ok(found)
}

/// A file with a JSON object, or `None` if it does not exist.
fn object(files: &ModelFiles, file: &str) -> Result<Option<Map<String, Value>>, LoadError> {
    let Some(json) = files.read(file)? else { return Ok(None) };
    serde_json::from_slice(&json).map(Some).map_err(|e| LoadError::Tokenizer {
        file: files.label(file),
        problem: format!("does not hold a JSON object ({e})"),
        fix: "fetch it again".to_owned(),
    })
}

/// A token given as text, or as an object with flags.
fn token(value: &Value) -> Option<AddedToken> {
    match value {
        Value::String(content) => Some(AddedToken::from(content.as_str(), true)),
        Value::Object(fields) => {
            let flag = |name: &str| fields.get(name).and_then(Value::as_bool);
            let special = flag("special").unwrap_or(false);
            Some(
                AddedToken::from(fields.get("content")?.as_str()?, special)
                    .single_word(flag("single_word").unwrap_or(false))
                    .lstrip(flag("lstrip").unwrap_or(false))
                    .rstrip(flag("rstrip").unwrap_or(false))
                    .normalized(flag("normalized").unwrap_or(!special)),
            )
        }
        _ => None,
    }
}

fn malformed(label: &str, key: &str) -> LoadError {
    LoadError::Tokenizer {
        file: label.to_owned(),
        problem: format!("has no token under {key:?}"),
        fix: "fetch it again".to_owned(),
    }
}
