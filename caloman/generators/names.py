"""What a user calls a generator, and the folder that holds it."""

import logging
from importlib.resources import files
from pathlib import Path

from caloman.errors import CalomanError
from caloman.files import NAME
from caloman.generators.shared import fetch, is_address

logger = logging.getLogger(__name__)

FOLDER = Path(str(files("caloman"))) / "generators"


def shipped_generators() -> dict[str, Path]:
    """Name -> bundle of each generator that comes with the package."""
    return {config.parent.name: config.parent for config in sorted(FOLDER.glob("*/config.yaml"))}


def locate(name: str | Path) -> Path:
    """The folder of a generator.

    Args:
        name: a folder, the name of a generator of the package, or the address of a shared one. A folder wins over a
            generator of the package.

    Raises:
        CalomanError: if there is no such generator, or it cannot be fetched.
    """
    if is_address(name):
        return fetch(str(name))
    path, known = Path(name), shipped_generators()
    if path.is_dir():
        if str(name) in known:
            logger.warning("%s: the folder of this name is used, not the generator of the package", name)
        return path
    if not path.exists() and str(name) not in known and NAME.fullmatch(str(name)):
        names = ", ".join(known) or "none"
        raise CalomanError(f"{name}: no such folder or generator; those of the package are {names}")
    return known.get(str(name), path)
