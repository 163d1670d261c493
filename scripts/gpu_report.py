"""Trains, times and checks on the GPU of this machine, or in a small form on its CPU, in one command.

    scripts/gpu_report --output gpu_report                     # at most ten minutes
    scripts/gpu_report run parity --device cpu                 # some of the parts; parity and generate need run

    fit         showers per second of each stage of the pipelines, by batch and precision, and peak memory
    run         a short fit in float32 and in bfloat16: the losses of both, stage by stage
    parity      showers of the fitted generator on the CPU and on the device, from the same noise
    ranks       gradients of two processes on one device against those of one process
    generate    milliseconds per shower at batch 1, 100 and 10 000 beside the rivals (`caloman benchmark`)

Each part appears in OUTPUT/report.json as soon as it is finished. A part that fails says why, and the next one starts.
Parts are left out when the time is over. Showers are parametric (`caloman simulate`): speed does not depend on them.
"""

import argparse
import csv
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parameters_to_vector

import caloman
from caloman.data.simulation.simulate import simulate
from caloman.errors import CalomanError, first_line
from caloman.exporting.verify import compare, reference_inputs
from caloman.files import write
from caloman.showers.geometry import Geometry
from caloman.training.config import load_pipeline
from caloman.training.data import ShowerDataModule
from caloman.training.tasks import Task

PIPELINES = ("1-photons/caloman", "1-pions/caloman", "2/caloman", "3/caloman", "1-photons/caloinn")
BATCHES = {"1-photons": (256, 2048, 16_384), "1-pions": (256, 2048, 16_384), "2": (32, 128, 512), "3": (8, 32, 128)}
SHOWERS = {"1-photons": 2048, "1-pions": 2048, "2": 256, "3": 64}
SECONDS = 1.0
"""Time of a measured training loop [s]."""
LEAST_STEPS = 3
LEAST_SHOWERS = 40
PRECISIONS = ("32-true", "bf16-mixed")

Row = dict[str, Any]


