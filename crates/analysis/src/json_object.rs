//! JSON objects whose field names depend on the tasks.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The fields of an object that have not been read yet.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// A field that has not been read yet, as text.
    pub(crate) fn show(&self, name: &str) -> Option<String> {
        let value = self.0.get(name)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// Takes a field; a missing one reads as null.
    ///
    /// # Errors
    /// The name of a field with an invalid value, and what is wrong.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, String> {
        let value = self.0.remove(name).unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|e| format!("field `{name}`: {e}"))
    }
}
