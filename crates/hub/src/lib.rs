//! Model files from the [Hugging Face Hub](https://huggingface.co), in the cache shared with Python's
//! `huggingface_hub`: either finds what the other has downloaded.
//!
//! [`Hub::model`] asks the Hub which commit a revision is, which files it has and what their hashes are; downloads those
//! that a model needs and the cache lacks; checks every byte against its hash; and returns the snapshot's folder. An
//! interrupted download is resumed. Offline, only the cache is used.
//!
//! The crate `hf-hub` is not used because it pulls in an async runtime and checks no hashes.

#![forbid(unsafe_code)]

mod cache;
mod client;
mod download;
mod error;
mod files;
mod listing;
mod settings;

use std::path::PathBuf;

pub use error::HubError;
pub use settings::Settings;

use cache::Repo;
use client::Client;
use files::Wanted;
use listing::Listing;

/// Progress of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A file of this size is about to be downloaded.
    Start {
        /// Its name in the repository.
        file: &'a str,
        /// Its size in bytes.
        size: u64,
        /// Bytes already there from an earlier attempt.
        have: u64,
    },
    /// The number of bytes of the file so far.
    Bytes(u64),
    /// The file is complete and its hash is correct.
    Done,
    /// An attempt failed, and another follows.
    Retry {
        /// Why it failed.
        problem: &'a str,
    },
    /// The Hub cannot be reached, so the model in the cache is used.
    Unreachable {
        /// Why it cannot be reached.
        problem: &'a str,
    },
}

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its files.
    pub folder: PathBuf,
    /// Their commit.
    pub commit: String,
}

/// The Hub, and its cache on this machine.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    client: Client,
}

impl Hub {
    /// Creates a hub with these settings.
    pub fn new(settings: Settings) -> Self {
        let client = Client::new(&settings);
        Hub { settings, client }
    }

    /// Where models are kept.
    pub fn cache(&self) -> &std::path::Path {
        &self.settings.cache
    }

    /// The model `id` (such as `openai-community/gpt2`) at a branch, tag or commit.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn model(
        &self,
        id: &str,
        revision: &str,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Snapshot, HubError> {
        let repo = Repo::new(&self.settings.cache, id, revision)?;
        let cached = repo.cached()?;
        // A commit never changes, so a complete one needs no request.
        if let Some(snapshot) = cached.as_ref().filter(|snapshot| snapshot.commit == revision) {
            return Ok(snapshot.clone());
        }
        if self.settings.offline {
            return cached.ok_or_else(|| HubError::NotCached {
                id: id.to_owned(),
                revision: revision.to_owned(),
                cache: self.settings.cache.clone(),
            });
        }
        // Do not wait for a missing network if the model is in the cache.
        let attempts = if cached.is_some() { 1 } else { self.settings.attempts };
        let listing = match Listing::fetch(&self.client, &repo, attempts, observe) {
            Ok(listing) => listing,
            Err(error) => {
                return match cached.filter(|_| error.is_about_the_network()) {
                    Some(snapshot) => {
                        observe(Event::Unreachable { problem: &error.to_string() });
                        Ok(snapshot)
                    }
                    None => Err(error),
                };
            }
        };
        let mut wanted = Wanted::from_names(listing.names());
        wanted.require_config(&repo.id)?;
        let shards = match wanted.index {
            Some(index) => {
                let path = download::file(&self.client, &repo, &listing, index, observe)?;
                files::shards(&repo.id, index, &path)?
            }
            None => Vec::new(),
        };
        wanted.files.extend(shards);
        for file in &wanted.files {
            download::file(&self.client, &repo, &listing, file, observe)?;
        }
        repo.write_ref(&listing.commit)?;
        Ok(Snapshot { folder: repo.snapshot(&listing.commit), commit: listing.commit })
    }
}
