"""What is wrong with generated showers, in words: which observables, in which layers, in which direction.

Sentences come from deviations of features at fixed incident energy. They are calibrated: two samples of Geant4 have one
in a thousand comparisons. What a classifier goes by comes from boosted trees on the same features, as do the showers
that give a generator away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from caloman.evaluation import schema
from caloman.evaluation.reading.deviations import Deviation, Residuals, deviations, significant, standardize
from caloman.evaluation.reading.features import energy_bands, tabulate
from caloman.evaluation.reading.importance import TreeScores, train
from caloman.evaluation.reading.words import sentences
from caloman.evaluation.summary import Summary

__all__ = ["Deviation", "Reading", "read"]

LIMIT = 10_000  # most showers of each sample that are read; the time goes with them
SIGMAS = 4.0


@dataclass(frozen=True)
class Reading:
    """What is wrong with generated showers.

    Args:
        residuals: features in units of the spread of Geant4.
        deviations: of all features.
        trees: what a classifier of these features says.
        document: what metrics.json keeps of it.
    """

    residuals: Residuals
    deviations: Sequence[Deviation]
    trees: TreeScores
    document: schema.Reading


def read(reference: Summary, generated: Summary) -> Reading:
    """Reads what is wrong with generated showers."""
    bands = energy_bands(reference)
    tables = [tabulate(summary, bands, LIMIT) for summary in (reference, generated)]
    residuals = standardize(*tables)
    found = list(deviations(residuals))
    said = sentences(significant(found), [layer.id for layer in reference.sample.geometry.layers])
    trees = train(residuals, [table.energies for table in tables])
    document = schema.Reading(
        statement=_statement(trees, bool(said)),
        sentences=said,
        auc=list(trees.auc),
        importances={group: list(fall) for group, fall in trees.importances.items()},
        telltale=trees.telltale({"generated": tables[1].positions, "reference": tables[0].positions}),
    )
    return Reading(residuals, found, trees, document)


def _statement(trees: TreeScores, deviates: bool) -> str:
    """What the sentences amount to."""
    area, error = trees.auc
    judged = f"boosted trees on all features have AUC {area:.3f} ± {error:.3f}"
    if area < 0.5 + SIGMAS * error:
        found = "These features deviate" if deviates else "No feature deviates"
        return f"{found} from Geant4 beyond chance; {judged}, which is guessing."
    found = "These features deviate" if deviates else "No single feature deviates, but together they do"
    return f"{found} from Geant4 beyond chance; {judged} and go by {next(iter(trees.importances))} most."
