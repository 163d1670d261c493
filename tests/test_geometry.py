import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloman.errors import CalomanError
from caloman.showers.geometry import BUILT_IN, Geometry, Layer

N_VOXELS = {"1-photons": 368, "1-pions": 533, "2": 6480, "3": 40500}

SLICES = {
    "1-photons": {0: (0, 8), 1: (8, 168), 2: (168, 358), 3: (358, 363), 12: (363, 368)},
    "1-pions": {
        0: (0, 8), 1: (8, 108), 2: (108, 208), 3: (208, 213), 12: (213, 363), 13: (363, 523), 14: (523, 533),
    },
    "2": {i: (144 * i, 144 * (i + 1)) for i in range(45)},
    "3": {i: (900 * i, 900 * (i + 1)) for i in range(45)},
}  # fmt: skip


@pytest.mark.parametrize("dataset", BUILT_IN)
def test_voxels_and_slices_are_those_of_the_challenge(dataset):
    geometry = Geometry.load(dataset)
    assert geometry.n_voxels == N_VOXELS[dataset]
    slices = {layer.id: (s.start, s.stop) for layer, s in zip(geometry.layers, geometry.layer_slices, strict=True)}
    assert slices == SLICES[dataset]


@pytest.mark.parametrize("dataset", BUILT_IN)
def test_voxel_layer_agrees_with_the_slices(dataset):
    geometry = Geometry.load(dataset)
    for i, columns in enumerate(geometry.layer_slices):
        assert np.all(geometry.voxel_layer[columns] == i)
    assert len(geometry.voxel_layer) == geometry.n_voxels


def test_first_cells_of_photon_layer_1_have_the_published_coordinates(photons):
    layer = photons.layers[1]
    eta, phi = layer.r * np.cos(layer.alpha), layer.r * np.sin(layer.alpha)
    np.testing.assert_allclose(eta[:3], [-0.951, -2.853, -4.755], atol=5e-4)
    np.testing.assert_allclose(phi[:3], [-0.309, -0.927, -1.545], atol=5e-4)


def test_radius_runs_fastest_and_alpha_starts_at_minus_pi():
    layer = Layer(0, (0, 2, 6), n_alpha=4)
    np.testing.assert_allclose(layer.r, [1, 4] * 4)
    np.testing.assert_allclose(np.degrees(layer.alpha), np.repeat([-135, -45, 45, 135], 2))


def test_thresholds_and_outer_radius_of_datasets_2_and_3():
    for dataset, n_r in (("2", 9), ("3", 18)):
        geometry = Geometry.load(dataset)
        assert geometry.threshold == pytest.approx(0.0151515, rel=1e-5)
        np.testing.assert_allclose(np.diff(geometry.layers[0].r_edges), 41.85 / n_r)


@pytest.mark.parametrize("dataset", BUILT_IN)
def test_xml_round_trip_is_exact_for_the_challenge(dataset, tmp_path):
    Geometry.load(dataset).to_xml(tmp_path / "binning.xml")
    assert Geometry.load(tmp_path / "binning.xml") == BUILT_IN[dataset]


positive = st.floats(1e-6, 1e6)


@st.composite
def geometries(draw):
    def layer(layer_id):
        edges = draw(st.lists(positive, min_size=2, max_size=6, unique=True))
        return Layer(layer_id, tuple(sorted(edges)), draw(st.integers(1, 60)))

    ids = sorted(draw(st.sets(st.integers(0, 30), min_size=1, max_size=5)))
    name = draw(st.text("abcXYZ019-_ <&\"'äλ", max_size=12))
    particle = draw(st.sampled_from(["photon", "pion", "electron", "muon"]))
    return Geometry(name, particle, tuple(map(layer, ids)), draw(st.just(0.0) | positive))


