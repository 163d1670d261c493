import pickle
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from caloman.data.check import check
from caloman.errors import CalomanError
from caloman.evaluation.samples import Sample
from caloman.files import sha256
from caloman.showers.showers import ShowerFile, Showers
from caloman.showers.slices import ShowerFiles, parse_slices
from caloman.showers.spectra import parse_energies
from caloman.training.batches import EpochBatches
from caloman.training.data import DataConfig, ShowerDataModule
from caloman.training.stores import LoadedShowers, StreamedShowers

N = 203
LAYOUTS = {
    "memory": ({"chunks": (7, 5), "compression": "gzip"}, {}),
    "mapped": ({}, {"memory_limit": 0.0}),
    "decoded": ({"chunks": (7, 5), "compression": "gzip"}, {"memory_limit": 0.0}),
    "double": ({"dtype": np.float64}, {"memory_limit": 0.0}),
}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """A buffer of four mapped blocks of three showers, or of two chunk rows."""
    monkeypatch.setattr("caloman.training.stores.BLOCK_BYTES", 3 * 16 * 4)
    monkeypatch.setattr("caloman.training.stores.BUFFER_BYTES", 12 * 16 * 4)


@pytest.fixture
def showers(make_showers, small):
    """Showers that can be told from one another by their energy, which is their row."""
    showers = make_showers(N, small)
    return Showers(np.arange(1, N + 1, dtype=np.float32), showers.voxels, small)


@pytest.fixture
def write(tmp_path):
    """Writes an HDF5 file as `caloman prepare` does, by default contiguous; returns its path as text."""

    def apply(showers, name="showers.hdf5", validation_rows=None, sources=None, **layout):
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            file.create_dataset("showers", data=showers.voxels, **layout)
            file["incident_energies"] = showers.incident_energies[:, None]
            file.attrs["dataset"] = showers.geometry.name
            if validation_rows is not None:
                file["validation_rows"] = np.array(validation_rows)
            if sources is not None:
                file.attrs["sources"] = sources
        return str(path)

    return apply


@pytest.fixture
def module(showers, small, write):
    """Makes a data module on one of the layouts."""

    def apply(layout, seed=3, batch_size=16, **options):
        storage, limits = LAYOUTS[layout]
        path = write(showers, f"{layout}.hdf5", **storage)
        data = ShowerDataModule(small, DataConfig([path], **limits, **options), seed)
        data.batch_size = batch_size
        return data

    return apply


def rows_of(batches):
    """Rows in their order of arrival."""
    return np.concatenate([energies[:, 0].numpy() for _, energies in batches]).astype(int) - 1


