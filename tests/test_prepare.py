import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import caloman.data.prepare as module
from caloman.cli import main
from caloman.data.prepare import choose_validation_rows, prepare
from caloman.errors import CalomanError
from caloman.files import sha256
from caloman.showers.geometry import BUILT_IN
from caloman.showers.showers import ShowerFile, Showers, find_geometry

ROOT = Path(module.__file__).parents[2]


def offset_of(path):
    with ShowerFile(path, BUILT_IN["1-photons"]) as file:
        return file.offset


@pytest.fixture
def official(make_showers, photons, write_hdf5):
    """Writes showers as the challenge did, and returns them with their file."""

    def write(n=60, name="official.hdf5", spoil=None, geometry=photons):
        showers = make_showers(n, geometry)
        datasets = {
            "incident_energies": showers.incident_energies.astype(np.float64)[:, None],
            "showers": showers.voxels.astype(np.float64),
        }
        if spoil:
            spoil(datasets)
        return showers, write_hdf5(datasets, name)

    return write


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    return folder / "ds.h5"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("block_bytes", [1, 64 * 2**20])
def test_prepared_showers_are_those_of_the_sources_in_order(
    official, photons, target, monkeypatch, compress, block_bytes
):
    monkeypatch.setattr("caloman.showers.showers.BLOCK_BYTES", block_bytes)
    (first, a), (second, b) = official(60, "a.hdf5"), official(37, "b.hdf5")
    result = prepare([str(a), str(b)], str(target), "1-photons", compress)
    loaded = Showers.load(target, photons)
    np.testing.assert_array_equal(loaded.voxels, np.concatenate([first.voxels, second.voxels]))
    np.testing.assert_array_equal(
        loaded.incident_energies, np.concatenate([first.incident_energies, second.incident_energies])
    )
    assert names(target.parent) == ["ds.h5"]
    assert str(result).startswith(f"{target}: 97 showers of dataset 1-photons")


def test_plain_file_can_be_memory_mapped(official, target):
    showers, source = official()
    prepare([str(source)], str(target), "1-photons")
    offset = offset_of(target)
    mapped = np.memmap(target, np.float32, "r", offset, shape=(60, 368))
    np.testing.assert_array_equal(mapped, showers.voxels)


def test_other_layouts_cannot_be_memory_mapped(official, target, tmp_path):
    _, source = official()
    prepare([str(source)], str(target), "1-photons", compress=True)
    with h5py.File(tmp_path / "double.h5", "w") as file:
        file["showers"] = np.ones((3, 368))
        file["incident_energies"] = np.ones((3, 1))
    assert [offset_of(path) for path in (source, target, tmp_path / "double.h5")] == [None] * 3
    with h5py.File(tmp_path / "none.h5", "w"), pytest.raises(CalomanError):
        offset_of(tmp_path / "none.h5")


def test_compressed_file_is_chunked_by_whole_rows(official, target):
    _, source = official()
    prepare([str(source)], str(target), "1-photons", compress=True)
    with h5py.File(target) as file:
        assert file["showers"].chunks[1] == 368
        assert file["showers"].compression == "gzip"


def test_file_records_split_sources_and_geometry(official, photons, target):
    (_, a), (_, b) = official(60, "a.hdf5"), official(40, "b.hdf5")
    prepare([str(a), str(b)], str(target), "1-photons", validation_fraction=0.2, seed=7)
    with h5py.File(target) as file:
        assert {name: file[name].dtype for name in file} == {
            "incident_energies": np.float32, "showers": np.float32, "validation_rows": np.int64
        }  # fmt: skip
        rows = file["validation_rows"][:]
        attributes = dict(file.attrs)
    np.testing.assert_array_equal(rows, choose_validation_rows(100, 0.2, 7))
    assert (attributes["split_seed"], attributes["validation_fraction"], attributes["dataset"]) == (7, 0.2, "1-photons")
    assert json.loads(attributes["sources"]) == [
        {"name": path.name, "sha256": sha256(path), "showers": n} for path, n in ((a, 60), (b, 40))
    ]
    assert find_geometry(target) == photons


def test_a_geometry_of_ones_own_travels_in_the_file(official, small, target, tmp_path):
    small.to_xml(tmp_path / "small.xml")
    _, source = official(geometry=small)
    prepare([str(source)], str(target), str(tmp_path / "small.xml"))
    (tmp_path / "small.xml").unlink()
    assert find_geometry(target) == small
    assert main(["check", str(target)]) == 0


@pytest.mark.parametrize("name", BUILT_IN)
def test_geometry_as_text_is_the_same_geometry(name):
    geometry = BUILT_IN[name]
    assert geometry.from_text(geometry.to_text(), "text") == geometry


