import hashlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from conftest import serving

import caloman.data.download as module
from caloman.cli import main
from caloman.data.download import OFFICIAL_FILES, OfficialFile, download
from caloman.errors import CalomanError
from caloman.showers.geometry import BUILT_IN

# pooch leaves the socket of a failed transfer to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

ROOT = Path(module.__file__).parents[2]
CONTENT = {"a.hdf5": bytes(range(256)) * 4096, "b.hdf5": b"showers" * 1000}


class Zenodo(BaseHTTPRequestHandler):
    """Serves whole files, or breaks off, corrupts them or refuses, as `server.mood` says."""

    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path.startswith("/api/"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.server.listing)
            return
        name = self.path.split("?")[0].split("/")[-1]
        mood, content = self.server.mood, CONTENT[name]
        if mood == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if mood == "breaks off once":
            self.server.mood = "good"
        if mood.startswith("breaks off"):
            content = content[: len(content) // 2]
        if mood == "corrupt":
            content = b"x" + content[1:]
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with serving(Zenodo) as server:
        server.mood, server.requests = "good", []
        server.url += "/records"
        yield server


@pytest.fixture(autouse=True)
def _two_small_files(monkeypatch):
    def official(name, role):
        return OfficialFile(name, 1234, hashlib.md5(CONTENT[name]).hexdigest(), role)

    monkeypatch.setitem(OFFICIAL_FILES, "2", (official("a.hdf5", "train"), official("b.hdf5", "reference")))
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_arrive_in_a_new_folder_from_their_record(server, tmp_path):
    result = download("2", str(tmp_path / "new" / "data"), base_url=server.url)
    assert {name: (tmp_path / "new/data" / name).read_bytes() for name in CONTENT} == CONTENT
    assert names(tmp_path / "new" / "data") == ["a.hdf5", "b.hdf5"]
    assert server.requests == [f"/records/1234/files/{name}?download=1" for name in CONTENT]
    assert str(result).count("downloaded") == 2


def test_complete_files_are_not_fetched_again(server, tmp_path):
    download("2", str(tmp_path), ["train"], server.url)
    result = download("2", str(tmp_path), base_url=server.url)
    assert [request.split("/")[-1] for request in server.requests] == ["a.hdf5?download=1", "b.hdf5?download=1"]
    assert result.states == {"a.hdf5": "already there", "b.hdf5": "downloaded"}


@pytest.mark.parametrize(("wanted", "expected"), [("b.hdf5", "b.hdf5"), ("reference", "b.hdf5"), ("train", "a.hdf5")])
def test_files_are_chosen_by_name_or_role(server, tmp_path, wanted, expected):
    download("2", str(tmp_path), [wanted], server.url)
    assert names(tmp_path) == [expected]


def failure(folder, url, files=("train",)):
    with pytest.raises(CalomanError) as error:
        download("2", str(folder), list(files), url)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("mood", "message"),
    [
        ("breaks off", "broke off; run the same command again"),
        ("corrupt", "another MD5 sum"),
        ("missing", "status 404"),
    ],
)
def test_failed_transfer_says_so_leaves_nothing_and_can_be_repeated(server, tmp_path, mood, message):
    server.mood = mood
    sentence = failure(tmp_path, server.url)
    assert sentence.startswith(f"{tmp_path / 'a.hdf5'}: ")
    assert message in sentence
    assert names(tmp_path) == []
    server.mood = "good"
    download("2", str(tmp_path), ["train"], server.url)
    assert names(tmp_path) == ["a.hdf5"]


@pytest.mark.parametrize("mood", ["breaks off", "corrupt"])
def test_an_older_file_is_replaced_only_by_the_right_one(server, tmp_path, mood):
    (tmp_path / "a.hdf5").write_bytes(b"older")
    server.mood = mood
    failure(tmp_path, server.url)
    assert (tmp_path / "a.hdf5").read_bytes() == b"older"
    server.mood = "good"
    download("2", str(tmp_path), ["train"], server.url)
    assert (tmp_path / "a.hdf5").read_bytes() == CONTENT["a.hdf5"]


def test_finished_files_survive_the_failure_of_a_later_one(server, tmp_path, monkeypatch):
    wrong = OfficialFile("b.hdf5", 1234, "0" * 32, "reference")
    monkeypatch.setitem(OFFICIAL_FILES, "2", (OFFICIAL_FILES["2"][0], wrong))
    with pytest.raises(CalomanError, match=r"b\.hdf5.*MD5"):
        download("2", str(tmp_path), base_url=server.url)
    assert names(tmp_path) == ["a.hdf5"]