@given(geometry=geometries())
def test_xml_round_trip_is_exact_for_any_mesh(geometry, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.xml"
    geometry.to_xml(path)
    assert Geometry.from_xml(path) == geometry


def official_xml(path):
    empty = "\n".join(f'<Layer id="{i}" r_edges="0" n_bin_alpha="1"/>' for i in range(3, 24))
    path.write_text(f"""<Bins>
      <Bin pid="22" etaMin="0" etaMax="130" name="photon">
        <Layer id="0" r_edges="0,5,10.5" n_bin_alpha="1"/>
        <Layer id="1" r_edges="0" n_bin_alpha="1"/>
        <Layer id="2" r_edges="0, 1, 4, 7" n_bin_alpha="10"/>
        {empty}
      </Bin>
      <Bin pid="211" etaMin="0" etaMax="80" name="pion"><Layer id="0" r_edges="0,5" n_bin_alpha="3"/></Bin>
    </Bins>""")
    return path


def test_official_xml_layers_with_a_single_edge_have_no_voxels(tmp_path):
    geometry = Geometry.from_xml(official_xml(tmp_path / "official.xml"), "photon")
    assert geometry.layers == (Layer(0, (0, 5, 10.5)), Layer(2, (0, 1, 4, 7), 10))
    assert (geometry.name, geometry.threshold) == ("official", 0.0)


def test_official_xml_holds_one_binning_per_particle(tmp_path):
    path = official_xml(tmp_path / "official.xml")
    assert Geometry.from_xml(path, "pion").n_voxels == 3
    with pytest.raises(CalomanError, match=r"official\.xml.*photon.*pion"):
        Geometry.from_xml(path)


def bin_of(*layers):
    return f'<Bins><Bin name="photon">{"".join(layers)}</Bin></Bins>'


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "not xml",
        "<Bins><Bin",
        "<Other/>",
        bin_of(),
        bin_of('<Layer id="0" n_bin_alpha="1"/>'),
        bin_of('<Layer id="0" r_edges="0,a" n_bin_alpha="1"/>'),
        bin_of('<Layer id="0" r_edges="0,5,3" n_bin_alpha="1"/>'),
        bin_of('<Layer id="0" r_edges="0,5" n_bin_alpha="0"/>'),
        bin_of('<Layer id="0" r_edges="0,5" n_bin_alpha="1"/>', '<Layer id="0" r_edges="0,5" n_bin_alpha="1"/>'),
        bin_of('<Layer id="-1" r_edges="0,5" n_bin_alpha="1"/>'),
        bin_of('<Layer id="10000000" r_edges="0,5" n_bin_alpha="1"/>'),
        bin_of('<Layer id="0" r_edges="0,5" n_bin_alpha="1000000000"/>'),
        bin_of(*(f'<Layer id="{i}" r_edges="0,5" n_bin_alpha="100000"/>' for i in range(101))),
        bin_of('<Layer id="0" r_edges="0,nan" n_bin_alpha="1"/>'),
        bin_of('<Layer id="0" r_edges="0,inf" n_bin_alpha="1"/>'),
        bin_of('<Layer id="0" r_edges="-1,5" n_bin_alpha="1"/>'),
        bin_of(f'<Layer id="0" r_edges="0,{"x" * 10**6}" n_bin_alpha="1"/>'),
        bin_of('<Layer id="0" r_edges="0,5" n_bin_alpha="1"/>').replace("Bin name", "Bin threshold='nan' name"),
        bin_of('<Layer id="0" r_edges="0,5" n_bin_alpha="1"/>').replace("Bin name", "Bin threshold='-1' name"),
        bin_of('<Layer id="0" r_edges="0,5" n_bin_alpha="1"/>').replace("Bin name", "Bin dataset='2' name"),
        '<!DOCTYPE b [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
        + bin_of('<Layer id="0" r_edges="&b;" n_bin_alpha="1"/>'),
    ],
)
def test_unusable_xml_is_refused_by_name(tmp_path, text):
    path = tmp_path / "binning.xml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CalomanError, match=r"binning\.xml") as error:
        Geometry.load(path)
    assert len(str(error.value)) < 1000


