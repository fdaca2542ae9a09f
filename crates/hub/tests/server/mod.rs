//! A local server that speaks the Hub's protocol, correctly or not.

#![allow(dead_code)] // each test binary uses a part

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "607a30d783dfa663caf39e06633721c8d4cfcd7e";
pub const ID: &str = "org/tiny";

/// A request as received.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    /// Number of earlier requests for this path.
    pub earlier: usize,
}

impl Request {
    pub fn range_start(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// How a body is sent.
#[derive(Clone, Copy, Debug)]
pub enum Sending {
    Whole,
    /// The connection is closed after this many bytes.
    CutAfter(usize),
    /// Nothing more is sent after this many bytes.
    StallAfter(usize),
    /// A few bytes at a time.
    Slowly,
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// A wrong `Content-Length`, if any.
    pub claimed: Option<usize>,
    pub sending: Sending,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply { status, headers: Vec::new(), body: body.into(), claimed: None, sending: Sending::Whole }
    }

    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub fn sent(mut self, sending: Sending) -> Self {
        self.sending = sending;
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// Serves until it is dropped.
pub struct Server {
    pub port: u16,
    log: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), handler)
    }

    pub fn on(listener: TcpListener, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let port = listener.local_addr().unwrap().port();
        let (log, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let handler: Arc<Handler> = Arc::new(handler);
        let (log_of, stop_of) = (Arc::clone(&log), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stop_of.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), log, handler) = (stream, Arc::clone(&log_of), Arc::clone(&handler)) else {
                    continue;
                };
                thread::spawn(move || drop(answer(stream, &log, &*handler)));
            }
        });
        Server { port, log, stop, thread: Some(thread) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Paths of all requests so far.
    pub fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|r| r.path).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener up.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().unwrap().join();
    }
}

/// Reads one request and answers it; the connection is not kept.
fn answer(stream: TcpStream, log: &Mutex<Vec<Request>>, handler: &Handler) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let Some(path) = line.split(' ').nth(1).map(str::to_owned) else { return Ok(()) };
    let is_head = line.starts_with("HEAD");
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let request = {
        let mut log = log.lock().unwrap();
        let earlier = log.iter().filter(|r| r.path == path).count();
        log.push(Request { path, headers, earlier });
        log.last().unwrap().clone()
    };
    let reply = handler(&request);
    let mut stream = stream;
    let length = reply.claimed.unwrap_or(reply.body.len());
    write!(
        stream,
        "HTTP/1.1 {} Whatever\r\nContent-Length: {length}\r\nConnection: close\r\n",
        reply.status
    )?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "\r\n")?;
    if is_head {
        return Ok(());
    }
    match reply.sending {
        Sending::Whole => stream.write_all(&reply.body)?,
        Sending::CutAfter(n) => stream.write_all(&reply.body[..n.min(reply.body.len())])?,
        Sending::StallAfter(n) => {
            stream.write_all(&reply.body[..n.min(reply.body.len())])?;
            stream.flush()?;
            thread::sleep(Duration::from_secs(3));
        }
        Sending::Slowly => {
            for piece in reply.body.chunks(reply.body.len() / 20 + 1) {
                stream.write_all(piece)?;
                stream.flush()?;
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
    stream.flush()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The hash of a git blob.
pub fn git_sha1(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// A repository, served as the Hub does.
#[derive(Clone)]
pub struct Repo {
    /// Name, content, and whether it is in large-file storage.
    pub files: Vec<(String, Vec<u8>, bool)>,
}

impl Repo {
    /// A model with weights large enough to be sent in several pieces.
    pub fn tiny() -> Self {
        let weights: Vec<u8> = (0..900_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let file = |name: &str, content: &[u8], large| (name.to_owned(), content.to_vec(), large);
        Repo {
            files: vec![
                file("README.md", b"# Tiny", false),
                file("config.json", b"{\"model_type\": \"gpt2\"}", false),
                file("model.safetensors", &weights, true),
                file("pytorch_model.bin", b"not needed", true),
                file("tokenizer.json", b"{}", false),
            ],
        }
    }

    pub fn content(&self, name: &str) -> &[u8] {
        &self.files.iter().find(|(n, ..)| n == name).unwrap().1
    }

    /// The API's listing of a revision.
    pub fn listing(&self) -> serde_json::Value {
        let siblings = self.files.iter().map(|(name, content, large)| {
            let mut entry = serde_json::json!({
                "rfilename": name, "size": content.len(), "blobId": git_sha1(content),
            });
            if *large {
                entry["lfs"] =
                    serde_json::json!({"sha256": sha256(content), "size": content.len(), "pointerSize": 134});
            }
            entry
        });
        serde_json::json!({ "id": ID, "sha": COMMIT, "siblings": siblings.collect::<Vec<_>>() })
    }

    /// The response of a well-behaved server; large files are on another host (`localhost` for
    /// `127.0.0.1`).
    pub fn answer(&self, request: &Request, port: u16) -> Reply {
        let path = request.path.as_str();
        if path.starts_with("/api/models/old/name/") {
            let to = path.replace("old/name", ID);
            return Reply::new(307, "").with("Location", to);
        }
        if path.starts_with("/old/name/") {
            return Reply::new(307, "").with("Location", path.replace("old/name", ID));
        }
        if let Some(rest) = path.strip_prefix(&format!("/api/models/{ID}")) {
            let revision = rest.split('?').next().unwrap().strip_prefix("/revision/").unwrap_or("main");
            if [COMMIT, "main", "refs%2Fpr%2F1"].contains(&revision) {
                return Reply::new(200, self.listing().to_string()).with("Content-Type", "application/json");
            }
            return Reply::new(404, "{}").with("X-Error-Code", "RevisionNotFound");
        }
        if let Some(file) = path.strip_prefix(&format!("/{ID}/resolve/")) {
            let Some((revision, file)) = file.split_once('/') else { return Reply::new(404, "") };
            assert!([COMMIT, "main"].contains(&revision));
            let Some((_, content, large)) = self.files.iter().find(|(name, ..)| name == file) else {
                return Reply::new(404, "").with("X-Error-Code", "EntryNotFound");
            };
            if *large {
                return Reply::new(302, "")
                    .with("Location", format!("http://localhost:{port}/lfs/{file}?signature=1"))
                    .with("X-Repo-Commit", COMMIT)
                    .with("X-Linked-Size", content.len())
                    .with("X-Linked-Etag", format!("\"{}\"", sha256(content)));
            }
            return ranged(request, content)
                .with("X-Repo-Commit", COMMIT)
                .with("ETag", format!("\"{}\"", git_sha1(content)));
        }
        if let Some(file) = path.strip_prefix("/lfs/") {
            let file = file.split('?').next().unwrap();
            return ranged(request, self.content(file));
        }
        Reply::new(401, "{}").with("X-Error-Code", "RepoNotFound")
    }
}

/// A file's content, or the requested range of it.
pub fn ranged(request: &Request, content: &[u8]) -> Reply {
    match request.range_start() {
        Some(start) if start >= content.len() => Reply::new(416, ""),
        Some(start) => Reply::new(206, &content[start..])
            .with("Content-Range", format!("bytes {start}-{}/{}", content.len() - 1, content.len())),
        None => Reply::new(200, content),
    }
}
