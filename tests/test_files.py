import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import caloman.files as module
from caloman.errors import CalomanError
from caloman.files import appearing, appearing_folder, locked, read_text, restore, write

ROOT = Path(module.__file__).parents[1]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fill(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text(content)


def interrupted(context, path):
    def write_half():
        with context(path) as partial:
            (partial / "half" if context is appearing_folder else partial).write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    write(path, "first")
    interrupted(appearing, path)
    assert (names(path.parent), path.read_text()) == (["file"], "first")


def test_writers_of_one_file_do_not_share_a_partial_file(tmp_path):
    with appearing(tmp_path / "file") as first, appearing(tmp_path / "file") as second:
        first.write_text("first")
        second.write_text("second")
    assert (names(tmp_path), (tmp_path / "file").read_text()) == (["file"], "first")


def test_modes_follow_the_umask_whatever_a_library_does(tmp_path):
    with appearing(tmp_path / "file") as partial:
        partial.chmod(0o600)
    with appearing_folder(tmp_path / "folder") as partial:
        fill(partial, "")
        (partial / "weights").chmod(0o600)
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in (tmp_path / n for n in ("file", "plain", "folder/weights"))}
    assert len(modes) == 1


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "bundle"
    for content in ("first", "second"):
        with appearing_folder(path) as partial:
            fill(partial, content)
    interrupted(appearing_folder, path)
    assert (names(tmp_path), (path / "weights").read_text()) == (["bundle"], "second")


KILLED = """
import os, sys
from pathlib import Path
from caloman.files import appearing_folder
original = Path.rename
def rename(self, target):
    original(self, target)
    if sys.argv[2] in str(target):
        os.kill(os.getpid(), 9)
Path.rename = rename
with appearing_folder(Path(sys.argv[1])) as partial:
    (partial / "weights").write_text("new")
"""


@pytest.mark.parametrize(("at", "expected"), [(".older", "old"), ("bundle", "new")])
def test_a_kill_between_two_renames_loses_no_folder(tmp_path, at, expected):
    path = tmp_path / "bundle"
    fill(path, "old")
    target = at if at == ".older" else str(path)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), target], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    restore(path)
    assert (path / "weights").read_text() == expected
    with appearing_folder(path) as partial:
        fill(partial, "newest")
    assert (names(tmp_path), (path / "weights").read_text()) == (["bundle"], "newest")


HOLDER = """
import sys
from pathlib import Path
from caloman.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that writes ``tmp_path / "out"``."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_one_process_excludes_others_until_it_ends(tmp_path, holder):
    with pytest.raises(CalomanError, match="out: another process is writing it; wait"), locked(tmp_path / "out"):
        pass
    holder.kill()
    holder.wait()
    (tmp_path / ".out.12345.partial").write_text("half")
    with locked(tmp_path / "out"), locked(tmp_path / "out"):
        pass
    assert names(tmp_path) == []


def test_names_with_brackets_lose_only_their_own_partial_files(tmp_path):
    for name in (".a[0].x.partial", ".a0.x.partial"):
        (tmp_path / name).touch()
    with locked(tmp_path / "a[0]"):
        assert ".a[0].x.partial" not in names(tmp_path)
    assert names(tmp_path) == [".a0.x.partial"]


def test_a_folder_in_the_place_of_a_file_is_said_before_the_work(tmp_path):
    with pytest.raises(CalomanError, match="is a folder; give the name of a file"), appearing(tmp_path):
        pass
    write(tmp_path / "file", "")
    with pytest.raises(CalomanError, match="is a file; give"), appearing_folder(tmp_path / "file"):
        pass


@pytest.mark.parametrize("path", [Path(), Path("/")])
def test_a_place_without_a_name_is_refused(path):
    with pytest.raises(CalomanError, match="is a folder without a name"), locked(path):
        pass


def pipe(path):
    os.mkfifo(path)


def loop(path):
    path.symlink_to(path)


UNREADABLE = {
    "no such file": lambda path: None,
    "not a regular file": pipe,
    "longer than": lambda path: path.write_bytes(bytes(2**24 + 1)),
    "not a readable text file": lambda path: path.write_bytes(b"\xff\xff"),
    "such file": loop,
}


@pytest.mark.parametrize("message", UNREADABLE)
def test_what_is_no_text_file_is_said(tmp_path, message):
    UNREADABLE[message](tmp_path / "text")
    with pytest.raises(CalomanError, match=f"text: .*{message}"):
        read_text(tmp_path / "text")
