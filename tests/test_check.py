from pathlib import Path

import h5py
import numpy as np
import pytest

import caloman.data.check as module
from caloman.cli import main
from caloman.data.check import check
from caloman.data.official import OFFICIAL, energy_deviations
from caloman.data.voxel_order import order_fault
from caloman.errors import CalomanError
from caloman.showers.geometry import BUILT_IN, Geometry
from caloman.showers.showers import Showers

SAMPLE = Path(module.__file__).parents[2] / "data_prep" / "samples" / "photons_test.hdf5"
AXES = ("layer", "alpha", "r")
THRESHOLD = 0.5e-3 / 0.033


def mean_shower(geometry):
    """A smooth shower: rises and falls with depth, falls steeply with r, even in alpha; (V,)."""
    parts = []
    for depth, layer in enumerate(geometry.layers):
        profile = (depth + 1) ** 2 * np.exp(-(depth + 1) / (0.1 * geometry.n_layers))
        edges = np.asarray(layer.r_edges) / layer.r_edges[-1]
        # energy between two radii, of a density that falls exponentially
        radial = np.diff(1 - np.exp(-30 * edges) * (1 + 30 * edges))
        parts.append(profile * np.tile(radial / layer.n_alpha, layer.n_alpha))
    return np.concatenate(parts) / np.concatenate(parts).sum()


@pytest.fixture
def realistic(rng):
    """Noisy copies of a smooth shower; a log-uniform or the official discrete spectrum."""

    def make(n, name):
        geometry = BUILT_IN[name]
        if name.startswith("1"):
            energies = 2.0 ** rng.integers(8, 23, n)
        else:
            energies = 10 ** rng.permutation(np.linspace(3, 6, n))
        voxels = mean_shower(geometry) * rng.gamma(2.0, 0.5, (n, geometry.n_voxels)) * energies[:, None]
        voxels[voxels < geometry.threshold] = 0
        return Showers(energies.astype(np.float32), voxels.astype(np.float32), geometry)

    return make


@pytest.fixture
def as_file(write_hdf5):
    def write(showers, spoil=None, name="showers.hdf5"):
        datasets = {
            "incident_energies": showers.incident_energies.astype(np.float64)[:, None],
            "showers": showers.voxels.astype(np.float64),
        }
        if spoil:
            spoil(datasets)
        return str(write_hdf5(datasets, name))

    return write


def fault(showers):
    """What the order of the voxels seems to be."""
    relative = showers.voxels.astype(np.float64) / showers.incident_energies[:, None]
    return order_fault(relative.mean(axis=0), relative.var(axis=0) / len(relative), showers.geometry)


def stored(showers, order):
    return Showers(showers.incident_energies, showers.voxels[:, order], showers.geometry)


def official_energies(name):
    counts = OFFICIAL[name].counts
    return np.repeat(np.array(list(counts), np.float32), list(counts.values()))


@pytest.mark.parametrize("name", BUILT_IN)
def test_plausible_file_is_valid_and_too_short_for_a_submission(realistic, as_file, name):
    path = as_file(realistic(60, name))
    report = check(path, name)
    assert (report.faults, report.exit_status) == ([], 0)
    assert any("60 showers instead of" in text for text in report.deviations)
    assert f"valid for dataset {name}, not a submission" in str(report)
    submission = check(path, name, submission=True)
    assert submission.exit_status == 1
    assert "  fault: 60 showers instead of" in str(submission)


@pytest.mark.parametrize("name", ["1-photons", "1-pions"])
def test_official_energies_and_counts_have_no_deviation(name):
    energies = official_energies(name)
    assert [len(energies)] == list(OFFICIAL[name].n_showers)
    assert energy_deviations(energies, OFFICIAL[name]) == []


@pytest.mark.parametrize(("name", "n"), [("2", 100_000), ("3", 50_000), ("3", 100_000)])
def test_log_uniform_energies_have_no_deviation(rng, name, n):
    energies = (10 ** rng.uniform(3, 6, n)).astype(np.float32)
    energies[:2] = 1e3, 1e6
    assert energy_deviations(energies, OFFICIAL[name]) == []


