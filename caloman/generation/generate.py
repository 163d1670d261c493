"""Showers on demand: generation chunk by chunk, resumable and shared out, into one file."""

import logging
import sys
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from caloman import __version__, bundle
from caloman.errors import CalomanError
from caloman.generation.closure import generate_shapes
from caloman.generation.cluster import run_on_cluster
from caloman.generation.parts import Parts
from caloman.generation.shards import count_showers, shard_chunks
from caloman.models import EnsembleShowerModel, ShowerModel
from caloman.showers.showers import CHUNK, Compression, Showers
from caloman.showers.spectra import read_request

logger = logging.getLogger(__name__)

Precision = Literal["32", "bf16-mixed", "16-mixed"]
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
    layer_energies: str | None = None,
    member: int | None = None,
) -> str:
    """Generates showers into a CaloChallenge file.

    The same run, seed and energies give the same showers, also in shards. The file appears when it is complete; after
    an interruption the same command goes on where it stopped.

    Args:
        run: run folder of `caloman fit`, or a bundle.
        output: HDF5 file to write.
        energies: incident energies: a list (1GeV,10GeV), a spectrum (uniform:1GeV:10GeV, log-uniform:1GeV:1TeV,
            discrete:1GeV=3,10GeV=1 with weights, histogram:FILE with lines of LOW HIGH WEIGHT), or HDF5 files with
            incident_energies, whole or some rows such as file.hdf5[0:1000]; MeV if no unit is given.
        n: number of showers; may be left out for a list or a file, which are then used once.
        seed: of energies and noise.
        device: torch device to run on, such as cuda.
        precision: of matrix products; splines are always computed with 32 bits.
        compile: compile the model first, which takes a minute and pays off for many showers.
        compression: of the file.
        shard: generate only this part of the showers, such as 3/16, counted from 0; `caloman merge` joins all of them.
        extrapolate: insist on energies outside the trained range; the file says so.
        dask: address of a Dask scheduler, such as tcp://host:8786; its workers see the same files.
        layer_energies: HDF5 file with showers whose incident and layer energies are used, with generated shapes.
        member: of an ensemble, to generate with this one only; all by default.

    Returns:
        A sentence that says what was written.

    Raises:
        CalomanError: if the run has no bundle, the energies cannot be read or lie outside the trained range, or the
            file cannot be written.
    """
    if layer_energies is not None:
        if energies is not None or n is not None or shard != "0/1" or dask is not None:
            raise CalomanError(
                "--layer-energies FILE brings energies and number; leave out --energies, --n, --shard and --dask"
            )
        return generate_shapes(run, layer_energies, output, seed, device)
    job = Job(
        run=str(Path(run).absolute()),
        output=str(Path(output).absolute()),
        energies=energies,
        n=n,
        seed=seed,
        device=device,
        precision=precision,
        compile=compile,
        compression=compression,
        shard=shard,
        extrapolate=extrapolate,
        member=member,
    )
    generation = Generation(job)
    parts, chunks, n_showers = generation.parts, generation.chunks, generation.n_showers
    with parts.locked():
        finished = parts.finished(chunks)
        if finished:
            logger.info("%s: %d of %d chunks are finished; going on", output, len(finished), len(chunks))
        missing = [chunk for chunk in chunks if chunk not in finished]
        written = run_on_cluster(dask, partial(fill, job), missing, device) if dask else generation.fill(missing)
        with tqdm(
            total=n_showers(chunks), initial=n_showers(finished), unit="shower", desc="generate",
            disable=not sys.stderr.isatty(),
        ) as bar:  # fmt: skip
            for chunk in written:
                bar.update(n_showers([chunk]))
        parts.join(chunks)
    return f"{n_showers(chunks)} showers written to {output}"


@dataclass(frozen=True)
class Job:
    """What `generate` was asked for; see there."""

    run: str
    output: str
    energies: str | None
    n: int | None
    seed: int
    device: str
    precision: Precision
    compile: bool
    compression: Compression
    shard: str
    extrapolate: bool
    member: int | None


