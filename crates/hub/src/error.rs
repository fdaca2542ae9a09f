//! What can go wrong between a model's name and its files.

use std::path::PathBuf;

/// A model that could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// No id of a repository.
    #[error("`{id}` is not a model id: an id is `organisation/name` in letters, digits, `-`, `_` and `.`")]
    BadId {
        /// As given.
        id: String,
    },
    /// No branch, tag or commit.
    #[error("`{revision}` is not a revision: name a branch, a tag or a commit")]
    BadRevision {
        /// As given.
        revision: String,
    },
    /// The cache lacks the model, and the network may not be asked.
    #[error(
        "{id} at revision `{revision}` is not in {cache}, and HF_HUB_OFFLINE is set: unset it once to download the model"
    )]
    NotCached {
        /// The model.
        id: String,
        /// Its revision.
        revision: String,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// 401, or 404 for a repository: the Hub answers alike for a private one and for none.
    #[error(
        "{endpoint} has no model {id}, or it is private: check the spelling, or set HF_TOKEN to a token that may read it"
    )]
    NoSuchModel {
        /// The model.
        id: String,
        /// The server.
        endpoint: String,
    },
    /// 403: terms that were not accepted.
    #[error("{endpoint} refuses {id}: accept its terms on its page there, then set HF_TOKEN to your token")]
    Forbidden {
        /// The model.
        id: String,
        /// The server.
        endpoint: String,
    },
    /// 404 for a revision.
    #[error("{id} has no revision `{revision}`: name a branch, a tag or a commit of it with --revision")]
    NoSuchRevision {
        /// The model.
        id: String,
        /// The revision.
        revision: String,
    },
    /// A repository without a file that every model has.
    #[error("{id} has no {file}, so it cannot be read here: name another model")]
    NoSuchFile {
        /// The model.
        id: String,
        /// The file.
        file: String,
    },
    /// No answer, or none of use, however often it was asked.
    #[error(
        "{url} cannot be fetched: {problem}; check the network (what has been downloaded is kept), or name a folder that holds the model"
    )]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The last failure.
        problem: String,
    },
    /// The server answers, but not as the Hub does.
    #[error("{url} answers unlike the Hub: {problem}; check HF_ENDPOINT")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The bytes are not those that the Hub promised.
    #[error(
        "{file} of {id} came with hash {found} instead of {expected}: the server or something on the way changed it; nothing of it was kept, try again"
    )]
    Hash {
        /// The model.
        id: String,
        /// The file.
        file: String,
        /// By the Hub's listing.
        expected: String,
        /// What arrived.
        found: String,
    },
    /// A file of the cache cannot be read or written.
    #[error(
        "{path}: {source}; check its permissions and the space on its disk, or set HF_HUB_CACHE to another folder"
    )]
    Cache {
        /// Where.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The list of shards is not one.
    #[error("{file} of {id} is not a list of shards: {problem}; report it to the model's authors")]
    Index {
        /// The model.
        id: String,
        /// The index.
        file: String,
        /// What is wrong.
        problem: String,
    },
}

impl HubError {
    /// Whether another network, or the same one later, might do.
    pub(crate) fn is_about_the_network(&self) -> bool {
        matches!(self, HubError::Unreachable { .. })
    }
}
