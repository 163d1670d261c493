"""The processes of a fit: one per device, on one machine or on several."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException

from caloman.errors import CalomanError
from caloman.training.config import Hardware

logger = logging.getLogger(__name__)

TERMINATED = 128 + signal.SIGTERM
"""Exit status after SIGTERM, by which a scheduler tells a stopped job from a failed one."""


@contextmanager
def launch(hardware: Hardware) -> Iterator[Fabric]:
    """Starts the processes of all devices and connects them, unless SLURM or torchrun have started them already.

    Each process runs the whole command. Decisions and writing are those of the one with ``is_global_zero``, which may
    ``broadcast`` the result. When this one ends early, the processes it started end, too.
    """
    handler = signal.getsignal(signal.SIGTERM)
    listen_to_sigterm()
    try:
        with _ending_together(connect(hardware)) as fabric:
            yield fabric
    finally:
        listen_to_sigterm(handler)


@contextmanager
def _ending_together(fabric: Fabric) -> Iterator[Fabric]:
    if not fabric.is_global_zero:
        logging.getLogger("caloman").setLevel(logging.ERROR)
    try:
        yield fabric
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            logger.info("interrupted; the same command goes on after the last finished epoch")
        for process in getattr(fabric.strategy.launcher, "procs", []):
            process.kill()  # a process that waits for this one would not hear anything gentler
        raise


def connect(hardware: Hardware) -> Fabric:
    """This process and its device among all, for Lightning."""
    options = lightning_options(hardware)
    try:
        fabric = Fabric(**{name: options[name] for name in ("accelerator", "devices", "num_nodes", "strategy")})
        fabric.launch()
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        wanted = f"{hardware.devices} devices of accelerator {hardware.accelerator!r}"
        raise CalomanError(f"hardware: {wanted} cannot be used ({reason}); change devices or accelerator") from None
    return fabric


def lightning_options(hardware: Hardware) -> dict[str, Any]:
    """Arguments of a Lightning trainer."""
    # a job is put back into the queue by its script: Lightning would restart it in the middle of an epoch
    slurm = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    return {**{name: value for name, value in vars(hardware).items() if name != "compile"}, "plugins": slurm}


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def listen_to_sigterm(handler: Any = _terminate) -> None:  # noqa: ANN401 - as the signal module takes it
    """Lets SIGTERM end this process as Ctrl-C does, at once: all that is needed to go on is on disk."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)
