import numpy as np
import pytest

from caloman.showers.geometry import Geometry, Layer
from caloman.showers.observables import apply_threshold, compute_observables
from caloman.showers.showers import Showers

NAMES = (
    "layer_energies", "sparsity", "center_eta", "center_phi", "center_r", "width_eta", "width_phi", "width_r",
    "total_energy",
)  # fmt: skip


def straightforward(voxels, geometry, threshold):
    """One shower, cell by cell, after metrics.md section 2."""
    result = {name: [] for name in NAMES}
    offset = 0
    for layer in geometry.layers:
        cells = []
        for a in range(layer.n_alpha):
            alpha = -np.pi + (a + 0.5) * 2 * np.pi / layer.n_alpha
            for i in range(layer.n_r):
                energy = float(voxels[offset])
                r = (layer.r_edges[i] + layer.r_edges[i + 1]) / 2
                cells.append((0.0 if energy < threshold else energy, r * np.cos(alpha), r * np.sin(alpha), r))
                offset += 1
        energies, *coordinates = np.array(cells).T
        result["layer_energies"].append(energies.sum())
        result["sparsity"].append(1 - np.mean(energies > 0))
        for name, x in zip(("eta", "phi", "r"), coordinates, strict=True):
            if name == "r" or layer.n_alpha > 1:
                mean = (x * energies).sum() / (energies.sum() + 1e-16)
                square = (x**2 * energies).sum() / (energies.sum() + 1e-16)
                result[f"center_{name}"].append(mean)
                result[f"width_{name}"].append(np.sqrt(max(0, square - mean**2)))
    result["total_energy"] = sum(result["layer_energies"])
    return result


@pytest.mark.parametrize("dataset", ["1-photons", "1-pions", "2"])
@pytest.mark.parametrize("threshold", [None, 0.0, 100.0])
def test_observables_agree_with_a_loop_over_cells(make_showers, dataset, threshold):
    geometry = Geometry.load(dataset)
    showers = make_showers(5, geometry)
    observables = compute_observables([showers], threshold)
    cut = geometry.threshold if threshold is None else threshold
    expected = [straightforward(voxels, geometry, cut) for voxels in showers.voxels]
    for name in NAMES:
        # widths are the root of a difference, which leaves half of the digits
        tolerance = {"rtol": 1e-6, "atol": 1e-4 if name.startswith("width") else 1e-9}
        values = np.array([shower[name] for shower in expected])
        np.testing.assert_allclose(getattr(observables, name), values, err_msg=name, **tolerance)


def test_angular_observables_exist_in_the_angular_layers_only(make_showers, photons):
    observables = compute_observables([make_showers(3, photons)])
    assert observables.center_eta.shape == observables.width_phi.shape == (3, 2)
    assert observables.center_r.shape == observables.sparsity.shape == (3, 5)


def test_blocks_joined_equal_the_whole(make_showers, photons):
    showers = make_showers(40, photons)
    whole = compute_observables([showers])
    blocks = compute_observables(iter([showers[:1], showers[1:17], showers[17:]]))
    for name in NAMES:
        np.testing.assert_allclose(getattr(blocks, name), getattr(whole, name), rtol=1e-12, atol=1e-12)
    assert len(blocks) == 40


def test_rotating_a_shower_by_one_bin_rotates_its_center_only(make_showers):
    geometry = Geometry("ring", "photon", (Layer(0, (0, 2, 5, 9), 12),))
    showers = make_showers(20, geometry)
    rotated = Showers(showers.incident_energies, np.roll(showers.voxels, 3, axis=1), geometry)
    a, b = compute_observables([showers]), compute_observables([rotated])
    center_a, center_b = (o.center_eta + 1j * o.center_phi for o in (a, b))
    np.testing.assert_allclose(center_b, center_a * np.exp(2j * np.pi / 12), atol=1e-6)
    np.testing.assert_allclose(b.width_eta**2 + b.width_phi**2, a.width_eta**2 + a.width_phi**2, rtol=1e-6)
    for name in ("layer_energies", "sparsity", "center_r", "width_r"):
        np.testing.assert_allclose(getattr(b, name), getattr(a, name), rtol=1e-5, atol=1e-6)


def test_empty_shower_has_zeros_and_is_all_sparse(photons):
    empty = Showers(np.array([256], np.float32), np.zeros((1, 368), np.float32), photons)
    observables = compute_observables([empty])
    for name in NAMES:
        assert np.all(getattr(observables, name) == (1 if name == "sparsity" else 0)), name


def test_threshold_is_strict():
    voxels = np.array([[0.999, 1.0, np.nextafter(np.float32(1), np.float32(0))]], np.float32)
    apply_threshold(voxels, 1.0)
    np.testing.assert_array_equal(voxels, [[0, 1, 0]])


def test_voxels_of_the_caller_stay_as_they_are(make_showers, photons):
    showers = make_showers(5, photons)
    before = showers.voxels.copy()
    compute_observables([showers], threshold=100.0)
    np.testing.assert_array_equal(showers.voxels, before)
