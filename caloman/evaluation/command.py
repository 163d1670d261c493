"""``caloman evaluate``: compares files of generated showers with a file of Geant4 showers and writes a report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from caloman.errors import CalomanError
from caloman.evaluation import learning, plots
from caloman.evaluation.bands import calibrate
from caloman.evaluation.closure import ClosureFiles
from caloman.evaluation.distortions import DISTORTIONS
from caloman.evaluation.equivalent import equivalents
from caloman.evaluation.histograms import Binning, challenge_binnings
from caloman.evaluation.judge import EQUIVALENT, MULTICLASS, POWER, READING, TREES, Judge
from caloman.evaluation.lineup import Lineup
from caloman.evaluation.metrics import collect_metrics
from caloman.evaluation.power import Power, measure_power
from caloman.evaluation.presets import OFFICIAL, QUICK
from caloman.evaluation.reading import read
from caloman.evaluation.reference_summary import ReferenceSummary, keep, recall
from caloman.evaluation.report import Report
from caloman.evaluation.requirements import check_modes
from caloman.evaluation.results import Comparison, Results
from caloman.evaluation.samples import Summary, summarize
from caloman.progress import Progress

NEIGHBORS = 10_000
"""Most showers of each sample whose neighbors the quick preset looks for."""
NEIGHBOR_VOXELS, OFFICIAL_VOXELS = 2**27, 2**28
"""Most voxels of these, and of the official preset: 3 and 6 thousand showers of dataset 3, in 4 GB of memory."""

Found = TypeVar("Found")


def evaluate(
    generated: str | Path | Sequence[str | Path],
    reference: str | Path,
    dataset: str | None = None,
    output: str | Path = "report",
    floor: str | Path | None = None,
    modes: Sequence[str] | None = None,
    preset: str = "quick",
    repeats: int | None = None,
    seed: int = 0,
    reconstruction: str | Path | None = None,
    shapes: str | Path | None = None,
    latents: Sequence[str | Path] | None = None,
    ensemble: bool = False,
    reference_summary: str | Path | None = None,
) -> Report:
    """Compares generated with reference showers and writes metrics.json, figures and index.html.

    Every number stands beside its floor: the same comparison of two sets of Geant4 showers, scaled to the number of
    showers. A sample is a file, some of its rows such as ``showers.hdf5[0:50000]``, or several of these joined by
    commas.

    Args:
        generated: HDF5 file with the generated showers, or several, which stand side by side; ``NAME=FILE`` names one.
        reference: HDF5 file with Geant4 showers that no model was trained on.
        dataset: dataset id (1-photons, 1-pions, 2, 3) or a binning .xml file; by default what `reference` names.
        output: folder of the report.
        floor: HDF5 file with Geant4 showers that are independent of the reference, such as the training file; without
            it the floor is measured between two halves of the reference.
        modes: what to measure, of hist, cls-low, cls-low-normed, cls-high, cls-trees, cls-resnet, cls-multi, fpd, kpd,
            prdc, tests, equivalent, power, reading and downstream; by default all but cls-low-normed, cls-resnet and
            downstream.
        preset: quick takes minutes on two cores; official is the protocol of the CaloChallenge.
        repeats: number of trainings of each classifier, every one with its own split and initialization; by default
            5 (quick) or 10 (official).
        seed: seed of the first training; the others count up from it.
        reconstruction: closure test of a two-stage model: `caloman reconstruct` of the reference.
        shapes: closure test: `caloman reconstruct --part shapes` of the reference.
        latents: closure test: two files, `caloman encode` of the reference with and without --sampled.
        ensemble: the generated files come from the members of one ensemble: histograms show their spread, and the
            report says how often Geant4 lies within it.
        reference_summary: file that keeps what Geant4 showers say among themselves, the floor and the power of the
            judge, for the next evaluation with the same reference, floor and settings: it is written if it is missing.

    Raises:
        CalomanError: if a file is missing, damaged, too small or made for another dataset, the reference was generated
            by caloman, or the summary belongs to another evaluation.
    """
    lineup = Lineup.open(generated, reference, dataset, floor)
    closure = ClosureFiles(reconstruction, shapes, latents)
    if ensemble and len(lineup.generated) < 2:
        raise CalomanError("an ensemble needs two members or more: give one generated file for each")
    judge = _judge(lineup, modes, preset, repeats, seed)
    summary = None if reference_summary is None else Path(reference_summary)
    kept = recall(summary, judge, lineup) if summary and summary.exists() else None
    with Progress("evaluate", _steps(judge, lineup, kept) + closure.steps(judge), "step") as progress:
        results = _results(replace(judge, advance=progress.begin), lineup, closure, ensemble, kept)
        if summary and kept is None:
            keep(summary, judge, lineup, results.floor, results.power)
        progress.begin("figures")
        report = Report(collect_metrics(results), plots.pictures(results), Path(output))
    report.save()
    return report


def _judge(lineup: Lineup, modes: Sequence[str] | None, preset: str, repeats: int | None, seed: int) -> Judge:
    repeats = (QUICK if preset == "quick" else OFFICIAL).repeats if repeats is None else repeats
    if repeats < 1:
        raise CalomanError(f"repeats is {repeats}: train each classifier at least once")
    voxels = lineup.geometry.n_voxels
    most = min(NEIGHBORS, NEIGHBOR_VOXELS // voxels) if preset == "quick" else OFFICIAL_VOXELS // voxels
    chosen = check_modes(modes, len(lineup.generated), lineup.smallest)
    return Judge(preset, chosen, range(seed, seed + repeats), min(lineup.smallest, most))


def _results(
    judge: Judge, lineup: Lineup, closure: ClosureFiles, ensemble: bool, kept: ReferenceSummary | None
) -> Results:
    judge.advance("reading the reference")
    truth = summarize(lineup.reference)
    binnings = challenge_binnings(truth, lineup.geometry)
    comparisons = {}
    for name, sample in lineup.generated.items():
        judge.advance(f"reading {name}")
        comparisons[name] = judge.measure(summarize(sample, truth.spectrum_edges), truth, binnings)
    floor, power = _among_geant4(judge, lineup, truth, binnings, kept)
    one, other = floor.generated, floor.reference
    first, generated = next(iter(comparisons.values())), [c.generated for c in comparisons.values()]
    members = [[histogram.generated for histogram in c.histograms] for c in comparisons.values()]
    return Results(
        preset=judge.preset_of(first.generated, truth),
        modes=judge.modes,
        seeds=judge.seeds,
        neighbors=judge.neighbors,
        comparisons=comparisons,
        floor=floor,
        independent_floor=lineup.independent_floor,
        learning_curves={name: judge.learning_curve(c) for name, c in comparisons.items() if _learns(judge, c)},
        equivalents=_of_each(
            judge, comparisons, EQUIVALENT, "equivalent number of", lambda c: equivalents(c.generated, one, other)
        ),
        power=power,
        closure_tests=closure.measure(judge, truth, first),
        readings=_of_each(
            judge, comparisons, READING, "reading what is wrong with", lambda c: read(c.reference, c.generated)
        ),
        posteriors=judge.posteriors(generated, truth) if MULTICLASS in judge.modes else [],
        calibration=calibrate(members, [h.reference for h in first.histograms]) if ensemble else None,
    )


def _among_geant4(
    judge: Judge, lineup: Lineup, truth: Summary, binnings: Sequence[Binning], kept: ReferenceSummary | None
) -> tuple[Comparison, Power | None]:
    """The floor and the power of the judge."""
    judge.advance("reading the showers of the floor")
    one, other = (truth if s is lineup.reference else summarize(s, truth.spectrum_edges) for s in lineup.floor)
    if kept is not None:
        return Comparison(one, other, judge.histograms(one, other, binnings), kept.classifiers, kept.values), kept.power
    floor = judge.measure(one, other, binnings)
    return floor, measure_power(one.sample, other.sample, judge.advance) if POWER in judge.modes else None


def _of_each(
    judge: Judge, comparisons: Mapping[str, Comparison], mode: str, step: str, measure: Callable[[Comparison], Found]
) -> dict[str, Found]:
    """What a mode measures of each sample, by its name; nothing if the mode was not asked for."""
    found = {}
    for name, comparison in comparisons.items() if mode in judge.modes else ():
        judge.advance(f"{step} {name}")
        found[name] = measure(comparison)
    return found


def _steps(judge: Judge, lineup: Lineup, kept: ReferenceSummary | None) -> int:
    """Number of steps of the evaluation, apart from closure tests."""
    sizes = [min(len(sample), len(lineup.reference)) for sample in lineup.generated.values()]
    each = 1 + judge.steps + (EQUIVALENT in judge.modes) + (READING in judge.modes)
    curves = sum(map(learning.trainings, sizes)) if TREES in judge.modes else 0
    once = 3 + (judge.steps + len(DISTORTIONS) * (POWER in judge.modes)) * (kept is None)
    return once + each * len(sizes) + len(judge.seeds) * (curves + (MULTICLASS in judge.modes))


def _learns(judge: Judge, comparison: Comparison) -> bool:
    return TREES in judge.modes and learning.trainings(min(comparison.sizes)) > 0
