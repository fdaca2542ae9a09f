//! Models of the Hugging Face Hub: from a name to a folder in the cache, and the download with its progress.

use analysis::known_models::{self, KnownModel};
use cs_hub::{Event, Hub, Settings, Snapshot};
use indicatif::ProgressBar;

use crate::error::CliError;
use crate::miniatures;
use crate::progress::{Display, download_bar};

/// A model of the Hub by name: `gpt2`, `openai-community/gpt2`, or either with `@` and a branch, tag or commit.
#[derive(Clone, Copy)]
pub struct HubName<'a> {
    /// Its id on the Hub.
    pub id: &'a str,
    /// Branch, tag or commit.
    pub revision: &'a str,
    /// What is known of it, if it is one of the published study's.
    pub known: Option<&'static KnownModel>,
}

/// The branch that a name without a revision means.
const MAIN: &str = "main";

impl<'a> HubName<'a> {
    /// What a name means on the Hub; `None` for a shipped model, a folder, and a name that is neither known nor an id.
    pub fn parse(name: &'a str) -> Option<Self> {
        if miniatures::find(name).is_some() || std::path::Path::new(name).is_dir() {
            return None;
        }
        let (bare, revision) = name.split_once('@').unwrap_or((name, MAIN));
        let known = known_models::find(bare);
        let looks_like_a_path = bare.starts_with(['.', '/', '~']) || bare.contains('\\');
        let is_id = bare.matches('/').count() == 1 && !looks_like_a_path;
        match known {
            Some(known) => Some(Self { id: known.hf_name, revision, known: Some(known) }),
            None => is_id.then_some(Self { id: bare, revision, known: None }),
        }
    }

    /// The model in the cache, without asking the network.
    ///
    /// # Errors
    /// A model that is not there, or is there in part.
    pub fn cached(&self) -> Result<Snapshot, CliError> {
        let settings = Settings { offline: true, ..Settings::from_env() };
        Ok(Hub::new(settings).model(self.id, self.revision, &mut |_| ())?)
    }
}

/// Names with a revision added to those that have none and lie on the Hub.
pub fn with_revision(names: &[String], revision: Option<&str>) -> Vec<String> {
    let add = |name: &String| match revision {
        Some(revision) if HubName::parse(name).is_some() && !name.contains('@') => {
            format!("{name}@{revision}")
        }
        _ => name.clone(),
    };
    names.iter().map(add).collect()
}

/// Brings those of the models that lie on the Hub up to date in the cache.
///
/// # Errors
/// A model that does not exist, or a network that does not do its part.
pub fn fetch(names: &[String], display: Display) -> Result<(), CliError> {
    let mut hub = None;
    for name in names.iter().filter_map(|name| HubName::parse(name)) {
        let hub = hub.get_or_insert_with(|| Hub::new(Settings::from_env()));
        let mut bar: Option<ProgressBar> = None;
        let mut observe = |event: Event| match event {
            Event::Start { file, size, have } => {
                display.detail(&format!(
                    "{}: fetching {file}, {size} bytes, into {}",
                    name.id,
                    hub.cache().display()
                ));
                let new = download_bar(display, &format!("{}/{file}", name.id), size);
                new.set_position(have);
                // The rate is that of what comes now.
                new.reset_eta();
                bar = Some(new);
            }
            Event::Bytes(n) => bar.iter().for_each(|bar| bar.set_position(n)),
            Event::Done => bar.take().iter().for_each(ProgressBar::finish_and_clear),
            // The pauses may add up to minutes, which would pass in silence.
            Event::Retry { problem } => {
                let say = || display.note(&format!("{}: {problem}; trying again", name.id));
                bar.as_ref().map_or_else(say, |bar| bar.suspend(say));
            }
            Event::Unreachable { problem } => {
                display.note(&format!("{}: {problem}; going on with what was downloaded before", name.id));
            }
        };
        let fetched = hub.model(name.id, name.revision, &mut observe);
        bar.iter().for_each(ProgressBar::finish_and_clear);
        fetched?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub() {
        let id = |name| HubName::parse(name).map(|n| (n.id.to_owned(), n.revision.to_owned()));
        let hub = |id: &str, revision: &str| Some((id.to_owned(), revision.to_owned()));
        assert_eq!(id("gpt2"), hub("openai-community/gpt2", "main"));
        assert_eq!(id("Pythia-70M@step1000"), hub("EleutherAI/pythia-70m-deduped", "step1000"));
        assert_eq!(id("someone/their-model@v1"), hub("someone/their-model", "v1"));
        for other in ["mini-gpt2-m", "gpt2-tiny", "./gpt2", "/a/b", "a/b/c", "..", "src"] {
            assert_eq!(id(other), None, "{other}");
        }
    }

    #[test]
    fn a_revision_is_for_models_of_the_hub_without_one() {
        let names = ["gpt2", "mini-gpt2-m", "a/b@v1"].map(str::to_owned);
        assert_eq!(with_revision(&names, Some("v2")), ["gpt2@v2", "mini-gpt2-m", "a/b@v1"]);
        assert_eq!(with_revision(&names, None), names);
    }
}
