import os
import subprocess
import sys

import pytest

import caloman
from caloman import bundle
from caloman.errors import CalomanError

APPTAINER = f"""#!/bin/bash
while [ "$1" != python3 ]; do shift; done
exec {sys.executable} "${{@:2}}"
"""


@pytest.fixture
def script(run, tmp_path):
    """A packed generator of photons, whose container is this Python."""
    said = caloman.submit(run, tmp_path / "packed")
    assert said.endswith("it will refuse 500 GeV, outside its training")
    stand_in = tmp_path / "bin" / "apptainer"
    stand_in.parent.mkdir()
    stand_in.write_text(APPTAINER)
    stand_in.chmod(0o755)
    path = {"PATH": f"{stand_in.parent}:{os.environ['PATH']}"}

    def call(*arguments):
        command = [tmp_path / "packed" / "run-photon-sample.sh", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True, check=False)

    return call


def test_a_packed_generator_runs_from_its_folder(script, run, small, tmp_path):
    assert script("4", "10", "50").returncode == 0
    showers = caloman.Showers.load(tmp_path / "photons.hdf5", small)
    assert len(showers) == 10
    assert set(showers.incident_energies) == {5e4}
    assert len(set(showers.voxels.sum(axis=1).tolist())) == 10
    assert bundle.fingerprint(tmp_path / "packed" / "photons") == bundle.fingerprint(run)
    assert '"torch>=' in (tmp_path / "packed" / "container.def").read_text()


def test_bad_arguments_are_one_line(script):
    for arguments, message in (
        (["4", "10"], "usage: "),
        (["4", "10", "500"], "outside the range of the training"),
        (["0", "10", "50"], "argument batch_size: invalid positive value: '0'"),
        (["4", "ten", "50"], "argument n_samples: invalid positive value: 'ten'"),
    ):
        found = script(*arguments)
        assert found.returncode > 0
        assert message in found.stderr
        assert "Traceback" not in found.stderr


def test_other_particles_and_conditions_are_refused(tmp_path):
    for name, message in (("electrons", "electrons: generates electron showers"), ("angles", "also needs theta")):
        with pytest.raises(CalomanError, match=message):
            caloman.submit(name, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_a_folder_with_something_else_is_left_alone(run, tmp_path):
    (tmp_path / "photons").mkdir()
    (tmp_path / "photons" / "thesis.txt").write_text("all I have")
    with pytest.raises(CalomanError, match="holds something else; name a new folder"):
        caloman.submit(run, tmp_path)
    assert (tmp_path / "photons" / "thesis.txt").read_text() == "all I have"
    caloman.submit(run, tmp_path / "new")
    caloman.submit(run, tmp_path / "new")


def test_what_a_stranger_links_to_is_not_handed_on(run, tmp_path):
    (tmp_path / "secret").write_text("my key")
    (run / "bundle" / "notes.txt").symlink_to(tmp_path / "secret")
    caloman.submit(run, tmp_path / "packed")
    assert not list((tmp_path / "packed").rglob("notes.txt"))
    (run / "bundle" / "README.md").unlink()
    (run / "bundle" / "README.md").symlink_to(tmp_path / "secret")
    for hand_on in (caloman.submit, caloman.publish):
        with pytest.raises(CalomanError, match=r"README\.md: is a link to a file elsewhere"):
            hand_on(run, str(tmp_path / "shared.zip"))
    assert not (tmp_path / "shared.zip").exists()