def on_rank(data, rank, world_size):
    """The data module as Lightning leaves it on one of several devices."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(world_size=world_size, global_rank=rank, strategy=strategy)
    return data


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_shower_comes_once_per_epoch_with_its_own_voxels(module, showers, layout, workers, world_size):
    for split, count in (("train", 162), ("val", 41)):
        seen, steps = [], set()
        for rank in range(world_size):
            data = on_rank(module(layout, workers=workers), rank, world_size)
            loader = getattr(data, f"{split}_dataloader")()
            batches = list(loader)
            for voxels, energies in batches:
                expected = showers.voxels[energies[:, 0].numpy().astype(int) - 1]
                np.testing.assert_array_equal(voxels.numpy(), expected)
            sizes = [len(voxels) for voxels, _ in batches]
            assert max(sizes) <= 16
            assert max(sizes) - min(sizes) <= 1
            assert len(loader) == len(batches)
            steps.add(len(batches))
            seen.append(rows_of(batches))
        assert len(steps) == 1
        rows = np.concatenate(seen)
        assert len(rows) == len(np.unique(rows)) == count


@pytest.mark.parametrize("layout", LAYOUTS)
def test_order_depends_on_seed_and_epoch_only(module, layout):
    def order(seed, epoch, workers=0):
        loader = module(layout, seed=seed, workers=workers).train_dataloader()
        loader.sampler.set_epoch(epoch)
        return rows_of(loader)

    first = order(3, 0)
    np.testing.assert_array_equal(order(3, 0), first)
    assert (order(3, 1) != first).any()
    np.testing.assert_array_equal(np.sort(order(3, 1)), np.sort(first))
    assert not np.array_equal(np.sort(order(4, 0)), np.sort(first))  # another split
    assert (np.diff(first) < 0).mean() > 0.3
    np.testing.assert_array_equal(np.sort(order(3, 0, workers=2)), np.sort(first))


def test_all_layouts_hold_out_the_same_showers(module):
    splits = {layout: module(layout) for layout in LAYOUTS}
    assert isinstance(splits["memory"].train.store, LoadedShowers)
    assert all(isinstance(splits[layout].train.store, StreamedShowers) for layout in ("mapped", "decoded", "double"))
    train, held_out = ({tuple(rows_of([getattr(data, side)[:]])) for data in splits.values()}
                       for side in ("train", "validation"))  # fmt: skip
    assert len(train) == len(held_out) == 1
    assert not set(train.pop()) & set(held_out.pop())


def test_streamed_blocks_are_read_once_per_epoch(module, monkeypatch):
    data = module("decoded")
    store, visits = data.train.store, []
    read = type(store)._read_block
    monkeypatch.setattr(type(store), "_read_block", lambda self, block: visits.append(block) or read(self, block))
    assert len(rows_of(data.train_dataloader())) == 162
    assert len(visits) == len(set(visits)) == 29  # chunks of seven showers


def test_lightning_passes_on_the_epoch_and_every_shower_once(module):
    class Watch(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.epochs = {}

        def training_step(self, batch):
            self.epochs.setdefault(self.current_epoch, []).append(batch)
            return self.weight.sum()

        def validation_step(self, batch):
            assert len(batch[0]) > 0

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    task = Watch()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=3, accelerator="cpu", use_distributed_sampler=False, **options)
    trainer.fit(task, module("decoded", workers=2))
    orders = [rows_of(batches) for batches in task.epochs.values()]
    assert len(orders) == 3
    assert len({tuple(order) for order in orders}) == 3
    assert all(len(np.unique(order)) == len(order) == 162 for order in orders)


def test_a_batch_larger_than_the_data_is_refused(module):
    with pytest.raises(CalomanError, match="batch_size = 163 is more than the 162 training showers"):
        module("memory", batch_size=163).train_dataloader()
    assert [len(voxels) for voxels, _ in module("memory", batch_size=162).train_dataloader()] == [162]


def test_tiny_batches_leave_no_rank_without_a_shower():
    sizes = [[len(batch) for batch in EpochBatches(np.arange(5), 1, 1, 0, 2, rank)] for rank in (0, 1)]
    assert sizes == [[2, 1], [1, 1]]
    with pytest.raises(CalomanError, match="5 showers cannot be shared by 6 devices"):
        EpochBatches(np.arange(5), 1, 1, 0, world_size=6)


def test_statistics_see_every_training_shower_once(module, monkeypatch):
    monkeypatch.setattr("caloman.training.data.STATISTICS_BYTES", 50 * 16 * 4)
    data = module("mapped")
    batches = list(data.statistics_batches())
    assert [len(voxels) for voxels, _ in batches] == [50, 50, 50, 12]
    np.testing.assert_array_equal(rows_of(batches), data.train.rows)


def test_symmetries_are_applied_on_every_path(photons, make_showers, write):
    showers = make_showers(20, photons)
    for name, layout in (("mapped", {}), ("decoded", {"chunks": (7, 5)})):
        path = write(showers, f"{name}.hdf5", **layout)
        data = ShowerDataModule(
            photons, DataConfig([path], symmetries=["alpha_rotation", "alpha_reflection"], memory_limit=0.0), 0
        )
        voxels = data.train[:][0].numpy()
        original = showers.voxels[data.train.rows]
        assert (voxels != original).any()
        np.testing.assert_array_equal(np.sort(voxels, axis=1), np.sort(original, axis=1))


# ---- split ------------------------------------------------------------------------------------------------------


def test_a_recorded_split_is_used_also_in_slices_of_several_files(showers, small, write):
    first = write(showers[:100], "first.hdf5", validation_rows=[3, 50, 51, 99])
    second = write(showers[100:], "second.hdf5", validation_rows=[0, 1, 80])
    for limit in (0.0, 4.0):
        config = DataConfig([f"{first}[50:]", f"{second}[1:60]"], memory_limit=limit)
        data = ShowerDataModule(small, config, 0)
        assert rows_of([data.validation[:]]).tolist() == [50, 51, 99, 101]
        assert rows_of([data.train[:]]).tolist() == [r for r in range(50, 160) if r not in (50, 51, 99, 100, 101)]
        config.max_showers = 20
        assert rows_of([ShowerDataModule(small, config, 0).validation[:]]).tolist() == [50, 51]


def test_the_split_is_by_seed_unless_every_file_records_one(showers, small, write):
    first = write(showers[:100], "first.hdf5", validation_rows=[3])
    second = write(showers[100:], "second.hdf5")
    assert len(ShowerDataModule(small, DataConfig([first, second], 0.5), 0).validation) == 102


def test_a_recorded_split_without_validation_is_reported(showers, small, write):
    path = write(showers, validation_rows=[200])
    with pytest.raises(CalomanError, match="recorded split leaves no showers"):
        ShowerDataModule(small, DataConfig([f"{path}[:100]"]), 0)


def test_a_shower_cannot_be_listed_twice(showers, small, write):
    path = write(showers)
    for train in ([path, path], [f"{path}[:50]", f"{path}[49:60]"]):
        with pytest.raises(CalomanError, match="share showers"):
            ShowerDataModule(small, DataConfig(train), 0)
    assert len(ShowerDataModule(small, DataConfig([f"{path}[:50]", f"{path}[50:60]"]), 0).train) == 48


def test_forbidden_files_are_refused_by_path_hash_and_source(showers, small, write):
    test = write(showers, "test.hdf5")
    prepared = write(showers, "prepared.hdf5", sources=f'[{{"name": "test.hdf5", "sha256": "{sha256(test)}", '
                                                       f'"showers": {N}}}]')  # fmt: skip
    copy = write(showers, "copy.hdf5")
    assert sha256(copy) == sha256(test)
    for train, forbidden in (
        (copy, test),
        (test, sha256(test).upper()),
        (prepared, sha256(test)),
        (prepared, test),
        (test, prepared),
        (f"{prepared}[:50]", test),
    ):
        with pytest.raises(CalomanError, match=r"\.hdf5: holds the showers of .* data\.forbidden"):
            ShowerDataModule(small, DataConfig([train], forbidden=[forbidden]), 0)
    ShowerDataModule(small, DataConfig([prepared], forbidden=[write(showers[:50], "other.hdf5"), 64 * "0"]), 0)
    with pytest.raises(CalomanError, match=r"tset\.hdf5: no such file, and not a SHA-256"):
        ShowerDataModule(small, DataConfig([prepared], forbidden=["tset.hdf5"]), 0)


def test_energies_can_be_left_out(showers, small, write):
    path = write(showers)
    data = ShowerDataModule(small, DataConfig([path], leave_out=[1.0, 50.0]), 0)
    used = np.concatenate([rows_of([part[:]]) for part in (data.train, data.validation)])
    assert sorted(used) == [row for row in range(N) if row not in (0, 49)]
    assert data.conditions[0].range == (2.0, N)
    with pytest.raises(CalomanError, match=r"data.leave_out: no shower has 0.5 MeV; name energies"):
        ShowerDataModule(small, DataConfig([path], leave_out=[0.5]), 0)
    with pytest.raises(CalomanError, match="leaves out all showers"):
        ShowerDataModule(small, DataConfig([path], leave_out=list(range(1, N + 1))), 0)


@pytest.mark.parametrize("options", [{"max_showers": 0}, {"validation_fraction": 0.0}, {"validation_fraction": 1.0}])
def test_a_split_with_an_empty_side_is_reported(module, options):
    with pytest.raises(CalomanError, match=r"data\.validation_fraction = .* leaves no showers for training or for val"):
        module("mapped", **options)


# ---- faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", [np.nan, -1.0, np.inf])
def test_impossible_values_are_found_before_training(showers, small, write, layout, value):
    storage, limits = LAYOUTS[layout]
    showers.voxels[200, 3] = value
    path = write(showers, "bad.hdf5", **storage)
    with pytest.raises(CalomanError, match=r"bad\.hdf5: 'showers' holds .* in voxel 3 of shower 200"):
        ShowerDataModule(small, DataConfig([path], **limits), 0)


def test_a_file_that_shrinks_during_training_is_named(module):
    data = module("mapped")
    path = data.slices[0].path
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CalomanError, match=r"mapped\.hdf5: changed during training"):
        list(data.train_dataloader())


def test_no_file_stays_open(module):
    for layout in LAYOUTS:
        data = module(layout)
        assert len(data.train[:][0]) == 162
        h5py.File(data.slices[0].path, "a").close()  # HDF5 refuses this while it has the file open for reading


def test_a_data_set_can_be_sent_to_a_worker_that_is_not_forked(module):
    data = module("decoded").train
    voxels, _ = data[:]
    torch.testing.assert_close(pickle.loads(pickle.dumps(data))[:][0], voxels)
    assert len(pickle.dumps(data)) < 8000  # nothing of what was decoded


# ---- slices -----------------------------------------------------------------------------------------------------


def test_slices_of_several_files_read_as_one(showers, small, write):
    first, second = write(showers[:100], "a[x].hdf5", chunks=(7, 5)), write(showers[100:], "b,c.hdf5")
    with ShowerFiles([f"{first}[20:90]", second, f"{first}[90:]"], small) as files:
        expected = np.r_[20:90, 100:N, 90:100]
        assert len(files) == len(expected)
        np.testing.assert_array_equal(files.incident_energies() - 1, expected)
        for read in (list(files.blocks()), [files.read(0, 60), files.read(60, 180), files.read(180, len(files))]):
            np.testing.assert_array_equal(np.concatenate([block.voxels for block in read]), showers.voxels[expected])
        np.testing.assert_array_equal(files.read(65, 175).incident_energies - 1, expected[65:175])


def test_a_slice_starts_blocks_at_whole_chunk_rows(showers, small, write, monkeypatch):
    monkeypatch.setattr("caloman.showers.showers.BLOCK_BYTES", 1)
    with ShowerFiles(f"{write(showers, chunks=(7, 5))}[10:30]", small) as files:
        assert [len(block) for block in files.blocks()] == [4, 7, 7, 2]


def test_every_reader_takes_slices_and_several_files(showers, small, write):
    path = write(showers)
    specification = f"{path}[5:15],{path}[100:103]"
    sample = Sample.open(specification, small)
    np.testing.assert_array_equal(sample.incident_energies - 1, np.r_[5:15, 100:103])
    assert sample.name == "showers.hdf5[5:15], showers.hdf5[100:103]"
    assert sample.sha256 == f"{sha256(path)}[5:15], {sha256(path)}[100:103]"
    assert sample.shower(10).incident_energies.tolist() == [101]
    np.testing.assert_array_equal(parse_energies(specification).chunk(0, 0, 13) - 1, np.r_[5:15, 100:103])


def test_check_takes_slices(make_showers, photons, tmp_path):
    make_showers(30, photons).save(tmp_path / "a.hdf5")
    report = check(f"{tmp_path / 'a.hdf5'}[3:10],{tmp_path / 'a.hdf5'}")
    assert report.rows[2][:2] == ("showers", "37")


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("{}[0:204]", r"showers\.hdf5\[0:204\]: no such rows, the file has 203 showers"),
        ("{}[50:50]", "use .start:stop. with start < stop"),
        ("{}[-5:]", r"\[-5:\] is not a slice"),
        ("{}[5]", r"\[5\] is not a slice; use .* such as .*showers\.hdf5\[0:50000\]"),
        ("{},nothing.hdf5[0:5]", r"nothing\.hdf5: no such file"),
    ],
)
def test_bad_slices_are_one_sentence(showers, small, write, specification, message):
    with pytest.raises(CalomanError, match=message):
        ShowerFiles(specification.format(write(showers)), small)


def test_specifications_print_as_they_were_written():
    texts = ["a.hdf5", "b.hdf5[3:]", "c.hdf5[:8]", "d.hdf5[3:8]"]
    assert [str(part) for part in parse_slices(",".join(texts))] == [*texts[:2], "c.hdf5[0:8]", texts[3]]
    with pytest.raises(CalomanError, match="list of shower files is empty"):
        parse_slices([])


def test_damaged_list_of_tables_is_one_sentence(small, tmp_path):
    path = tmp_path / "showers.hdf5"
    with h5py.File(path, "w", libver="earliest") as file:
        file["incident_energies"], file["showers"] = np.full((2, 1), 1e3), np.ones((2, small.n_voxels))
    path.write_bytes(path.read_bytes().replace(b"SNOD", b"XXXX"))
    with pytest.raises(CalomanError, match="damaged file"):
        ShowerFile(path, small)
