//! What can go wrong between a model's name and its files.

use std::path::PathBuf;

/// A model that could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Not a repository id.
    #[error("`{id}` is not a model id: an id is `organisation/name` in letters, digits, `-`, `_` and `.`")]
    BadId {
        /// As given.
        id: String,
    },
    /// Not a valid name of a branch, tag or commit.
    #[error("`{revision}` is not a revision: name a branch, a tag or a commit")]
    BadRevision {
        /// As given.
        revision: String,
    },
    /// The cache lacks the model, and the network is disabled.
    #[error(
        "{id} at revision `{revision}` is not in {cache}, and HF_HUB_OFFLINE is set: unset it once to download the model"
    )]
    NotCached {
        /// The model.
        id: String,
        /// Its revision.
        revision: String,
        /// The cache that was searched.
        cache: PathBuf,
    },
    /// 401, or 404 for a repository: the Hub does not distinguish private from missing
    /// repositories.
    #[error(
        "{endpoint} has no model {id}, or it is private: check the spelling, or set HF_TOKEN to a token that may read it"
    )]
    NoSuchModel {
        /// The model.
        id: String,
        /// The server.
        endpoint: String,
    },
    /// 403: the model's terms have not been accepted.
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
    /// No usable response after all retries.
    #[error(
        "{url} cannot be fetched: {problem}; check the network (what has been downloaded is kept), or name a folder that holds the model"
    )]
    Unreachable {
        /// The requested URL.
        url: String,
        /// The last failure.
        problem: String,
    },
    /// The server responds, but not like the Hub.
    #[error("{url} answers unlike the Hub: {problem}; check HF_ENDPOINT")]
    Protocol {
        /// The requested URL.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The bytes do not have the hash that the Hub lists.
    #[error(
        "{file} of {id} came with hash {found} instead of {expected}: the server or something on the way changed it; nothing of it was kept, try again"
    )]
    Hash {
        /// The model.
        id: String,
        /// The file.
        file: String,
        /// The hash in the Hub's listing.
        expected: String,
        /// The hash of the bytes received.
        found: String,
    },
    /// A file of the cache cannot be read or written.
    #[error(
        "{path}: {source}; check its permissions and the space on its disk, or set HF_HUB_CACHE to another folder"
    )]
    Cache {
        /// Where.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// An invalid list of shards.
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
    /// Whether a retry, later or on another network, might succeed.
    pub(crate) fn is_about_the_network(&self) -> bool {
        matches!(self, HubError::Unreachable { .. })
    }
}
