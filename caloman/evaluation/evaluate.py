"""The judge: compares files of generated showers with a file of reference showers and writes a report."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from caloman.errors import CalomanError
from caloman.evaluation import plots
from caloman.evaluation.cautions import cautions
from caloman.evaluation.gates import gates
from caloman.evaluation.histograms import challenge_binnings
from caloman.evaluation.judge import Comparison, Judge, check_modes
from caloman.evaluation.leaderboard import standings, why_not_comparable
from caloman.evaluation.metrics import document, file_entry, sample_entry
from caloman.evaluation.report import Report
from caloman.evaluation.samples import Sample, Summary, summarise
from caloman.showers import find_geometry
from caloman.slices import parse_slices

MIN_SHOWERS = 20

Advance = Callable[[str], object]


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
        modes: what to measure, of hist, cls-low, cls-low-normed, cls-high, cls-resnet, cls-multi, fpd, kpd, prdc, tests;
            by default all that suit the preset.
        preset: quick takes minutes on two cores; official is the protocol of the CaloChallenge.
        repeats: number of trainings of each classifier, every one with its own split and initialisation; by default
            5 (quick) or 10 (official).
        seed: seed of the first training; the others count up from it.
        reconstruction: gate of a two-stage model: `caloman reconstruct` of the reference.
        shapes: gate: `caloman generate --layer-energies` of the reference.
        latents: gate: two files, `caloman encode` of the reference with and without --sampled.
        times: generation time of each sample [ms per shower], for the figure of quality against speed.

    Raises:
        CalomanError: if a file is missing, damaged, too small or made for another dataset.
    """
