import filecmp
import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import torch
from conftest import TINY_MODEL
from torch.utils.data import DataLoader

import caloman
from caloman import bundle
from caloman.errors import CalomanError
from caloman.generation.generate import Generation, Job, fill, generate
from caloman.generation.parts import Parts
from caloman.generation.streaming import GeneratedShowers
from caloman.showers.showers import CHUNK, Showers

SPECTRUM = "log-uniform:1GeV:100GeV"


@pytest.fixture
def generated(run, small, tmp_path):
    def apply(name="out.hdf5", **options):
        generate(run, tmp_path / name, **options)
        return Showers.load(tmp_path / name, small)

    return apply


def test_a_file_equals_what_the_model_samples_in_python(run, generated):
    showers = generated(energies="log-uniform:1GeV:100GeV", n=CHUNK + 7, seed=5)
    sampled = bundle.load(run).sample(showers.incident_energies, seed=5)
    np.testing.assert_array_equal(showers.voxels, sampled.voxels)
    assert len(showers) == CHUNK + 7


def test_more_showers_begin_with_the_same_energies_and_seeds_differ(generated):
    few = generated(energies="uniform:1GeV:2GeV", n=500, seed=1)
    many = generated(energies="uniform:1GeV:2GeV", n=2 * CHUNK, seed=1)
    other = generated(energies="uniform:1GeV:2GeV", n=500, seed=2)
    np.testing.assert_array_equal(many.incident_energies[:500], few.incident_energies)
    assert not np.isin(other.incident_energies, few.incident_energies).any()


def test_energies_of_a_file_are_used_once_and_in_order(generated, write_hdf5):
    energies = np.linspace(1e3, 1e5, 1234)
    path = write_hdf5({"incident_energies": energies[:, None]}, "energies.hdf5")
    np.testing.assert_array_equal(generated(energies=str(path)).incident_energies, energies.astype(np.float32))


