"""Generators from and to elsewhere: zip files with their SHA-256, Zenodo and the Hugging Face Hub, by stand-ins."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests
from conftest import serving

from caloman import bundle
from caloman.errors import CalomanError
from caloman.generators.shared import fetch
from caloman.sharing import publish

ROOT = Path(__file__).parents[1]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
# pooch leaves the socket of a failed transfer to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


class Server(BaseHTTPRequestHandler):
    """Serves what `server.contents` holds by path, half of it if `server.breaks_off`, with the headers of the Hub.

    What is committed to a repository of the Hub becomes its content.
    """

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
        moved = content.startswith(b"https://")
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", content.decode())
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(content[: len(content) // 2] if self.server.breaks_off else content)

    def do_PUT(self):
        self.server.uploads[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.reply({})

    def do_POST(self):
        """The calls of `huggingface_hub` that make a repository and commit to it; large files come by PUT before."""
        path, body = self.path.split("?")[0], self.body()
        if self.headers["Authorization"] != "Bearer secret":
            self.reply({"error": "Invalid credentials"}, 401)
        elif path == "/api/repos/create":
            self.server.created = json.loads(body)
            self.reply({"url": f"{self.server.url}/me/mine"})
        elif path == "/api/validate-yaml":
            self.reply({"errors": [], "warnings": []})
        elif path == "/api/models/me/mine/preupload/main":
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in files}
            self.reply({"files": [{"path": n, "uploadMode": mode, "shouldIgnore": False} for n, mode in modes.items()]})
        elif path == "/me/mine.git/info/lfs/objects/batch":
            objects = json.loads(body)["objects"]
            for entry in objects:
                entry["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{entry['oid']}"}}
            self.reply({"transfer": "basic", "objects": objects})
        elif path == "/api/models/me/mine/commit/main":
            values = [entry["value"] for entry in map(json.loads, body.splitlines()) if entry["key"] != "header"]
            files = {
                value["path"]: b64decode(value["content"])
                if "content" in value
                else self.server.uploads[f"/lfs/{value['oid']}"]
                for value in values
            }
            self.server.contents |= repository("me/mine", files)
            self.reply({"commitUrl": f"{self.server.url}/me/mine/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self.send_error(404)

    def body(self):
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def reply(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with serving(Server) as server:
        server.contents, server.requests, server.uploads, server.breaks_off = {}, [], {}, False
        yield server


def repository(name, files):
    """What the Hub answers about a repository, by path."""
    information = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
    tree = [
        {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for file, data in files.items()
    ]
    return {
        **{f"/api/models/{name}{at}": json.dumps(information).encode() for at in ("", "/revision/main")},
        f"/api/models/{name}/revision/{COMMIT}": json.dumps(information).encode(),
        f"/api/models/{name}/tree/{COMMIT}": json.dumps(tree).encode(),
        **{f"/{name}/resolve/{COMMIT}/{file}": data for file, data in files.items()},
    }


def zipped(files, kind=zipfile.ZIP_STORED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", kind) as archive:
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


def test_an_endless_transfer_ends_and_leaves_nothing(server, contents, tmp_path, monkeypatch):
    address = offer(server, zipped(contents))
    monkeypatch.setattr("caloman.generators.shared.LARGEST_BUNDLE", 1000)
    with pytest.raises(CalomanError, match="longer than 0 GB; no bundle is"):
        fetch(address)
    assert cached(tmp_path) == []


def test_an_archive_that_unpacks_to_too_much_is_refused(server, contents, tmp_path, monkeypatch):
    address = offer(server, zipped({**contents, "README.md": bytes(10**7)}, zipfile.ZIP_DEFLATED))
    monkeypatch.setattr("caloman.generators.shared.LARGEST_BUNDLE", 5 * 10**6)
    with pytest.raises(CalomanError, match="unpacks to more than"):
        fetch(address)
    assert cached(tmp_path) == []


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_take_any_memory_are_refused(server, contents, kind):
    with pytest.raises(CalomanError, match="compressed in an unusual way"):
        fetch(offer(server, zipped(contents, kind)))


def test_a_damaged_archive_and_one_with_a_long_list_of_contents_are_refused(server, contents, monkeypatch):
    broken = bytearray(zipped(contents, zipfile.ZIP_DEFLATED))
    broken[len("config.yaml") + 40 :: 50] = b"\xff" * len(broken[len("config.yaml") + 40 :: 50])
    monkeypatch.setattr("caloman.generators.shared.LARGEST_READ", 2**14)
    for content in (bytes(broken), zipped({**contents, **{f"{index}": b"" for index in range(1000)}})):
        with pytest.raises(CalomanError, match="not a zip file of a bundle"):
            fetch(offer(server, content))


def test_two_that_ask_at_once_share_one_transfer(server, contents):
    address = offer(server, zipped(contents))
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(fetch, [address] * 2)
    assert one == other
    assert server.requests == ["/photons.zip"]


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


@pytest.mark.parametrize("address", ["hf://photons", "hf://a/b/c", "hf://a/../b", "hf://a/b@../../c", "hf://"])
def test_what_is_no_address_of_the_hub_is_refused(address):
    with pytest.raises(CalomanError, match="write hf://OWNER/NAME"):
        fetch(address)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CalomanError, match=r"pip install 'caloman\[hub\]'"):
        fetch("hf://caloman/photons")


def at_hub(call, server, tmp_path, token="secret"):
    """What a call of caloman returns in a process of its own, which finds the stand-in as the Hub."""
    code = f"""
from caloman.errors import CalomanError
from caloman.generators.shared import fetch
from caloman.sharing import publish
try:
    print({call})
