import json
import math

import h5py
import numpy as np
import pytest

from caloman.cli import main
from caloman.data.prepare import prepare
from caloman.errors import CalomanError
from caloman.showers.conditions import ENERGY, Condition, Conditions, known
from caloman.showers.showers import ShowerFile, Showers
from caloman.showers.slices import ShowerFiles
from caloman.showers.writer import ShowerWriter

ANGLES = Conditions(map(known, ("incident_energy", "theta", "phi")))


@pytest.fixture
def inclined(make_showers, small, rng):
    """40 showers with theta and a detector."""
    showers = make_showers(40, small)
    theta = rng.uniform(0.9, 2.2, 40).astype(np.float32)
    detector = rng.integers(3, 5, 40).astype(np.float32)
    return Showers(showers.incident_energies, showers.voxels, small, {"detector": detector, "theta": theta})


def assert_equal(a, b):
    np.testing.assert_array_equal(a.incident_energies, b.incident_energies)
    np.testing.assert_array_equal(a.voxels, b.voxels)
    assert list(a.conditions) == list(b.conditions)
    for name in a.conditions:
        np.testing.assert_array_equal(a.conditions[name], b.conditions[name])


def test_file_carries_conditions(inclined, small, tmp_path):
    inclined.save(tmp_path / "out.hdf5")
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert {name: file[name].shape for name in file} == {
            "incident_energies": (40, 1), "incident_theta": (40, 1), "incident_detector": (40, 1), "showers": (40, 16),
        }  # fmt: skip
    assert_equal(Showers.load(tmp_path / "out.hdf5", small), inclined)
    with ShowerFile(tmp_path / "out.hdf5", small) as file:
        np.testing.assert_array_equal(file.conditions()["theta"], inclined.conditions["theta"])
        assert_equal(file.read(7, 12), inclined[7:12])


def test_the_energy_is_no_further_condition(inclined, small, tmp_path):
    inclined.save(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        file["incident_incident_energy"] = np.ones((40, 1), np.float32)
    assert set(Showers.load(tmp_path / "a.hdf5", small).conditions) == {"theta", "detector"}


def test_slices_join_conditions_in_order(inclined, small, tmp_path):
    inclined[:25].save(tmp_path / "a.hdf5")
    inclined[25:].save(tmp_path / "b.hdf5")
    with ShowerFiles(f"{tmp_path}/b.hdf5[5:10],{tmp_path}/a.hdf5", small) as files:
        expected = inclined[np.r_[30:35, 0:25]]
        assert_equal(files.read(0, 30), expected)
        np.testing.assert_array_equal(files.conditions()["theta"], expected.conditions["theta"])


@pytest.mark.parametrize("compress", [False, True])
def test_prepared_file_keeps_conditions(inclined, small, tmp_path, compress):
    inclined.save(tmp_path / "in.hdf5")
    small.to_xml(tmp_path / "small.xml")
    prepare([str(tmp_path / "in.hdf5")], str(tmp_path / "out.h5"), str(tmp_path / "small.xml"), compress=compress)
    assert_equal(Showers.load(tmp_path / "out.h5", small), inclined)


def test_compressed_files_are_copied_with_their_conditions(inclined, small, tmp_path):
    inclined.save(tmp_path / "in.hdf5")
    with ShowerWriter(tmp_path / "out.hdf5", small, conditions=inclined.conditions) as writer:
        writer.copy(tmp_path / "in.hdf5")
    assert_equal(Showers.load(tmp_path / "out.hdf5", small), inclined)
    with (
        pytest.raises(CalomanError, match=r"in\.hdf5: has 'incident_detector', where the showers before have none"),
        ShowerWriter(tmp_path / "out.hdf5", small) as writer,
    ):
        writer.copy(tmp_path / "in.hdf5")


def test_check_lists_the_range_of_conditions(inclined, small, tmp_path, capsys):
    inclined.save(tmp_path / "in.hdf5")
    main(["check", str(tmp_path / "in.hdf5")])
    report = capsys.readouterr().out
    low, high = inclined.conditions["theta"].min(), inclined.conditions["theta"].max()
    assert f"{low:.5g} to {high:.5g} rad" in report
    assert "extra datasets" not in report


def spoiled(path, name, values):
    with h5py.File(path, "r+") as file:
        del file[name]
        if values is not None:
            file[name] = values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((40, 1), 90.0), "'incident_theta' of shower 0 is 90 rad; degrees where radians are meant?"),
        (np.r_[np.ones(3), np.nan, np.ones(36)][:, None], "'incident_theta' of shower 3 is nan rad; conditions must"),
        (np.ones((39, 1)), "'showers' has 40 rows but 'incident_theta' has 39; both need one row per shower"),
        (np.ones((40, 2)), "needs numbers of shape (N, 1); store one number per row"),
        (np.ones(40), "needs numbers of shape (N, 1); store one number per row"),
    ],
    ids=["degrees", "nan", "short", "two columns", "no column"],
)
def test_bad_conditions_of_a_file_are_one_sentence(inclined, tmp_path, capsys, values, message):
    path = tmp_path / "in.hdf5"
    inclined.save(path)
    spoiled(path, "incident_theta", values)
    assert main(["check", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"caloman check: error: {path}: ")
    assert message in error
    assert error.count("\n") == 1


def test_files_with_other_conditions_are_not_joined(inclined, small, tmp_path):
    inclined.save(tmp_path / "a.hdf5")
    inclined.save(tmp_path / "b.hdf5")
    spoiled(tmp_path / "b.hdf5", "incident_theta", None)
    paths = [str(tmp_path / name) for name in ("a.hdf5", "b.hdf5")]
    with pytest.raises(CalomanError, match=r"b\.hdf5: has no 'incident_theta', where the showers before have it"):
        ShowerFiles(paths, small)
    small.to_xml(tmp_path / "small.xml")
    with pytest.raises(CalomanError, match=r"b\.hdf5: has no 'incident_theta'"):
        prepare(paths, str(tmp_path / "out.h5"), str(tmp_path / "small.xml"))


def test_showers_need_one_value_each(inclined, small):
    with pytest.raises(CalomanError, match="condition 'theta' of shape"):
        Showers(inclined.incident_energies, inclined.voxels, small, {"theta": np.ones(39, np.float32)})


def test_matrix_has_declared_order():
    theta, phi, energies = (np.array(values, np.float32) for values in ([1, 2], [-1, 1], [1e3, 1e4]))
    matrix = ANGLES.matrix(energies, {"phi": phi, "theta": theta, "unused": phi}, "here")
    np.testing.assert_array_equal(matrix, np.stack([energies, theta, phi], axis=1))
    np.testing.assert_array_equal(ANGLES.columns(matrix)["phi"], phi)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"theta": [1, 2]}, "here: no 'incident_phi'; the model needs incident_energy, theta, phi"),
        ({"theta": [1, 2, 3], "phi": [0, 0]}, r"here: 'incident_theta' has shape \(3,\) for 2 showers"),
        ({"theta": [1, 50], "phi": [0, 0]}, "here: 'incident_theta' of shower 1 is 50 rad; degrees where radians"),
        ({"theta": [1, np.inf], "phi": [0, 0]}, "here: 'incident_theta' of shower 1 is inf rad; conditions must be"),
    ],
)
def test_bad_values_are_refused(columns, message):
    with pytest.raises(CalomanError, match=message):
        ANGLES.matrix(np.ones(2, np.float32), columns, "here")


