"""Showers on demand: generation chunk by chunk, resumable and shared out, into one file."""

import json
import logging
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Literal, TypeVar

import torch

from caloman import __version__, bundle
from caloman.errors import CalomanError, first_line
from caloman.generation.cluster import run_on_cluster
from caloman.generation.parts import Parts
from caloman.generation.requests import Request, read_assignments
from caloman.generation.shards import count_showers, shard_chunks
from caloman.models import EnsembleShowerModel, ShowerModel
from caloman.progress import Progress
from caloman.showers.libraries import Format, find_writer
from caloman.showers.showers import CHUNK, Showers
from caloman.showers.spectra import check_seed
from caloman.showers.writer import Compression

logger = logging.getLogger(__name__)

Precision = Literal["32", "bf16-mixed", "16-mixed"]
Model = TypeVar("Model", bound=ShowerModel)
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def generate(
    run: str | Path,
    output: str | Path,
    energies: str | None = None,
    n: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "32",
    compile: bool = False,
    compression: Compression = "gzip",
    shard: str = "0/1",
    extrapolate: bool = False,
    dask: str | None = None,
    member: int | None = None,
    theta: str | None = None,
    phi: str | None = None,
    conditions: list[str] | None = None,
    format: Format = "calochallenge",
) -> str:
    """Generates showers into a CaloChallenge file or a library of another program.

    The same run, seed and energies give the same showers, also in shards. The file appears when it is complete. After
    an interruption the same command continues.

    Args:
        run: run folder of `caloman fit`, a bundle, or a name of `caloman models`.
        output: HDF5 file to write.
        energies: incident energies: a list (1GeV,10GeV), a spectrum (uniform:1GeV:10GeV, log-uniform:1GeV:1TeV,
            discrete:1GeV=3,10GeV=1 with weights, histogram:FILE with lines of LOW HIGH WEIGHT), or HDF5 files with
            incident_energies, whole or some rows such as file.hdf5[0:1000]; MeV if no unit is given. Files also tell
            all other conditions of the model that are not given here.
        n: number of showers; by default each energy of a list or a file once.
        seed: seed of energies and noise, from 0 to 2^63 - 1.
        device: torch device, such as cuda.
        precision: of matrix products; splines always use 32 bits.
        compile: compile the model first; takes a minute and pays off for many showers.
        compression: of the file.
        shard: part of the showers to generate, such as 3/16, counted from 0; `caloman merge` joins all parts.
        extrapolate: accept energies outside the trained range; the file records it.
        dask: address of a Dask scheduler, such as tcp://host:8786; its workers need the same file system.
        member: number of the ensemble member to generate with; all members by default.
        theta: polar angles, as a list or a spectrum like the energies, such as uniform:50deg:130deg; rad if no unit is
            given. Only for a model with this condition, as the next ones.
        phi: azimuthal angles, likewise.
        conditions: other conditions, such as detector=3.
        format: of the file: calochallenge, or a library of showers: fastcalosim (ATLAS), ddml (Key4hep), showerdata
            (point clouds). Shards stay calochallenge until they are joined.

    Returns:
        A sentence about the file.

    Raises:
        CalomanError: if the run has no bundle, a condition is missing, cannot be read or lies outside the trained
            range, or the file cannot be written.
    """
    find_writer(format)
    if format != "calochallenge" and shard != "0/1":
        raise CalomanError(
            f"--shard {shard}: shards are CaloChallenge files; give --format {format} to `caloman merge`"
        )
    given = read_assignments(conditions or [], theta=theta, phi=phi)
    job = Job(
        str(bundle.find(run).absolute()), str(Path(output).absolute()), energies, n, seed, device, precision, compile,
        compression, shard, extrapolate, member, tuple(given.items())
    )  # fmt: skip
    n_showers = Generation(job).complete(format, dask)
    return f"{n_showers} showers written to {output}"


@dataclass(frozen=True)
class Job:
    """The arguments of `generate`, with the conditions beside the energy as pairs of name and text."""

    run: str
    output: str
    energies: str | None = None
    n: int | None = None
    seed: int = 0
    device: str = "cpu"
    precision: Precision = "32"
    compile: bool = False
    compression: Compression = "gzip"
    shard: str = "0/1"
    extrapolate: bool = False
    member: int | None = None
    conditions: tuple[tuple[str, str], ...] = ()


