"""Generators from elsewhere: a zip file with its SHA-256, and the Hugging Face Hub, both with a local stand-in."""

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import serving

from caloman import bundle
from caloman.errors import CalomanError
from caloman.generators.shared import fetch

ROOT = Path(__file__).parents[1]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
# pooch leaves the socket of a failed transfer to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


class Server(BaseHTTPRequestHandler):
    """Serves what `server.contents` holds by path, half of it if `server.breaks_off`, with the headers of the Hub."""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path = self.path.split("?")[0]
        self.server.requests.append(path)
        content = self.server.contents.get(path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(content[: len(content) // 2] if self.server.breaks_off else content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with serving(Server) as server:
        server.contents, server.requests, server.breaks_off = {}, [], False
        yield server


def zipped(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def offer(server, content):
    """Puts a file onto the server and returns its address with its SHA-256."""
    server.contents["/photons.zip"] = content
    return f"{server.url}/photons.zip#sha256={hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def contents(run):
    return {path.name: path.read_bytes() for path in (run / "bundle").iterdir()}


def cached(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if not path.is_dir())


def test_a_zip_file_of_a_bundle_is_fetched_once(server, contents, run):
    address = offer(server, zipped({f"bundle/{name}": data for name, data in contents.items()}))
    showers = bundle.load(address).sample([2e3], seed=1)
    assert (showers.voxels == bundle.load(run).sample([2e3], seed=1).voxels).all()
    server.contents.clear()
    assert bundle.fingerprint(address) == bundle.fingerprint(run)
    assert server.requests == ["/photons.zip"]


def test_what_has_another_checksum_is_refused_and_not_kept(server, contents, tmp_path):
    address = offer(server, zipped(contents))
    server.contents["/photons.zip"] = zipped({**contents, "README.md": b"altered"})
    with pytest.raises(CalomanError, match="another SHA-256"):
        fetch(address)
    assert cached(tmp_path) == []


def test_half_a_download_and_a_missing_file_are_one_sentence_each(server, contents, tmp_path):
    address = offer(server, zipped(contents))
    server.breaks_off = True
    with pytest.raises(CalomanError, match="broke off"):
        fetch(address)
    with pytest.raises(CalomanError, match="status 404"):
        fetch(address.replace("photons", "pions"))
    with pytest.raises(CalomanError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        fetch(f"http://127.0.0.1:9/photons.zip#sha256={'0' * 64}")
    assert cached(tmp_path) == []
    server.breaks_off = False
    assert (fetch(address) / "config.yaml").is_file()


def test_an_archive_writes_the_files_of_a_bundle_and_nothing_else(server, contents, tmp_path):
    foreign = {"../../evil.py": b"x", "/etc/evil": b"x", "bundle/run.sh": b"x", "../README.md": b"the card"}
    folder = fetch(offer(server, zipped({**contents, **foreign})))
    assert sorted(path.name for path in folder.iterdir()) == sorted({*contents, "README.md"})
    assert cached(tmp_path) == sorted({*contents, "README.md"})
    assert not list(tmp_path.rglob("*evil*"))


def test_a_file_that_is_no_archive_or_holds_no_bundle_is_refused(server, tmp_path):
    with pytest.raises(CalomanError, match="not a zip file of a bundle"):
        fetch(offer(server, b"no archive"))
    with pytest.raises(CalomanError, match="not a zip file of a bundle"):
        fetch(offer(server, zipped({"README.md": b"a card only"})))
    assert cached(tmp_path) == []


@pytest.mark.parametrize("pin", ["", "#sha256=", "#sha256=12", f"#md5={'0' * 32}"])
def test_an_address_without_a_sha256_is_refused(server, pin):
    with pytest.raises(CalomanError, match="add the SHA-256"):
        fetch(f"{server.url}/photons.zip{pin}")
    assert server.requests == []


@pytest.mark.parametrize("address", ["hf://photons", "hf://a/b/c", "hf://a/../b", "hf://"])
def test_what_is_no_address_of_the_hub_is_refused(address):
    with pytest.raises(CalomanError, match="write hf://OWNER/NAME"):
        fetch(address)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CalomanError, match=r"pip install 'caloman\[hub\]'"):
        fetch("hf://caloman/photons")


def from_hub(address, server, tmp_path):
    """Fetches in a process of its own, which finds the stand-in as the Hub."""
    code = f"""
from caloman.errors import CalomanError
from caloman.generators.shared import fetch
try:
    print(fetch({address!r}))
except CalomanError as error:
    print("refused:", error)
"""
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.skipif(find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed")
def test_a_generator_of_the_hub_is_fetched_and_then_found_without_network(server, contents, run, tmp_path):
    files = {**contents, "run.sh": b"evil"}
    information = {"id": "me/photons", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
    tree = [
        {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for name, data in files.items()
    ]
    server.contents = {
        "/api/models/me/photons/revision/main": json.dumps(information).encode(),
        "/api/models/me/photons": json.dumps(information).encode(),
        f"/api/models/me/photons/tree/{COMMIT}": json.dumps(tree).encode(),
        **{f"/me/photons/resolve/{COMMIT}/{name}": data for name, data in files.items()},
    }
    folder = Path(from_hub("hf://me/photons", server, tmp_path))
    assert bundle.fingerprint(folder) == bundle.fingerprint(run)
    assert not (folder / "run.sh").exists()
    assert from_hub("hf://me/pions", server, tmp_path).startswith("refused: hf://me/pions: cannot be fetched")
    server.url = "http://127.0.0.1:9"
    assert Path(from_hub("hf://me/photons", server, tmp_path)) == folder
    assert from_hub("hf://me/pions", server, tmp_path).startswith("refused: hf://me/pions: cannot be fetched")