@pytest.mark.parametrize("names", [("theta", "incident_energy"), (), ("incident_energy", "theta", "theta"),
                                   ("incident_energy", "../theta")])  # fmt: skip
def test_declarations_are_checked(names):
    with pytest.raises(CalomanError, match=r"^conditions: "):
        Conditions(map(known, names))


def test_trained_range_bounds_what_may_be_asked_for():
    matrix = np.array([[1e3, 0.9, -3.1], [5e4, 2.2, 3.1], [2e3, 1.0, 3.0]], np.float32)
    trained = ANGLES.trained(matrix)
    trained.check_trained(matrix)
    trained.check_trained(np.array([[998, 0.898, 3.0], [50200, 2.202, 3.0]], np.float32))  # ends of their spectra
    for column, value, message in (
        (0, 980.0, "incident energy 980 MeV is"),
        (0, 6e4, "incident energy 60000 MeV is outside the range of the training, 1000 to 50000 MeV"),
        (1, 0.8, "incident theta 0.8 rad is outside the range of the training, 0.9 to 2.2 rad"),
        (2, 1.0, "incident phi 1 rad is outside the range of the training"),
    ):
        asked = matrix.copy()
        asked[1, column] = value
        with pytest.raises(CalomanError, match=message):
            trained.check_trained(asked)


@pytest.mark.parametrize("turns", [-1, 0, 1])
def test_trained_arc_closes_after_a_turn(rng, turns):
    across = known("phi").trained(rng.uniform(2.9, 3.5, 500))  # through pi
    np.testing.assert_allclose(across.range, (2.9, 3.5), atol=0.05)
    shift = turns * 2 * math.pi
    assert across.covers(np.array([3.0, -3.0, 3.2]) + shift).all()
    assert not across.covers(np.array([0.0, 2.8, 3.6, -2.6]) + shift).any()
    assert known("phi").trained(rng.uniform(-np.pi, np.pi, 500)).covers(np.linspace(-6.2, 6.2, 999)).all()
    point = known("phi").trained(np.zeros(5))
    np.testing.assert_array_equal(point.covers(np.array([0.0, 2 * math.pi, 0.1])), [True, True, False])


def test_categories_are_those_of_the_training():
    detector = known("detector").trained(np.array([4.0, 3.0, 4.0]))
    assert detector.categories == (3, 4)
    with pytest.raises(CalomanError, match="incident detector 5 is outside the range of the training, categories 3, 4"):
        detector.check_trained(np.array([3.0, 5.0]))
    with pytest.raises(CalomanError, match="a category is a whole number"):
        detector.check(np.array([3.0, 3.5]), "here")


def test_plain_data_leave_out_what_is_empty():
    trained = Conditions([ENERGY, known("detector")]).trained(np.array([[1e3, 3], [2e3, 4]], np.float32))
    plain = json.loads(json.dumps(trained.plain()))
    assert plain == [
        {"name": "incident_energy", "unit": "MeV", "kind": "continuous", "range": [1000.0, 2000.0]},
        {"name": "detector", "kind": "category", "categories": [3, 4]},
    ]
    assert Condition("x").domain == "none, the model is untrained"
