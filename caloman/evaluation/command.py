"""``caloman evaluate``: compares files of generated showers with a file of Geant4 showers and writes a report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from caloman.errors import CalomanError
from caloman.evaluation import learning, plots
from caloman.evaluation.bands import calibrate
from caloman.evaluation.binnings import Binning, challenge_binnings
from caloman.evaluation.closure import Files, closure_steps, closure_tests
from caloman.evaluation.comparison import Comparison
from caloman.evaluation.distortions import DISTORTIONS
from caloman.evaluation.equivalent import equivalents
from caloman.evaluation.judge import Judge
from caloman.evaluation.lineup import Lineup
from caloman.evaluation.metrics import Results, collect_metrics
from caloman.evaluation.modes import EQUIVALENT, MULTICLASS, POWER, READING, TREES, check_modes
from caloman.evaluation.power import measure_power
from caloman.evaluation.presets import OFFICIAL, QUICK
from caloman.evaluation.reading import read
from caloman.evaluation.reference_summary import ReferenceSummary, keep, recall
from caloman.evaluation.report import Report
from caloman.evaluation.schema import Power
from caloman.evaluation.summary import Summary, summarize
from caloman.progress import Progress

NEIGHBORS = 10_000  # most showers of each sample whose neighbors the quick preset looks for
NEIGHBOR_VOXELS, OFFICIAL_VOXELS = 2**27, 2**28
"""Most voxels of these, and of the official preset: 3 and 6 thousand showers of dataset 3, in 4 GB of memory."""


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
    if ensemble and len(lineup.generated) < 2:
        raise CalomanError("an ensemble needs two members or more: give one generated file for each")
    judge = _judge(lineup, modes, preset, repeats, seed)
    given = {"reconstruction": reconstruction and [reconstruction], "shapes": shapes and [shapes], "latents": latents}
    closure = {name: files for name, files in given.items() if files}
    summary = None if reference_summary is None else Path(reference_summary)
    kept = recall(summary, judge, lineup) if summary and summary.exists() else None
    with Progress("evaluate", _steps(judge, lineup, kept) + closure_steps(judge, closure), "step") as progress:
        judge = replace(judge, advance=progress.begin)
        results = _measured(judge, lineup, closure, ensemble, kept)
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


def _steps(judge: Judge, lineup: Lineup, kept: ReferenceSummary | None) -> int:
    """Number of steps of the evaluation, apart from closure tests."""
    sizes = [min(len(sample), len(lineup.reference)) for sample in lineup.generated.values()]
    each = 1 + judge.steps + (EQUIVALENT in judge.modes) + (READING in judge.modes)
    curves = sum(map(learning.trainings, sizes)) if TREES in judge.modes else 0
    once = 3 + (judge.steps + len(DISTORTIONS) * (POWER in judge.modes)) * (kept is None)
    return once + each * len(sizes) + len(judge.seeds) * (curves + (MULTICLASS in judge.modes))


def _measured(judge: Judge, lineup: Lineup, closure: Files, ensemble: bool, kept: ReferenceSummary | None) -> Results:
    judge.advance("reading the reference")
    truth = summarize(lineup.reference)
    binnings = challenge_binnings(truth, lineup.geometry)
    summaries = {}
    for name, sample in lineup.generated.items():
        judge.advance(f"reading {name}")
        summaries[name] = summarize(sample, truth.spectrum_edges)
    floor, power = _among_geant4(judge, lineup, truth, binnings, kept)
    comparisons = {
        name: _with_words(judge, name, judge.measure(summary, truth, binnings), floor)
        for name, summary in summaries.items()
    }
    first, *_ = comparisons.values()
    members = [[histogram.generated for histogram in c.histograms] for c in comparisons.values()]
    return Results(
        judge=judge,
        lineup=lineup,
        comparisons=comparisons,
        floor=floor,
        power=power,
        closure_tests=closure_tests(judge, closure, first),
        posteriors=judge.posteriors(list(summaries.values()), truth) if MULTICLASS in judge.modes else [],
        calibration=calibrate(members, [h.reference for h in first.histograms]) if ensemble else None,
    )


def _among_geant4(
    judge: Judge, lineup: Lineup, truth: Summary, binnings: Sequence[Binning], kept: ReferenceSummary | None
) -> tuple[Comparison, Power | None]:
    """The floor and the power of the judge."""
    judge.advance("reading the showers of the floor")
    one, other = (truth if s is lineup.reference else summarize(s, truth.spectrum_edges) for s in lineup.floor)
    if kept is not None:
        histograms = judge.histograms(one, other, binnings)
        return Comparison(one, other, histograms, kept["values"], kept["trainings"], {}), kept["power"]
    floor = judge.measure(one, other, binnings)
    return floor, measure_power(one.sample, other.sample, judge.advance) if POWER in judge.modes else None


def _with_words(judge: Judge, name: str, comparison: Comparison, floor: Comparison) -> Comparison:
    """Adds what is measured of generated showers only."""
    if TREES in judge.modes and learning.trainings(min(comparison.sizes)):
        comparison = replace(comparison, learning_curve=judge.learning_curve(comparison))
    if EQUIVALENT in judge.modes:
        judge.advance(f"equivalent number of {name}")
        found = equivalents(comparison.generated, floor.generated, floor.reference)
        comparison = replace(comparison, equivalent=found)
    if READING in judge.modes:
        judge.advance(f"reading what is wrong with {name}")
        comparison = replace(comparison, reading=read(comparison.reference, comparison.generated))
    return comparison
