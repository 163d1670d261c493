"""What each number of a report means, in a sentence."""

EXPLANATIONS = {
    "auc": "Probability that a classifier ranks a generated and a Geant4 shower rightly: 0.5 is guessing, 1 certainty.",
    "jsd": "Jensen-Shannon divergence that the classifier finds, in units of ln 2: 0 is equal, 1 disjoint.",
    "separation": "½ Σ (p − q)² / (p + q) of normalized histograms: 0 is equal, 1 disjoint.",  # noqa: RUF001
    "fpd": "Fréchet distance of the means and covariances of the observables, times 1000: 0 is equal.",
    "kpd": "Kernel distance of the observables, times 1000: 0 is equal.",
    "precision": "Share of generated showers that lie among Geant4 showers.",
    "recall": "Share of Geant4 showers that lie among generated showers.",
    "density": "How densely Geant4 showers surround generated ones; best at the value of Geant4 itself.",
    "coverage": "Share of Geant4 showers that have a generated neighbor.",
    "ks": "p-value of the Kolmogorov-Smirnov test: ½ on average for equal samples.",
    "anderson_darling": "Standardized Anderson-Darling statistic: 0 ± 1 for equal samples, larger for others.",
    "wasserstein": "Distance that probability is moved by from one distribution to the other, in standard deviations.",
    "sliced_wasserstein": "Wasserstein distance along random directions of the observables, in standard deviations.",
    "correlations": "Norm of the difference between the correlation matrices of the observables.",
    "layer_correlations": "Norm of the difference between the correlation matrices of the layer energies.",
    "calibration_bias": "Of Geant4 showers, if the weights of the layers are fitted to these showers.",
    "calibration_linearity": "Spread over energies of the response to Geant4 showers, calibrated with these showers.",
    "calibration_resolution": "Of Geant4 showers, mean over energies, if calibrated with these showers.",
    "overlap_auc": "How well one Geant4 photon is told from two by a classifier that has learned from these showers.",
    "overlap_fraction": "What a fit of single Geant4 photons finds if its templates are made of these showers.",
    "overlap_limit": "95 % upper limit that single Geant4 photons give if the templates are made of these showers.",
}
"""Key of a measure, or the beginning of it -> what it is."""


def explain(key: str) -> str:
    """What a measure is, by its key in metrics.json; empty if nothing is known of it."""
    names = [name for name in EXPLANATIONS if key.startswith(name)]
    return EXPLANATIONS[max(names, key=len)] if names else ""
