"""Work on a running Dask cluster."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError

from caloman.errors import CalomanError

TASKS_PER_THREAD = 4
RETRIES = 3


def run_on_cluster(
    address: str, function: Callable[[Sequence[int]], Sequence[int]], items: Sequence[int], device: str
) -> Iterator[int]:
    """Shares items out to the workers of a cluster; what a lost worker had is done by another one.

    Args:
        address: of the scheduler.
        function: takes some of the items and returns those that are done; may be called again for the same items.
        items: all that there is to do.
        device: torch device that the function uses; if it is a GPU and workers announce the resource GPU, as with
            ``dask worker --resources GPU=1``, each task takes one.

    Yields:
        The items that are done.

    Raises:
        CalomanError: if Dask is not installed, the cluster cannot be reached, or workers are lost again and again.
    """
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise CalomanError("--dask needs Dask: pip install 'caloman[cluster]'") from None
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise CalomanError(f"--dask {address}: no scheduler answers there ({error}); start one or correct it") from None
    with client:
        workers = client.scheduler_info()["workers"].values()
        if not workers:
            raise CalomanError(f"--dask {address}: the cluster has no workers; start some and repeat the command")
        on_gpu = device != "cpu" and any("GPU" in worker["resources"] for worker in workers)
        n_tasks = TASKS_PER_THREAD * sum(worker["nthreads"] for worker in workers)
        size = -(-len(items) // n_tasks)
        shares = [items[start : start + size] for start in range(0, len(items), size or 1)]
        tasks = client.map(function, shares, pure=False, retries=RETRIES, resources={"GPU": 1} if on_gpu else None)
        try:
            for task in as_completed(tasks):
                yield from task.result()
        except (KilledWorker, CancelledError):
            raise CalomanError(
                f"--dask {address}: the scheduler or one worker after the other was lost, see their logs; repeat the "
                "command, which goes on"
            ) from None
