//! Downloads from a well-behaved server, and from servers that misbehave.

mod server;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use cs_hub::{Event, Hub, HubError, Settings, Snapshot};
use server::{COMMIT, ID, Reply, Repo, Request, Sending, Server, git_sha1, sha256};
use tempfile::TempDir;

const WEIGHTS: &str = "/lfs/model.safetensors?signature=1";

fn settings(cache: &Path, endpoint: String) -> Settings {
    Settings {
        endpoint,
        token: Some("hf_secret".to_owned()),
        cache: cache.to_owned(),
        offline: false,
        timeout: Duration::from_millis(500),
        attempts: 3,
        pause: Duration::from_millis(5),
        proxy_from_env: false,
    }
}

/// The tiny model on a server whose responses `change` may corrupt.
fn spoiled(change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> (Server, TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let repo = Repo::tiny();
    let server = Server::on(listener, move |request| change(request, repo.answer(request, port)));
    (server, tempfile::tempdir().unwrap())
}

fn fetch(server: &Server, cache: &Path) -> Result<Snapshot, HubError> {
    Hub::new(settings(cache, server.endpoint())).model(ID, "main", &mut |_| ())
}

/// Every downloaded file equals the repository's, and no partial file is left.
#[track_caller]
fn assert_complete(snapshot: &Snapshot) {
    let repo = Repo::tiny();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(fs::read(snapshot.folder.join(file)).unwrap() == repo.content(file), "{file}");
    }
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(fs::read_dir(&snapshot.folder).unwrap().count(), 3, "only what is needed");
    let blobs = snapshot.folder.join("../../blobs");
    for blob in fs::read_dir(blobs).unwrap() {
        let name = blob.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("incomplete"), "{name}");
    }
}

/// There is no blob of the weights, not even a partial one under its final name.
fn assert_no_weights(cache: &Path) {
    let hash = sha256(Repo::tiny().content("model.safetensors"));
    assert!(!cache.join("models--org--tiny/blobs").join(hash).exists());
    assert!(!cache.join("models--org--tiny/refs/main").exists());
}

