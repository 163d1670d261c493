"""The HTML page of a report, which needs no other file and no network."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

from caloman.evaluation.histograms import LABELS
from caloman.evaluation.measures import number
from caloman.evaluation.plots import Picture
from caloman.evaluation.plots.style import sample_color

KEY_MEASURES = (
    *("auc_low", "auc_high", "auc_resnet", "separation_response", "separation_layer_energies"),
    *("separation_voxel_energy", "separation_sparsity", "fpd", "recall", "density"),
)
GATES = {
    "reconstruction": "reconstructions, true layer energies: encoder and decoder",
    "latents": "sampled against encoded latents: density on the manifold",
    "shapes": "generated shapes, true layer energies: density and decoder",
    "full": "everything generated",
}
QUICK = (
    "<strong>Not comparable with the published CaloChallenge leaderboard:</strong> the quick preset trains smaller "
    "networks on standardized inputs; use <code>--preset official</code> for the published protocol."
)


def render(metrics: Mapping, pictures: Sequence[Picture]) -> str:
    """Returns the page for the content of metrics.json and its figures."""
    samples = metrics["samples"]
    template = Template(files("caloman.evaluation").joinpath("page.html").read_text(encoding="utf-8"))
    names = ", ".join(sample["name"] for sample in samples)
    return template.substitute(
        title=escape(f"{names} against Geant4"),
        dataset=escape(metrics["dataset"]),
        sizes=_sizes(metrics),
        verdicts="".join(_verdict(position, sample, len(samples)) for position, sample in enumerate(samples)),
        ensemble=_ensemble(metrics.get("ensemble")),
        cards="".join(_card(key, samples) for key in KEY_MEASURES if key in samples[0]["metrics"]),
        measures=_measures(samples),
        gates=_gates(samples),
        classifiers=_classifiers(samples),
        posterior=_posterior(metrics.get("posterior")),
        field="".join(map(_field, samples)),
        histograms="".join(map(_histograms, samples)),
        figures="".join(map(_figure, pictures)),
        comparability=QUICK if metrics["preset"] == "quick" else "",
        provenance=_provenance(metrics),
    )


def _sizes(metrics: Mapping) -> str:
    counts = " and ".join(f"{sample['showers']:,}" for sample in metrics["samples"])
    return f"{counts} generated against {metrics['reference']['showers']:,} Geant4 showers".replace(",", "\u202f")


def _verdict(position: int, sample: Mapping, n_samples: int) -> str:
    name = f'<span class="name">{_dot(position)}{escape(sample["name"])}</span> ' if n_samples > 1 else ""
    level = "h1" if n_samples == 1 else "h2"
    warnings = "".join(f"<li>{_text(warning)}</li>" for warning in sample["warnings"])
    block = f'<ul class="warnings">{warnings}</ul>' if warnings else ""
    return f'<{level} class="verdict">{name}{_text(sample["verdict"])}</{level}>{block}'


def _card(key: str, samples: Sequence[Mapping]) -> str:
    entries = [sample["metrics"][key] for sample in samples]
    values = []
    for position, entry in enumerate(entries):
        value, error = number(entry["value"], entry["error"]).split(" ± ")
        dot = _dot(position) if len(samples) > 1 else ""
        values.append(f'<div class="value" title="{entry["words"]}">{dot}{value}<small> ± {error}</small></div>')
    floor = number(entries[0]["floor"], entries[0]["floor_error"])
    return (
        f'<div class="card"><div class="label">{_text(entries[0]["label"])}</div>{"".join(values)}'
        f'<div class="floor">floor {floor}</div></div>'
    )


def _ensemble(ensemble: Mapping | None) -> str:
    if ensemble is None:
        return ""
    return (
        f"<p><strong>Spread of the ensemble:</strong> {_text(ensemble['statement'])}. Less than nominal means that its "
        "members share an error that their spread cannot show; more, that they differ by more than they are wrong.</p>"
    )


def _measures(samples: Sequence[Mapping]) -> str:
    rows = []
    for key, first in samples[0]["metrics"].items():
        cells = [first["label"], number(first["floor"], first["floor_error"])]
        for entry in (sample["metrics"][key] for sample in samples):
            cells += [number(entry["value"], entry["error"]), entry["words"]]
        rows.append(cells)
    header = ["", "floor"]
    for sample in samples:
        header += [sample["name"], ""]
    return _table(header, rows)


def _gates(samples: Sequence[Mapping]) -> str:
    gates = samples[0].get("gates")
    if not gates:
        return ""
    rows = [
        (GATES[name], *(number(*gates[name][level]) if level in gates[name] else "" for level in ("low", "high")))
        for name in GATES
        if name in gates
    ]
    return "<h3>Gates: which part can be told apart</h3>" + _table(("", "AUC low", "AUC high"), rows)


def _classifiers(samples: Sequence[Mapping]) -> str:
    rows = [
        (
            f"{sample['name']}, {name}",
            *(" ".join(f"{t[key]:.3f}" for t in entry["trainings"]) for key in ("recalibrated_auc", "auc", "accuracy")),
            " ".join(f"{t['effective_fraction']:.0%}" for t in entry["trainings"]),
            " / ".join(map(str, entry["scored_showers"])),
        )
        for sample in samples
        for name, entry in sample["classifiers"].items()
    ]
    header = ("classifier", "recalibrated AUC", "raw AUC", "accuracy", "effective sample", "showers scored")
    return _table(header, rows) if rows else ""


def _posterior(posterior: Mapping | None) -> str:
    if posterior is None:
        return ""
    names = [entry["name"] for entry in posterior["samples"]]
    rows = [
        (entry["name"], number(entry["value"], entry["error"]), *(f"{value:.2f}" for value in row))
        for entry, row in zip(posterior["samples"], posterior["consistency"], strict=True)
    ]
    return (
        "<h3>Which sample Geant4 showers look like</h3>"
        + _table(("sample", "mean log-posterior of Geant4", *(f"showers of it as {name}" for name in names)), rows)
        + f'<p class="quiet">Guessing gives {posterior["guessing"]:.3f}. Of the last columns the diagonal should be '
        "the largest of each row.</p>"
    )


def _field(sample: Mapping) -> str:
    field = sample.get("field")
    if not field:
        return ""
    rows = [
        (
            standing["label"],
            f"{standing['value']:.4g}",
            f"{standing['rank']} of {standing['of']}",
            _neighbor(standing["better"]),
            _neighbor(standing["worse"]),
            f"{standing['geant4']:.4g}" if standing["geant4"] is not None else "",
        )
        for standing in field["standings"]
    ]
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in field["not_comparable"])
    warning = f'<ul class="warnings"><li><strong>May not be compared:</strong></li>{reasons}</ul>' if reasons else ""
    header = ("", "here", "would stand", "next better", "next worse", "Geant4")
    return f"<h3>{escape(sample['name'])} in the published field</h3>{warning}{_table(header, rows)}"


def _neighbor(entry: Mapping | None) -> str:
    return f"{entry['name']} ({entry['value']:.4g})" if entry else ""


def _histograms(sample: Mapping) -> str:
    if not sample["histograms"]:
        return ""
    header = ("observable", "where", "separation", "floor", "entries", "outside bins")
    rows = (
        (
            LABELS[entry["observable"]],
            entry["where"],
            number(entry["value"], entry["error"]),
            number(entry["floor"], entry["floor_error"]),
            " / ".join(str(count) for count in entry["entries"]),
            " / ".join(f"{fraction:.1%}" for fraction in entry["outside"]),
        )
        for entry in sample["histograms"]
    )
    return f"<details><summary>Every histogram of {escape(sample['name'])}</summary>{_table(header, rows)}</details>"


def _figure(picture: Picture) -> str:
    image = base64.b64encode(picture.png).decode()
    return (
        f'<figure id="{escape(picture.name)}"><h3>{_text(picture.title)}</h3>'
        f'<img alt="{escape(picture.title)}" src="data:image/png;base64,{image}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _provenance(metrics: Mapping) -> str:
    settings, floor = metrics["settings"], metrics["floor"]
    files_used = [(sample["name"], sample) for sample in metrics["samples"]] + [("reference", metrics["reference"])]
    rows = [
        (role, f"{entry['file']}: {entry['showers']} showers, sha256 {entry['sha256']}") for role, entry in files_used
    ]
    classifier = ", ".join(f"{key} {value}" for key, value in settings["classifier"].items())
    rows += [
        ("floor measured with", f"{floor['kind']}: {floor['showers'][0]} against {floor['showers'][1]} Geant4 showers"),
        ("modes", ", ".join(metrics["modes"])),
        ("readout threshold", f"{settings['threshold_mev']:.6g} MeV"),
        ("seeds", ", ".join(map(str, settings["seeds"]))),
        ("classifier", classifier),
        ("caloman", metrics["caloman"]),
    ]
    return _table(("", ""), rows)


def _dot(position: int) -> str:
    return f'<span class="dot" style="background:{sample_color(position)}"></span>'


def _text(text: str) -> str:
    return escape(text).replace("E_tot", "E<sub>tot</sub>").replace("E_inc", "E<sub>inc</sub>")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    return f'<td class="number">{escape(text)}</td>' if " ± " in text else f"<td>{_text(text)}</td>"
