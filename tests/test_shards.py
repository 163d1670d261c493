import filecmp
import os
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloman import bundle
from caloman.cli import main
from caloman.errors import CalomanError
from caloman.generation.generate import generate
from caloman.generation.shards import merge
from caloman.showers.conditions import Conditions

SCRIPTS = Path(__file__).parents[1] / "scripts"
REQUEST = {"energies": "log-uniform:1GeV:100GeV", "n": 3500, "seed": 4}


@pytest.fixture
def make(run, tmp_path):
    """Generates into a file and returns its path as text."""

    def apply(name, run=run, **options):
        generate(run, tmp_path / name, **{**REQUEST, **options})
        return str(tmp_path / name)

    return apply


@pytest.mark.parametrize(("count", "compression"), [(1, "gzip"), (3, "gzip"), (6, "gzip"), (2, "none")])
def test_any_number_of_shards_merges_into_the_same_bytes(make, tmp_path, count, compression):
    whole = make("whole.hdf5", compression=compression)
    shards = [make(f"{i}.hdf5", shard=f"{i}/{count}", compression=compression) for i in reversed(range(count))]
    assert "3500 showers" in merge(str(tmp_path / "merged.hdf5"), shards)
    assert filecmp.cmp(whole, tmp_path / "merged.hdf5", shallow=False)


@pytest.mark.parametrize("shard", ["3/3", "-1/3", "1", "a/b", "0/0", "", "0/3\n", "1/" + 5000 * "9"])
def test_a_shard_that_cannot_be_is_refused(make, shard):
    with pytest.raises(CalomanError, match=f"--shard {shard[:4]}"):
        make("out.hdf5", shard=shard)


def other_model(small, randomize, folder):
    model = randomize(bundle.load(folder / "run"), std=0.1)
    model.conditions = Conditions.energies(1e3, 1e5)
    spec = bundle.read_config(folder / "run" / "bundle")["model"]
    bundle.save(model, spec, {"files": [], "showers": 0}, folder / "other" / "bundle")
    return folder / "other"


@pytest.fixture
def shards(make):
    return [make(f"{i}.hdf5", shard=f"{i}/3") for i in range(3)]


def spoil(path, change):
    Path(path).write_bytes(change(Path(path).read_bytes()))
    return path


FAULTS = {
    "missing in the middle": (lambda s, make: [s[0], s[2]], "shard 1/3 is missing"),
    "missing at the end": (lambda s, make: s[:2], "shard 2/3 is missing"),
    "twice": (lambda s, make: [*s, s[1]], r"shard 1 is also .*1\.hdf5"),
    "another seed": (lambda s, make: [*s[:2], make("x.hdf5", shard="2/3", seed=5)], r"x\.hdf5: seed is 5, but 4"),
    "another spectrum": (lambda s, make: [*s[:2], make("x.hdf5", shard="2/3", energies="1GeV")], "energies is 1000"),
    "another count": (lambda s, make: [*s, make("x.hdf5", shard="3/4")], "count is 4, but 3"),
    "truncated": (lambda s, make: [*s[:2], spoil(s[2], lambda content: content[:-1000])], r"2\.hdf5: not a complete"),
    "no such file": (lambda s, make: [*s[:2], "nothing.hdf5"], r"nothing\.hdf5: no such file"),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_shards_that_do_not_belong_together_are_refused(shards, make, tmp_path, fault, message):
    with pytest.raises(CalomanError, match=message) as error:
        merge(str(tmp_path / "merged.hdf5"), fault(shards, make))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*merged*"))


def test_shards_of_different_models_are_refused(shards, make, small, randomize, tmp_path):
    foreign = make("foreign.hdf5", run=other_model(small, randomize, tmp_path), shard="2/3")
    with pytest.raises(CalomanError, match=r"foreign\.hdf5: model is"):
        merge(str(tmp_path / "merged.hdf5"), [*shards[:2], foreign])


def test_other_files_are_no_shards(make_showers, photons, tmp_path):
    make_showers(5, photons).save(tmp_path / "plain.hdf5")
    with pytest.raises(CalomanError, match=r"plain\.hdf5: not a shard"):
        merge(str(tmp_path / "merged.hdf5"), [str(tmp_path / "plain.hdf5")])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shard", "9/3"), ("shard", 5), ("n", "many"), ("n", 10**18), ("n", [1, 2]), ("n", np.nan), ("n", -(10**6)),
        ("compression", None), ("seed", h5py.Empty("f")),
    ],
)  # fmt: skip
def test_damaged_attributes_of_a_shard_are_named(shards, tmp_path, name, value):
    with h5py.File(shards[0], "a") as file:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value
    with pytest.raises(CalomanError, match=r"0\.hdf5: (not a shard|holds)"):
        merge(str(tmp_path / "merged.hdf5"), shards)


