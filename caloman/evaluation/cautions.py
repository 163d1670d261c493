"""What a reader must know before believing the numbers of a comparison."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, ks_2samp

from caloman.evaluation.binnings import RESPONSE, RESPONSE_AT_ENERGY
from caloman.evaluation.comparison import Comparison, Floor
from caloman.evaluation.histograms import Histogram
from caloman.evaluation.samples import Sample, common_conditions, distinct_values
from caloman.showers.conditions import ENERGY, known

SMALL_SAMPLE = 5000
P_VALUE = 1e-3
OUTSIDE = 0.01
MOST = 0.2
RESPONSES = (RESPONSE, RESPONSE_AT_ENERGY)
"""Histograms with more than `MOST` of the showers of both samples outside the bins are named, too."""
SIGMAS = 4.0
SIZE_SHARE = 0.2

Values = NDArray[np.float32]


def cautions(comparison: Comparison, floor: Comparison, independent_floor: bool) -> Iterator[str]:
    """Yields one sentence for each circumstance that limits or distorts the comparison."""
    generated, reference = comparison.generated.sample, comparison.reference.sample
    yield from _files(generated, reference, floor.generated.sample if independent_floor else None)
    # a classifier that learned a shower with one label meets it again with the other
    if any(area < 0.5 - SIGMAS * error for area, error in (test.auc for test in comparison.classifiers.values())):
        yield "An AUC is far below 0.5, as happens when both files hold the same showers."
    yield from _sizes(*comparison.sizes, floor.sizes[0] if independent_floor else None)
    yield from _conditions(generated, reference)
    empty = [int((s.observables.total_energy == 0).sum()) for s in (comparison.generated, comparison.reference)]
    if any(empty):
        yield f"Showers without any energy above threshold: {empty[0]} generated, {empty[1]} reference."
    yield from _entries(comparison.histograms)
    # the Fréchet distance of finite samples is never 0, and extrapolating from them does not make it so
    found = comparison.values, Floor(floor, comparison.sizes).values
    value, expected = (values.get("fpd", (0.0, 0.0))[0] for values in found)
    if expected > SIZE_SHARE * value > 0:
        yield (
            f"Of the FPD about {min(expected, value):.2g} / 1000 comes from the number of showers alone: compare it "
            "only with samples of the same size."
        )


def _files(generated: Sample, reference: Sample, floor: Sample | None) -> Iterator[str]:
    if generated.sha256 == reference.sha256:
        yield "The generated file is identical to the reference: the comparison says nothing about a model."
    if floor and floor.sha256 in (generated.sha256, reference.sha256):
        yield "The floor file is byte-identical to another file: give an independent Geant4 file with --floor."
    trained_on = {digest for recorded in generated.attributes("trained_on") for digest in recorded.split()}
    if trained_on & reference.origins:
        yield (
            "The generator was trained on the reference file: it may have learned these showers by heart, so nothing "
            "here tells how good it is; compare with showers that it has not seen."
        )


def _sizes(n: int, n_reference: int, n_floor: int | None) -> Iterator[str]:
    if n != n_reference:
        yield (
            f"Unequal sample sizes ({n} generated, {n_reference} reference): separation powers and classifiers "
            "depend on both."
        )
    if n_floor is not None and n_floor < n:
        yield (
            f"The floor file has only {n_floor} showers for the {n} generated ones (per incident energy where these "
            "are few): it is scaled to these, as if both Geant4 files differed by their finite size alone."
        )
    if min(n, n_reference) < SMALL_SAMPLE:
        yield (
            f"Small sample ({min(n, n_reference)} showers): classifiers trained on so few showers are weak judges, "
            "and a low AUC proves little."
        )


def _conditions(generated: Sample, reference: Sample) -> Iterator[str]:
    """What is not alike in the energies and other conditions."""
    common = common_conditions([generated, reference])
    for name in sorted({*generated.conditions, *reference.conditions} - {*common}):
        lacking = "reference" if name in generated.conditions else "generated file"
        yield f"The {lacking} has no {known(name).table}: showers may differ in it, and no classifier sees it."
    for name in (ENERGY.name, *common):
        yield from _spectra(name, generated.column(name), reference.column(name))


def _spectra(condition: str, generated: Values, reference: Values) -> Iterator[str]:
    meant, generated_values, reference_values = known(condition), distinct_values(generated), distinct_values(reference)
    if generated_values is None or reference_values is None:
        p_value = ks_2samp(generated, reference).pvalue
        evidence = f"Kolmogorov-Smirnov p = {p_value:.1g}"
    else:
        values = np.union1d(generated_values, reference_values)
        table = [[np.count_nonzero(own == value) for value in values] for own in (generated, reference)]
        p_value = chi2_contingency(table).pvalue if len(values) > 1 else 1.0
        evidence = f"chi-squared p = {p_value:.1g}"
        for name, own in (("generated file", generated_values), ("reference", reference_values)):
            missing = np.setdiff1d(values, own)
            if len(missing):
                listed = ", ".join(f"{value:g}" for value in missing)
                yield f"The {name} has no showers of incident {meant.label} {listed} {meant.unit}".rstrip() + "."
    if p_value < P_VALUE:
        yield (
            f"Unequal incident {meant.plural} ({evidence}): every number below mixes the spectrum with the showers; "
            "generate with --energies REFERENCE."
        )


def _entries(histograms: Sequence[Histogram]) -> Iterator[str]:
    """Separation powers ignore entries outside the bins, which may spare a model."""
    empty, outside = [], []
    for histogram in histograms:
        name = histogram.binning.title
        lost_reference, lost_generated = histogram.outside_fractions
        if histogram.generated.any() != histogram.reference.any():
            empty.append(name)
        elif abs(lost_generated - lost_reference) > max(OUTSIDE, SIGMAS * _fraction_error(histogram)) or (
            histogram.binning.observable in RESPONSES and min(lost_generated, lost_reference) > MOST
        ):
            outside.append(f"{name} ({lost_generated:.1%} generated, {lost_reference:.1%} reference)")
    if empty:
        yield f"No entries within the bins for one of the two samples, separation set to 1: {_listed(empty)}."
    if outside:
        yield f"Entries outside the bins do not count in the separation power: {_listed(outside)}."


def _fraction_error(histogram: Histogram) -> float:
    """Binomial error of the difference between the two fractions of entries outside the bins."""
    inside = histogram.reference.sum(), histogram.generated.sum()
    entries = [kept + lost for kept, lost in zip(inside, histogram.outside, strict=True)]
    common = sum(histogram.outside) / max(sum(entries), 1)
    return float(np.sqrt(common * (1 - common) * sum(1 / max(n, 1) for n in entries)))


def _listed(items: Sequence[str]) -> str:
    return "; ".join(items[:5]) + (f"; and {len(items) - 5} more" if len(items) > 5 else "")
