"""The judge: compares files of generated showers with a file of reference showers and writes a report."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from caloman.errors import CalomanError
from caloman.evaluation import plots
from caloman.evaluation.bands import Calibration, calibrate
from caloman.evaluation.gates import GateFiles
from caloman.evaluation.histograms import challenge_binnings
from caloman.evaluation.judge import MULTICLASS, Comparison, Judge, Results, check_modes
from caloman.evaluation.metrics import collect_metrics
from caloman.evaluation.presets import OFFICIAL, QUICK
from caloman.evaluation.report import Report
from caloman.evaluation.samples import Sample, summarize
from caloman.showers.geometry import Geometry
from caloman.showers.showers import find_geometry
from caloman.showers.slices import parse_slices

MIN_SHOWERS = 20


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
    times: Sequence[float] | None = None,
    ensemble: bool = False,
) -> Report:
    """Compares generated with reference showers and writes metrics.json, figures and index.html.

    Every number stands beside its floor: the same comparison of two sets of Geant4 showers. Each set is a file, some
    of its rows such as ``showers.hdf5[0:50000]``, or several of these joined by commas.

    Args:
        generated: HDF5 file with the generated showers, or several, which stand side by side; ``NAME=FILE`` names one.
        reference: HDF5 file with Geant4 showers that no model was trained on.
        dataset: dataset id (1-photons, 1-pions, 2, 3) or a binning .xml file; by default what `reference` names.
        output: folder of the report.
        floor: HDF5 file with Geant4 showers that are independent of the reference, such as the training file; without
            it the floor is measured between two halves of the reference.
        modes: what to measure, of hist, cls-low, cls-low-normed, cls-high, cls-resnet, cls-multi, fpd, kpd, prdc and
            tests; by default all but cls-low-normed and cls-resnet.
        preset: quick takes minutes on two cores; official is the protocol of the CaloChallenge.
        repeats: number of trainings of each classifier, every one with its own split and initialization; by default
            5 (quick) or 10 (official).
        seed: seed of the first training; the others count up from it.
        reconstruction: gate of a two-stage model: `caloman reconstruct` of the reference.
        shapes: gate: `caloman reconstruct --part shapes` of the reference.
        latents: gate: two files, `caloman encode` of the reference with and without --sampled.
        times: generation time of each sample [ms per shower], for the figure of quality against speed.
        ensemble: the generated files come from the members of one ensemble: histograms show their spread, and the
            report says how often Geant4 lies within it.

    Raises:
        CalomanError: if a file is missing, damaged, too small or made for another dataset.
    """
    geometry = find_geometry(parse_slices(reference)[0].path, dataset)
    samples = {name: _open(path, geometry) for name, path in _named(generated).items()}
    target, independent = _open(reference, geometry), _open(floor, geometry) if floor else None
    gate_files = GateFiles(reconstruction, shapes, latents)
    if times is not None and len(times) != len(samples):
        raise CalomanError(f"times has {len(times)} numbers for {len(samples)} samples: give one for each")
    if ensemble and len(samples) < 2:
        raise CalomanError("an ensemble needs two members or more: give one generated file for each")
    usual = QUICK.repeats if preset == "quick" else OFFICIAL.repeats
    repeats = usual if repeats is None else repeats
    if repeats < 1:
        raise CalomanError(f"repeats is {repeats}: train each classifier at least once")
    with tqdm(desc="evaluate", unit="step", disable=None) as bar:

        def advance(step: str) -> None:
            bar.set_postfix_str(step)
            bar.update()

        judge = Judge(preset, check_modes(modes, len(samples)), range(seed, seed + repeats), advance)
        bar.total = judge.steps * (len(samples) + 1) + gate_files.steps(judge)
        bar.total += repeats if MULTICLASS in judge.modes else 0
        results = _results(judge, samples, target, independent, gate_files, ensemble)
    report = Report(collect_metrics(results), plots.pictures(results, times or ()), Path(output))
    report.save()
    return report


def _results(
    judge: Judge,
    samples: dict[str, Sample],
    reference: Sample,
    floor: Sample | None,
    gate_files: GateFiles,
    ensemble: bool,
) -> Results:
    truth = summarize(reference)
    binnings = challenge_binnings(truth, reference.geometry)
    generated = {name: summarize(sample, truth.spectrum_edges) for name, sample in samples.items()}
    scores = {name: judge.compare(summary, truth, binnings) for name, summary in generated.items()}
    first = next(iter(generated.values()))
    if floor is None:
        one, other = (summarize(half, truth.spectrum_edges) for half in reference.halves())
    else:
        matched = _enough(floor.matched_to(first.sample.incident_energies))
        one, other = summarize(matched, truth.spectrum_edges), truth
    return Results(
        preset=judge.preset_of(first, truth),
        modes=judge.modes,
        seeds=judge.seeds,
        scores=scores,
        floor=judge.compare(one, other, binnings),
        independent_floor=floor is not None,
        gates=gate_files.measure(judge, truth, next(iter(scores.values()))),
        posterior=judge.posterior(list(generated.values()), truth) if MULTICLASS in judge.modes else None,
        calibration=_calibration(list(scores.values())) if ensemble else None,
    )


def _calibration(members: Sequence[Comparison]) -> Calibration:
    """Whether Geant4 lies within the spread of the members as often as it should."""
    return calibrate(
        [[histogram.generated for histogram in member.histograms] for member in members],
        [histogram.reference for histogram in members[0].histograms],
    )


def _named(generated: str | Path | Sequence[str | Path]) -> dict[str, str]:
    """The samples by name: what is given as NAME=FILE, or the name of the file."""
    named: dict[str, str] = {}
    for item in map(str, [generated] if isinstance(generated, str | Path) else generated):
        name, equals, path = item.partition("=")
        if not equals or "/" in name:
            name, path = Path(parse_slices(item)[0].path).stem, item
        if name in named:
            raise CalomanError(f"two samples are called {name!r}: give NAME=FILE to tell them apart")
        named[name] = path
    return named


def _open(path: str | Path, geometry: Geometry) -> Sample:
    return _enough(Sample.open(path, geometry))


def _enough(sample: Sample) -> Sample:
    if len(sample) < MIN_SHOWERS:
        raise CalomanError(
            f"{sample.files}: only {len(sample)} showers can be compared, at least {MIN_SHOWERS} are needed; "
            "use a larger file with the same incident energies"
        )
    return sample
