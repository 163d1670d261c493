"""Everything that an evaluation found."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from caloman.evaluation.bands import Calibration
from caloman.evaluation.classifier import Posterior
from caloman.evaluation.comparison import Comparison, Values
from caloman.evaluation.judge import Judge
from caloman.evaluation.lineup import Lineup
from caloman.evaluation.presets import ClassifierPreset
from caloman.evaluation.schema import Power
from caloman.evaluation.summary import Summary
from caloman.files import md5
from caloman.showers.slices import parse_slices


@dataclass(frozen=True)
class Results:
    """Everything that an evaluation found.

    Args:
        judge: how it was measured.
        lineup: who was compared with whom.
        comparisons: with the reference, by name of the sample.
        floor: Geant4 with Geant4.
        power: of the judge; what follows is None or empty, too, if it was not asked for.
        closure_tests: of the first sample: name -> level (low, high) -> AUC and its error.
        posteriors: one for each training.
        calibration: of an ensemble.
    """

    judge: Judge
    lineup: Lineup
    comparisons: dict[str, Comparison]
    floor: Comparison
    power: Power | None
    closure_tests: dict[str, Values]
    posteriors: Sequence[Posterior]
    calibration: Calibration | None

    @property
    def first(self) -> Comparison:
        """The comparison of the first sample."""
        return next(iter(self.comparisons.values()))

    @property
    def reference(self) -> Summary:
        """The reference."""
        return self.first.reference

    @cached_property
    def preset(self) -> ClassifierPreset:
        """Settings of the classifiers."""
        return self.judge.preset_of(self.first.generated, self.reference)

    @cached_property
    def reference_md5(self) -> list[str]:
        """MD5 of the files of the reference, which the official files are known by."""
        return [md5(part.path) for part in parse_slices(self.reference.sample.files)]
