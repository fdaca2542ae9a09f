//! The Hub's listing of the files in a revision.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Event;
use crate::cache::{Repo, is_commit, is_hex};
use crate::client::Client;
use crate::error::HubError;

/// A file as the Hub lists it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) size: u64,
    pub(crate) hash: Hash,
}

/// The hash that a content must have, which is also its name in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    /// Of the content: files in large-file storage.
    Sha256(String),
    /// Of the content as a git blob.
    GitSha1(String),
}

impl Hash {
    pub(crate) fn etag(&self) -> &str {
        match self {
            Hash::Sha256(hash) | Hash::GitSha1(hash) => hash,
        }
    }
}

/// A revision's commit and files.
pub(crate) struct Listing {
    pub(crate) commit: String,
    files: BTreeMap<String, Option<Listed>>,
}

/// The fields used from `GET /api/models/<id>/revision/<revision>?blobs=true`.
#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Listing {
    /// Fetches the listing.
    pub(crate) fn fetch(
        client: &Client,
        repo: &Repo,
        attempts: u32,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Self, HubError> {
        // A slash in a branch name must not look like a path separator.
        let revision = repo.revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", client.endpoint(), repo.id);
        let json = client.small(&url, repo, attempts, observe)?;
        let wrong = |problem: String| HubError::Protocol { url: url.clone(), problem };
        let answer: Answer = serde_json::from_slice(&json).map_err(|e| wrong(format!("no listing ({e})")))?;
        if !is_commit(&answer.sha) {
            return Err(wrong(format!("{:?} is not a commit", answer.sha)));
        }
        let files = answer.siblings.into_iter().map(|s| {
            let listed = match (s.lfs, s.blob_id, s.size) {
                (Some(Lfs { sha256, size }), _, _) if sha256.len() == 64 && is_hex(&sha256) => {
                    Some(Listed { size, hash: Hash::Sha256(sha256) })
                }
                (None, Some(sha1), Some(size)) if sha1.len() == 40 && is_hex(&sha1) => {
                    Some(Listed { size, hash: Hash::GitSha1(sha1) })
                }
                _ => None,
            };
            (s.rfilename, listed)
        });
        Ok(Listing { commit: answer.sha, files: files.collect() })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Size and hash of a file.
    pub(crate) fn get(&self, client: &Client, repo: &Repo, file: &str) -> Result<&Listed, HubError> {
        match self.files.get(file) {
            Some(Some(listed)) => Ok(listed),
            Some(None) => Err(HubError::Protocol {
                url: format!("{}/api/models/{}", client.endpoint(), repo.id),
                problem: format!("it gives no size or hash for {file}"),
            }),
            None => Err(HubError::NoSuchFile { id: repo.id.clone(), file: file.to_owned() }),
        }
    }
}