def test_unknown_particle_names_the_file_and_those_it_lists(tmp_path):
    with pytest.raises(CalomanError, match=r"official\.xml.*muon.*photon"):
        Geometry.from_xml(official_xml(tmp_path / "official.xml"), "muon")


def test_unknown_dataset_lists_the_known_ones():
    with pytest.raises(CalomanError, match=r"'4'.*1-photons.*1-pions.*2.*3"):
        Geometry.load("4")


@pytest.mark.parametrize(("edges", "n_alpha"), [((0,), 1), ((), 1), ((0, 2, 2), 1), ((3, 1), 1), ((0, 1), 0)])
def test_impossible_layers_are_refused(edges, n_alpha):
    with pytest.raises(CalomanError, match="layer 7"):
        Layer(7, edges, n_alpha)


def test_layer_ids_must_ascend():
    with pytest.raises(CalomanError, match="ascending"):
        Geometry("g", "photon", (Layer(1, (0, 1)), Layer(0, (0, 1))))


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_meshes_survive_their_text_and_refuse_another_mesh_under_their_name(name):
    text = BUILT_IN[name].to_text()
    assert Geometry.from_text(text, "x.xml") == BUILT_IN[name]
    for old, new in (('r_edges="0,', 'r_edges="0,0.5,'), ('threshold="', 'threshold="1')):
        with pytest.raises(CalomanError, match=f"is called '{name}' but is not that mesh"):
            Geometry.from_text(text.replace(old, new), "x.xml")


def test_an_official_file_may_be_called_like_its_dataset(tmp_path):
    text = BUILT_IN["2"].to_text()
    for attribute in ('dataset="2"', f'threshold="{BUILT_IN["2"].threshold!r}"'):
        text = text.replace(attribute, "")
    (tmp_path / "2.xml").write_text(text)
    assert Geometry.load(tmp_path / "2.xml").layers == BUILT_IN["2"].layers


@pytest.mark.parametrize(("name", "grid"), [("1-photons", None), ("2", (45, 16, 9)), ("3", (45, 50, 18))])
def test_regular_meshes_know_their_grid(name, grid):
    assert BUILT_IN[name].grid == grid
    assert BUILT_IN[name].is_regular == (grid is not None)


def test_meshes_of_equal_bins_need_not_be_regular(small):
    wide = Geometry("g", "photon", (Layer(0, (0, 1, 2)), Layer(1, (0, 2, 4))))
    growing = Geometry("g", "photon", (Layer(0, (0, 1, 3)), Layer(1, (0, 1, 3))))
    assert (wide.grid, wide.is_regular) == ((2, 1, 2), False)
    assert (growing.grid, growing.is_regular) == ((2, 1, 2), False)
    assert small.grid is None


def test_layer_energies_are_sums_over_the_slices(small, rng):
    voxels = rng.random((5, small.n_voxels))
    expected = np.stack([voxels[:, columns].sum(1) for columns in small.layer_slices], axis=1)
    np.testing.assert_allclose(small.layer_energies(voxels), expected)


@pytest.mark.parametrize("dataset", BUILT_IN)
def test_centers_lie_in_their_voxels_and_all_else_outside(dataset):
    geometry = Geometry.load(dataset)
    r, alpha, ids = (
        np.concatenate([np.broadcast_to(getattr(layer, name), layer.n_voxels) for layer in geometry.layers])
        for name in ("r", "alpha", "id")
    )
    np.testing.assert_array_equal(geometry.voxels_at(ids, r * np.cos(alpha), r * np.sin(alpha)), np.arange(len(r)))
    assert np.all(geometry.voxels_at(np.array([0, 0, 99]), np.array([9e3, np.nan, 0.0]), np.zeros(3)) == -1)
    at_the_cut = geometry.voxels_at(ids[:1], np.array([-1.0]), np.zeros(1))
    assert at_the_cut == geometry.voxels_at(ids[:1], np.array([-1.0]), np.array([1e-9]))