class Generation:
    """A job with its model, its conditions and its parts.

    Args:
        job: what was asked for.

    Raises:
        CalomanError: if it cannot be done.
    """

    def __init__(self, job: Job) -> None:
        check_seed(job.seed)
        self.job = job
        self.model = bundle.load(job.run)
        self.asked, self.total = Request.read(self.model.conditions, job.energies, job.n, dict(job.conditions))
        self.chunks = shard_chunks(job.shard, self.total)
        self._chosen(self.model)
        self.asked.check(job.extrapolate)
        training = bundle.read_config(job.run)["training"]
        request: dict[str, str | int | float] = {
            "generator": "caloman",
            "caloman": __version__,
            "model": bundle.fingerprint(job.run),
            "trained_on": " ".join(file["sha256"] for file in training.get("files", [])),
            "training_showers": training.get("showers", 0),
            **self.asked.attributes(),
            "n": self.total,
            "seed": job.seed,
            "chunk": CHUNK,
            "shard": job.shard,
            "extrapolated": not self.asked.is_covered,
            "device": job.device.split(":")[0],
            "precision": job.precision,
            "compile": job.compile,
            "compression": job.compression,
            **({} if job.member is None else {"member": job.member}),
        }
        names = self.model.conditions.further
        self.parts = Parts(Path(job.output), self.model.geometry, request, job.compression, names)

    def complete(self, format: Format, dask: str | None = None) -> int:
        """Generates what is missing, here or by a Dask cluster, joins the parts, and returns the number of showers."""
        parts, chunks = self.parts, self.chunks
        n_showers = partial(count_showers, total=self.total)
        with parts.locked():
            finished = parts.finished(chunks)
            if finished:
                logger.info("%s: %d of %d chunks are finished; going on", parts.output, len(finished), len(chunks))
            missing = [chunk for chunk in chunks if chunk not in finished]
            on_worker = partial(fill, self.job, json.dumps(parts.request))
            written = run_on_cluster(dask, on_worker, missing, self.job.device) if dask else self.fill(missing)
            with Progress("generate", n_showers(chunks), "shower", n_showers(finished)) as progress:
                for chunk in written:
                    progress.add(n_showers([chunk]))
            parts.join(chunks, format)
        return n_showers(chunks)

    def fill(self, chunks: Iterable[int]) -> Iterator[int]:
        """Generates chunks, each written while the next one is computed, and yields them as they are written."""
        with ThreadPoolExecutor(1) as writer:
            written: Future[int] | None = None
            for chunk in chunks:
                showers = self.sample(self._generator, chunk)
                if written:
                    yield written.result()
                written = writer.submit(self.parts.add, chunk, showers)
            if written:
                yield written.result()

    def sample(self, model: ShowerModel, chunk: int) -> Showers:
        """Generates the showers of a chunk."""
        rows = count_showers([chunk], self.total)
        # compiled code is made for one size
        conditions = self.asked.chunk(self.job.seed, chunk, CHUNK if self.job.compile else rows)
        dtype = AUTOCAST.get(self.job.precision)
        with torch.autocast(torch.device(self.job.device).type, dtype, enabled=dtype is not None):
            return model.sample_chunk(conditions, self.job.seed, chunk)[:rows]

    @cached_property
    def _generator(self) -> ShowerModel:
        """The model on its device, compiled if that was asked for and can be done."""
        model = to_device(self._chosen(self.model), self.job.device)
        if not self.job.compile:
            return model
        try:
            model.compile(dynamic=False)
            self.sample(model, self.chunks.start)
        except Exception as error:  # compilers fail in many ways
            logger.warning("the model cannot be compiled and runs as it is (%s)", first_line(error))
            return self._chosen(bundle.load(self.job.run)).to(self.job.device)
        return model

    def _chosen(self, model: ShowerModel) -> ShowerModel:
        """The member of an ensemble that was asked for, or the model itself."""
        member = self.job.member
        if member is None:
            return model
        if not isinstance(model, EnsembleShowerModel):
            raise CalomanError(f"{self.job.run}: not an ensemble, so it has no member {member}; leave out --member")
        return model.member(member)


def to_device(model: Model, device: str) -> Model:
    """Moves a model to a device.

    Raises:
        CalomanError: if this machine has no such device.
    """
    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("it keeps no numbers")
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise CalomanError(f"--device {device}: cannot be used here ({first_line(error)})") from None


@lru_cache(maxsize=1)
def _open(job: Job, request: str) -> Generation:
    """A job on a worker, opened anew if its run or its energies have changed, and with them the request."""
    return Generation(job)


def fill(job: Job, request: str, chunks: Collection[int]) -> list[int]:
    """Generates the missing ones of some chunks into the folder of parts, which the owner of the job holds.

    Args:
        job: the arguments of `generate`.
        request: the request of the owner, as JSON.
        chunks: numbers of the chunks.

    Raises:
        CalomanError: if this machine would generate something else, such as with another version or other files.
    """
    generation = _open(job, request)
    generation.parts.check_request()
    finished = generation.parts.finished(chunks)
    return [*finished, *generation.fill(chunk for chunk in chunks if chunk not in finished)]
