"""Tables of text."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Markdown whose columns are aligned, from rows of cells of which the first is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    header, *others = rows
    lines = [header, ["-" * width for width in widths], *others]
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)
