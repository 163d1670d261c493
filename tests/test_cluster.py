import filecmp
import os
import signal
import threading
import time

import pytest

from caloman.errors import CalomanError
from caloman.generation.cluster import run_on_cluster
from caloman.generation.generate import generate

distributed = pytest.importorskip("distributed")
OPTIONS = {"energies": "log-uniform:1GeV:100GeV", "n": 40_500, "seed": 6}


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", resources={"GPU": 1}
    ) as cluster:
        yield cluster


def kill_a_worker(cluster, folder):
    """Kills one of the workers as soon as there is a finished part."""
    while not list(folder.glob("*.*.hdf5")):
        time.sleep(0.001)
    os.kill(cluster.workers[0].pid, signal.SIGKILL)


def test_a_killed_worker_changes_nothing(run, cluster, tmp_path):
    generate(run, tmp_path / "local.hdf5", **OPTIONS)
    killer = threading.Thread(target=kill_a_worker, args=(cluster, tmp_path / ".out.hdf5.parts"), daemon=True)
    killer.start()
    generate(run, tmp_path / "out.hdf5", **OPTIONS, dask=cluster.scheduler_address)
    killer.join()
    assert filecmp.cmp(tmp_path / "local.hdf5", tmp_path / "out.hdf5", shallow=False)


def resources_in_use(items):
    state = distributed.get_worker().state
    return [(item, state.available_resources["GPU"]) for item in items]


@pytest.mark.parametrize(("device", "left"), [("cuda", 0), ("cpu", 1)])
def test_tasks_for_a_gpu_take_the_one_that_a_worker_announces(cluster, device, left):
    done = run_on_cluster(cluster.scheduler_address, resources_in_use, range(20), device)
    assert sorted(done) == [(item, left) for item in range(20)]


def fail(items):
    raise CalomanError(f"cannot do {items[0]}")


def test_an_error_of_a_worker_is_that_of_the_command(cluster):
    with pytest.raises(CalomanError, match="cannot do 0"):
        list(run_on_cluster(cluster.scheduler_address, fail, [0], "cpu"))


def test_a_cluster_that_is_not_there_is_one_sentence(run, tmp_path):
    with pytest.raises(CalomanError, match="--dask nowhere"):
        generate(run, tmp_path / "out.hdf5", **OPTIONS, dask="nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
