import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import linregress, ortho_group

from caloman.cli import main
from caloman.data.dimension import (
    REPRESENTATIONS,
    dimension,
    maximum_likelihood,
    neighbor_distances,
    two_nearest,
    with_error,
)
from caloman.demonstrations import Circle, PolynomialSurface
from caloman.errors import CalomanError
from caloman.showers.showers import Showers


def cube(rng, d):
    return rng.random((2000, d))


def gaussian(rng, d):
    return rng.standard_normal((2000, d))


def sphere(rng, d):
    points = rng.standard_normal((2000, d + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.mark.parametrize("make", [cube, gaussian, sphere])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_dimension_of_known_manifolds_is_found_in_a_larger_space(make, d, rng):
    points = make(rng, d)
    embedded = 7 * points @ ortho_group.rvs(12, random_state=rng)[: points.shape[1]] + 3
    distances = neighbor_distances(embedded, 10)
    for estimator in (maximum_likelihood, two_nearest):
        estimate, error = with_error(estimator, distances)
        assert estimate == pytest.approx(d, rel=0.15 if make is cube else 0.06)  # edges lower it
        assert error < 0.06 * d


@pytest.mark.parametrize(("toy", "d"), [(Circle(noise=0), 1), (PolynomialSurface(), 2), (Circle(noise=0.3), 2)])
def test_the_dimension_of_the_toy_manifolds_is_found(toy, d):
    distances = neighbor_distances(toy.sample(2000, seed=0), 10)
    assert maximum_likelihood(distances) == pytest.approx(d, rel=0.05)
    assert two_nearest(distances) == pytest.approx(d, rel=0.1)


def test_estimators_are_those_of_a_loop_over_points(rng):
    points = rng.standard_normal((60, 3))
    inverses, ratios = [], []
    for row in np.sort(cdist(points, points), axis=1)[:, 1:]:
        inverses.append(sum(math.log(row[5] / row[j]) for j in range(5)) / 5)
        ratios.append(row[1] / row[0])
    distances = neighbor_distances(points, 6)
    assert maximum_likelihood(distances) == pytest.approx(1 / np.mean(inverses))
    x = np.log(np.sort(ratios))[:54]
    y = [-math.log(1 - i / 60) for i in range(1, 55)]
    assert two_nearest(distances) == pytest.approx(np.linalg.lstsq(x[:, None], np.array(y), rcond=None)[0][0])
    assert linregress(x, y).rvalue > 0.9


def test_the_error_is_the_spread_of_repetitions():
    estimates = np.array([
        with_error(maximum_likelihood, neighbor_distances(np.random.default_rng(seed).random((300, 2)), 10))
        for seed in range(50)
    ])  # fmt: skip
    assert 1 < estimates[:, 0].std() / estimates[:, 1].mean() < 1.8


def test_equal_points_and_too_few_are_refused(rng):
    points = rng.random((10, 3))
    with pytest.raises(CalomanError, match="2 of 11 points equal another one"):
        neighbor_distances(np.concatenate([points, points[:1]]), 3)
    with pytest.raises(CalomanError, match="10 points have no 10 neighbors"):
        neighbor_distances(points, 10)


def test_representations(make_showers, small):
    showers = make_showers(30, small)
    showers.voxels[0] = 0
    sums = {name: make(showers) for name, make in REPRESENTATIONS.items()}
    unit = sums["layer"].astype(np.float64)
    for layer in small.layer_slices:
        total = unit[:, layer].sum(axis=1)
        assert ((total == 0) | (abs(total - 1) < 1e-6)).all()
        assert (total == 0).any()
    np.testing.assert_allclose(sums["incident"] * showers.incident_energies[:, None], showers.voxels, rtol=1e-6)
    np.testing.assert_allclose(sums["sqrt"] ** 2, unit, atol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-sums["logit"])), unit, atol=2e-6)


@pytest.fixture
def path(make_showers, small, tmp_path):
    """300 showers, of which 100 are copies."""
    showers = make_showers(200, small)
    rows = np.arange(300) % 200
    small_mesh = showers[rows]
    Showers(small_mesh.incident_energies, small_mesh.voxels, small).save(tmp_path / "showers.hdf5")
    return tmp_path / "showers.hdf5"


def test_the_command_prints_a_table_over_sizes_and_representations(path, capsys):
    command = ["dimension", str(path), "--representation", "layer", "sqrt", "--k", "4", "--n", "50", "300"]
    assert main(command) == 0
    header, line, *rows = capsys.readouterr().out.splitlines()
    assert header.replace(" ", "") == "|incidentenergies|representation|n|MLE,k=4|TwoNN|"
    assert {len(line), *map(len, rows)} == {len(header)}
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    assert [row[2] for row in cells] == ["layer", "layer", "sqrt", "sqrt"]
    assert 150 < int(cells[1][3]) <= 200  # copies are left out, and showers whose layers are all empty
    value, error = map(float, cells[1][4].split(" ± "))
    assert 1 < value < 16
    assert 0 < error < value / 2


def test_each_octave_is_estimated_by_itself(path):
    table = dimension(str(path), representation=["sqrt"], k=[3], n=[10, 15], by_energy=True)
    assert {row[0] for row in table.rows} > {"256 to 512 MeV", "1024 to 2048 MeV"}
    assert all(row[2] <= 15 for row in table.rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": [301]}, "has fewer than 301 showers; lower --n"),
        ({"n": [100], "by_energy": True}, "has fewer than 100 showers in any octave"),
        ({"representation": ["log"]}, "unknown representation 'log': choose of incident, layer"),
        ({"k": [1]}, "k must be at least 2"),
        ({"n": [20]}, "n more than twice k"),
    ],
)
def test_impossible_choices_are_one_sentence(path, options, message):
    with pytest.raises(CalomanError, match=message):
        dimension(str(path), **options)