#[test]
fn a_model_is_downloaded_once() {
    let (server, cache) = spoiled(|_, reply| reply);
    let mut events = Vec::new();
    let hub = Hub::new(settings(cache.path(), server.endpoint()));
    let snapshot = hub
        .model(ID, "main", &mut |event| match event {
            Event::Start { file, size, have } => events.push(format!("{file} {size} {have}")),
            Event::Done => events.push("done".to_owned()),
            Event::Bytes(_) => {}
            other => panic!("{other:?}"),
        })
        .unwrap();
    assert_complete(&snapshot);
    assert_eq!(
        events,
        ["config.json 22 0", "done", "tokenizer.json 2 0", "done", "model.safetensors 900000 0", "done"]
    );
    let first = server.requests();
    assert_eq!(first.len(), 5, "{:?}", server.paths()); // listing, two small files, and a redirected one

    // The token goes to the Hub, not to the host of large files.
    for request in &first {
        let sent = request.headers.get("authorization").map(String::as_str);
        let expected = if request.path.starts_with("/lfs/") { None } else { Some("Bearer hf_secret") };
        assert_eq!(sent, expected, "{}", request.path);
    }
    assert!(!format!("{hub:?}").contains("hf_secret"));

    assert_eq!(hub.model(ID, "main", &mut |event| panic!("{event:?}")).unwrap(), snapshot);
    assert_eq!(server.requests().len(), 6, "the second time, only the listing");
    // A cached commit needs no request at all.
    assert_eq!(hub.model(ID, COMMIT, &mut |_| ()).unwrap(), snapshot);
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn the_layout_is_that_of_huggingface_hub() {
    let (server, cache) = spoiled(|_, reply| reply);
    fetch(&server, cache.path()).unwrap();
    let repo = Repo::tiny();
    let root = cache.path().join("models--org--tiny");
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    for (file, etag) in [
        ("config.json", git_sha1(repo.content("config.json"))),
        ("model.safetensors", sha256(repo.content("model.safetensors"))),
    ] {
        let link = root.join("snapshots").join(COMMIT).join(file);
        assert_eq!(fs::read_link(link).unwrap(), Path::new("../../blobs").join(etag));
    }
    // A branch whose name has slashes, like those of pull requests.
    let hub = Hub::new(settings(cache.path(), server.endpoint()));
    hub.model(ID, "refs/pr/1", &mut |_| ()).unwrap();
    assert_eq!(fs::read_to_string(root.join("refs/refs/pr/1")).unwrap(), COMMIT);
}

#[test]
fn renamed_repositories_are_followed() {
    let (server, cache) = spoiled(|_, reply| reply);
    let hub = Hub::new(settings(cache.path(), server.endpoint()));
    assert_complete(&hub.model("old/name", "main", &mut |_| ()).unwrap());
}

#[test]
fn a_cut_connection_is_resumed() {
    let (server, cache) = spoiled(|request, reply| match (request.path.as_str(), request.earlier) {
        (WEIGHTS, 0) => reply.sent(Sending::CutAfter(300_000)),
        (WEIGHTS, 1) => reply.sent(Sending::CutAfter(1)),
        _ => reply,
    });
    assert_complete(&fetch(&server, cache.path()).unwrap());
    let starts: Vec<_> =
        server.requests().iter().filter(|r| r.path == WEIGHTS).map(Request::range_start).collect();
    assert_eq!(starts, [None, Some(300_000), Some(300_001)]);
}

#[test]
fn a_silent_server_is_retried() {
    let (server, cache) = spoiled(|request, reply| match (request.path.as_str(), request.earlier) {
        (WEIGHTS, 0) => reply.sent(Sending::StallAfter(500_000)),
        _ => reply,
    });
    assert_complete(&fetch(&server, cache.path()).unwrap());
}

#[test]
fn a_slow_server_is_waited_for() {
    let (server, cache) = spoiled(|_, reply| reply.sent(Sending::Slowly));
    assert_complete(&fetch(&server, cache.path()).unwrap());
    assert_eq!(server.paths().iter().filter(|p| *p == WEIGHTS).count(), 1);
}

#[test]
fn a_server_that_never_answers_is_an_error() {
    let (server, cache) = spoiled(|request, reply| match request.path.as_str() {
        WEIGHTS => reply.sent(Sending::StallAfter(0)),
        _ => reply,
    });
    let started = Instant::now();
    let error = fetch(&server, cache.path()).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_no_weights(cache.path());
}

#[test]
fn a_killed_server_loses_no_received_bytes() {
    let port = Arc::new(AtomicU16::new(0));
    let (repo, at) = (Repo::tiny(), Arc::clone(&port));
    let server = Server::start(move |request| {
        let reply = repo.answer(request, at.load(Ordering::SeqCst));
        match request.path.as_str() {
            // Some bytes once, then nothing.
            WEIGHTS if request.earlier == 0 => reply.sent(Sending::CutAfter(400_000)),
            WEIGHTS => Reply::new(500, ""),
            _ => reply,
        }
    });
    port.store(server.port, Ordering::SeqCst);
    let cache = tempfile::tempdir().unwrap();
    fetch(&server, cache.path()).unwrap_err();
    let endpoint = server.endpoint();
    drop(server);

    let hub = Hub::new(settings(cache.path(), endpoint));
    let error = hub.model(ID, "main", &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("what has been downloaded is kept"), "{error}");
    assert_no_weights(cache.path());

    let (server, _) = spoiled(|_, reply| reply);
    assert_complete(&fetch(&server, cache.path()).unwrap());
    let resumed = server.requests().into_iter().find(|r| r.path == WEIGHTS).unwrap();
    assert_eq!(resumed.range_start(), Some(400_000));
}

#[test]
fn the_bytes_of_another_file_are_rejected() {
    let (server, cache) = spoiled(|request, mut reply| {
        if request.path == WEIGHTS {
            reply.body[450_000] ^= 1;
        }
        reply
    });
    let error = fetch(&server, cache.path()).unwrap_err();
    let HubError::Hash { file, .. } = &error else { panic!("{error}") };
    assert_eq!(file, "model.safetensors");
    assert_no_weights(cache.path());
    // Not even as a partial download to resume.
    let blobs = fs::read_dir(cache.path().join("models--org--tiny/blobs")).unwrap();
    assert_eq!(blobs.count(), 2, "config.json and tokenizer.json");

    // Small files are checked too, against git's own hash.
    let (server, cache) = spoiled(|request, mut reply| {
        if request.path.ends_with("/config.json") {
            reply.body[3] ^= 1;
        }
        reply
    });
    assert!(matches!(fetch(&server, cache.path()).unwrap_err(), HubError::Hash { .. }));
}

#[test]
fn a_corrupt_partial_download_is_restarted() {
    let (server, cache) = spoiled(|_, reply| reply);
    let repo = Repo::tiny();
    let weights = repo.content("model.safetensors");
    let blobs = cache.path().join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    for leftover in [vec![9; 1000], vec![9; 900_000], vec![9; 900_001]] {
        let partial = blobs.join(format!("{}.incomplete", sha256(weights)));
        fs::write(&partial, leftover).unwrap();
        let snapshot = fetch(&server, cache.path()).unwrap();
        assert_complete(&snapshot);
        fs::remove_file(snapshot.folder.join("model.safetensors")).unwrap();
        fs::remove_file(blobs.join(sha256(weights))).unwrap();
    }
}

#[test]
fn wrong_sizes_are_rejected() {
    // More bytes than listed.
    let (server, cache) = spoiled(|request, mut reply| {
        if request.path == WEIGHTS {
            reply.body.extend([0; 10]);
        }
        reply
    });
    let error = fetch(&server, cache.path()).unwrap_err().to_string();
    assert!(error.contains("more than the 900000 bytes"), "{error}");
    assert_no_weights(cache.path());

    // Fewer, at every attempt.
    let (server, cache) = spoiled(|request, mut reply| {
        if request.path == WEIGHTS {
            reply.status = 200;
            reply.headers.clear();
            reply.body.truncate(1000);
        }
        reply
    });
    let error = fetch(&server, cache.path()).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    assert_no_weights(cache.path());

    // A length that the body does not have.
    let (server, cache) = spoiled(|request, mut reply| {
        if request.path == WEIGHTS && request.earlier == 0 {
            reply.claimed = Some(5_000_000);
        }
        reply
    });
    assert_complete(&fetch(&server, cache.path()).unwrap());
}

#[test]
fn servers_without_ranges_start_over() {
    for lie in [
        (|_: &Request, content: &[u8]| Reply::new(200, content)) as fn(&Request, &[u8]) -> Reply,
        |request, content| match request.range_start() {
            // A different range than requested, once.
            Some(_) if request.earlier == 1 => {
                Reply::new(206, &content[7..]).with("Content-Range", "bytes 7-899999/900000")
            }
            Some(_) => Reply::new(416, ""),
            None => Reply::new(200, content),
        },
    ] {
        let repo = Repo::tiny();
        let (server, cache) = spoiled(move |request, reply| match (request.path.as_str(), request.earlier) {
            (WEIGHTS, 0) => reply.sent(Sending::CutAfter(200_000)),
            (WEIGHTS, _) => lie(request, repo.content("model.safetensors")),
            _ => reply,
        });
        assert_complete(&fetch(&server, cache.path()).unwrap());
    }
}

#[test]
fn busy_servers_are_retried() {
    for status in [429, 500, 502, 503, 504] {
        let (server, cache) = spoiled(move |request, reply| match request.earlier {
            0 => Reply::new(status, "busy").with("Retry-After", "0"),
            _ => reply,
        });
        let mut retries = 0;
        let hub = Hub::new(settings(cache.path(), server.endpoint()));
        let snapshot =
            hub.model(ID, "main", &mut |event| retries += i32::from(matches!(event, Event::Retry { .. })));
        assert_complete(&snapshot.unwrap());
        assert_eq!(retries, 5);

        let (server, cache) = spoiled(move |_, _| Reply::new(status, "busy"));
        let error = fetch(&server, cache.path()).unwrap_err();
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!(server.requests().len(), 3);
    }
}

#[test]
fn refusals_are_final_and_say_what_to_do() {
    let refused = |status: u16, code: &'static str| {
        let (server, cache) = spoiled(move |_, _| Reply::new(status, "{}").with("X-Error-Code", code));
        let error = fetch(&server, cache.path()).unwrap_err().to_string();
        assert_eq!(server.requests().len(), 1, "{error}");
        assert!(!error.contains('\n') && !error.contains("hf_secret"), "{error}");
        error
    };
    assert!(refused(401, "RepoNotFound").contains("HF_TOKEN"));
    assert!(refused(404, "RepoNotFound").contains("no model org/tiny"));
    assert!(refused(403, "GatedRepo").contains("accept its terms"));
    assert!(refused(404, "RevisionNotFound").contains("--revision"));
    assert!(refused(418, "").contains("HF_ENDPOINT"));

    let (server, cache) = spoiled(|_, reply| reply);
    let hub = Hub::new(settings(cache.path(), server.endpoint()));
    let error = hub.model(ID, "no-such-branch", &mut |_| ()).unwrap_err();
    assert!(matches!(error, HubError::NoSuchRevision { .. }), "{error}");
    let error = hub.model("org/other", "main", &mut |_| ()).unwrap_err();
    assert!(matches!(error, HubError::NoSuchModel { .. }), "{error}");
}

