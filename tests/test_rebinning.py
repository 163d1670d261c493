import numpy as np
import pytest

from caloman.cli import main
from caloman.data.prepare import prepare
from caloman.errors import CalomanError
from caloman.showers.geometry import BUILT_IN, Geometry, Layer
from caloman.showers.rebinning import Rebinning
from caloman.showers.showers import Showers

FINE = Geometry("fine", "photon", (Layer(0, (0, 1, 3, 4), 4), Layer(2, (0, 5), 6)))
COMMON = Geometry.load("configs/3/common.xml")


def coarse(*layers):
    return Geometry("coarse", "photon", layers)


def test_each_voxel_is_added_to_the_one_that_holds_its_center(make_showers):
    mesh = coarse(Layer(0, (0, 3, 4), 2), Layer(2, (0, 5), 3))
    showers = make_showers(50, FINE)
    expected = np.zeros((50, mesh.n_voxels))
    for fine, wide, columns, start in zip(
        FINE.layers, mesh.layers, FINE.layer_slices, [s.start for s in mesh.layer_slices], strict=True
    ):
        for voxel, (r, alpha) in enumerate(zip(fine.r, fine.alpha, strict=True)):
            ring = np.searchsorted(wide.r_edges, r) - 1
            turn = int((alpha + np.pi) / (2 * np.pi) * wide.n_alpha)
            expected[:, start + turn * wide.n_r + ring] += showers.voxels[:, columns][:, voxel]
    np.testing.assert_allclose(Rebinning(FINE, mesh)(showers).voxels, expected, rtol=1e-6)


def test_a_mesh_into_itself_changes_nothing(make_showers, photons):
    showers = make_showers(20, photons)
    np.testing.assert_array_equal(Rebinning(photons, photons)(showers).voxels, showers.voxels)


def test_energies_of_layers_stay(make_showers):
    showers = make_showers(30, BUILT_IN["3"])
    summed = Rebinning(BUILT_IN["3"], COMMON)(showers)
    before, after = BUILT_IN["3"].layer_energies(showers.voxels), COMMON.layer_energies(summed.voxels)
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dataset", ["2", "3"])
def test_both_meshes_of_the_electrons_share_one(dataset):
    assert Rebinning(BUILT_IN[dataset], COMMON).coarse.grid == (45, 2, 9)


@pytest.mark.parametrize(
    ("layers", "part"),
    [
        ((Layer(0, (0, 2, 4), 4), Layer(2, (0, 5), 6)), "layer 0"),
        ((Layer(0, (0, 1, 3), 4), Layer(2, (0, 5), 6)), "same radius"),
        ((Layer(0, (1, 3, 4), 4), Layer(2, (0, 5), 6)), "layer 0"),
        ((Layer(0, (0, 4), 3), Layer(2, (0, 5), 6)), "3 bins in alpha"),
        ((Layer(0, (0, 1, 3, 4), 8), Layer(2, (0, 5), 6)), "8 bins in alpha"),
        ((Layer(0, (0, 1, 3, 4), 4),), "other layers"),
    ],
)
def test_a_mesh_that_would_divide_or_lose_voxels_is_refused(layers, part):
    with pytest.raises(CalomanError, match=part):
        Rebinning(FINE, coarse(*layers))


def test_prepare_sums_a_file_and_keeps_its_conditions(make_showers, tmp_path, capsys):
    showers = make_showers(12, BUILT_IN["2"])
    showers.save(tmp_path / "fine.hdf5")
    result = prepare([str(tmp_path / "fine.hdf5")], str(tmp_path / "common.hdf5"), "2", into="configs/3/common.xml")
    summed = Showers.load(tmp_path / "common.hdf5", COMMON)
    np.testing.assert_allclose(summed.voxels, Rebinning(BUILT_IN["2"], COMMON)(showers).voxels, rtol=1e-6)
    np.testing.assert_array_equal(summed.incident_energies, showers.incident_energies)
    assert result.dataset == "common"
    files = [str(tmp_path / "fine.hdf5"), str(tmp_path / "again.hdf5")]
    assert main(["prepare", *files, "--dataset", "2", "--into", "configs/missing.xml"]) == 1
    assert "configs/missing.xml: no such file" in capsys.readouterr().err
