//! Strict, typed access to the keys of a `config.json`.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::error::ConfigError;

/// Larger widths and counts are treated as damage; this keeps every product of sizes within `u64`.
const MAX_SIZE: u64 = 1 << 24;

/// More layers are treated as damage: per-layer settings are allocated before any file is opened.
const MAX_LAYERS: usize = 1 << 12;

/// The keys of one `config.json`. Every accessor marks its key as read, so that [`Keys::finish`] can report the
/// others.
pub(crate) struct Keys<'a> {
    file: &'a str,
    map: &'a Map<String, Value>,
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(file: &'a str, map: &'a Map<String, Value>) -> Self {
        Keys { file, map, read: RefCell::default() }
    }

    /// The value under any of several names; names with different values are an error. `null` counts as a value.
    fn lookup(&self, names: &[&'static str]) -> Result<Option<(&'static str, &'a Value)>, ConfigError> {
        let mut found: Option<(&'static str, &'a Value)> = None;
        for &name in names {
            self.read.borrow_mut().insert(name);
            let Some(value) = self.map.get(name) else { continue };
            match found {
                Some((first, earlier)) if earlier != value => {
                    return Err(self.error(
                        name,
                        &format!("contradicts {first:?}: {}, which is the same setting", shorten(earlier)),
                        "keep the one that the checkpoint was trained with",
                    ));
                }
                Some(_) => {}
                None => found = Some((name, value)),
            }
        }
        Ok(found)
    }

    /// Like [`Keys::lookup`], but `null` counts as absent.
    pub(crate) fn optional(
        &self,
        names: &[&'static str],
    ) -> Result<Option<(&'static str, &'a Value)>, ConfigError> {
        Ok(self.lookup(names)?.filter(|(_, value)| !value.is_null()))
    }

    /// A positive whole number.
    pub(crate) fn size(&self, names: &[&'static str], default: usize) -> Result<usize, ConfigError> {
        match self.lookup(names)? {
            Some((key, value)) => self.as_size(key, value),
            None => Ok(default),
        }
    }

    /// A positive whole number that may also be `null` or absent.
    pub(crate) fn optional_size(&self, names: &[&'static str]) -> Result<Option<usize>, ConfigError> {
        self.optional(names)?.map(|(key, value)| self.as_size(key, value)).transpose()
    }

    /// The number of layers, which is bounded more tightly than other sizes.
    pub(crate) fn layers(&self, names: &[&'static str], default: usize) -> Result<usize, ConfigError> {
        let n = self.size(names, default)?;
        if n > MAX_LAYERS {
            let key = names.iter().find(|name| self.map.contains_key(**name)).unwrap_or(&names[0]);
            return Err(self.error(key, &format!("is beyond {MAX_LAYERS} layers"), "correct it"));
        }
        Ok(n)
    }

    /// A non-negative whole number.
    pub(crate) fn count(&self, name: &'static str, default: usize) -> Result<usize, ConfigError> {
        match self.lookup(&[name])? {
            None => Ok(default),
            Some((_, value)) if value.as_u64() == Some(0) => Ok(0),
            Some((key, value)) => self.as_size(key, value),
        }
    }

    fn as_size(&self, key: &str, value: &Value) -> Result<usize, ConfigError> {
        match value.as_u64() {
            Some(n @ 1..=MAX_SIZE) => Ok(n as usize),
            _ => Err(self.error(
                key,
                &format!("is not a whole number from 1 to {MAX_SIZE}"),
                "correct it to the checkpoint's size",
            )),
        }
    }

    /// A finite number above zero.
    pub(crate) fn positive(&self, names: &[&'static str], default: f64) -> Result<f64, ConfigError> {
        match self.lookup(names)? {
            Some((key, value)) => value
                .as_f64()
                .filter(|x| x.is_finite() && *x > 0.0)
                .ok_or_else(|| self.error(key, "is not a number above 0", "correct it")),
            None => Ok(default),
        }
    }

    /// `true` or `false`; Python's 1 and 0 are accepted too.
    pub(crate) fn flag(&self, name: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.lookup(&[name])? {
            Some((_, Value::Bool(b))) => Ok(*b),
            Some((_, value)) if value.as_u64() == Some(0) => Ok(false),
            Some((_, value)) if value.as_u64() == Some(1) => Ok(true),
            Some((key, _)) => Err(self.error(key, "is neither true nor false", "correct it")),
            None => Ok(default),
        }
    }

    /// A string.
    pub(crate) fn text(&self, name: &'static str, default: &'a str) -> Result<&'a str, ConfigError> {
        match self.lookup(&[name])? {
            Some((_, Value::String(s))) => Ok(s),
            Some((key, _)) => Err(self.error(key, "is not a string", "correct it")),
            None => Ok(default),
        }
    }

    /// The raw value of `name`, for settings with their own structure.
    pub(crate) fn raw(&self, name: &'static str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(name);
        self.map.get(name)
    }

    /// Rejects every key that was not read, unless it is known to have no effect, is private to some library (`_…`),
    /// or its value means "off".
    pub(crate) fn finish(&self, harmless: &[&[&str]]) -> Result<(), ConfigError> {
        let read = self.read.borrow();
        let known = |key: &str| {
            read.contains(key) || key.starts_with('_') || harmless.iter().any(|list| list.contains(&key))
        };
        match self.map.iter().find(|(key, value)| !known(key) && !is_off(value)) {
            None => Ok(()),
            Some((key, _)) => Err(self.error(
                key,
                "is a setting that is not supported here and might change the result",
                "if you know that it does not, remove it from the file",
            )),
        }
    }

    /// An error about `key`, quoting its value.
    pub(crate) fn error(&self, key: &str, problem: &str, fix: &str) -> ConfigError {
        ConfigError {
            file: self.file.to_owned(),
            key: key.to_owned(),
            value: self.map.get(key).map(shorten),
            problem: problem.to_owned(),
            fix: fix.to_owned(),
        }
    }
}

/// `null`, `false`, 0 and empty values turn nothing on.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

/// A value as one line of JSON, truncated to 80 characters.
pub(crate) fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
