import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.optimize import nnls
from sklearn.neighbors import NearestNeighbors

from caloman.errors import CalomanError
from caloman.evaluation import distances, neighbors
from caloman.evaluation.distances import FPD_SIZES, fpd, frechet_distance, kpd, largest_magnitude
from caloman.evaluation.neighbors import prdc, prdc_legacy_inputs, squared_distances, squared_radii
from caloman.evaluation.samples import Sample


def constant(value, n=100):
    return np.full((n, 2), float(value))


@pytest.fixture
def samples(rng):
    """Correlated features, one of which is constant, so that covariances are singular."""
    mixing = rng.normal(size=(5, 5))
    first = rng.normal(size=(400, 5)) @ mixing
    second = 1.2 * rng.normal(size=(300, 5)) @ mixing + 0.3
    first[:, 2] = second[:, 2] = 3
    return first, second


def frechet(first, second):
    """Literally, with a general matrix root."""
    a, b = (np.cov(points, rowvar=False) for points in (first, second))
    root = np.real(sqrtm(a @ b + 1e-14 * np.eye(len(a))))
    return np.sum((first.mean(0) - second.mean(0)) ** 2) + np.trace(a + b - 2 * root)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (1, 2), (2, 8)])
def test_fpd_of_constants_is_their_squared_distance(value, expected):
    # two features without variance: D * value^2
    found, error = fpd(constant(0), constant(value))
    assert found == pytest.approx(expected, abs=1e-3)
    assert error < 1e-3


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (1, 15), (2, 624)])
def test_kpd_of_constants_is_the_kernel(monkeypatch, value, expected):
    # k(0, 0) = k(0, y) = 1 and k(y, y) = (value^2 + 1)^4
    monkeypatch.setattr(distances, "KPD_SIZE", 200)
    assert kpd(constant(0), constant(value)) == pytest.approx((expected, 0))


def test_frechet_distance_agrees_with_the_matrix_root(samples):
    first, second = samples
    scale = np.abs(first).max(0)
    value, error = frechet_distance(first, second)
    assert value == pytest.approx(frechet(first / scale, second / scale), rel=1e-5)
    assert 0 < error < value
    assert frechet_distance(first.astype(np.float32), second)[0] == pytest.approx(value, rel=1e-4)


def test_fpd_is_a_fit_to_distances_of_drawn_samples(monkeypatch, samples):
    first, second = samples
    scale = np.abs(first).max(0)
    sizes = np.array([200, 300, 600])
    monkeypatch.setattr(distances, "FPD_SIZES", sizes)
    monkeypatch.setattr(distances, "FPD_DRAWS", 3)
    rng = np.random.default_rng(42)
    values = [
        np.mean([frechet(*((p / scale)[rng.choice(len(p), size)] for p in samples)) for _ in range(3)])
        for size in sizes
    ]
    (intercept, _), _ = nnls(np.stack([np.ones(3), 1 / sizes], axis=1), values)
    assert fpd(first, second)[0] == pytest.approx(intercept, rel=1e-2)


def test_fpd_sizes_are_the_official_ones():
    assert FPD_SIZES.tolist() == [10000, 10975, 12162, 13636, 15517, 18000, 21428, 26470, 34615, 49999]


def test_kpd_agrees_with_whole_kernels(monkeypatch, samples):
    first, second = samples
    monkeypatch.setattr(distances, "KPD_SIZE", 250)
    scale = np.abs(first).max(0)
    values = []
    for draw in range(10):
        rng = np.random.default_rng(42 + 1000 * draw)
        x, y = ((p / scale)[rng.choice(len(p), 250)] for p in samples)
        xx, yy, xy = ((a @ b.T / 5 + 1) ** 4 for a, b in ((x, x), (y, y), (x, y)))
        values.append(sum((k.sum() - np.trace(k)) / (250 * 249) for k in (xx, yy)) - 2 * xy.mean())
    interval = np.percentile(values, 83.725) - np.percentile(values, 16.275)
    expected = pytest.approx((np.median(values), interval / 2), rel=1e-9)
    assert kpd(first, second) == expected
    monkeypatch.setattr(distances, "KERNEL_TILE", 64)
    assert kpd(first, second) == expected


def test_features_without_a_magnitude_are_not_divided():
    np.testing.assert_array_equal(largest_magnitude(np.array([[0.0, 1], [0, -3]])), [1, 3])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("distance", [fpd, kpd, frechet_distance, prdc])
def test_numbers_that_are_not_finite_are_an_error(distance, bad):
    points = constant(0)
    points[3, 1] = bad
    with pytest.raises(CalomanError, match="generated array holds NaN or infinite"):
        distance(constant(1), points)


def test_arrays_that_do_not_fit_are_an_error():
    with pytest.raises(CalomanError, match="shape"):
        frechet_distance(constant(0), np.zeros((100, 3)))
    with pytest.raises(CalomanError, match="at least 20 points"):
        frechet_distance(constant(0), constant(0, n=5))


# ---- neighbors -------------------------------------------------------------------------------------------------


def test_prdc_agrees_with_its_definition(monkeypatch, rng):
    monkeypatch.setattr(neighbors, "TILE", 1000)  # several blocks
    x, y = rng.normal(size=(120, 6)), 1.3 * rng.normal(size=(90, 6)) + 0.2
    between = np.linalg.norm(y[:, None] - x, axis=2)
    rx, ry = (NearestNeighbors(n_neighbors=6).fit(p).kneighbors(p)[0][:, 5] for p in (x, y))
    expected = {
        "precision": (between < rx).any(1),
        "recall": (between < ry[:, None]).any(0),
        "density": (between < rx).sum(1) / 5,
        "coverage": between.min(0) < rx,
    }
    found = prdc(x, y)
    for name, values in expected.items():
        assert found[name] == pytest.approx((np.mean(values), np.std(values) / np.sqrt(len(values)))), name
    np.testing.assert_allclose(np.sqrt(squared_radii(x.astype(np.float32), 5)), rx, rtol=1e-4)


def test_prdc_of_a_copy_is_complete_and_of_another_place_nothing(rng):
    x = rng.normal(size=(100, 3))
    assert all(prdc(x, x[::-1])[name][0] == 1 for name in ("precision", "recall", "coverage"))
    assert all(value == (0, 0) for value in prdc(x, x + 100).values())


def test_equal_points_have_no_distance(rng):
    points = np.repeat(rng.normal(size=(3, 368)).astype(np.float32), 7, axis=0)
    assert not np.diagonal(squared_distances(points, points)).any()
    assert not squared_radii(points, 5).any()


def test_official_inputs_put_empty_voxels_at_a_tenth_of_an_mev(tmp_path, make_showers, photons):
    showers = make_showers(30, photons)
    showers.save(tmp_path / "showers.hdf5")
    cut = np.where(showers.voxels < 1, 0.1, showers.voxels)
    inputs = prdc_legacy_inputs(Sample.open(tmp_path / "showers.hdf5", photons))
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs, np.log10(cut), rtol=1e-5, atol=1e-6)
