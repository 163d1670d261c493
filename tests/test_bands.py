import numpy as np
import pytest

from caloman.evaluation.bands import LEVELS, calibrate, histogram_bands

BINS, SHOWERS = 20, 20_000


def toys(rng, spread, shift, members, histograms=300, reference_showers=SHOWERS):
    """Histograms of members whose bins wobble by `spread`, and of a truth that also does and is off by `shift`."""

    def counts(showers, offset):
        weights = np.exp(rng.normal(0, spread, BINS) + offset)
        return rng.multinomial(showers, weights / weights.sum()).astype(float)

    ensemble = [[counts(SHOWERS, 0) for _ in range(histograms)] for _ in range(members)]
    signs = rng.choice([-1, 1], (histograms, BINS))
    return ensemble, [counts(reference_showers, shift * sign) for sign in signs]


def test_a_band_is_mean_and_sample_standard_deviation_of_the_fractions():
    band = histogram_bands([np.array([10.0, 30.0]), np.array([40.0, 40.0])])
    np.testing.assert_allclose(band.mean, [0.375, 0.625])
    np.testing.assert_allclose(band.spread, np.std([0.25, 0.5], ddof=1))
    np.testing.assert_allclose(band.statistical**2, (0.25 * 0.75 / 40 + 0.25 / 80) / 2)


@pytest.mark.parametrize("members", [3, 8])
@pytest.mark.parametrize("spread", [0.0, 0.1])
@pytest.mark.parametrize("reference_showers", [SHOWERS, SHOWERS // 10])
def test_the_coverage_is_nominal_if_the_truth_is_like_a_member(rng, members, spread, reference_showers):
    calibration = calibrate(*toys(rng, spread, 0, members, reference_showers=reference_showers))
    np.testing.assert_allclose(calibration.coverage, LEVELS, atol=0.03)


def test_an_error_that_the_members_share_is_seen_as_too_little_coverage(rng):
    calibration = calibrate(*toys(rng, 0.05, 0.2, members=5))
    assert calibration.coverage[0] < 0.4
    assert "in the 68 % band" in str(calibration)


def test_members_that_differ_more_than_they_are_wrong_cover_too_often(rng):
    ensemble, _ = toys(rng, 0.3, 0, members=5)
    _, truth = toys(rng, 0.0, 0, members=2)
    assert calibrate(ensemble, truth).coverage[0] > 0.8


def test_bins_with_few_entries_are_left_out(rng):
    ensemble = [[np.array([1000.0, 1000.0, 2.0])] for _ in range(3)]
    assert len(calibrate(ensemble, [np.array([1000.0, 1010.0, 9.0])]).pulls) == 2