def test_nothing_to_merge_is_one_sentence():
    with pytest.raises(CalomanError, match="no shards"):
        merge("merged.hdf5", [])


def test_the_output_may_not_be_a_shard(shards):
    with pytest.raises(CalomanError, match=r"0\.hdf5: is both"):
        merge(shards[0], shards)


OPTIONS = "--n 1500 --energies 1GeV --seed 1"


@pytest.fixture
def whole(make):
    """The file that the shards of a batch system amount to."""
    return make("whole.hdf5", n=1500, energies="1GeV", seed=1)


def test_slurm_array(run, make, whole, tmp_path):
    script = SCRIPTS / "slurm" / "generate.sh"
    caloman = tmp_path / "bin" / "caloman"
    caloman.parent.mkdir()
    caloman.write_text(f'#!/bin/sh\nexec {sys.executable} -m caloman.cli "$@"\n')
    caloman.chmod(0o755)
    environment = {**os.environ, "PATH": f"{caloman.parent}:{os.environ['PATH']}", "PYTHONPATH": str(SCRIPTS.parent)}
    shell = partial(subprocess.run, cwd=tmp_path, check=True, env={**environment, "SLURM_ARRAY_TASK_ID": "1"})
    shell(["bash", "-n", script])
    shell(["bash", script, run, "shards", "2", *OPTIONS.split()])
    make("shards/shard-0.hdf5", n=1500, energies="1GeV", seed=1, shard="0/2")
    shell(["sh", "-c", re.search(r'--wrap "(.*)"', script.read_text())[1].replace("FOLDER", "shards")])
    assert filecmp.cmp(whole, tmp_path / "showers.hdf5", shallow=False)


def condor_command(name, **macros):
    """The command of an HTCondor submit description with its macros put in."""
    lines = (SCRIPTS / "htcondor" / name).read_text().splitlines()
    description = dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines if re.match(r"\w+\s*=", line))
    line = description["executable"] + " " + description["arguments"].strip('"')
    line = re.sub(r"\$\((\w+)\)", lambda match: str(macros[match[1]]), line)
    return shlex.split(line)


def test_htcondor_jobs(run, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    for index in range(2):
        command = condor_command("generate.sub", run=run, folder="shards", Process=index, shards=2, options=OPTIONS)
        assert command[:3] == ["/usr/bin/env", "OMP_NUM_THREADS=1", "caloman"]
        assert main(command[3:]) == 0
    shell, option, command = condor_command("merge.sub", folder="shards", output_file="showers.hdf5")
    assert (shell, option) == ("/bin/sh", "-c")
    _, name, output, pattern = command.split()
    assert main([name, output, *map(str, tmp_path.glob(pattern))]) == 0
    assert filecmp.cmp(whole, tmp_path / "showers.hdf5", shallow=False)


def test_the_htcondor_dag_defines_the_macros_of_its_jobs():
    dag = (SCRIPTS / "htcondor" / "generate.dag").read_text()
    for job, name in re.findall(r"^JOB (\w+) scripts/htcondor/(.+)$", dag, re.MULTILINE):
        used = set(re.findall(r"\$\((\w+)\)", (SCRIPTS / "htcondor" / name).read_text())) - {"Process"}
        assert used <= set(re.findall(r'(\w+)="', "".join(re.findall(rf"^VARS {job} .*$", dag, re.MULTILINE))))
