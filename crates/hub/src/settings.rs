//! Where the Hub and its cache are, by the environment variables that Python's `huggingface_hub` reads.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

/// How to reach the Hub.
#[derive(Clone)]
pub struct Settings {
    /// `HF_ENDPOINT`, by default `https://huggingface.co`.
    pub endpoint: String,
    /// `HF_TOKEN`, else the file that `hf auth login` writes.
    pub token: Option<String>,
    /// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// `HF_HUB_OFFLINE`: answer from the cache alone.
    pub offline: bool,
    /// How long the server may be silent; `HF_HUB_DOWNLOAD_TIMEOUT` in seconds.
    pub timeout: Duration,
    /// How often a request is tried before it counts as failed. Attempts that bring a download further count anew.
    pub attempts: u32,
    /// The wait after the first failure; it doubles with each further one.
    pub pause: Duration,
    /// Whether to go through the proxy that `HTTPS_PROXY` and its like name.
    pub proxy_from_env: bool,
}

impl Settings {
    /// The Hub as the environment describes it.
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
    let path = PathBuf::from(value);
    match path.strip_prefix("~") {
        Ok(rest) => Some(env::home_dir()?.join(rest)),
        Err(_) => Some(path),
    }
}

/// As `huggingface_hub` reads truth: 1, ON, YES, TRUE in any case.
fn is_true(variable: &str) -> bool {
    text(variable).is_some_and(|v| matches!(v.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}