except CalomanError as error:
    print("refused:", error)
"""
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hub"), "HF_TOKEN": token}
    command = [sys.executable, "-c", code]
    environment["HF_HUB_DISABLE_XET"] = "1"
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def from_hub(address, server, tmp_path):
    return at_hub(f"fetch({address!r})", server, tmp_path)


needs_hub = pytest.mark.skipif(find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed")


@needs_hub
def test_a_generator_of_the_hub_is_fetched_and_then_found_without_network(server, contents, run, tmp_path):
    server.contents = repository("me/photons", {**contents, "run.sh": b"evil"})
    folder = Path(from_hub("hf://me/photons", server, tmp_path))
    assert bundle.fingerprint(folder) == bundle.fingerprint(run)
    assert not (folder / "run.sh").exists()
    assert from_hub("hf://me/pions", server, tmp_path).startswith("refused: hf://me/pions: cannot be fetched")
    server.url = "http://127.0.0.1:9"
    assert Path(from_hub("hf://me/photons", server, tmp_path)) == folder
    assert from_hub("hf://me/pions", server, tmp_path).startswith("refused: hf://me/pions: cannot be fetched")


RECORD = {"seed": 1, "data": [{"path": "/home/me/secret.h5"}], "members": [{"hardware": {"cpus": 2}, "seed": 2}]}


@needs_hub
def test_what_is_published_at_the_hub_is_fetched_again(server, run, tmp_path):
    (run / "bundle" / "training.json").write_text(json.dumps(RECORD))
    said = at_hub(f"publish({str(run)!r}, 'hf://me/mine', private=True)", server, tmp_path)
    assert said == f"{run} published; load it with caloman.load('hf://me/mine@{COMMIT}')"
    assert server.created["visibility"] == "private"
    folder = Path(from_hub(f"hf://me/mine@{COMMIT}", server, tmp_path))
    assert bundle.fingerprint(folder) == bundle.fingerprint(run)
    assert json.loads((folder / "training.json").read_text()) == {"seed": 1, "members": [{"seed": 2}]}


@needs_hub
def test_the_hub_s_refusal_and_no_network_are_one_sentence_each(server, run, tmp_path):
    call = f"publish({str(run)!r}, 'hf://me/mine')"
    assert at_hub(call, server, tmp_path, token="other").startswith("refused: hf://me/mine: cannot be published, check")
    server.url = "http://127.0.0.1:9"
    assert at_hub(call, server, tmp_path).startswith("refused: hf://me/mine: cannot be published, check")


def test_a_published_archive_is_loaded_by_the_address_that_was_said(server, run, tmp_path):
    (run / "bundle" / "training.json").write_text(json.dumps(RECORD))
    said = {publish(run, str(tmp_path / "mine.zip")) for _ in range(2)}
    assert len(said) == 1
    server.contents["/mine.zip"] = (tmp_path / "mine.zip").read_bytes()
    folder = fetch(said.pop().partition("'")[2].rstrip("')").replace("https://...", server.url))
    assert bundle.fingerprint(folder) == bundle.fingerprint(run)
    assert "secret" not in (folder / "training.json").read_text()


@pytest.mark.parametrize(
    ("to", "message"),
    [("https://zenodo.org", "write hf://OWNER/NAME"), ("hf://me", "write hf://"), ("hf://me/x@main", "a commit has")],
)
def test_where_nothing_can_be_published_is_said(run, to, message):
    with pytest.raises(CalomanError, match=message):
        publish(run, to)


@pytest.fixture
def zenodo(server, monkeypatch):
    """The stand-in answers for doi.org and Zenodo, too."""
    send = requests.adapters.HTTPAdapter.send

    def redirected(self, request, **options):
        asked = request.url
        request.url = asked.replace("https:/", server.url) if asked.startswith("https://") else asked
        response = send(self, request, **options)
        request.url = response.url = asked
        return response

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", redirected)
    entry = {"key": "photons.zip", "links": {"self": "https://zenodo.org/api/records/7/files/photons.zip/content"}}
    server.contents |= {
        "/doi.org/10.5281/zenodo.7": b"https://zenodo.org/records/7",
        "/zenodo.org/records/7": b"a page",
        "/zenodo.org/api/records/7": json.dumps({"id": 7, "files": [entry]}).encode(),
    }
    return server


def test_an_archive_of_zenodo_is_found_by_its_doi(zenodo, contents, run):
    content = zipped(contents)
    zenodo.contents["/zenodo.org/api/records/7/files/photons.zip/content"] = content
    digest = hashlib.sha256(content).hexdigest()
    folder = fetch(f"doi:10.5281/zenodo.7/photons.zip#sha256={digest}")
    assert bundle.fingerprint(folder) == bundle.fingerprint(run)
    with pytest.raises(CalomanError, match=r"cannot be found; check the address .*pions\.zip"):
        fetch(f"doi:10.5281/zenodo.7/pions.zip#sha256={'0' * 64}")
    with pytest.raises(CalomanError, match="status 404"):
        fetch(f"doi:10.5281/zenodo.8/photons.zip#sha256={'0' * 64}")


@pytest.mark.parametrize("content", ["{", "[" * 50_000])
def test_a_damaged_record_of_the_training_is_one_sentence(run, tmp_path, content):
    shutil.copytree(run / "bundle", tmp_path / "bundle")
    (tmp_path / "bundle" / "training.json").write_text(content)
    with pytest.raises(CalomanError, match=r"training\.json: damaged; remove it"):
        publish(tmp_path / "bundle", str(tmp_path / "mine.zip"))
