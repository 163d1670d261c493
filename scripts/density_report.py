"""Tables and figure of the benchmark of densities, from its rows."""

from collections.abc import Callable, Iterable

import matplotlib as mpl
from matplotlib.figure import Figure

from caloman.demonstrations.results import ResultFile, Row, markdown, show, spread
from caloman.evaluation.plots.style import REFERENCE, STYLE, rendered, sample_color
from caloman.files import write

METRICS = ("KS", "SWD", "FN", "KL")
NAMES = ("RealNVP", "MAF", "C-RQS", "A-RQS", "Mixture")
TARGETS = ("correlated-mixture", "uncorrelated-mixture", "correlated-gaussian")
TRUTH = "truth"
STUDIED = [("C-RQS", 16), ("A-RQS", 64)]
"""Flows and sizes of which the page shows what each setting is worth."""
PUBLISHED = {
    ("A-RQS", 4): (0.486, 0.027, 0.019),
    ("MAF", 4): (0.498, 0.028, 0.028),
    ("RealNVP", 4): (0.502, 0.022, 0.023),
    ("C-RQS", 4): (0.499, 0.023, 0.013),
    ("A-RQS", 16): (0.491, 0.022, 0.23),
    ("MAF", 16): (0.521, 0.029, 0.79),
    ("RealNVP", 16): (0.371, 0.041, 0.40),
    ("C-RQS", 16): (0.365, 0.051, 0.42),
    ("A-RQS", 100): (0.406, 0.056, 0.88),
    ("MAF", 100): (0.33, 0.108, 1.6),
    ("RealNVP", 100): (0.338, 0.108, 1.6),
    ("C-RQS", 100): (0.015, 0.12, 3.0),
    ("A-RQS", 400): (0.497, 0.040, 12.7),
    ("MAF", 400): (0.394, 0.073, 27.8),
    ("RealNVP", 400): (0.265, 0.105, 36.5),
    ("A-RQS", 1000): (0.535, 0.031, 5.5),
}
"""KS, SWD and FN on the correlated mixture: means of the seeds in the logs of github.com/NF4HEP/NormalizingFlowsHD."""


def table(rows: Iterable[Row]) -> str:
    """Markdown with a line for each target, size and flow, and the published numbers beside ours."""
    columns = ["target", "D", "flow", "seeds", *METRICS, "published KS / SWD / FN", "parameters", "minutes"]
    lines = [columns]
    rows = sorted(rows, key=lambda row: (TRUTH, *NAMES).index(row["flow"]))
    groups = _grouped(rows, lambda row: (row["target"], row["features"], row["flow"]))
    for (target, features, flow), group in sorted(groups, key=lambda item: TARGETS.index(item[0][0])):
        known = PUBLISHED.get((flow, features)) if target == "correlated-mixture" else None
        published = " / ".join(map(str, known)) if known else ""
        lines.append([target, str(features), flow, str(len(group)), *_values(group), published, *_costs(group)])
    return markdown(lines)


def causes(rows: Iterable[Row]) -> str:
    """Markdown with a line for each change of the settings of the first row with as many dimensions."""
    lines = [["D", "flow and settings", "seeds", *METRICS, "KL, training points"]]
    first: dict[int, Row] = {}
    for (features, flow, *settings), group in _grouped(
        rows, lambda row: (row["features"], row["flow"], *row["settings"].items())
    ):
        base = first.setdefault(features, dict(settings))
        changes = {name.replace("_", " "): value for name, value in settings if value != base[name]}
        name = ", ".join([flow, *(f"{name} {value or 'of all points'}" for name, value in changes.items())])
        trained = spread(row["KL train"][0] for row in group)
        lines.append([str(features), name, str(len(group)), *_values(group), trained])
    return markdown(lines)


def write_page(results: ResultFile, settings: Callable[[int], Row]) -> None:
    """Draws the figure, and fills in the tables of the page beside the file of results, if there is one.

    Args:
        results: all rows; the tables show those with the usual settings.
        settings: the usual ones for a number of dimensions.
    """
    page = results.path.with_suffix(".md")
    rows = [row for row in results.rows if row["settings"] == settings(row["features"])]
    if page.is_file() and rows:
        write(page.with_suffix(".png"), figure([row for row in rows if row["target"] == "correlated-mixture"]))
        show(page, "densities", table(row for row in rows if row["flow"] in (TRUTH, *NAMES)))
        studied = [row for row in results.rows if (row["flow"].split(",")[0], row["features"]) in STUDIED]
        studied = [row for row in studied if row["target"] == "correlated-mixture"]
        show(page, "causes", causes(sorted(studied, key=lambda row: row in rows and row["flow"] in NAMES)))


def figure(rows: list[Row]) -> bytes:
    """Each metric against the number of dimensions: ours filled, published ones hollow, the floor gray."""
    sizes = sorted({row["features"] for row in rows})
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        drawn = Figure(figsize=(8, 5.2), layout="constrained")
        for axes, metric in zip(drawn.subplots(2, 2).flat, METRICS, strict=True):
            for color, flow in [(REFERENCE, TRUTH), *((sample_color(i), name) for i, name in enumerate(NAMES))]:
                ours = _means([row for row in rows if row["flow"] == flow], metric)
                axes.plot(list(ours), list(ours.values()), "-o", color=color, markersize=4, label=flow)
                published = {d: v for d, v in _published(flow, metric).items() if d <= sizes[-1]}
                axes.plot(list(published), list(published.values()), "s", color=color, fillstyle="none", markersize=6)
            axes.set(xscale="log", xlabel="dimensions", yscale="linear" if metric == "KS" else "log")
            axes.minorticks_off()
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.set_title({"KS": "KS p-value (1/2 is ideal)", "KL": "KL [nats]"}.get(metric, metric))
        handles, labels = drawn.axes[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        return rendered(drawn, "png")


def _means(rows: list[Row], metric: str) -> dict[int, float]:
    """Mean over seeds of a metric for each number of dimensions."""
    groups = _grouped((row for row in rows if metric in row), lambda row: (row["features"],))
    return {key[0]: sum(row[metric][0] for row in group) / len(group) for key, group in groups}


def _published(flow: str, metric: str) -> dict[int, float]:
    if metric not in METRICS[:3]:
        return {}
    return {d: values[METRICS.index(metric)] for (name, d), values in PUBLISHED.items() if name == flow}


def _grouped(rows: Iterable[Row], key: Callable[[Row], tuple]) -> list[tuple[tuple, list[Row]]]:
    """Rows with equal keys together, in the order of their first appearance, small dimensions first."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return sorted(groups.items(), key=lambda item: item[1][0]["features"])


def _values(group: list[Row]) -> list[str]:
    return [spread(row[metric][0] for row in group) if metric in group[0] else "" for metric in METRICS]


def _costs(group: list[Row]) -> list[str]:
    if "parameters" not in group[0]:
        return ["", ""]
    clock = "seconds" if group[0]["device"] == "cuda" else "CPU seconds"
    minutes = spread((row[clock] / 60 for row in group), 2).split(" ")[0]
    return [str(group[0]["parameters"]), f"{minutes} {group[0]['device']}"]