#[test]
fn responses_unlike_the_hubs_are_errors() {
    for body in [
        "<html>sign in to the hotel's network</html>".to_owned(),
        "{}".to_owned(),
        r#"{"sha": "../../../etc", "siblings": []}"#.to_owned(),
        format!(
            r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "config.json"}}, {{"rfilename": "model.safetensors"}}]}}"#
        ),
        format!(
            r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "model.safetensors"}}, {{"rfilename": "config.json", "size": 3, "blobId": "../../../../escape"}}]}}"#
        ),
    ] {
        let (server, cache) = spoiled(move |_, _| Reply::new(200, body.clone()));
        let error = fetch(&server, cache.path()).unwrap_err();
        assert!(matches!(error, HubError::Protocol { .. }), "{error}");
        assert!(!error.to_string().contains('\n'));
    }
    let (server, cache) = spoiled(|_, _| Reply::new(302, "").with("Location", "/again"));
    let error = fetch(&server, cache.path()).unwrap_err();
    assert!(error.to_string().contains("redirects endlessly"), "{error}");

    let (server, cache) =
        spoiled(|_, _| Reply::new(200, format!(r#"{{"sha": "{COMMIT}", "siblings": []}}"#)));
    let error = fetch(&server, cache.path()).unwrap_err();
    assert!(error.to_string().contains("no config.json"), "{error}");
}

#[test]
fn shards_are_fetched_and_stay_inside() {
    let shard = "model-00001-of-00001.safetensors";
    for (listed, good) in [(shard, true), ("../../../escape", false), ("/etc/passwd", false)] {
        let mut repo = Repo::tiny();
        repo.files.retain(|(name, ..)| !name.starts_with("model"));
        let index = format!(r#"{{"weight_map": {{"wte.weight": "{listed}"}}}}"#).into_bytes();
        repo.files.push(("model.safetensors.index.json".to_owned(), index, false));
        repo.files.push((shard.to_owned(), b"weights".to_vec(), true));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server::on(listener, move |request| repo.answer(request, port));
        let cache = tempfile::tempdir().unwrap();
        match fetch(&server, cache.path()) {
            Ok(snapshot) => {
                assert!(good);
                assert_eq!(fs::read(snapshot.folder.join(shard)).unwrap(), b"weights");
                assert!(!snapshot.folder.join("pytorch_model.bin").exists());
            }
            Err(error) => assert!(!good && error.to_string().contains("outside"), "{error}"),
        }
    }
}

#[test]
fn offline_the_cache_answers() {
    let (server, cache) = spoiled(|_, reply| reply);
    let endpoint = server.endpoint();
    let offline = || Settings { offline: true, ..settings(cache.path(), endpoint.clone()) };
    let error = Hub::new(offline()).model(ID, "main", &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    let snapshot = fetch(&server, cache.path()).unwrap();
    let n = server.requests().len();
    assert_eq!(Hub::new(offline()).model(ID, "main", &mut |_| ()).unwrap(), snapshot);
    assert_eq!(server.requests().len(), n);

    // Without HF_HUB_OFFLINE, but also without a network.
    drop(server);
    let mut told = false;
    let hub = Hub::new(settings(cache.path(), endpoint.clone()));
    let found = hub.model(ID, "main", &mut |event| told |= matches!(event, Event::Unreachable { .. }));
    assert_eq!(found.unwrap(), snapshot);
    assert!(told);

    // A snapshot without weights is not a model.
    fs::remove_file(snapshot.folder.join("model.safetensors")).unwrap();
    assert!(Hub::new(offline()).model(ID, "main", &mut |_| ()).is_err());
}

#[test]
fn invalid_ids_and_revisions() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(Settings { offline: true, ..settings(cache.path(), "http://127.0.0.1:9".into()) });
    for id in ["", "a/b/c", "../x", "a/..", "a b/c", "a/b?c", "a--b/c", "/a", "a/", "ä/b"] {
        let error = hub.model(id, "main", &mut |_| ()).unwrap_err();
        assert!(matches!(error, HubError::BadId { .. }), "{id:?}: {error}");
    }
    for revision in ["", "..", "../main", "/main", "a b", "a\\b", "a?b"] {
        let error = hub.model(ID, revision, &mut |_| ()).unwrap_err();
        assert!(matches!(error, HubError::BadRevision { .. }), "{revision:?}: {error}");
    }
}

/// Python's `huggingface_hub` and this program share one cache in both directions. Needs Python with `huggingface_hub`;
/// run with `PYTHON=python cargo test --release --workspace --test downloads -- --ignored python`.
#[test]
#[ignore = "needs Python with huggingface_hub"]
fn python_shares_the_cache() {
    let (server, cache) = spoiled(|_, reply| reply);
    let python = |cache: &Path, offline: &str, code: &str| {
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let output = std::process::Command::new(python)
            .args(["-c", code])
            .env("HF_HUB_CACHE", cache)
            .env("HF_ENDPOINT", server.endpoint())
            .env("HF_HUB_OFFLINE", offline)
            .env("HF_HUB_DISABLE_XET", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // Ours, found by Python.
    let snapshot = fetch(&server, cache.path()).unwrap();
    let found = python(
        cache.path(),
        "1",
        "from huggingface_hub import snapshot_download, hf_hub_download, scan_cache_dir as s
p = snapshot_download('org/tiny'); hf_hub_download('org/tiny', 'model.safetensors'); assert not s().warnings; print(p)",
    );
    assert_eq!(Path::new(&found), snapshot.folder);

    // Python's, found by us.
    let theirs = tempfile::tempdir().unwrap();
    let code = "from huggingface_hub import snapshot_download as d
print(d('org/tiny', allow_patterns=['config.json', 'model.safetensors', 'tokenizer.json']))";
    let found = python(theirs.path(), "0", code);
    let hub = Hub::new(Settings { offline: true, ..settings(theirs.path(), server.endpoint()) });
    let snapshot = hub.model(ID, "main", &mut |_| ()).unwrap();
    assert_eq!(Path::new(&found), snapshot.folder);
    assert_complete(&snapshot);
    // The two caches are the same except for Python's own bookkeeping files.
    let listing = |root: &Path| {
        let mut out = Vec::new();
        for folder in ["blobs", "refs", &format!("snapshots/{COMMIT}")] {
            for entry in fs::read_dir(root.join("models--org--tiny").join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(root).unwrap().to_owned();
                out.push((name, fs::read_link(&path).ok(), fs::read(&path).unwrap()));
            }
        }
        out.sort();
        out
    };
    assert!(listing(theirs.path()) == listing(cache.path()));
}
