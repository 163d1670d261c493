"""Command line of the scripts that measure for a page of the talks."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from caloman.demonstrations.results import Row


class TalkParser(ArgumentParser):
    """Has seeds, the file of the results, and settings, on which the results depend.

    Args:
        description: of the script.
        page: name of the page.
        seeds: usual ones.
    """

    def __init__(self, description: str | None, page: str, seeds: list[int]) -> None:
        super().__init__(description=description, formatter_class=RawDescriptionHelpFormatter)
        self.add_argument("--seeds", type=int, nargs="+", default=seeds)
        self.add_argument("--output", type=Path, default=Path(f"docs/talks/{page}.json"))
        self._settings = self.add_argument_group("settings, on which the results depend")
        self.usual: Row = {}
        """The settings where nothing else is asked for."""

    def setting(self, name: str, default: float, text: str | None = None) -> None:
        """Adds a setting with its default, a whole number or any."""
        self._settings.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=text)
        self.usual[name] = default

    def settings(self, options: Namespace) -> Row:
        """The settings that were asked for."""
        return {name: getattr(options, name) for name in self.usual}
