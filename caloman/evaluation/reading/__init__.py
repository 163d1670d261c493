"""What is wrong with generated showers, in words: which observables, in which layers, in which direction.

Sentences come from deviations of features at fixed incident energy. They are calibrated: two samples of Geant4 have one
in a thousand comparisons. What a classifier goes by comes from boosted trees on the same features, as do the showers
that give a generator away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from caloman.evaluation import schema
from caloman.evaluation.reading.deviations import Deviation, Residuals, deviations, significant, standardize
from caloman.evaluation.reading.features import energy_bands, tabulate
from caloman.evaluation.reading.importance import TreeScores, train
from caloman.evaluation.reading.words import sentences
from caloman.evaluation.schema import Sentence, Telltale
from caloman.evaluation.summary import Summary

__all__ = ["GENERATED", "REFERENCE", "Deviation", "Reading", "read"]

LIMIT = 10_000
"""Most showers of each sample that are read; the time goes with them."""
GENERATED, REFERENCE = "generated", "reference"
N_TELLTALE = 2
SIGMAS = 4.0


@dataclass(frozen=True)
class Reading:
    """What is wrong with generated showers.

    Args:
        residuals: features in units of the spread of Geant4.
        deviations: of all features.
        sentences: the significant ones in words, the most significant first.
        trees: what a classifier of these features says.
        positions: numbers of the showers in their samples that were read, generated and reference.
    """

    residuals: Residuals
    deviations: Sequence[Deviation]
    sentences: Sequence[Sentence]
    trees: TreeScores
    positions: Mapping[str, NDArray]

    @property
    def statement(self) -> str:
        """What the sentences amount to."""
        area, error = self.trees.auc
        first = next(iter(self.trees.importances))
        trees = f"boosted trees on all features have AUC {area:.3f} ± {error:.3f}"
        if area < 0.5 + SIGMAS * error:
            found = "These features deviate" if self.sentences else "No feature deviates"
            return f"{found} from Geant4 beyond chance; {trees}, which is guessing."
        found = "These features deviate" if self.sentences else "No single feature deviates, but together they do"
        return f"{found} from Geant4 beyond chance; {trees} and go by {first} most."

    @property
    def telltale(self) -> dict[str, list[Telltale]]:
        """Generated showers that Geant4 would hardly make, and Geant4 showers that the generator hardly makes."""
        found = {}
        for label, (name, sign) in enumerate([(GENERATED, 1), (REFERENCE, -1)]):
            ratios = self.trees.log_ratios[self.trees.labels == label]
            order = (sign * ratios).argsort()[:N_TELLTALE]
            showers = [Telltale(position=int(self.positions[name][i]), log_ratio=float(ratios[i])) for i in order]
            found[name] = showers
        return found

    @property
    def document(self) -> schema.Reading:
        """What metrics.json keeps of it."""
        return schema.Reading(
            statement=self.statement,
            sentences=list(self.sentences),
            auc=list(self.trees.auc),
            importances={group: list(found) for group, found in self.trees.importances.items()},
            telltale=self.telltale,
        )


def read(reference: Summary, generated: Summary) -> Reading:
    """Reads what is wrong with generated showers."""
    bands = energy_bands(reference)
    tables = [tabulate(summary, bands, LIMIT) for summary in (reference, generated)]
    residuals = standardize(*tables)
    found = list(deviations(residuals))
    layers = [layer.id for layer in reference.sample.geometry.layers]
    return Reading(
        residuals=residuals,
        deviations=found,
        sentences=sentences(significant(found), layers),
        trees=train(residuals, [table.energies for table in tables]),
        positions={REFERENCE: tables[0].positions, GENERATED: tables[1].positions},
    )