def test_long_geometry_fits_into_the_file(official, small, target, monkeypatch):
    text = small.to_text() + f"<!-- {'x' * 200_000} -->"
    monkeypatch.setattr(type(small), "to_text", lambda self: text)
    monkeypatch.setattr(module, "find_geometry", lambda *arguments: small)
    _, source = official(geometry=small)
    prepare([str(source)], str(target))
    assert find_geometry(target) == small


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 0), (0.1, 100), (0.999, 999)])
def test_validation_rows_are_distinct_ascending_and_follow_the_seed(fraction, expected):
    rows = choose_validation_rows(1000, fraction, 3)
    assert rows.dtype == np.int64
    assert len(rows) == len(set(rows.tolist())) == expected
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, choose_validation_rows(1000, fraction, 3))
    if 0 < fraction < 0.9:
        assert not np.array_equal(rows, choose_validation_rows(1000, fraction, 4))


def test_command_line_is_that_of_the_design(official, photons, target, capsys):
    (_, a), (_, b) = official(60, "a.hdf5"), official(40, "b.hdf5")
    for options in (["--dataset", "1-photons"], ["--compress", "--dataset=1-photons"]):
        assert main(["prepare", *options, str(a), str(target)]) == 0
    assert main(["prepare", str(a), str(target), "--dataset", "1-photons"]) == 0
    assert len(Showers.load(target, photons)) == 60
    assert main(["prepare", str(a), str(b), str(target), "--compress", "--dataset", "1-photons"]) == 0
    with h5py.File(target) as file:
        assert file["showers"].compression == "gzip"
    assert len(Showers.load(target, photons)) == 100
    assert "SHA-256" in capsys.readouterr().out


def failure(capsys, *arguments):
    assert main(["prepare", *map(str, arguments)]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("caloman prepare: error: ")


@pytest.mark.parametrize(("voxels", "message"), [(np.full((60, 368), np.nan), "nan MeV in voxel 0 of shower 0"),
                                                 (np.ones((60, 533)), "choose the dataset")])  # fmt: skip
def test_bad_source_is_named_and_nothing_is_lost(official, target, capsys, voxels, message):
    (_, good), (_, bad) = official(60, "good.hdf5"), official(60, "bad.hdf5", lambda d: d.update(showers=voxels))
    prepare([str(good)], str(target), "1-photons")
    before = target.read_bytes()
    sentence = failure(capsys, good, bad, target, "--dataset", "1-photons")
    assert sentence.startswith(f"{bad}: ")
    assert message in sentence
    assert names(target.parent) == ["ds.h5"]
    assert target.read_bytes() == before


def test_the_same_showers_twice_are_refused(official, target, tmp_path, capsys):
    _, source = official()
    copy = tmp_path / "copy.hdf5"
    copy.write_bytes(source.read_bytes())
    for other, message in ((source, "given twice"), (copy, "same content as")):
        assert message in failure(capsys, source, other, target, "--dataset", "1-photons")
    assert names(target.parent) == []


def test_some_rows_of_files_are_prepared(official, photons, target):
    showers, source = official()
    prepare([f"{source}[5:20]", f"{source}[40:]"], str(target), "1-photons")
    expected = np.concatenate([showers.voxels[5:20], showers.voxels[40:]])
    np.testing.assert_array_equal(Showers.load(target, photons).voxels, expected)
    with h5py.File(target) as file:
        sources = json.loads(file.attrs["sources"])
    assert [(s["name"], s["showers"]) for s in sources] == [("official.hdf5[5:20]", 15), ("official.hdf5[40:]", 20)]


def test_overlapping_rows_are_refused(official, target, capsys):
    _, source = official()
    assert "given twice" in failure(capsys, f"{source}[:20]", f"{source}[10:30]", target, "--dataset", "1-photons")


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_no_file_records_are_refused_before_the_work(official, target, capsys, seed):
    _, source = official()
    assert "--seed" in failure(capsys, source, target, "--dataset", "1-photons", f"--seed={seed}")


def test_links_in_a_circle_are_said(official, target, capsys):
    target.symlink_to(target)
    other = target.with_name("other.hdf5")
    other.symlink_to(other)
    assert "no such file" in failure(capsys, other, target, "--dataset", "1-photons")


def test_of_two_commands_with_one_output_one_is_refused_and_the_file_is_whole(official, photons, target):
    _, source = official()
    arguments = [source, target, "--dataset", "1-photons"]
    first = process(arguments, STAGES["verifying"].replace("time.sleep(60)", "sys.stdin.readline()"))
    assert first.stdout.readline() == "here\n"
    with pytest.raises(CalomanError, match="another process is writing it; wait for that one"):
        prepare([str(source)], str(target), "1-photons")
    _, error = first.communicate("\n", timeout=60)
    assert (first.returncode, error, names(target.parent)) == (0, "", ["ds.h5"])
    assert len(Showers.load(target, photons)) == 60


def test_a_source_is_never_overwritten(official, capsys):
    _, source = official()
    before = source.read_bytes()
    assert "both source and target" in failure(capsys, source, source, "--dataset", "1-photons")
    assert source.read_bytes() == before


@pytest.mark.parametrize("fraction", ["1", "-0.1"])
def test_impossible_split_is_refused(official, target, capsys, fraction):
    _, source = official()
    options = ("--dataset", "1-photons", f"--validation-fraction={fraction}")
    assert "fraction" in failure(capsys, source, target, *options)


def test_unnamed_dataset_is_asked_for(official, target, capsys):
    _, source = official()
    assert "--dataset" in failure(capsys, source, target)


def test_what_does_not_read_back_is_not_kept(official, target, monkeypatch, capsys):
    _, source = official()
    monkeypatch.setattr(module, "checksums", lambda *arguments: {"incident_energies": 0, "showers": 0})
    assert "does not read back" in failure(capsys, source, target, "--dataset", "1-photons")
    assert names(target.parent) == []


def test_checksums_notice_one_changed_bit(official, photons, target):
    _, source = official()
    prepare([str(source)], str(target), "1-photons")
    before = module.checksums(target, photons)
    content = bytearray(target.read_bytes())
    content[offset_of(target) + 4 * 368 * 17] ^= 1
    target.write_bytes(content)
    after = module.checksums(target, photons)
    assert after["showers"] != before["showers"]
    assert after["incident_energies"] == before["incident_energies"]


def test_folder_that_cannot_be_written_is_named(official, tmp_path, capsys):
    _, source = official()
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "nowhere"):
        path = folder / "ds.h5"
        sentence = failure(capsys, source, path, "--dataset", "1-photons")
        assert sentence.startswith(f"{path}: cannot be written, check folder and free space")


