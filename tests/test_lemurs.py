import h5py
import numpy as np
import pytest
from conftest import ROOT

from caloman.cli import main
from caloman.data.prepare import prepare
from caloman.showers.chunks import read_rows as read
from caloman.showers.geometry import Geometry, Layer
from caloman.showers.showers import Showers

MESH = Geometry("mesh", "photon", tuple(Layer(i, (0, 1, 3), 4) for i in range(5)))
NAMES = ("incident_energy", "incident_theta", "incident_phi")


@pytest.fixture
def content(rng):
    """30 showers in the axes (r, alpha, z) and their conditions."""
    voxels = rng.gamma(0.5, size=(30, 2, 4, 5)).astype(np.float32)
    columns = (rng.uniform(1e3, 5e4, 30), rng.uniform(0.9, 2.2, 30), rng.uniform(-3, 3, 30))
    return {"showers": voxels, **{name: x.astype(np.float32) for name, x in zip(NAMES, columns, strict=True)}}


def as_tables(path, content, **options):
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            chunks = {"chunks": (7, 2, 3, 2), "compression": "gzip"} if name == "showers" else {}
            file.create_dataset(name, data=values, **(chunks | options if values.ndim > 1 else {}))


def as_records(path, content, **options):
    fields = [(name, values.dtype, values.shape[1:]) for name, values in content.items()]
    records = np.empty(len(content["showers"]), fields)
    for name, values in content.items():
        records[name] = values
    with h5py.File(path, "w") as file:
        file.create_dataset("events", data=records, chunks=(8,), compression="gzip", shuffle=True)


@pytest.fixture
def prepared(tmp_path):
    MESH.to_xml(tmp_path / "mesh.xml")

    def run(rows=""):
        return main(["prepare", f"{tmp_path}/in.h5{rows}", str(tmp_path / "out.h5"), "--format", "lemurs", "--dataset",
                     str(tmp_path / "mesh.xml")])  # fmt: skip

    return run


@pytest.mark.parametrize("write", [as_tables, as_records])
@pytest.mark.parametrize("rows", [slice(0, 30), slice(3, 25)])
def test_showers_come_in_the_order_of_shower_files(content, tmp_path, prepared, write, rows):
    write(tmp_path / "in.h5", content)
    assert prepared(f"[{rows.start}:{rows.stop}]") == 0
    showers = Showers.load(tmp_path / "out.h5", MESH)
    for index, (r, alpha, z) in enumerate(np.ndindex(2, 4, 5)):
        column = z * 8 + alpha * 2 + r
        np.testing.assert_array_equal(showers.voxels[:, column], content["showers"][rows, r, alpha, z], str(index))
    np.testing.assert_array_equal(showers.incident_energies, content["incident_energy"][rows])
    assert set(showers.conditions) == {"theta", "phi"}
    np.testing.assert_array_equal(showers.conditions["theta"], content["incident_theta"][rows])


def test_sample_of_the_package_is_of_this_layout_once_prepared():
    mesh = Geometry.load("configs/angles/siw.xml")
    showers = Showers.load(ROOT / "data_prep" / "samples" / "angles.hdf5", mesh)
    assert mesh.grid == (45, 16, 9)
    assert 0.03 < (showers.voxels.sum(axis=1) / showers.incident_energies).mean() < 0.034
    cells = showers.voxels.reshape(-1, *mesh.grid)
    theta, outer = showers.conditions["theta"], cells[:, :5, :, -1]
    # the detector begins behind these voxels: for small theta at alpha = +-pi, for large theta at alpha = 0
    for inclined, front, back in ((theta < 1.0, [0, 15], [7, 8]), (theta > np.pi - 1.0, [7, 8], [0, 15])):
        assert outer[inclined][..., front].sum() == 0
        assert outer[inclined][..., back].sum() > 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"incident_theta": None}, "no 'incident_theta'; a file of this layout has showers, incident_energy"),
        ({"incident_theta": np.full(30, 90.0)}, "'incident_theta' of shower 0 is 90 rad; degrees where radians"),
        ({"incident_phi": np.full(30, np.nan)}, "'incident_phi' of shower 0 is nan rad; conditions must be finite"),
        ({"incident_phi": np.zeros(29)}, "needs one row per shower in each table, not showers 30"),
        ({"showers": np.zeros((30, 4, 2, 5))}, "have the mesh (r, alpha, z) = (4, 2, 5), but 'mesh' has (5, 4, 2)"),
        ({"showers": np.full((30, 2, 4, 5), -1.0)}, "'showers' holds -1 MeV in voxel 0 of shower 0"),
        ({"incident_theta": np.ones((30, 2))}, "'incident_theta' has (2,) numbers per shower; store one"),
        ({"showers": np.zeros((30, 40))}, "'showers' is float64 (30, 40) instead of a table of real numbers"),
    ],
)
def test_other_content_is_one_sentence(content, tmp_path, prepared, capsys, spoil, message):
    content = {name: values for name, values in (content | spoil).items() if values is not None}
    as_tables(tmp_path / "in.h5", content, chunks=None, compression=None)
    assert prepared() == 1
    error = capsys.readouterr().err
    assert error.startswith(f"caloman prepare: error: {tmp_path}/in.h5: ")
    assert message in error
    assert error.count("\n") == 1


def test_records_need_all_fields(content, tmp_path, prepared, capsys):
    del content["incident_phi"]
    as_records(tmp_path / "in.h5", content)
    assert prepared() == 1
    assert "the records of 'events' have no 'incident_phi'" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["incident_energy", "showers"])
def test_records_need_one_value_of_each_condition_and_the_mesh(content, tmp_path, prepared, capsys, field):
    as_records(tmp_path / "in.h5", content | {field: np.ones((30, 3))})
    assert prepared() == 1
    assert f"{field!r} ha" in capsys.readouterr().err


def test_records_with_long_other_fields_are_read_few_at_a_time(content, tmp_path, prepared, monkeypatch):
    monkeypatch.setattr("caloman.data.foreign.BLOCK_BYTES", 2**14)
    as_records(tmp_path / "in.h5", content | {"other": np.zeros((30, 2**10))})
    sizes = []
    monkeypatch.setattr(
        "caloman.data.lemurs.read_rows", lambda t, start, out: sizes.append(out.nbytes) or read(t, start, out)
    )
    assert prepared() == 0
    assert max(sizes) <= 2**14


def test_blocks_join(content, tmp_path, monkeypatch):
    monkeypatch.setattr("caloman.data.foreign.BLOCK_BYTES", 4 * 40 * 7)
    as_tables(tmp_path / "in.h5", content)
    MESH.to_xml(tmp_path / "mesh.xml")
    found = prepare([str(tmp_path / "in.h5")], str(tmp_path / "out.h5"), str(tmp_path / "mesh.xml"), format="lemurs")
    assert found.n_showers == 30
    expected = content["showers"].transpose(0, 3, 2, 1).reshape(30, 40)
    np.testing.assert_array_equal(Showers.load(tmp_path / "out.h5", MESH).voxels, expected)
