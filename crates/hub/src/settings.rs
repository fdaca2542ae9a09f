//! Locations of the Hub and its cache, from the environment variables that Python's `huggingface_hub` reads.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use crate::cache::Repo;

/// How to reach the Hub.
#[derive(Clone)]
pub struct Settings {
    /// `HF_ENDPOINT`, by default `https://huggingface.co`.
    pub endpoint: String,
    /// `HF_TOKEN`, else the file that `hf auth login` writes.
    pub token: Option<String>,
    /// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// `HF_HUB_OFFLINE`: use only the cache.
    pub offline: bool,
    /// How long to wait for data from the server; `HF_HUB_DOWNLOAD_TIMEOUT` in seconds.
    pub timeout: Duration,
    /// How often a request is tried before it fails. An attempt that makes progress resets the count.
    pub attempts: u32,
    /// The pause after the first failure; it doubles after each further one.
    pub pause: Duration,
    /// Whether to use the proxy named by `HTTPS_PROXY` and similar variables.
    pub proxy_from_env: bool,
}

impl Settings {
    /// Whether the cache has any revision of a model.
    pub fn has_any_of(&self, id: &str) -> bool {
        Repo::new(&self.cache, id, "main").is_ok_and(|repo| repo.exists())
    }

    /// Settings from the environment.
    pub fn from_env() -> Self {
        let home = path("HF_HOME").unwrap_or_else(|| {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
            caches.unwrap_or_default().join("huggingface")
        });
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = text("HF_TOKEN")
            .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| std::fs::read_to_string(token_file).ok());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let seconds = text("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|t| t.parse().ok()).filter(|&s| s > 0);
        Settings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()),
            cache: cache.unwrap_or_else(|| home.join("hub")),
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
            timeout: Duration::from_secs(seconds.unwrap_or(30)),
            attempts: 5,
            pause: Duration::from_secs(1),
            proxy_from_env: true,
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        // A token must not end up in a log.
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

fn text(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.trim().is_empty())
}

fn path(variable: &str) -> Option<PathBuf> {
    let value = env::var_os(variable).filter(|value| !value.is_empty())?;
    // A value that is not Unicode cannot contain a variable to expand.
    let path = match value.to_str() {
        Some(text) => PathBuf::from(with_variables(text, |name| env::var(name).ok())),
        None => PathBuf::from(value),
    };
    match path.strip_prefix("~") {
        Ok(rest) => Some(env::home_dir()?.join(rest)),
        Err(_) => Some(path),
    }
}

/// Expands `$NAME` and `${NAME}` like Python's `os.path.expandvars`: unset variables are left unchanged, and values are not
/// expanded again.
fn with_variables(text: &str, value_of: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let after = &rest[1..];
        let word = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let (name, len) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, name.len() + 3),
            None => (&after[..word], word + 1),
        };
        match value_of(name).filter(|_| !name.is_empty()) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[..len]),
        }
        rest = &rest[len..];
    }
    out + rest
}

/// True values as in `huggingface_hub`: 1, ON, YES, TRUE in any case.
fn is_true(variable: &str) -> bool {
    text(variable).is_some_and(|v| matches!(v.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}

#[cfg(test)]
mod tests {
    use super::with_variables;

    #[test]
    fn variables_in_paths_are_put_in_as_python_does() {
        let value = |name: &str| match name {
            "HOME" => Some("/home/ada".to_owned()),
            "DATA" => Some("$HOME".to_owned()),
            _ => None,
        };
        // The results of `os.path.expandvars`.
        for (text, expanded) in [
            ("$HOME/hf", "/home/ada/hf"),
            ("${HOME}/hf", "/home/ada/hf"),
            ("/x/$HOME$HOME", "/x//home/ada/home/ada"),
            ("$DATA/hf", "$HOME/hf"),
            ("$UNSET/${UNSET}/hf", "$UNSET/${UNSET}/hf"),
            ("$HOMER/hf", "$HOMER/hf"),
            ("a$", "a$"),
            ("${HOME", "${HOME"),
            ("$/${}", "$/${}"),
            ("plain", "plain"),
        ] {
            assert_eq!(with_variables(text, value), expanded, "{text}");
        }
    }
}