@pytest.fixture
def mount(tmp_path):
    """Mounts a small file system in memory, where that is allowed."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def attempt(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            done = False
        if not done:
            pytest.skip("mount is not allowed here")
        return folder

    yield attempt
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_read_only_folder_is_named(official, mount, capsys):
    _, source = official()
    folder = mount("ro,size=20m")
    message = failure(capsys, source, folder / "ds.h5", "--dataset", "1-photons")
    assert "cannot be written, check folder" in message


def test_small_disk_is_noticed_before_it_is_full(official, mount, capsys):
    _, source = official(3000)
    folder = mount("size=2m")
    assert "make space or write elsewhere" in failure(capsys, source, folder / "ds.h5", "--dataset", "1-photons")
    assert names(folder) == []


def process(arguments, patch):
    """Runs ``caloman prepare`` with a part of it replaced, in a process of its own."""
    code = f"import sys, time\nimport caloman.data.prepare as p\n{patch}\nfrom caloman.cli import main\n"
    code += f"sys.exit(main(['prepare', *{list(map(str, arguments))!r}]))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # tests that run in the background inherit an ignored Ctrl-C, which Python would then ignore, too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


FILL = """
import pathlib
original = p._VerifiedWriter.append
def fill_and_append(self, showers):
    file = (self.path.parent / "other").open("ab", buffering=0)
    try:
        while file.write(bytes(4096)) == 4096: pass
    except OSError: pass
    original(self, showers)
p._VerifiedWriter.append = fill_and_append
"""


@pytest.mark.parametrize("compress", [True, False])
def test_disk_that_others_fill_meanwhile(official, mount, compress):
    """There is a sentence, not a crash inside HDF5."""
    _, source = official(3000)
    folder = mount("size=24m")
    run = process([source, folder / "ds.h5", "--dataset", "1-photons", *["--compress"] * compress], FILL)
    _, error = run.communicate(timeout=60)
    assert (run.returncode, error.count("\n")) == (1, 1)
    assert f"error: {folder / 'ds.h5'}: cannot be written, check folder and free space" in error
    assert names(folder) == ["other"]


WAIT = "\ndef wait(*a):\n    r = original(*a)\n    print('here', flush=True)\n    time.sleep(60)\n    return r\n"
STAGES = {
    "writing": f"original = p._VerifiedWriter.append{WAIT}p._VerifiedWriter.append = wait",
    "verifying": f"original = p.checksums{WAIT}p.checksums = wait",
}


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("stage", STAGES)
def test_interruption_leaves_no_file_that_looks_complete(official, photons, target, stage, number, older):
    showers, source = official()
    if older:
        showers[:5].save(target)
    run = process([source, target, "--dataset", "1-photons"], STAGES[stage])
    assert run.stdout.readline() == "here\n"
    run.send_signal(number)
    _, error = run.communicate(timeout=60)
    assert run.returncode == (1 if number == signal.SIGINT else -number)
    kept = {"ds.h5"} if older else set()
    if number == signal.SIGINT:
        assert error == "caloman prepare: interrupted\n"
        assert set(names(target.parent)) == kept
    else:
        left = set(names(target.parent)) - kept
        assert all(name.startswith(".ds.h5.") for name in left)
    if older:
        assert len(Showers.load(target, photons)) == 5
    prepare([str(source)], str(target), "1-photons")
    assert names(target.parent) == ["ds.h5"]
    assert len(Showers.load(target, photons)) == 60
