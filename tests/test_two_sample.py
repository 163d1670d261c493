import logging

import numpy as np
import pytest
from scipy import stats

from caloman.errors import CalomanError
from caloman.evaluation.pairs import jackknife_error
from caloman.evaluation.two_sample import (
    anderson_darling,
    correlation_distance,
    correlation_matrix,
    kolmogorov_smirnov,
    sliced_wasserstein,
    wasserstein,
)

TESTS = (kolmogorov_smirnov, anderson_darling, wasserstein, sliced_wasserstein, correlation_distance)


@pytest.fixture
def samples(rng):
    """Unequal sizes; the last dimension has many equal values."""
    x, y = rng.normal(size=(500, 3)), rng.normal(0.1, 1.1, size=(400, 3))
    x[:, 2], y[:, 2] = np.round(x[:, 2]), np.round(y[:, 2])
    return x, y


ORACLES = {
    kolmogorov_smirnov: lambda a, b: stats.ks_2samp(a, b, method="asymp").pvalue,
    anderson_darling: lambda a, b: stats.anderson_ksamp([a, b]).statistic,
    wasserstein: stats.wasserstein_distance,
}


@pytest.mark.filterwarnings("ignore")  # scipy: p-values of Anderson-Darling are capped
@pytest.mark.parametrize(("test", "over"), [*((test, np.mean) for test in ORACLES), (kolmogorov_smirnov, np.median)])
def test_tests_of_each_dimension_agree_with_scipy(samples, test, over):
    def expected(x, y):
        return over([ORACLES[test](a, b) for a, b in zip(x.T, y.T, strict=True)])

    x, y = samples
    value, error = test(x, y) if over is np.mean else test(x, y, over=over)
    assert value == pytest.approx(expected(x, y), rel=1e-8)
    left_out = [expected(*(np.delete(p, np.s_[group::10], axis=0) for p in samples)) for group in range(10)]
    assert error == pytest.approx(jackknife_error(left_out), rel=1e-6)


def test_jackknife_error_of_a_mean_is_its_standard_error(rng):
    x = rng.normal(size=1000)
    left_out = [np.delete(x, np.s_[group::10]).mean() for group in range(10)]
    of_groups = x.reshape(100, 10).mean(axis=0)
    assert jackknife_error(left_out) == pytest.approx(of_groups.std(ddof=1) / np.sqrt(10))


def test_shifted_points_are_at_the_distance_of_the_shift(rng):
    x = rng.normal(size=(200, 4))
    assert wasserstein(x, x + 0.5) == pytest.approx((0.5, 0), abs=1e-12)
    # of a unit vector's component along another one: sqrt(2 / pi / D) for large D, 2 / pi for D = 2
    assert sliced_wasserstein(x[:, :2], x[:, :2] + [1, 0], directions=4000)[0] == pytest.approx(2 / np.pi, rel=0.03)


def test_correlation_distance_agrees_with_numpy(samples):
    x, y = samples
    matrices = [np.corrcoef(points, rowvar=False) for points in samples]
    np.testing.assert_allclose(correlation_matrix(x), matrices[0], atol=1e-12)
    value, error = correlation_distance(x, y)
    assert value == pytest.approx(np.linalg.norm(matrices[0] - matrices[1]))
    left_out = [np.linalg.norm(np.subtract(*(np.corrcoef(np.delete(p, np.s_[group::10], axis=0), rowvar=False)
                                             for p in samples))) for group in range(10)]  # fmt: skip
    assert error == pytest.approx(jackknife_error(left_out))


def test_constant_columns_are_uncorrelated_and_told(rng, caplog):
    x, y = rng.normal(size=(2, 100, 3))
    x[:, 1] = 0.1
    y[0, 2], y[1:, 2] = 5.0, 0.3  # constant without the first group
    with caplog.at_level(logging.WARNING):
        value, error = correlation_distance(x, y)
    assert np.isfinite([value, error]).all()
    assert "1 of 3 columns of the reference points are constant" in caplog.text
    np.testing.assert_array_equal(correlation_matrix(x)[1], [0, 1, 0])


@pytest.mark.parametrize("test", TESTS)
def test_equal_or_permuted_points_do_not_differ(rng, test):
    x = rng.normal(size=(200, 3))
    x[:, 1] = 7
    same = 1.0 if test is kolmogorov_smirnov else 0.0
    value = test(x, x[rng.permutation(200)])[0]
    assert value < 0 if test is anderson_darling else value == pytest.approx(same, abs=1e-12)


@pytest.mark.parametrize("test", TESTS)
def test_points_that_are_not_finite_are_an_error(rng, test):
    x = rng.normal(size=(50, 2))
    with pytest.raises(CalomanError, match="reference array holds NaN"):
        test(np.where(x > 1, np.nan, x), x)


def test_p_values_of_equal_distributions_are_uniform(rng):
    values = [kolmogorov_smirnov(*rng.normal(size=(2, 200, 1)))[0] for _ in range(100)]
    assert stats.kstest(values, "uniform").pvalue > 1e-3
