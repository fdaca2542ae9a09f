//! A JSON object whose fields are named after tasks, so that no type lists them.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The fields of an object that are still to be read.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// A field that is still there, as text.
    pub(crate) fn show(&self, name: &str) -> Option<String> {
        let value = self.0.get(name)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// Takes a field out; one that is not there reads as null.
    ///
    /// # Errors
    /// The name of a field that holds something else, and why.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, String> {
        let value = self.0.remove(name).unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|e| format!("field `{name}`: {e}"))
    }
}