def test_a_file_says_how_it_was_made(generated, tmp_path):
    generated(energies="1GeV,2GeV", n=3, seed=4)
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert {key: file.attrs[key] for key in ("seed", "chunk", "energies", "n", "dataset")} == {
            "seed": 4, "chunk": CHUNK, "n": 3, "energies": "1000.0,2000.0", "dataset": "small",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energies": "2TeV"}, "outside the range"),
        ({"energies": "log-uniform:1GeV:2TeV", "n": 2000}, "outside the range"),
        ({"energies": "log-uniform:1GeV:10GeV"}, "--n"),
        ({"energies": "1GeV", "n": 0}, "--n"),
        ({"energies": "1GeV", "n": 10**30}, "--n 1000000000000000000000000000000: is more"),
        ({"energies": "1GeV", "seed": 2**63}, "--seed 9223372036854775808: must lie"),
        ({"energies": "1GeV", "seed": -1}, "--seed -1: must lie"),
        ({"energies": "1GeV", "member": -1}, "no member -1"),
        ({"energies": "nan"}, "not a positive energy"),
        ({"energies": "10furlongs"}, "10furlongs"),
        ({}, "--energies"),
    ],
)
def test_a_bad_request_names_the_fault_and_leaves_what_was_there(generated, tmp_path, options, message):
    before = generated(energies="1GeV", n=5).voxels
    with pytest.raises(CalomanError, match=message):
        generated(**options)
    np.testing.assert_array_equal(generated(name="again.hdf5", energies="1GeV", n=5).voxels, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.hdf5", "out.hdf5", "run"]


def test_a_folder_that_does_not_exist_is_named(run, tmp_path):
    with pytest.raises(CalomanError, match="nowhere"):
        generate(run, tmp_path / "nowhere" / "out.hdf5", energies="1GeV")


def visible(folder):
    return sorted(path.name for path in folder.iterdir())


def test_extrapolation_is_insisted_on_and_recorded(generated, tmp_path):
    generated(energies="2TeV", extrapolate=True)
    generated(name="inside.hdf5", energies="2GeV", extrapolate=True)
    with h5py.File(tmp_path / "out.hdf5") as out, h5py.File(tmp_path / "inside.hdf5") as inside:
        assert (out.attrs["extrapolated"], inside.attrs["extrapolated"]) == (True, False)


def test_compression_changes_the_file_and_not_the_showers(generated, tmp_path):
    zipped, plain = (generated(name=f"{c}.hdf5", energies=SPECTRUM, n=1500, compression=c) for c in ("gzip", "none"))
    np.testing.assert_array_equal(zipped.voxels, plain.voxels)
    with h5py.File(tmp_path / "none.hdf5") as file:
        assert file["showers"].compression is None


def test_half_precision_gives_nearly_the_same_showers(generated):
    full, half = (generated(energies=SPECTRUM, n=500, precision=p) for p in ("32", "bf16-mixed"))
    totals = full.voxels.sum(1), half.voxels.sum(1)
    assert (full.voxels != half.voxels).any()
    np.testing.assert_allclose(np.median(totals[1] / totals[0]), 1, atol=0.02)


def test_without_a_compiler_the_model_runs_as_it_is(generated, monkeypatch, caplog):
    eager = generated(energies="1GeV", n=3)

    def fail(*args, **kwargs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr("torch.compile", fail)
    compiled = generated(energies="1GeV", n=3, compile=True)
    assert "cannot be compiled" in caplog.text
    np.testing.assert_allclose(compiled.voxels, eager.voxels, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("device", ["cuda:99", "abacus", "meta"])
def test_a_device_that_is_not_there_is_one_sentence(generated, device):
    with pytest.raises(CalomanError, match=f"--device {device}"):
        generated(energies="1GeV", device=device)


def killed(run, output, **options):
    """Starts a generation in another process and kills it when its first part is there."""
    command = [sys.executable, "-m", "caloman.cli", "generate", str(run), str(output)]
    command += [f"--{name}={value}" for name, value in options.items()]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while not list(output.parent.glob(f".{output.name}.parts/*.*.hdf5")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    return output.with_name(f".{output.name}.parts")


def test_a_killed_job_goes_on_and_gives_the_same_bytes(run, generated, tmp_path, caplog):
    options = {"energies": SPECTRUM, "n": 30_500, "seed": 2}
    parts = killed(run, tmp_path / "out.hdf5", **options)
    assert not (tmp_path / "out.hdf5").exists()
    n_parts = len(list(parts.glob("*.*.hdf5")))
    assert 0 < n_parts < 31
    generated(**options)
    assert "of 31 chunks are finished" in caplog.text
    generated(name="uninterrupted.hdf5", **options)
    assert filecmp.cmp(tmp_path / "out.hdf5", tmp_path / "uninterrupted.hdf5", shallow=False)
    assert visible(tmp_path) == ["out.hdf5", "run", "uninterrupted.hdf5"]


@pytest.fixture
def unfinished(generated, tmp_path, monkeypatch, full_disk):
    """A job of four chunks that found the disk full after two; returns its options."""
    options = {"energies": SPECTRUM, "n": 3500, "seed": 7}
    add = Parts.add

    def add_two(self, chunk, showers):
        with full_disk(2**30 if chunk < 2 else 2**15):
            add(self, chunk, showers)

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "add", add_two)
        with pytest.raises(CalomanError, match="cannot be written, check folder and free space"):
            generated(**options)
    assert visible(tmp_path) == [".out.hdf5.parts", "run"]
    assert len(list((tmp_path / ".out.hdf5.parts").glob("*.*.hdf5"))) == 2
    return options


def test_after_a_full_disk_the_job_goes_on(unfinished, generated, tmp_path):
    generated(**unfinished)
    generated(name="whole.hdf5", **unfinished)
    assert filecmp.cmp(tmp_path / "out.hdf5", tmp_path / "whole.hdf5", shallow=False)


def test_files_of_others_among_the_parts_are_left_alone(unfinished, generated, tmp_path):
    (tmp_path / ".out.hdf5.parts" / "notes.of.hdf5").write_text("mine")
    (tmp_path / ".out.hdf5.parts" / f"{0:09}.{'0' * 64}.hdf5").mkdir()
    assert len(generated(**unfinished)) == 3500


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip_a_byte, lambda path: path.write_bytes(b"")])
def test_a_damaged_part_is_made_again(unfinished, generated, tmp_path, damage):
    damage(min((tmp_path / ".out.hdf5.parts").glob("*.*.hdf5")))
    generated(**unfinished)
    generated(name="whole.hdf5", **unfinished)
    assert filecmp.cmp(tmp_path / "out.hdf5", tmp_path / "whole.hdf5", shallow=False)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 8}, "seed 7, not 8"),
        ({"energies": "1GeV"}, "energies"),
        ({"shard": "0/2"}, "shard"),
        ({"n": 9}, "n 3500"),
    ],
)
def test_parts_of_another_request_are_neither_used_nor_lost(unfinished, generated, tmp_path, change, name):
    with pytest.raises(CalomanError, match=rf"out\.hdf5: an unfinished job has {name}"):
        generated(**{**unfinished, **change})
    assert len(list((tmp_path / ".out.hdf5.parts").glob("*.*.hdf5"))) == 2


def test_an_unreadable_request_is_named(unfinished, generated, tmp_path):
    (tmp_path / ".out.hdf5.parts" / "request.json").write_text("[")
    with pytest.raises(CalomanError, match="delete"):
        generated(**unfinished)


