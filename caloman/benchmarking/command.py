"""``caloman benchmark``: the time of a generator by the challenge's protocol, beside that of the published ones."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from caloman import __version__, bundle, files
from caloman.benchmarking.engines import ENGINES, USUAL, Generate, read_export
from caloman.benchmarking.report import SCHEMA, Benchmark
from caloman.benchmarking.timing import conditions_at, measure, shares, stream_weights
from caloman.errors import CalomanError, first_line
from caloman.evaluation.leaderboard import entries
from caloman.exporting.timing import threads as on_threads
from caloman.models import ShowerModel
from caloman.progress import Progress
from caloman.showers.conditions import Conditions
from caloman.showers.geometry import BUILT_IN
from caloman.specification import read_layers

PHOTONS = BUILT_IN["1-photons"]
RIVALS = {"CaloINN": "1-photons/caloinn", "CaloFlow student": "1-photons/caloflow_student"}
"""Name in the leaderboard -> pipeline of the package."""


def build_rival(name: str) -> ShowerModel:
    """One of the `RIVALS`: 18.8 M (CaloINN) or 56.55 M parameters (CaloFlow's student)."""
    conditions = Conditions.energies(256.0, 4_194_304.0)
    return bundle.build_model(read_layers(RIVALS[name])["model"], PHOTONS, conditions, Path(RIVALS[name])).eval()


PACKAGES = ("torch", "numpy", "onnxruntime")
LARGEST = {"threads": 1024, "runs": 10**4, "showers": 10**9, "batches": 10**6}


def benchmark(
    run: str | Path,
    exports: Sequence[str | Path] = (),
    output: str | Path = "benchmark",
    threads: int = 1,
    runs: int = 10,
    showers: int | None = None,
    batches: Sequence[int] = (1, 100, 10_000),
    engines: Sequence[str] = USUAL,
) -> Benchmark:
    """Measures the time per shower as the CaloChallenge did, and writes it to benchmark.json.

    For photons it also measures the architectures of CaloINN and of CaloFlow's student: times of different machines
    compare by their ratios only.

    Args:
        run: run folder of `caloman fit`, a bundle, or a name of `caloman models`.
        exports: further ONNX files of the run, made with `caloman export`.
        output: folder of benchmark.json.
        threads: number of CPU threads.
        runs: number of complete runs.
        showers: showers in each run, in whole batches; by default about a second of them.
        batches: showers per call.
        engines: ways to run the generators: eager, compiled, ONNX; for this run also float32 and int8, which are ONNX
            with such weights.

    Raises:
        CalomanError: if the run or an export cannot be used, a number is out of range, or the folder cannot be written.
    """
    _check(threads, runs, showers, batches, engines)
    model = bundle.load(run)
    with on_threads(threads):
        given = {Path(path).name: read_export(Path(path), model) for path in exports}
        with files.appearing(Path(output) / "benchmark.json") as partial:
            result = _measure_all(Session(runs, showers, sorted(batches), engines), model, given)
            partial.write_text(json.dumps(result.content, indent=1) + "\n")
    return result


class Session:
    """Measurements with the same settings.

    Args:
        runs: number of complete runs.
        showers: showers in each; None for as many as take about a second.
        batches: showers per call.
        engines: names of the engines.
    """

    progress: Progress

    def __init__(self, runs: int, showers: int | None, batches: Sequence[int], engines: Sequence[str]) -> None:
        self.runs, self.showers, self.batches, self.engines = runs, showers, batches, engines
        self.devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def add(self, name: str, model: ShowerModel, engines: Sequence[str]) -> None:
        """Measures a generator with some engines on all devices."""
        for device in self.devices:
            model.to(device)
            for engine in engines:
                try:
                    self.add_engine(name, model, engine, ENGINES[engine](model))
                except (CalomanError, RuntimeError) as error:  # RuntimeError: compilers, and memory of devices
                    self.notes.append(f"{name}, {engine}, {device}: left out, {first_line(error)}")
                torch.compiler.reset()
        model.cpu()

    def add_engine(self, name: str, model: ShowerModel, engine: str, generate: Generate) -> None:
        device = model.device.type
        n_parameters = sum(parameter.numel() for parameter in model.parameters())
        what = {"generator": name, "parameters": n_parameters, "engine": engine, "device": device}
        for batch in self.batches:
            self.progress.begin(f"{name}, {engine}, {device}, batch {batch}")
            timing = measure(generate, model, conditions_at(model, batch), self.runs, self.showers)
            self.rows.append({**what, **asdict(timing)})


def _measure_all(session: Session, model: ShowerModel, exports: dict[str, Generate]) -> Benchmark:
    loads, dataset = [os.getloadavg()[0]], model.geometry.name
    rivals = list(RIVALS) if dataset == PHOTONS.name else []
    usual = [engine for engine in session.engines if engine in USUAL]
    n_engines = len(exports) + len(session.devices) * (len(session.engines) + len(rivals) * len(usual))
    with Progress("benchmark", n_engines * len(session.batches) + 1, "timing") as session.progress:
        for name, generate in exports.items():
            session.add_engine("this run", model, name, generate)
        session.add("this run", model, session.engines)
        session.progress.begin("parts of this run")
        inside = _look_inside(session, model)
        for name in rivals:  # one at a time, for they are large
            session.add(name, build_rival(name), usual)
    if not rivals:
        session.notes.append(f"CaloINN and CaloFlow's student are measured for {PHOTONS.name} only")
    loads.append(os.getloadavg()[0])
    published = {entry.name: {key: list(value) for key, value in entry.time_ms.items()} for entry in entries(dataset)}
    content = {
        "schema": SCHEMA,
        "caloman": __version__,
        "dataset": dataset,
        "versions": {"python": platform.python_version(), **_versions()},
        "hardware": {
            "cpu": _cpu(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "load": loads,
        },
        "runs": session.runs,
        "timings": session.rows,
        **inside,
        "published": {name: times for name, times in published.items() if times},
        "notes": session.notes,
    }
    return Benchmark(content)


def _look_inside(session: Session, model: ShowerModel) -> dict[str, Any]:
    """What the time depends on: energy, parts of the model, and weights; all in eager mode on the CPU."""
    batch = session.batches[len(session.batches) // 2]
    energies = {place: conditions_at(model, batch, place) for place in (0.0, 0.5, 1.0)}
    generate = ENGINES["eager"](model)
    times = [measure(generate, model, at, session.runs, session.showers).mean for at in energies.values()]
    milliseconds, gigabytes = stream_weights(model, session.runs)
    return {
        "energies": {"batch": batch, "mev": [float(at[0, 0]) for at in energies.values()], "ms": times},
        "shares": {str(n): shares(model, conditions_at(model, n), session.runs) for n in session.batches[:2]},
        "weights": {"ms": milliseconds, "gb": gigabytes},
    }


def _check(threads: int, runs: int, showers: int | None, batches: Sequence[int], engines: Sequence[str]) -> None:
    numbers = {"threads": [threads], "runs": [runs], "showers": [showers or 1], "batches": batches}
    for name, values in numbers.items():
        if not values or not 1 <= min(values) <= max(values) <= LARGEST[name]:
            raise CalomanError(f"--{name} {' '.join(map(str, values))}: must be positive, at most {LARGEST[name]}")
    unknown = [engine for engine in engines if engine not in ENGINES]
    if unknown:
        raise CalomanError(f"--engines {unknown[0]}: unknown; use some of {', '.join(ENGINES)}")


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
