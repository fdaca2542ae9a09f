//! Downloads one file from the Hub into the cache: interrupted downloads are resumed, and every byte is checked.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::Event;
use crate::cache::{Repo, make_parent};
use crate::client::{Client, Failure};
use crate::error::HubError;
use crate::listing::{Hash, Listed, Listing};

const BUFFER: usize = 1 << 18;

/// Downloads a file into the cache unless it is there already, and returns its path in the snapshot.
pub(crate) fn file(
    client: &Client,
    repo: &Repo,
    listing: &Listing,
    name: &str,
    observe: &mut dyn FnMut(Event),
) -> Result<PathBuf, HubError> {
    let path = repo.snapshot(&listing.commit).join(name);
    if path.exists() {
        return Ok(path);
    }
    let listed = listing.get(client, repo, name)?;
    let etag = listed.hash.etag();
    let blob = repo.blob(etag);
    make_parent(&blob)?;
    let lock = repo.lock(etag)?;
    // A blob is only given its name after its hash was checked (in Python too); the length is a cheap extra
    // check.
    let is_there = fs::metadata(&blob).is_ok_and(|meta| meta.is_file() && meta.len() == listed.size);
    if !is_there {
        let url = format!("{}/{}/resolve/{}/{name}", client.endpoint(), repo.id, listing.commit);
        Download { client, repo, name, listed, url: &url, partial: partial(&blob) }.run(&blob, observe)?;
    }
    let linked = repo.link(&listing.commit, name, etag);
    drop(lock);
    linked
}

/// The path of an incomplete download; Python uses the same name.
fn partial(blob: &Path) -> PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(".incomplete");
    name.into()
}

struct Download<'a> {
    client: &'a Client,
    repo: &'a Repo,
    name: &'a str,
    listed: &'a Listed,
    url: &'a str,
    partial: PathBuf,
}

impl Download<'_> {
    fn run(&self, blob: &Path, observe: &mut dyn FnMut(Event)) -> Result<(), HubError> {
        let mut state = State::resume(&self.partial, self.listed).map_err(|e| self.cache_error(e))?;
        let mut resumed = state.have > 0;
        observe(Event::Start { file: self.name, size: self.listed.size, have: state.have });
        let mut failures = 0;
        loop {
            while state.have < self.listed.size {
                let before = state.have;
                if let Err(failure) = self.attempt(&mut state, observe) {
                    failures = if state.have > before { 1 } else { failures + 1 };
                    self.client.pause(self.url, failure, failures, self.client.attempts(), observe)?;
                }
            }
            let found = state.hasher.clone().finish();
            if found == self.listed.hash.etag() {
                break;
            }
            if !resumed {
                // Wrong bytes do not stay in the cache.
                let _ = fs::remove_file(&self.partial);
                return Err(HubError::Hash {
                    id: self.repo.id.clone(),
                    file: self.name.to_owned(),
                    expected: self.listed.hash.etag().to_owned(),
                    found,
                });
            }
            // The bytes left by an earlier run may be wrong: try once more from the beginning.
            resumed = false;
            state.restart(self.listed).map_err(|e| self.cache_error(e))?;
            observe(Event::Bytes(0));
        }
        state
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.partial, blob))
            .map_err(|e| self.cache_error(e))?;
        observe(Event::Done);
        Ok(())
    }

    /// One request, and as much of its response as arrives.
    fn attempt(&self, state: &mut State, observe: &mut dyn FnMut(Event)) -> Result<(), Failure> {
        let cache_error = |e| Failure::Final(self.cache_error(e));
        let (status, headers, body) = self.client.get(self.url, state.have, self.repo)?;
        match status.as_u16() {
            206 => {
                let range = headers.get("content-range").and_then(|v| v.to_str().ok()).unwrap_or_default();
                if !range.starts_with(&format!("bytes {}-", state.have)) {
                    state.restart(self.listed).map_err(cache_error)?;
                    return Err(Failure::passing(format!("it sent the wrong part ({range:?})")));
                }
            }
            // The server does not support ranges and starts over.
            200 if state.have > 0 => state.restart(self.listed).map_err(cache_error)?,
            200 => {}
            _ => {
                state.restart(self.listed).map_err(cache_error)?;
                return Err(Failure::passing("it does not resume where the download stopped"));
            }
        }
        let mut reader = body.into_reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = reader.read(&mut buffer).map_err(Failure::passing)?;
            if n == 0 {
                break;
            }
            if state.have + n as u64 > self.listed.size {
                return Err(Failure::Final(HubError::Protocol {
                    url: self.url.to_owned(),
                    problem: format!("it sends more than the {} bytes that it lists", self.listed.size),
                }));
            }
            state.push(&buffer[..n]).map_err(cache_error)?;
            observe(Event::Bytes(state.have));
        }
        match state.have < self.listed.size {
            true => {
                Err(Failure::passing(format!("it ended after {} of {} bytes", state.have, self.listed.size)))
            }
            false => Ok(()),
        }
    }

    fn cache_error(&self, source: io::Error) -> HubError {
        HubError::Cache { path: self.partial.clone(), source }
    }
}

/// A download in progress.
struct State {
    file: File,
    have: u64,
    hasher: Hasher,
}

impl State {
    /// Resumes from what an earlier attempt left.
    fn resume(path: &Path, listed: &Listed) -> io::Result<Self> {
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        let mut state = State { file, have: 0, hasher: Hasher::new(listed) };
        if state.file.metadata()?.len() > listed.size {
            state.restart(listed)?;
            return Ok(state);
        }
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = state.file.read(&mut buffer)?;
            if n == 0 {
                return Ok(state);
            }
            state.hasher.update(&buffer[..n]);
            state.have += n as u64;
        }
    }

    fn restart(&mut self, listed: &Listed) -> io::Result<()> {
        self.file.set_len(0)?;
        io::Seek::rewind(&mut self.file)?;
        self.have = 0;
        self.hasher = Hasher::new(listed);
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }
}

/// The hash that the listing uses.
#[derive(Clone)]
enum Hasher {
    Sha256(Sha256),
    GitSha1(Sha1),
}

impl Hasher {
    fn new(listed: &Listed) -> Self {
        match listed.hash {
            Hash::Sha256(_) => Hasher::Sha256(Sha256::new()),
            // Git hashes a header with the length before the content.
            Hash::GitSha1(_) => Hasher::GitSha1(Sha1::new_with_prefix(format!("blob {}\0", listed.size))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::GitSha1(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Hasher::Sha256(hasher) => hex(&hasher.finalize()),
            Hasher::GitSha1(hasher) => hex(&hasher.finalize()),
        }
    }
}