def test_a_second_job_on_the_same_output_is_refused(run, generated, tmp_path):
    job = Job(str(run), str(tmp_path / "out.hdf5"), "1GeV", 3)
    with Generation(job).parts.locked(), ThreadPoolExecutor() as pool:
        second = pool.submit(generated, energies="1GeV", n=3)
        with pytest.raises(CalomanError, match=r"out\.hdf5: another process is writing it"):
            second.result()
    assert len(generated(energies="1GeV", n=3)) == 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_stream_gives_the_showers_of_a_file_each_once(run, generated, workers):
    expected = generated(energies=SPECTRUM, n=2300, seed=3)
    stream = caloman.GeneratedShowers(bundle.load(run), SPECTRUM, seed=3, batch_size=400, n=2300)
    batches = list(DataLoader(stream, batch_size=None, num_workers=workers))
    assert max(len(voxels) for voxels, _ in batches) == 400
    voxels, energies = (torch.cat(columns).numpy() for columns in zip(*batches, strict=True))
    order, expected_order = energies[:, 0].argsort(), expected.incident_energies.argsort()
    np.testing.assert_array_equal(voxels[order], expected.voxels[expected_order])


def test_an_endless_stream_trains_a_network(run):
    stream = GeneratedShowers(bundle.load(run), "1GeV,10GeV", batch_size=64)
    network = torch.nn.Linear(stream.model.geometry.n_voxels, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    losses = []
    for (voxels, energies), _ in zip(stream, range(40), strict=False):
        loss = (network(voxels / energies) - energies.log10()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_stream_outside_the_trained_range_is_refused(run):
    with pytest.raises(CalomanError, match="outside the range"):
        GeneratedShowers(bundle.load(run), "1TeV")


def stream_of_rank(rank, ranks, folder, run, options):
    """Writes the energies of each batch that one process of a group gets."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=ranks)
    stream = GeneratedShowers(bundle.load(run), SPECTRUM, **options)
    for workers in (0, 2):
        loader = DataLoader(
            stream, batch_size=None, num_workers=workers, multiprocessing_context="spawn" if workers else None
        )
        batches = [energies for _, energies in loader]
        assert len(loader) == len(batches)
        np.save(folder / f"{workers}.{rank}.npy", torch.cat(batches).numpy())
    torch.distributed.destroy_process_group()


def test_ranks_and_their_workers_share_a_stream(run, generated, tmp_path):
    options = {"n": 4 * CHUNK, "seed": 3, "batch_size": 300}
    expected = np.sort(generated(energies=SPECTRUM, n=4 * CHUNK, seed=3).incident_energies)
    torch.multiprocessing.spawn(stream_of_rank, (2, tmp_path, run, options), nprocs=2)
    for workers in (0, 2):
        found = np.concatenate([np.load(tmp_path / f"{workers}.{rank}.npy") for rank in (0, 1)])
        np.testing.assert_array_equal(np.sort(found[:, 0]), expected)


def test_a_stream_has_a_length_if_it_ends(run):
    model = bundle.load(run)
    assert len(GeneratedShowers(model, SPECTRUM, n=2300, batch_size=400)) == 3 + 3 + 1
    with pytest.raises(TypeError, match="no length"):
        len(GeneratedShowers(model, SPECTRUM))


@pytest.mark.parametrize("option", [{"n": 0}, {"batch_size": 0}, {"seed": -1}])
def test_a_stream_of_nothing_is_refused(run, option):
    with pytest.raises(CalomanError, match="must"):
        GeneratedShowers(bundle.load(run), SPECTRUM, **option)


def test_ranks_with_unequal_numbers_of_batches_are_refused(run, monkeypatch):
    stream = GeneratedShowers(bundle.load(run), SPECTRUM, n=2300)
    monkeypatch.setattr("caloman.generation.streaming._ranks_here", lambda: (1, 2))
    with pytest.raises(CalomanError, match="multiple of 2000"):
        next(iter(stream))


def test_a_worker_opens_a_model_that_was_trained_anew(run, small, randomize, tmp_path):
    job = Job(str(run), str(tmp_path / "out.hdf5"), SPECTRUM, 10)

    def filled():
        generation = Generation(job)
        with generation.parts.locked():
            assert fill(job, json.dumps(generation.parts.request), [0]) == [0]
            generation.parts.join(generation.chunks, "calochallenge")
        return Showers.load(tmp_path / "out.hdf5", small).voxels

    before = filled()
    model = randomize(bundle.load(run), std=0.1)
    bundle.save(model, TINY_MODEL, {"files": [], "showers": 0}, run / "bundle")
    assert not np.array_equal(filled(), before)


def test_a_log_tells_how_far_a_generation_is(generated, monkeypatch, caplog):
    monkeypatch.setattr("caloman.progress.SECONDS", 0.0)
    caplog.set_level("INFO", logger="caloman")
    generated(energies="1GeV", n=1500)
    assert "generate: 1000 of 1500 showers" in caplog.text
