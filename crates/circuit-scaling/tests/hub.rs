//! Models of the Hugging Face Hub, as named by a user, from a server on this machine.

#[path = "../../hub/tests/server/mod.rs"]
mod server;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use server::{COMMIT, ID, Reply, Repo, Request, Sending, Server, sha256};

const MODEL: &str = "mini-gpt2-m";
const WEIGHTS: &str = "/lfs/model.safetensors?signature=1";

fn command(folder: &Path, endpoint: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circuit-scaling"));
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    for variable in
        ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
    {
        command.env_remove(variable);
    }
    command.env("HF_HOME", folder.join("home")).env("HF_ENDPOINT", endpoint).args(args).current_dir(folder);
    command
}

fn run(folder: &Path, endpoint: &str, args: &[&str]) -> Output {
    command(folder, endpoint, args).output().unwrap()
}

#[track_caller]
fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A bundled model as a repository of the Hub.
fn repo() -> Repo {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(MODEL);
    let files = fs::read_dir(shipped).unwrap().map(|file| {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let large = name.ends_with(".safetensors");
        (name, fs::read(path).unwrap(), large)
    });
    Repo { files: files.collect() }
}

fn serve(change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let repo = repo();
    Server::on(listener, move |request| change(request, repo.answer(request, port)))
}

fn line<'a>(shown: &'a str, key: &str) -> &'a str {
    shown.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("no {key}: {shown}"))
}

#[test]
fn a_model_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let server = serve(|_, reply| reply);
    let shown = stdout(run(here, &server.endpoint(), &["inspect", ID]));
    let shipped = stdout(run(here, &server.endpoint(), &["inspect", MODEL]));
    for key in ["weights (sha-256)", "tokenizer (sha-256)", "parameters"] {
        assert_eq!(line(&shown, key), line(&shipped, key));
    }
    assert_eq!(line(&shown, "model"), "model                  tiny");
    assert!(line(&shown, "source").ends_with(&format!("{ID} at {COMMIT}")), "{shown}");
    // No files that the model does not need.
    assert!(!server.paths().iter().any(|path| path.contains("README")));

    // A scan records the commit; the second time only the listing is requested.
    let before = server.requests().len();
    let scan = ["scan", "-q", "--models", ID, "--task", "ioi", "--prompts", "40", "--out", "s"];
    stdout(run(here, &server.endpoint(), &scan));
    assert_eq!(server.requests().len(), before + 1);
    let scan = fs::read_to_string(here.join("s/results/copy_suppression_logitdiff_scan_tiny.json")).unwrap();
    assert!(scan.contains(COMMIT) && scan.contains(r#""hf_name": "org/tiny""#), "{scan}");

    // The server is gone: the cache is used, with a message; offline, without one.
    let endpoint = server.endpoint();
    drop(server);
    let output = run(here, &endpoint, &["predict", ID, "John and Mary"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("using the earlier download"));
    stdout(output);
    let mut offline = command(here, &endpoint, &["inspect", ID, "--revision", COMMIT]);
    let output = offline.env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(output.stderr.is_empty());
    // A requested revision is part of the name.
    assert_eq!(stdout(output), shown.replacen("tiny", &format!("tiny@{COMMIT}"), 1));
}

#[test]
fn experiments_fetch_the_commit_that_was_scanned() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let server = serve(|_, reply| reply);
    let scan = ["run", "-q", "--models", ID, "--prompts", "40", "--stages", "scan", "--out", "s"];
    stdout(run(here, &server.endpoint(), &scan));
    // Another machine, with the study and without the model.
    for args in [
        &["trace", "-q", "--out", "s"][..],
        &["ablate", "-q", "--random-sets", "2", "--out", "s"],
        &["ablate", "-q", "--random-sets", "3", "--models", ID, "--out", "s"],
    ] {
        fs::remove_dir_all(here.join("home")).unwrap();
        let before = server.requests().len();
        stdout(run(here, &server.endpoint(), args));
        let asked: Vec<String> = server.paths().split_off(before);
        assert!(asked.contains(&WEIGHTS.to_owned()), "{args:?}: {asked:?}");
        let pinned = !args.contains(&"--models");
        assert_eq!(
            asked.iter().any(|path| path.contains(&format!("revision/{COMMIT}"))),
            pinned,
            "{asked:?}"
        );
    }
    // Without a server and without a cache, a one-line error.
    fs::remove_dir_all(here.join("home")).unwrap();
    let endpoint = server.endpoint();
    drop(server);
    let output = run(here, &endpoint, &["trace", "-q", "--out", "s"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.trim_end().lines().count() == 1 && error.contains(ID), "{error}");
}

#[test]
fn a_killed_download_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let repo = repo();
    let weights = repo.content("model.safetensors");
    let half = weights.len() / 2;
    // The download of the weights stalls half way, for three seconds.
    let server = serve(move |request, reply| match (request.path.as_str(), request.earlier) {
        (WEIGHTS, 0) => reply.sent(Sending::StallAfter(half)),
        _ => reply,
    });
    let mut child = command(here, &server.endpoint(), &["inspect", ID])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let hash = sha256(weights);
    let blobs = here.join("home/hub/models--org--tiny/blobs");
    let partial = blobs.join(format!("{hash}.incomplete"));
    let started = Instant::now();
    while fs::metadata(&partial).map_or(0, |meta| meta.len()) < half as u64 {
        assert!(started.elapsed() < Duration::from_secs(60), "the download never began");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!blobs.join(&hash).exists());

    stdout(run(here, &server.endpoint(), &["inspect", ID]));
    let last = server.requests().into_iter().rfind(|r| r.path == WEIGHTS).unwrap();
    assert_eq!(last.range_start(), Some(half));
    assert!(blobs.join(&hash).exists() && !partial.exists());
}

#[test]
fn unavailable_models_give_a_one_line_error() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(|request, mut reply| {
        // Another file's bytes, of the right length.
        if request.path == WEIGHTS {
            reply.body.reverse();
        }
        reply
    });
    for (args, words) in [
        (&["inspect", "org/missing"][..], &["org/missing", "HF_TOKEN"][..]),
        (&["inspect", "gpt2-xl"], &["openai-community/gpt2-xl", "HF_TOKEN"]),
        (&["inspect", ID, "--revision", "v9"], &["no revision `v9`"]),
        (&["inspect", "org/tiny@v9"], &["no revision `v9`"]),
        (&["inspect", "org/tiny@../x"], &["../x", "not a revision"]),
        (&["run", "--models", ID], &["model.safetensors of org/tiny", "nothing of it was kept"]),
    ] {
        let output = run(folder.path(), &server.endpoint(), args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{error}");
        for word in words {
            assert!(error.contains(word), "{args:?} should say {word:?}: {error}");
        }
    }
}

#[test]
fn a_wait_for_the_server_is_not_silent() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(|request, reply| match request.earlier {
        0 => Reply::new(503, "").with("Retry-After", "0"),
        _ => reply,
    });
    let output = run(folder.path(), &server.endpoint(), &["predict", ID, "When John"]);
    let noted = String::from_utf8(output.stderr.clone()).unwrap();
    stdout(output);
    assert!(noted.contains("org/tiny: status 503") && noted.contains("; retrying"), "{noted}");
}