class Report:
    """Rows of each part, in a file that grows.

    Args:
        output: folder of report.json.
        device: where to train.
        minutes: after which no part and no measurement starts.
        pipelines: names of those whose speed is measured.
    """

    def __init__(self, output: Path, device: torch.device, minutes: float, pipelines: Sequence[str]) -> None:
        self.path, self.device, self.pipelines = output / "report.json", device, pipelines
        self.small = device.type == "cpu"  # one small batch of each pipeline, and short fits
        self.end = time.monotonic() + 60 * minutes
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        machine = {"device": gpu or platform.processor() or platform.machine(), "cores": os.cpu_count()}
        versions = {"caloman": caloman.__version__, "torch": torch.__version__, "cuda": torch.version.cuda}
        self.content: dict[str, Any] = {"machine": {**machine, "threads": torch.get_num_threads(), **versions}}
        output.mkdir(parents=True, exist_ok=True)
        self.add("machine", self.content.pop("machine"))

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.end

    def add(self, part: str, row: Row) -> None:
        """Prints a row, and writes all rows so far."""
        self.content.setdefault(part, []).append(row)
        write(self.path, json.dumps(self.content, indent=1) + "\n")
        print(part, " ".join(f"{name}={_short(value)}" for name, value in row.items()), flush=True)

    def run(self, part: str, action: Callable[["Report"], None]) -> None:
        """Does one part; its failure is a row."""
        start = time.monotonic()
        if self.is_over:
            self.add(part, {"left out": "the time is over"})
            return
        try:
            action(self)
        except (CalomanError, RuntimeError, OSError) as error:
            self.add(part, {"failed": first_line(error)})
        self.add("seconds", {part: round(time.monotonic() - start, 1)})


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Loop:
    """The training of the stages without Lightning: what the device itself can do.

    Args:
        pipeline: name of the pipeline.
        showers: file to train on.
        device: where.
    """

    def __init__(self, pipeline: str, showers: Path, device: torch.device) -> None:
        loaded, _ = load_pipeline(pipeline, [f"--data.train=[{json.dumps(str(showers))}]"])
        geometry = Geometry.load(loaded.geometry)
        self.device = device
        self.data = ShowerDataModule(geometry, loaded.data, loaded.seed)
        self.model = loaded.model(geometry, self.data.conditions)
        self.model.prepare(voxels for voxels, _ in self.data.statistics_batches())
        self.stages = loaded.stages

    def start(self, stage: str) -> Task:
        """The task of a stage on the device, and its optimizer; parts that are not trained yet stay as they are."""
        self.model.cpu()
        self.task = self.stages[stage].task(self.model)
        self.task.fit_statistics(self.data.statistics_batches)
        self.task.to(self.device)
        self.optimizer = torch.optim.AdamW(self.task.parameter_groups(), 1e-4)
        return self.task

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """So many training showers on the device, the same ones again if there are fewer."""
        rows = torch.arange(size) % len(self.data.train)
        voxels, energies = self.data.train[: len(self.data.train)]
        return voxels[rows].to(self.device), energies[rows].to(self.device)

    def step(self, batch: tuple[Tensor, Tensor], precision: str) -> float:
        """One step of the optimizer; the loss."""
        bfloat16 = precision == "bf16-mixed"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            loss = self.task.losses_of(batch)["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def measure(self, size: int, precision: str) -> Row:
        """Showers per second and peak memory of a batch size."""
        batch = self.batch(size)
        self.step(batch, precision)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        steps, start = 0, time.perf_counter()
        while steps < LEAST_STEPS or time.perf_counter() - start < SECONDS:
            self.step(batch, precision)
            steps += 1
        seconds = time.perf_counter() - start
        memory = torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device.type == "cuda" else None
        return {"showers_per_s": steps * size / seconds, "peak_gb": memory}


def measure_fits(report: Report) -> None:
    """Throughput by pipeline, stage, batch and precision."""
    for pipeline in report.pipelines:
        dataset = pipeline.split("/")[0]
        batches = BATCHES[dataset][: 1 if report.small else None]
        with _simulated(dataset, max(SHOWERS[dataset] // (8 if report.small else 1), LEAST_SHOWERS)) as showers:
            loop = Loop(pipeline, showers, report.device)
            for stage in loop.stages:
                loop.start(stage)
                for size, precision in product(batches, PRECISIONS):
                    row: Row = {"pipeline": pipeline, "stage": stage, "batch": size, "precision": precision}
                    try:
                        report.add("fit", row | loop.measure(size, precision))
                    except torch.OutOfMemoryError:
                        report.add("fit", row | {"failed": "out of memory"})
                    if report.is_over:
                        return


def compare_precisions(report: Report) -> None:
    """The best validation loss of each stage in float32 and in bfloat16; the first run stays for the next parts."""
    epochs, n = (1, 500) if report.small else (12, 20_000)
    with _simulated("1-photons", n) as showers:
        for precision in PRECISIONS:
            run = report.path.parent / f"run-{precision}"
            start = time.monotonic()
            caloman.fit(
                "1-photons/caloman", output=run, overwrite=True, overrides=_options(report, showers, precision, epochs)
            )
            losses = {stage: _best_loss(run, stage) for stage in ("energy", "autoencoder", "latent", "residual")}
            report.add("run", {"precision": precision, "seconds": time.monotonic() - start, "losses": losses})


def check_parity(report: Report) -> None:
    """The same showers on the CPU and on the device; on a CPU, in float32 and in float64."""
    model = caloman.load(report.path.parent / f"run-{PRECISIONS[0]}")
    inputs = reference_inputs(model, 1000, seed=0)
    with torch.inference_mode():
        expected = model(*inputs).numpy()
        if report.device.type == "cuda":
            model.to(report.device)
            found = model(*(tensor.to(report.device) for tensor in inputs)).cpu().numpy()
        else:
            found = model.double()(*(tensor.double() for tensor in inputs)).numpy()
    report.add("parity", {"differences": str(compare(expected, found, model.geometry.voxel_layer))})


def check_ranks(report: Report) -> None:
    """Gradients of a batch that two processes share on one device, against those of one process."""
    with _simulated("1-photons", 256) as showers, TemporaryDirectory() as folder:
        results = Path(folder)
        multiprocessing.spawn(_rank, (str(report.device), showers, results), nprocs=2)
        shared, own = (torch.load(results / f"{name}.pt") for name in ("shared", "own"))
    difference = ((shared - own).norm() / own.norm()).item()
    report.add("ranks", {"backend": "gloo", "gradient_difference": difference, "parameters": own.numel()})


class _Loss(nn.Module):
    """The loss of a task as a module, which is what `DistributedDataParallel` takes."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module, self.losses = task.module, task.losses

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.losses(x, context)["loss"]


def _rank(rank: int, device: str, showers: Path, results: Path) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{results / 'meeting'}", rank=rank, world_size=2, timeout=timedelta(minutes=2)
    )
    torch.manual_seed(0)
    loop = Loop("1-photons/caloman", showers, torch.device(device))
    task = loop.start("energy").eval()  # without the noise of the training, which two processes draw otherwise
    with torch.no_grad():
        x, context = task.inputs(loop.batch(128))
    loss = _Loss(task)
    if rank == 0:
        loss(x, context).backward()
        torch.save(_gradients(loss), results / "own.pt")
        loss.zero_grad()
    _share_gradients(loss, x[rank::2], context[rank::2])
    if rank == 0:
        torch.save(_gradients(loss), results / "shared.pt")
    distributed.destroy_process_group()


def _share_gradients(loss: nn.Module, x: Tensor, context: Tensor) -> None:
    # nothing of it may be left when the process group goes: as the last to hold that, it can wait forever
    parallel = DistributedDataParallel(loss)
    parallel(x, context).backward()


def _gradients(module: nn.Module) -> Tensor:
    return parameters_to_vector(p.grad for p in module.parameters() if p.grad is not None).cpu()


def measure_generation(report: Report) -> None:
    """The table of `caloman benchmark` for the fitted generator."""
    runs, batches = (2, (1, 100)) if report.small else (5, (1, 100, 10_000))
    run = report.path.parent / f"run-{PRECISIONS[0]}"
    table = caloman.benchmark(run, output=report.path.parent, runs=runs, batches=batches, engines=("eager",))
    for row in table.content["timings"]:
        report.add("generate", row)


@contextmanager
def _simulated(dataset: str, n: int) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "showers.hdf5"
        simulate(path, dataset, n, "log-uniform:1GeV:100GeV")
        yield path


def _options(report: Report, showers: Path, precision: str, epochs: int) -> list[str]:
    """A short fit on one device; the learning rates fall over its length. Small batches would leave a GPU waiting."""
    batch = 128 if report.small else 1024
    accelerator = "gpu" if report.device.type == "cuda" else "cpu"
    stages = ("energy", "autoencoder", "latent", "residual")
    return [
        f"--data.train=[{json.dumps(str(showers))}]",
        f"--hardware.accelerator={accelerator}",
        "--hardware.devices=1",
        f"--hardware.precision={precision}",
        *chain.from_iterable(
            (f"--stages.{stage}.trainer.max_epochs={epochs}", f"--stages.{stage}.trainer.batch_size={batch}")
            for stage in stages
        ),
    ]


def _best_loss(run: Path, stage: str) -> float:
    with (run / "stages" / stage / "metrics.csv").open() as file:
        return min(float(row["validation_loss"]) for row in csv.DictReader(file) if row["validation_loss"])


PARTS = {
    "fit": measure_fits,
    "run": compare_precisions,
    "parity": check_parity,
    "ranks": check_ranks,
    "generate": measure_generation,
}


def main() -> None:
    """Runs the parts that are wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all by default")
    parser.add_argument("--output", type=Path, default=Path("gpu_report"), help="folder of report.json")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--pipelines", nargs="+", default=PIPELINES, help="of the part fit; default %(default)s")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which nothing new starts")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; use some of {', '.join(PARTS)}")
    device = torch.device(options.device)
    report = Report(options.output, device, options.minutes, options.pipelines)
    for part in options.parts or PARTS:
        report.run(part, PARTS[part])


if __name__ == "__main__":
    main()
