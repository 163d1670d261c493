"""The farthest tails: how many generated showers lie beyond the most extreme Geant4 shower, and how far.

A handful of absurd showers among 100 000 changes neither a histogram nor a classifier. Ranks show it. If N reference
and M generated values have one continuous distribution, every order of all N + M is equally likely. The number of
generated values beyond the most extreme reference value is then negative hypergeometric, with mean M / (N + 1).

Ranks are blind to distances. The overshoot is how far the most extreme generated value lies beyond the most extreme
reference value, in units of the distance of the latter to the median.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.special import betaln, gammaln

from caloman.evaluation.binnings import LABELS, Window, within
from caloman.evaluation.schema import Tail
from caloman.showers.observables import Observables

Array = NDArray[np.float64]
RESPONSE = LABELS["response"]


def extremes(
    reference: Observables, generated: Observables, windows: Sequence[Window], layers: Sequence[int]
) -> list[Tail]:
    """Compares both tails of E_tot / E_inc and of the share of every layer, of Geant4 and of generated showers.

    A window of the incident energy is from (included) and to (excluded) [MeV]; one without showers of both samples is
    left out. `layers` are the ids of the L layers.
    """
    pairs = [(window, _responses(reference, window), _responses(generated, window)) for window in windows]
    pairs = [(window, one, other) for window, one, other in pairs if len(one) and len(other)]
    if not pairs:
        return []
    names = [RESPONSE, *(f"layer {layer}" for layer in layers)]
    return [
        _tail(name, side, sign, [(window, sign * one[:, i], sign * other[:, i]) for window, one, other in pairs])
        for i, name in enumerate(names)
        for side, sign in (("largest", 1.0), ("smallest", -1.0))
    ]


def unusual(tails: Sequence[Tail], level: float = 1e-3) -> Iterator[str]:
    """One sentence for each tail that is not Geant4's, at a level that allows for the number of tails.

    The overshoot counts for large E_tot / E_inc only: shares of layers, and leakage, have heavier tails.
    """
    for tail in tails:
        if tail["p_value"] * len(tails) < level:
            yield (
                "Tails differ: among the {side} values of {observable} {beyond} generated showers lie beyond Geant4's "
                "most extreme, where {expected:.3g} are expected (p = {p_value:.1g}).".format_map(tail)
            )
        if (tail["observable"], tail["side"]) == (RESPONSE, "largest") and tail["p_overshoot"] < level:
            yield (
                "Tails differ: a generated shower of {window[0]:.4g} to {window[1]:.4g} MeV has "
                "E_tot / E_inc = {generated:.3g}, Geant4 at most {reference:.3g} there.".format_map(tail)
            )


def beyond_probability(n: int, m: int, size: int) -> Array:
    """Probabilities of 0, 1, ..., size - 1 of m values beyond the most extreme of n others of the same distribution.

    All of the j most extreme of n + m values are among the m in C(m, j) of C(n + m, j) cases.
    """
    j = np.arange(min(size, m + 1))
    at_least = np.exp(gammaln(m + 1) - gammaln(m - j + 1) + gammaln(n + m - j + 1) - gammaln(n + m + 1))
    exactly = at_least * n / (n + m - j)  # and the next one is of the n
    return np.pad(exactly, (0, size - len(j)))


def overshoot_probability(n: int, m: int, overshoot: float) -> float:
    """Bound on the probability that the largest of m exponential numbers has this overshoot over the largest of n.

    The largest of n lies at x, and each of the m numbers beyond x + t (x - log 2) with probability 2^t exp(-(1 + t) x);
    the mean over x gives m n 2^t B(2 + t, n), which holds for larger t, too. Lighter tails overshoot less.
    """
    t = np.linspace(0, max(overshoot, 0.0), 100)
    return float(min(1.0, np.exp(np.log(m) + np.log(n) + t * np.log(2) + betaln(2 + t, n)).min()))


def _responses(sample: Observables, window: Window) -> Array:
    """E_tot / E_inc and the shares of the L layers in a window, shape (n, 1 + L)."""
    inside = sample[within(window, sample)]
    deposits = np.concatenate([inside.total_energy[:, None], inside.layer_energies], axis=1)
    return deposits / inside.incident_energies[:, None]


def _tail(name: str, side: str, sign: float, values: Sequence[tuple[Window, Array, Array]]) -> Tail:
    beyond = sum(int((generated > reference.max()).sum()) for _, reference, generated in values)
    reached = sum(int((generated >= reference.max()).sum()) for _, reference, generated in values)
    sizes = [(len(reference), len(generated)) for _, reference, generated in values]
    expected = sum(m / (n + 1) for n, m in sizes)
    overshoots = [_overshoot(reference, generated) for _, reference, generated in values]
    bounds = [overshoot_probability(*size, t) for size, t in zip(sizes, overshoots, strict=True)]
    worst = min(range(len(values)), key=lambda i: (bounds[i], -overshoots[i]))
    window, reference, generated = values[worst]
    return Tail(
        observable=name,
        side=side,
        beyond=beyond,
        expected=expected,
        p_value=_p_value(sizes, expected, beyond, reached),
        generated=float(sign * generated.max()),
        reference=float(sign * reference.max()),
        window=list(window),
        overshoot=overshoots[worst],
        p_overshoot=min(1.0, len(values) * bounds[worst]),
    )


def _p_value(sizes: Sequence[tuple[int, int]], expected: float, beyond: int, reached: int) -> float:
    """Two-sided probability of the number of values beyond the most extreme one, and of the number that reach it."""
    few = reached < expected
    size = 1 + max(beyond, reached if few else 0)
    distribution = np.ones(1)  # of the sum over windows
    for n, m in sizes:
        distribution = fftconvolve(distribution, beyond_probability(n, m, size))[:size]
    at_least = 1 - distribution[:beyond].sum()
    at_most = distribution[: reached + 1].sum() if few else 1.0
    return float(np.clip(2 * min(at_least, at_most), 0, 1))


def _overshoot(reference: Array, generated: Array) -> float:
    """How far the largest generated value lies beyond the reference; 0 where the reference gives no unit."""
    largest = reference.max()
    unit = largest - np.median(reference)
    return float((generated.max() - largest) / unit) if unit > 0 else 0.0
