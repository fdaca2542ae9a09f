//! Models of the Hugging Face Hub: from a name to a folder in the cache, and the download with its progress.

use cs_analysis::known_models::split_revision;
use cs_hub::{Event, Hub, HubError, Settings, Snapshot};
use cs_model::families::{KnownModel, known_model};
use indicatif::ProgressBar;

use crate::error::CliError;
use crate::miniatures;
use crate::progress::{Display, download_bar};

/// A model of the Hub by name: `gpt2`, `openai-community/gpt2`, or either with `@` and a branch, tag or commit.
#[derive(Clone, Copy)]
pub struct HubName<'a> {
    /// The name as given, without the revision.
    typed: &'a str,
    /// Its id on the Hub.
    pub id: &'a str,
    /// Branch, tag or commit.
    pub revision: &'a str,
    /// The known model, if it has a short name.
    pub known: Option<&'static KnownModel>,
}

/// The branch of a name without a revision.
pub const MAIN: &str = "main";

impl<'a> HubName<'a> {
    /// Parses a name of a Hub model; `None` for a bundled model, a folder, or a name that is neither known nor an id. An id
    /// without an organisation, as the oldest models had, counts if it is in the cache.
    pub fn parse(name: &'a str) -> Option<Self> {
        if miniatures::find(name).is_some() || std::path::Path::new(name).is_dir() {
            return None;
        }
        let (typed, revision) = split_revision(name);
        let revision = revision.unwrap_or(MAIN);
        if let Some(known) = known_model(typed) {
            return Some(Self { typed, id: known.hub_id, revision, known: Some(known) });
        }
        let looks_like_a_path = typed.starts_with(['.', '/', '~']) || typed.contains('\\');
        let is_id = match typed.matches('/').count() {
            0 => !looks_like_a_path && Settings::from_env().has_any_of(typed),
            n => n == 1 && !looks_like_a_path,
        };
        is_id.then_some(Self { typed, id: typed, revision, known: None })
    }

    /// The ids under which a cache may have the model, starting with the name as given, which is what Python
    /// looks for.
    fn ids(&self) -> impl Iterator<Item = &'a str> {
        let former = self.known.and_then(|known| known.former_hub_id);
        [Some(self.typed), Some(self.id), former].into_iter().flatten()
    }

    /// The name in tables and files: the short name, with the revision if it is not the default branch.
    pub fn name(&self) -> String {
        let last = self.id.rsplit('/').next().unwrap_or(self.id);
        let bare = self.known.map_or(last, |known| known.name);
        match self.revision {
            MAIN => bare.to_owned(),
            revision => format!("{bare}@{revision}"),
        }
    }

    /// The model in the cache, without asking the network.
    ///
    /// # Errors
    /// A model that is missing or incomplete.
    pub fn cached(&self) -> Result<Snapshot, CliError> {
        Ok(self.cached_as(Settings::from_env())?.1)
    }

    /// The id under which the cache has the model, with its snapshot.
    fn cached_as(&self, settings: Settings) -> Result<(&'a str, Snapshot), HubError> {
        let offline = Hub::new(Settings { offline: true, ..settings });
        for id in self.ids() {
            match offline.model(id, self.revision, &mut |_| ()) {
                Err(HubError::NotCached { .. }) => {}
                other => return other.map(|snapshot| (id, snapshot)),
            }
        }
        let cache = offline.cache().to_owned();
        Err(HubError::NotCached { id: self.id.to_owned(), revision: self.revision.to_owned(), cache })
    }
}

/// The names, with a revision added to those of the Hub that have none.
pub fn with_revision(names: &[String], revision: Option<&str>) -> Vec<String> {
    let add = |name: &String| match revision {
        Some(revision) if HubName::parse(name).is_some() && !name.contains('@') => {
            format!("{name}@{revision}")
        }
        _ => name.clone(),
    };
    names.iter().map(add).collect()
}

/// Updates the cache for those models that are from the Hub.
///
/// # Errors
/// A model that does not exist, or a network that fails.
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
                // Measure the rate of this download only.
                new.reset_eta();
                bar = Some(new);
            }
            Event::Bytes(n) => bar.iter().for_each(|bar| bar.set_position(n)),
            Event::Done => bar.take().iter().for_each(ProgressBar::finish_and_clear),
            // The pauses may add up to minutes, so report them.
            Event::Retry { problem } => {
                let say = || display.note(&format!("{}: {problem}; retrying", name.id));
                bar.as_ref().map_or_else(say, |bar| bar.suspend(say));
            }
            Event::Unreachable { problem } => {
                display.note(&format!("{}: {problem}; using the earlier download", name.id));
            }
        };
        let cached = name.cached_as(Settings::from_env()).ok();
        let id = cached.as_ref().map_or(name.id, |(id, _)| id);
        let fetched = hub.model(id, name.revision, &mut observe);
        bar.iter().for_each(ProgressBar::finish_and_clear);
        match fetched {
            // Not every server knows a model's former id.
            Err(error @ HubError::NoSuchModel { .. }) if cached.is_some() && id != name.id => {
                display.note(&format!("{error}; using the earlier download"));
            }
            other => drop(other?),
        }
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
