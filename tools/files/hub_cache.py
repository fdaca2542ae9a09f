"""Lets huggingface_hub download a model from a local server, and records what its cache looks like.

    python hub_cache.py           # once with huggingface_hub 2.4.0, once with 0.36.2, after make.py

The result is crates/engine/tests/files/hub-cache-<version>.json: for every path of the cache a link's target, a text, or
the file of `folders/plain` whose content it has. From version 2 on, contents that the Hub stores in chunks are kept once per cache; the
library's own function puts them there, since the server on this machine has no such storage. Transformers must load each id
from the cache, without a network, before anything is written.
"""

import hashlib
import json
import os
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FILES = Path(__file__).resolve().parents[2] / "crates/engine/tests/files"
PLAIN = FILES / "folders/plain"
IDS = ["gpt2", "EleutherAI/gpt-neo-125M", "distilgpt2", "org/tiny"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = "model.safetensors"


def etag(file):
    body = file.read_bytes()
    is_large = file.name == LARGE
    return (hashlib.sha256(body) if is_large else hashlib.sha1(b"blob %d\0" % len(body) + body)).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """The parts of the Hub that a download needs."""

    def do_GET(self):
        path = self.path.split("?")[0]
        if "/tree/" in path:
            files = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": etag(file)}
                for file in sorted(PLAIN.iterdir())
            ]
            return self.reply(json.dumps(files).encode(), "application/json", "tree")
        if path.startswith("/api/models/"):
            repo = path.removeprefix("/api/models/").split("/revision/")[0]
            siblings = [{"rfilename": file.name} for file in sorted(PLAIN.iterdir())]
            body = json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings, "private": False}).encode()
            return self.reply(body, "application/json", "listing")
        file = PLAIN / path.rsplit("/", 1)[1]
        self.reply(file.read_bytes(), "application/octet-stream", etag(file))

    do_HEAD = do_GET

    def reply(self, body, kind, etag):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def share(cache):
    """Moves the large files of all repositories to where version 2 stores them."""
    from huggingface_hub.utils import _shared_blobs

    size = (PLAIN / LARGE).stat().st_size
    hash = hashlib.sha256(b"as a Xet hash: " + (PLAIN / LARGE).read_bytes()).hexdigest()
    for blob in sorted(cache.glob("models--*/blobs/*")):
        if blob.stat().st_size == size:
            assert _shared_blobs.publish_blob_to_shared_store(
                blob_path=str(blob), xet_hash=hash, cache_dir=cache, expected_size=size
            )


def described(path):
    if path.is_symlink():
        return {"link": os.readlink(path)}
    content = path.read_bytes()
    for file in PLAIN.iterdir():
        if file.read_bytes() == content:
            return {"file": file.name}
    return {"text": content.decode()}


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_DISABLE_TELEMETRY": "1"}
    import huggingface_hub
    from huggingface_hub import snapshot_download

    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        for id in IDS:
            snapshot_download(id, cache_dir=cache)
        if int(huggingface_hub.__version__.split(".")[0]) >= 2:
            share(cache)
        server.shutdown()
        from transformers import AutoModelForCausalLM

        for id in IDS:
            AutoModelForCausalLM.from_pretrained(id, cache_dir=cache, local_files_only=True)
        paths = [p for p in sorted(cache.rglob("*")) if p.is_symlink() or p.is_file()]
        tree = {str(p.relative_to(cache)): described(p) for p in paths if p.suffix != ".lock"}
    out = {"ids": IDS, "commit": COMMIT, "tree": tree}
    path = FILES / f"hub-cache-{huggingface_hub.__version__}.json"
    path.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


main()
