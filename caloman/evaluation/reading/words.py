"""Deviations as sentences."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from caloman.evaluation.reading.deviations import Deviation
from caloman.evaluation.reading.features import Feature
from caloman.evaluation.schema import Sentence

MOST = 8  # sentences that are shown


def sentences(found: Sequence[Deviation], layers: Sequence[int]) -> list[Sentence]:
    """Says in one sentence each what is wrong, in which layers; the most significant first.

    Args:
        found: significant deviations.
        layers: ids of all layers, in order.
    """
    chosen = [*_of_layers(_without_doubles(found)), *_correlations(found)]
    return sorted((_sentence(group, layers) for group in chosen), key=lambda s: -s["significance"])[:MOST]


def _without_doubles(found: Sequence[Deviation]) -> list[Deviation]:
    """Leaves of the hits of a layer either all, or bands of them, whatever is more significant in each direction."""
    kept, hits = [], defaultdict(list)
    for deviation in found:
        feature = deviation.features[0]
        if feature.group == "hits":
            hits[deviation.kind, feature.layer, deviation.size > 0].append(deviation)
        elif deviation.kind != "correlation":
            kept.append(deviation)
    for group in hits.values():
        strongest = max(group, key=lambda deviation: abs(deviation.significance))
        kept += [d for d in group if (d.features[0].band is None) == (strongest.features[0].band is None)]
    # a spread that only follows the shift of a number of hits says nothing new
    shifted = {d.features[0] for d in kept if d.kind == "shift"}
    return [d for d in kept if d.kind == "shift" or d.features[0].group != "hits" or d.features[0] not in shifted]


def _of_layers(found: Sequence[Deviation]) -> list[list[Deviation]]:
    """Joins layers with the same deviation in the same direction, and neighboring bands of the same layers."""
    groups: dict[tuple, list[Deviation]] = defaultdict(list)
    for deviation in found:
        feature = deviation.features[0]
        groups[deviation.kind, feature.name, deviation.size > 0, feature.band or ()].append(deviation)
    joined: list[list[Deviation]] = []
    latest: dict[tuple, list[Deviation]] = {}
    for (*what, band), members in sorted(groups.items(), key=lambda item: item[0]):
        alike = *what, tuple(d.features[0].layer for d in members)
        before = latest.get(alike, members)[-1].features[0].band
        if band and before and before[1] == band[0]:
            latest[alike] += members
        else:
            joined.append(members)
            latest[alike] = members
    return joined


def _correlations(found: Sequence[Deviation]) -> Iterator[list[Deviation]]:
    """The strongest deviation of a correlation stands for the others of its sign."""
    for positive in (True, False):
        group = [d for d in found if d.kind == "correlation" and (d.size > 0) == positive]
        if group:
            yield [max(group, key=lambda d: abs(d.significance))]


def _sentence(members: Sequence[Deviation], layers: Sequence[int]) -> Sentence:
    strongest = max(members, key=lambda d: abs(d.significance))
    where = _layers({d.features[0].layer for d in members}, layers)
    significance = abs(strongest.significance)
    text = f"{_phrase(members, strongest, where)} ({_size(members, strongest)}, {significance:.0f} σ)"  # noqa: RUF001
    return Sentence(text=text, group=strongest.features[0].group, significance=significance)


def _phrase(members: Sequence[Deviation], strongest: Deviation, where: str) -> str:
    feature, more = strongest.features[0], strongest.size > 0
    name = _name(feature, [d.features[0].band for d in members])
    if strongest.kind == "correlation":
        first, second = (f.layer for f in strongest.features)
        return f"Energies of layers {first} and {second}: correlation too {'large' if more else 'small'}"
    if strongest.kind == "spread":
        return f"{name[0].upper()}{name[1:]}{where}: fluctuates too {'much' if more else 'little'}"
    if feature.group == "hits":
        return f"Too {'many' if more else 'few'} {name}{where}"
    if feature.unit:
        return f"{name[0].upper()}{name[1:]}{where}: shifted to {'larger' if more else 'smaller'} values"
    if feature.name == "energy":
        return f"Too {'much' if more else 'little'} energy{where}"
    return f"{name[0].upper()}{name[1:]}{where}: too {'large' if more else 'small'}"


def _name(feature: Feature, bands: Sequence[tuple[float, float] | None]) -> str:
    if feature.band is None or None in bands:
        return feature.title
    low, high = min(band[0] for band in bands if band), max(band[1] for band in bands if band)
    return replace(feature, band=(low, high)).title


def _layers(affected: set[int | None], layers: Sequence[int]) -> str:
    """Layers in words: runs of neighbors from first to last."""
    chosen = [position for position, layer in enumerate(layers) if layer in affected]
    if not chosen:
        return ""
    runs = [[chosen[0]]]
    for position in chosen[1:]:
        if position == runs[-1][-1] + 1:
            runs[-1].append(position)
        else:
            runs.append([position])
    words = [f"{layers[r[0]]}" if len(r) == 1 else f"{layers[r[0]]} to {layers[r[-1]]}" for r in runs]
    if len(chosen) == len(layers):
        return " in all layers"
    return f" in layer{'s' if len(chosen) > 1 else ''} {', '.join(words)}"


def _size(members: Sequence[Deviation], strongest: Deviation) -> str:
    if strongest.kind == "correlation":
        found = strongest.reference + strongest.size
        return f"{found:.2f} ± {strongest.error:.2f} instead of {strongest.reference:.2f}"
    if not all(np.isfinite(d.size) for d in members):
        return "Geant4 has none"
    up_to = "up to " if len(members) > 1 else ""
    largest = max(members, key=lambda d: abs(d.size)) if len(members) > 1 else strongest
    if strongest.kind == "shift" and strongest.features[0].unit:
        return f"{up_to}{largest.size:+.2g} ± {largest.error:.1g} {strongest.features[0].unit}"
    decimals = 1 if 100 * largest.error < 1 else 0
    return f"{up_to}{100 * largest.size:+.{decimals}f} ± {100 * largest.error:.{decimals}f} %"