def test_complete_photon_file_is_a_submission(realistic, tmp_path):
    energies = official_energies("1-photons")
    few = realistic(1000, "1-photons")
    shapes = few.voxels / few.incident_energies[:, None]
    rows = np.arange(len(energies))
    # each shower its own: copies are a deviation
    voxels = shapes[rows % 1000] * (energies * (1 + 1e-3 * (rows // 1000)))[:, None]
    with h5py.File(tmp_path / "all.hdf5", "w") as file:
        file["incident_energies"], file["showers"] = energies[:, None], voxels.astype(np.float32)
    report = check(str(tmp_path / "all.hdf5"), "1-photons", submission=True)
    assert (report.faults, report.deviations, report.exit_status) == ([], [], 0)
    assert "valid for dataset 1-photons, a submission" in str(report)


def test_other_counts_and_energies_are_named():
    energies = official_energies("1-pions")
    energies[:3] = 300
    other, counts = energy_deviations(energies, OFFICIAL["1-pions"])
    assert "3 showers of incident energies that the dataset lacks (300 MeV)" in other
    assert "1 of 15 incident energies have other counts (9997 instead of 10000 at 256 MeV)" in counts


def test_other_spectra_are_named(rng):
    official = OFFICIAL["2"]
    uniform = rng.uniform(1e3, 1e6, 100_000).astype(np.float32)
    assert "not log-uniform" in energy_deviations(uniform, official)[0]
    outside = (10 ** rng.uniform(2, 6, 100_000)).astype(np.float32)
    assert "incident energies outside 1000 to 1e+06 MeV" in energy_deviations(outside, official)[0]
    in_gev = (10 ** rng.uniform(0, 3, 100_000)).astype(np.float32)
    assert "GeV instead of MeV?" in energy_deviations(in_gev, official)[0]


def reordered(order, name):
    """Stores voxels in another order of the axes."""
    geometry = BUILT_IN[name]
    shape = (geometry.n_layers, geometry.layers[0].n_alpha, geometry.layers[0].n_r)

    def spoil(datasets):
        cube = datasets["showers"].reshape(-1, *shape)
        datasets["showers"] = cube.transpose(0, *(axis + 1 for axis in order)).reshape(len(cube), -1)

    return spoil


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_every_other_order_of_the_axes_is_a_fault(realistic, as_file, capsys, order):
    path = as_file(realistic(60, "2"), reordered(order, "2"))
    assert main(["check", path, "--dataset", "2"]) == 1
    text = capsys.readouterr().out
    assert f"{path}: not valid for dataset 2" in text
    assert "  fault: voxels seem to be ordered (" in text
    assert "instead of (layer, alpha, r)" in text


def test_seeming_order_is_named_where_the_mean_shower_tells(realistic):
    showers = realistic(300, "3")
    voxels = np.arange(showers.geometry.n_voxels).reshape(showers.geometry.grid)
    for order in ((0, 2, 1), (2, 1, 0)):
        assert f"({', '.join(AXES[axis] for axis in order)}) instead" in fault(
            stored(showers, voxels.transpose(order).ravel())
        )


def swapped(layer, voxels):
    return voxels.reshape(layer.n_alpha, layer.n_r).T.ravel()


def outside_in(layer, voxels):
    return voxels.reshape(layer.n_alpha, layer.n_r)[:, ::-1].ravel()


def in_each_layer(geometry, change):
    voxels = np.arange(geometry.n_voxels)
    return np.concatenate([change(*pair) for pair in zip(
        geometry.layers, [voxels[part] for part in geometry.layer_slices], strict=True
    )])  # fmt: skip


@pytest.mark.parametrize("name", ["1-photons", "1-pions"])
def test_swapped_axes_of_unequal_layers_are_a_fault(realistic, name):
    showers = realistic(60, name)
    assert fault(showers) is None
    assert "(layer, r, alpha) instead" in fault(stored(showers, in_each_layer(showers.geometry, swapped)))


@pytest.mark.parametrize("name", ["2", "3"])
def test_reversed_r_is_a_fault(realistic, name):
    showers = realistic(60, name)
    assert "from large r to small" in fault(stored(showers, in_each_layer(showers.geometry, outside_in)))


@pytest.fixture(scope="module")
def geant4():
    return Showers.load(SAMPLE, BUILT_IN["1-photons"])


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_order_of_geant4_showers_is_right(geant4, n):
    assert fault(geant4[:n]) is None


def test_order_of_geant4_showers_of_one_energy_is_right(geant4):
    for energy in np.unique(geant4.incident_energies):
        assert fault(geant4[geant4.incident_energies == energy]) is None


VOXELS = np.arange(368)
WRONG = {
    "random": np.random.default_rng(0).permutation(VOXELS),
    "random in layers": in_each_layer(BUILT_IN["1-photons"], lambda _, v: np.random.default_rng(0).permutation(v)),
    "reversed": VOXELS[::-1],
    "reversed r": in_each_layer(BUILT_IN["1-photons"], outside_in),
    "swapped": in_each_layer(BUILT_IN["1-photons"], swapped),
    **{f"shifted by {n}": np.roll(VOXELS, n) for n in (1, -1, 2, 5, -5, 50)},
}


@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("order", WRONG.values(), ids=WRONG)
def test_geant4_showers_in_a_wrong_order_are_a_fault(geant4, order, n):
    assert "voxels seem to" in fault(stored(geant4[:n], order))


@pytest.mark.parametrize("name", BUILT_IN)
def test_empty_or_even_showers_have_no_order_fault(name):
    geometry = BUILT_IN[name]
    nothing = np.zeros(geometry.n_voxels)
    assert order_fault(nothing, nothing, geometry) is None
    areas = np.concatenate([np.tile(np.diff(np.square(layer.r_edges)), layer.n_alpha) for layer in geometry.layers])
    even = Geometry("even", geometry.particle, geometry.layers)
    assert "from large r to small" in order_fault(areas, nothing, even)


def scaled(name, factor):
    def spoil(datasets):
        datasets[name] = datasets[name] * factor

    return spoil


@pytest.mark.parametrize("name", ["incident_energies", "showers"])
def test_gev_are_a_fault(realistic, as_file, name):
    report = check(as_file(realistic(60, "2"), scaled(name, 1e-3)), "2")
    assert report.exit_status == 1
    assert f"'{name}' seem to be in GeV; store MeV" in report.faults[0]


def test_both_in_gev_is_seen_in_the_spectrum(realistic, as_file):
    def spoil(datasets):
        scaled("incident_energies", 1e-3)(datasets)
        scaled("showers", 1e-3)(datasets)

    report = check(as_file(realistic(60, "2"), spoil), "2", submission=True)
    assert report.exit_status == 1
    assert any("GeV instead of MeV?" in text for text in report.deviations)


def test_integer_voxels_are_a_fault(realistic, as_file):
    def spoil(datasets):
        datasets["showers"] = datasets["showers"].astype(np.int32)

    report = check(as_file(realistic(60, "1-photons"), spoil), "1-photons")
    assert "cuts deposits to whole MeV" in report.faults[0]
    assert "int32" in str(report)


def integer_energies(datasets):
    datasets["incident_energies"] = datasets["incident_energies"].astype(np.int64)


def extra(datasets):
    datasets["energy_deposits"] = np.ones(3)


def copied(datasets):
    datasets["showers"][7] = datasets["showers"][40]
    datasets["showers"][8] = datasets["showers"][40]


def noise(datasets):
    datasets["showers"][0, 0] = 1e-4


def bright(datasets):
    datasets["showers"][0] *= 20


WARNINGS = {
    "integer energies": (integer_energies, "'incident_energies' is int64"),
    "extra dataset": (extra, "extra datasets 'energy_deposits'"),
    "duplicates": (copied, "2 showers are copies of another one"),
    "below the threshold": (noise, "deposits down to 0.0001 MeV are below the threshold of 0.01515 MeV"),
    "bright shower": (bright, "1 showers have E_tot / E_inc up to"),
}


@pytest.mark.parametrize(("spoil", "message"), WARNINGS.values(), ids=WARNINGS)
def test_deviations_warn_and_fail_a_submission(realistic, as_file, capsys, spoil, message):
    path = as_file(realistic(60, "2"), spoil)
    assert main(["check", path, "--dataset", "2"]) == 0
    assert f"  warning: {message}" in capsys.readouterr().out
    assert main(["check", "--submission", "--dataset", "2", path]) == 1
    assert f"  fault: {message}" in capsys.readouterr().out


def test_rounded_threshold_and_empty_showers_are_no_deviation(realistic, as_file):
    def spoil(datasets):
        datasets["showers"][0, 0] = THRESHOLD * (1 - 1e-4)
        datasets["showers"][5:9] = 0

    report = check(as_file(realistic(60, "2"), spoil), "2")
    assert report.deviations == ["60 showers instead of 100000"]
    assert ("empty showers", "4", "") in report.rows


def test_what_cannot_be_read_is_one_sentence(realistic, as_file, capsys):
    path = as_file(realistic(60, "2"), lambda datasets: datasets["showers"].__setitem__((17, 3), np.nan))
    assert main(["check", path, "--dataset", "2"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"caloman check: error: {path}: ")
    assert "nan MeV in voxel 3 of shower 17" in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    with pytest.raises(CalomanError, match=r"needs numbers of shape \(N, 40500\); choose the dataset"):
        check(path, "3")


def test_submission_needs_an_official_dataset(make_showers, small, tmp_path):
    make_showers(60, small).save(tmp_path / "small.hdf5")
    small.to_xml(tmp_path / "small.xml")
    report = check(str(tmp_path / "small.hdf5"), str(tmp_path / "small.xml"))
    assert (report.faults, report.deviations) == ([], [])
    assert "valid for dataset small\n" in str(report)
    with pytest.raises(CalomanError, match="not an official dataset"):
        check(str(tmp_path / "small.hdf5"), str(tmp_path / "small.xml"), submission=True)


def test_blocks_do_not_change_the_report(realistic, as_file, monkeypatch):
    path = as_file(realistic(200, "1-photons"), copied)
    whole = str(check(path, "1-photons"))
    monkeypatch.setattr("caloman.showers.showers.BLOCK_BYTES", 1)
    assert str(check(path, "1-photons")) == whole


def test_table_shows_numbers_and_storage(realistic, as_file, tmp_path):
    text = str(check(as_file(realistic(60, "2")), "2"))
    for part in ("incident_energies float64, showers float64", "gzip", "log-uniform", "1000 to 1000000 MeV", "mean "):
        assert part in text
    with h5py.File(tmp_path / "plain.hdf5", "w") as file:
        file["incident_energies"], file["showers"] = np.full((2, 1), 256.0), np.ones((2, 368))
    assert "contiguous" in str(check(str(tmp_path / "plain.hdf5"), "1-photons"))
