import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # networks of tests are tiny: more threads would wait for one another
import gc
import resource
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import h5py
import numpy as np
import pytest
import torch
import yaml

from caloman import bundle
from caloman.showers.conditions import ENERGY_ONLY, Conditions
from caloman.showers.geometry import BUILT_IN, Geometry, Layer
from caloman.showers.showers import Showers

ROOT = Path(__file__).parents[1]


@contextmanager
def serving(handler):
    """A server of this machine in a thread of its own, with its address as `url`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    gc.collect()


SAMPLE = ROOT / "data_prep" / "samples" / "photons_train.hdf5"

FLOW = {"class_path": "caloman.flows.CouplingFlow", "init_args": {"transforms": 2, "hidden": 8, "bins": 4}}
TINY_MODEL = {
    "class_path": "caloman.models.FactorizedShowerModel",
    "init_args": {
        "transform": {"class_path": "caloman.preprocessing.LayerwiseTransform", "init_args": {"threshold": 0.01}},
        "energy": {"class_path": "caloman.models.LayerEnergyModel", "init_args": {"flow": FLOW, "threshold": 0.01}},
        "shape": {
            "class_path": "caloman.models.ManifoldShape",
            "init_args": {
                "autoencoder": {
                    "class_path": "caloman.manifold.VAE",
                    "init_args": {
                        "latent_dim": 3,
                        "hidden": [8],
                        "head": {"class_path": "caloman.manifold.HurdleHead"},
                    },
                },
                "density": {"class_path": "caloman.models.Density", "init_args": {"flow": FLOW}},
            },
        },
    },
}


@pytest.fixture(autouse=True)
def _seeded_torch():
    torch.manual_seed(int(os.environ.get("CALOMAN_TEST_SEED", "1")))


@pytest.fixture
def one_thread():
    """For tests that fork: a child cannot use the threads of its parent, and waits for them forever."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def full_disk():
    """While it is entered, no file can grow beyond some bytes."""

    @contextmanager
    def enter(n_bytes):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return enter


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def randomize():
    """Moves a module away from its initial weights, where flows are the identity."""

    def apply(module, std=0.3):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=std)
        return module

    return apply


@pytest.fixture
def photons():
    return BUILT_IN["1-photons"]


@pytest.fixture
def small():
    """A mesh of 16 voxels, for networks that a test can afford."""
    layers = (Layer(0, (0, 1, 3)), Layer(1, (0, 1, 2, 4), 4), Layer(3, (0, 5, 10)))
    return Geometry("small", "photon", layers, threshold=0.01)


@pytest.fixture
def make_showers(rng):
    """Sparse showers of gamma-distributed deposits over five decades; every tenth layer is empty."""

    def make(n, geometry):
        energies = 2.0 ** rng.integers(8, 23, n)
        shape = (n, geometry.n_voxels)
        voxels = rng.gamma(0.2, size=shape) * (rng.random(shape) < 0.4)
        voxels *= (rng.random((n, geometry.n_layers)) < 0.9)[:, geometry.voxel_layer]
        voxels *= (energies * rng.uniform(0.5, 1.5, n) / np.maximum(voxels.sum(1), 1e-3))[:, None]
        return Showers(energies.astype(np.float32), voxels.astype(np.float32), geometry)

    return make


@pytest.fixture
def write_hdf5(tmp_path):
    """Writes datasets as the challenge did: gzip with automatic chunks."""

    def write(datasets, name="file.hdf5"):
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            for key, values in datasets.items():
                compression = "gzip" if np.size(values) else None
                file.create_dataset(key, data=values, compression=compression, chunks=bool(np.size(values)) or None)
        return path

    return write


@pytest.fixture
def run(small, randomize, tmp_path):
    """A bundle of a random model that may be asked for 1 to 100 GeV."""
    model = randomize(bundle.build_model(TINY_MODEL, small, ENERGY_ONLY, tmp_path), std=0.2)
    model.conditions = Conditions.energies(1e3, 1e5)
    bundle.save(model, TINY_MODEL, {"files": [], "showers": 0}, tmp_path / "run" / "bundle")
    return tmp_path / "run"


@pytest.fixture
def config(tmp_path):
    """The photon pipeline with networks and data that train in seconds."""
    spec = yaml.safe_load((ROOT / "configs" / "1-photons" / "caloman.yaml").read_text())
    spec["data"] |= {"train": [str(SAMPLE)], "max_showers": 600}
    shape = spec["model"]["init_args"]["shape"]["init_args"]
    shape["autoencoder"]["init_args"] |= {"hidden": [32], "latent_dim": 4}
    for density in (
        shape["density"],
        shape["residual"],
        {"init_args": spec["model"]["init_args"]["energy"]["init_args"]},
    ):
        density["init_args"]["flow"]["init_args"] |= {"transforms": 2, "hidden": 16, "bins": 4}
    for stage in spec["stages"].values():
        stage["trainer"] = {"max_epochs": 2, "batch_size": 128}
    spec["monitor"] = None
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path
