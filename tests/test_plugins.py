"""Classes of other packages: loaded if such a package is installed as a plug-in, and refused otherwise."""

import sys
from copy import deepcopy

import numpy as np
import pytest
from conftest import TINY_MODEL

from caloman import bundle
from caloman.errors import CalomanError
from caloman.showers.conditions import ENERGY_ONLY
from caloman.specification import find_class, plugins

MODULE = """
from subprocess import Popen

from caloman.manifold import HurdleHead

__all__ = ["WideHead", "Other", "Popen", "number"]
number = 3


class WideHead(HurdleHead):
    pass


class Other:
    pass


class HiddenHead(HurdleHead):
    pass
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of one's own that can be imported, but is no plug-in."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "foreign_heads.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("foreign_heads", None)


def install(folder):
    """Installs the module as a plug-in, as pip would."""
    metadata = folder / "foreign_heads-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-heads\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text("[caloman.plugins]\nheads = foreign_heads\n")


def with_head(name):
    spec = deepcopy(TINY_MODEL)
    spec["init_args"]["shape"]["init_args"]["autoencoder"]["init_args"]["head"] = {"class_path": name}
    return spec


def test_an_importable_class_is_refused_and_not_imported_unless_its_package_is_a_plug_in(module, small, tmp_path):
    with pytest.raises(CalomanError, match=r"'foreign_heads\.WideHead' is not.*to insist, install") as error:
        bundle.build_model(with_head("foreign_heads.WideHead"), small, ENERGY_ONLY, tmp_path)
    assert "caloman.plugins" in str(error.value)
    assert "foreign_heads" not in sys.modules


def test_a_bundle_with_a_class_of_a_plug_in_is_written_and_loaded(module, small, tmp_path, randomize):
    install(module)
    assert plugins()["foreign_heads"] == ("foreign-heads", "1.2")
    assert "foreign_heads" not in sys.modules
    spec = with_head("foreign_heads.WideHead")
    trained = ENERGY_ONLY.trained(np.array([[1e3], [1e5]]))
    model = randomize(bundle.build_model(spec, small, trained, tmp_path), std=0.2)
    bundle.save(model, spec, {"files": [], "showers": 0}, tmp_path / "bundle")
    loaded = bundle.load(tmp_path / "bundle")
    assert type(loaded.manifold.autoencoder.head).__module__ == "foreign_heads"
    assert (loaded.sample([1e4], seed=1).voxels == model.eval().sample([1e4], seed=1).voxels).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("HiddenHead", "is not a caloman class"),
        ("number", "is not a caloman class"),
        ("sys.exit", "is not a caloman class"),
        ("Other", "has to be a Head, not a Other"),
        ("Popen", "has to be a Head, not a Popen"),
    ],
)
def test_of_a_plug_in_only_public_classes_of_the_right_kind_are_made(module, small, tmp_path, name, message):
    install(module)
    with pytest.raises(CalomanError, match=message):
        bundle.build_model(with_head(f"foreign_heads.{name}"), small, ENERGY_ONLY, tmp_path)


@pytest.mark.parametrize("code", ["1 / 0", "import nothing_of_this_name", "x = 1"])
def test_a_plug_in_that_cannot_be_imported_or_lists_no_classes_is_one_sentence(module, code):
    install(module)
    (module / "foreign_heads.py").write_text(code)
    with pytest.raises(CalomanError, match=r"^file: the plug-in foreign_heads cannot be used \([^\n]*\); repair it$"):
        find_class("foreign_heads.WideHead", "file")


def test_plug_ins_are_not_imported_for_bundles_without_them(module, run):
    install(module)
    bundle.load(run)
    assert "foreign_heads" not in sys.modules