class Generation:
    """A job with its model, its spectrum and its parts.

    Args:
        job: what was asked for.

    Raises:
        CalomanError: if it cannot be done.
    """

    def __init__(self, job: Job) -> None:
        if job.seed < 0:
            raise CalomanError(f"--seed {job.seed}: must not be negative")
        self.job = job
        self.spectrum, self.total = read_request(job.energies, job.n)
        self.chunks = shard_chunks(job.shard, self.total)
        self.model = bundle.load(job.run)
        self._chosen(self.model)
        if not job.extrapolate:
            self.model.check_energies(self.spectrum.bounds)
        request: dict[str, str | int | float] = {
            "generator": "caloman",
            "caloman": __version__,
            "model": bundle.fingerprint(job.run),
            "trained_on": " ".join(file["sha256"] for file in bundle.read_training(job.run).get("files", [])),
            "energies": str(self.spectrum),
            "n": self.total,
            "seed": job.seed,
            "chunk": CHUNK,
            "shard": job.shard,
            "extrapolated": not bool(self.model.covers(self.spectrum.bounds).all()),
            "device": job.device.split(":")[0],
            "precision": job.precision,
            "compile": job.compile,
            "compression": job.compression,
            **({} if job.member is None else {"member": job.member}),
        }
        self.parts = Parts(Path(job.output), self.model.geometry, request, job.compression)

    def n_showers(self, chunks: Iterable[int]) -> int:
        """Number of showers in some chunks."""
        return count_showers(chunks, self.total)

    def fill(self, chunks: Iterable[int]) -> Iterator[int]:
        """Generates chunks, each written while the next one is computed, and yields them as they are written."""
        with ThreadPoolExecutor(1) as writer:
            written: Future[int] | None = None
            for chunk in chunks:
                showers = self.sample(chunk)
                if written:
                    yield written.result()
                written = writer.submit(self._write, chunk, showers)
            if written:
                yield written.result()

    def _write(self, chunk: int, showers: Showers) -> int:
        self.parts.add(chunk, showers)
        return chunk

    def sample(self, chunk: int) -> Showers:
        """Generates the showers of a chunk."""
        return self._sample(self._generator, chunk)

    def _sample(self, model: ShowerModel, chunk: int) -> Showers:
        rows = self.n_showers([chunk])
        # compiled code is made for one size
        energies = self.spectrum.chunk(self.job.seed, chunk, CHUNK if self.job.compile else rows)
        dtype = AUTOCAST.get(self.job.precision)
        with torch.autocast(torch.device(self.job.device).type, dtype, enabled=dtype is not None):
            return model.sample_chunk(energies, self.job.seed, chunk)[:rows]

    @cached_property
    def _generator(self) -> ShowerModel:
        """The model on its device, compiled if that was asked for and can be done."""
        try:
            model = self._chosen(self.model).to(self.job.device)
        except (RuntimeError, AssertionError) as error:
            raise CalomanError(f"--device {self.job.device}: cannot be used here ({_first_line(error)})") from None
        if not self.job.compile:
            return model
        try:
            model.compile(dynamic=False)
            self._sample(model, self.chunks.start)
        except Exception as error:  # compilers fail in many ways
            logger.warning("the model cannot be compiled and runs as it is (%s)", _first_line(error))
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


@lru_cache(maxsize=1)
def _open(job: Job) -> Generation:
    return Generation(job)


def fill(job: Job, chunks: Collection[int]) -> list[int]:
    """Generates those chunks of a job that are not finished, into the folder of parts that the job's owner holds.

    Raises:
        CalomanError: if this machine would generate something else, such as with another version or other files.
    """
    generation = _open(job)
    generation.parts.check_request()
    finished = generation.parts.finished(chunks)
    return [*finished, *generation.fill(chunk for chunk in chunks if chunk not in finished)]


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:200]