def test_a_transfer_that_broke_off_is_tried_again(server, tmp_path):
    server.mood = "breaks off once"
    download("2", str(tmp_path), ["train"], server.url)
    assert (len(server.requests), names(tmp_path)) == (2, ["a.hdf5"])


def test_base_url_may_end_in_a_slash(server, tmp_path):
    download("2", str(tmp_path), ["train"], server.url + "/")
    assert server.requests == ["/records/1234/files/a.hdf5?download=1"]


def test_folder_below_a_file_is_said(server, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written, check folder" in failure(tmp_path / "file" / "data", server.url)
    assert server.requests == []


def test_missing_pooch_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert "pip install 'caloman[data]'" in failure(tmp_path, "http://127.0.0.1:9")


def test_a_record_lists_its_own_files_and_sums(server, tmp_path):
    sums = {name: hashlib.md5(content).hexdigest() for name, content in CONTENT.items()}
    files = [{"key": name, "checksum": f"md5:{md5}", "size": 1} for name, md5 in sums.items()]
    server.listing = json.dumps({"files": files}).encode()
    result = download("lemurs", str(tmp_path), ["a*"], server.url)
    assert result.states == {"a.hdf5": "downloaded"}
    assert (tmp_path / "a.hdf5").read_bytes() == CONTENT["a.hdf5"]
    assert server.requests == ["/api/records/17045562", "/records/17045562/files/a.hdf5?download=1"]
    with pytest.raises(CalomanError, match=r"choose of its large files with --files, .*: a\.hdf5, b\.hdf5"):
        download("lemurs", str(tmp_path), None, server.url)
    server.mood = "corrupt"
    with pytest.raises(CalomanError, match=r"b\.hdf5: what arrived has another MD5 sum"):
        download("lemurs", str(tmp_path), ["b.hdf5"], server.url)


ENTRIES = [("..", "0" * 32), ("a/b", "0" * 32), ("a\n", "0" * 32), ("", "0" * 32), ("a", ""), ("a", "sha1:0"), ("a", 5)]
DAMAGED = [json.dumps({"files": [{"key": name, "checksum": md5}]}).encode() for name, md5 in ENTRIES]


@pytest.mark.parametrize(
    "listing", [b"<html>", b"[]", b'{"files": [{"key": "a"}]}', b"[" * 10**5, b" " * 10**8, *DAMAGED]
)
def test_another_answer_than_a_list_of_files_is_said(server, tmp_path, listing):
    server.listing = listing
    with pytest.raises(CalomanError, match="is no list of files as Zenodo writes it"):
        download("lemurs", str(tmp_path), ["a*"], server.url)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.hdf5")
    assert "is no file, but in the way of one" in failure(tmp_path, "http://127.0.0.1:9", ["a.hdf5"])


def test_unknown_dataset_and_file_list_what_there_is(tmp_path):
    with pytest.raises(CalomanError, match="'4': use one of 1-photons, 1-pions, 2, 3, lemurs"):
        download("4", str(tmp_path))
    assert "b.hdf5" in failure(tmp_path, "http://127.0.0.1:9", ["c.hdf5"])


def test_command_line_takes_several_files(server, tmp_path, capsys):
    arguments = ["2", "--folder", str(tmp_path), "--base-url", server.url, "--files", "a.hdf5", "b.hdf5"]
    assert main(["download", *arguments]) == 0
    assert capsys.readouterr().out.count("downloaded") == 2
    assert names(tmp_path) == ["a.hdf5", "b.hdf5"]


def test_every_dataset_has_train_and_reference_files():
    assert set(OFFICIAL_FILES) == set(BUILT_IN)
    for dataset, files in OFFICIAL_FILES.items():
        assert {file.role for file in files} == {"train", "reference"}
        if dataset != "2":  # replaced by small files here
            assert all(len(file.md5) == 32 and file.name.startswith("dataset_") for file in files)
    assert len({file.md5 for files in OFFICIAL_FILES.values() for file in files}) == 10


@pytest.mark.parametrize("name", ["download", "prepare"])
def test_scripts_run_without_being_installed(name):
    command = [sys.executable, str(ROOT / "data_prep" / f"{name}.py"), "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"usage: caloman {name}" in result.stdout
