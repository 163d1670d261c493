"""The judge: compares a file of generated showers with a file of reference showers and writes a report."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from caloman.errors import CalomanError
from caloman.evaluation import plots
from caloman.evaluation.classifier import Score, train_classifiers
from caloman.evaluation.histograms import Binning, challenge_binnings, compare
from caloman.evaluation.inputs import Inputs, high_level_inputs, low_level_inputs
from caloman.evaluation.metrics import Comparison, collect_metrics
from caloman.evaluation.networks import dense
from caloman.evaluation.presets import QUICK, ClassifierPreset
from caloman.evaluation.report import Report
from caloman.evaluation.samples import Sample, Summary, summarise
from caloman.showers import find_geometry
from caloman.slices import parse_slices

MIN_SHOWERS = 20


def evaluate(
    generated: str | Path,
    reference: str | Path,
    dataset: str | None = None,
    output: str | Path = "report",
    floor: str | Path | None = None,
    repeats: int = 5,
    seed: int = 0,
) -> Report:
    """Compares generated with reference showers and writes metrics.json, figures and index.html.

    Every number stands beside its floor: the same comparison of two sets of Geant4 showers. Each set is a file, some
    of its rows such as ``showers.hdf5[0:50000]``, or several of these joined by commas.

    Args:
        generated: HDF5 file with the generated showers.
        reference: HDF5 file with Geant4 showers that no model was trained on.
        dataset: dataset id (1-photons, 1-pions, 2, 3) or a binning .xml file; by default what `reference` names.
        output: folder of the report.
        floor: HDF5 file with Geant4 showers that are independent of the reference, such as the training file; without
            it the floor is measured between two halves of the reference.
        repeats: number of trainings of each classifier, every one with its own split and initialisation.
        seed: seed of the first training; the others count up from it.

    Raises:
        CalomanError: if a file is missing, damaged, too small or made for another dataset.
    """
    if repeats < 1:
        raise CalomanError(f"repeats is {repeats}: train each classifier at least once")
    geometry = find_geometry(parse_slices(reference)[0].path, dataset)
    samples = [_enough(Sample.open(path, geometry)) for path in (generated, reference, floor) if path]
    seeds = range(seed, seed + repeats)
    steps = 4 * repeats + (4 if floor else 5)
    with tqdm(total=steps, desc="evaluate", unit="step", disable=None) as bar:

        def advance(step: str) -> None:
            bar.set_postfix_str(step)
            bar.update()

        score, floor_score = _comparisons(samples, QUICK, seeds, advance)
        metrics = collect_metrics(score, floor_score, samples, QUICK, seeds)
        report = Report(metrics, plots.pictures(score), Path(output))
        report.save()
        advance("report written")
    return report


def _comparisons(
    samples: Sequence[Sample], preset: ClassifierPreset, seeds: Sequence[int], advance: Callable[[str], object]
) -> tuple[Comparison, Comparison]:
    """Makes the same comparison twice: generated with reference, and Geant4 with Geant4."""
    generated, reference, *floor = samples
    truth = summarise(reference)
    advance("reference read")
    binnings = challenge_binnings(truth, reference.geometry)

    def summary(sample: Sample) -> Summary:
        result = summarise(sample, truth.spectrum_edges)
        advance(f"{sample.name} read")
        return result

    score = compare_samples(summary(generated), truth, binnings, preset, seeds, advance)
    if floor:
        other, partner = summary(_enough(floor[0].matched_to(generated.incident_energies))), truth
    else:
        other, partner = map(summary, reference.halves())
    return score, compare_samples(other, partner, binnings, preset, seeds, advance)


def compare_samples(
    generated: Summary,
    reference: Summary,
    binnings: Sequence[Binning],
    preset: ClassifierPreset,
    seeds: Sequence[int],
    advance: Callable[[str], object],
) -> Comparison:
    """Fills the histograms and trains the classifiers.

    Args:
        generated: the showers to judge.
        reference: the showers to compare with.
        binnings: the histograms to fill.
        preset: settings of the classifiers.
        seeds: one for each training of a classifier.
        advance: called with the name of every step.
    """
    limit = preset.max_showers
    parts = [summary.sample if limit is None else summary.sample.first(limit) for summary in (generated, reference)]
    high = Inputs.of(*(high_level_inputs(summary.observables[:limit]) for summary in (generated, reference)))
    scores = []
    for name, inputs in (("low", low_level_inputs(parts)), ("high", high)):
        trainings = []
        for training in train_classifiers(inputs, preset, seeds, partial(dense, inputs.n_features, preset.hidden)):
            advance(f"classifier on {name}-level inputs")
            trainings.append(training)
        scores.append(Score(tuple(trainings), preset.recalibrated))
    histograms = compare(binnings, reference, generated)
    return Comparison(generated, reference, histograms, low=scores[0], high=scores[1])


def _enough(sample: Sample) -> Sample:
    if len(sample) < MIN_SHOWERS:
        raise CalomanError(
            f"{sample.files}: only {len(sample)} showers can be compared, at least {MIN_SHOWERS} are needed; "
            "use a larger file with the same incident energies"
        )
    return sample
