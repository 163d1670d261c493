"""``caloman submit``: a generator in the form of the CMS HGCal comparison, a container and one script per particle.

References:
    OzAmram/CMSHGCaloChallenge, INSTRUCTIONS_apptainer.md: scripts called with batch size, number of showers and energy.
"""

import shutil
import sys
from importlib import metadata, resources
from pathlib import Path
from string import Template

import numpy as np

from caloman import bundle
from caloman.errors import CalomanError
from caloman.files import appearing_folder, write
from caloman.sharing import shared_files

PARTICLES = ("photon", "pion")
ENERGIES = (5, 50, 500)  # what the comparison asks for [GeV]
RECIPE = "container.def"
SNIPPETS = (RECIPE, "generate.py", "README.md")


def submit(run: str | Path, output: str | Path) -> str:
    """Packs a generator of photons or of pions in the form of the CMS HGCal comparison.

    OUTPUT becomes a folder with the recipe of a container, the code of this package, the generator, and a script
    ``run-photon-sample.sh`` or ``run-pion-sample.sh``, which is called with batch size, number of showers and energy in
    GeV. A second call adds the generator of the other particle. README.md says how to build the container and pack all.

    Args:
        run: run folder of `caloman fit`, a bundle, or a name of `caloman models`.
        output: folder to write.

    Returns:
        A sentence about the folder.

    Raises:
        CalomanError: if there is no such generator, the comparison does not have its particle, the energy is not its
            only condition, or the folder holds something else or cannot be written.
    """
    model, folder = bundle.load(run), Path(output)
    particle = model.geometry.particle
    if particle not in PARTICLES:
        raise CalomanError(f"{run}: generates {particle} showers, but the comparison has {' and '.join(PARTICLES)} "
                           "showers; name a generator of these")  # fmt: skip
    if model.conditions.further:
        raise CalomanError(f"{run}: also needs {', '.join(model.conditions.further)}, but the comparison gives the "
                           "energy alone; name a generator without further conditions")  # fmt: skip
    if not (folder / RECIPE).is_file() and folder.is_dir() and any(folder.iterdir()):
        raise CalomanError(f"{output}: holds something else; name a new folder, or one that `caloman submit` wrote")
    files = shared_files(bundle.find(run))
    for name in SNIPPETS:
        write(folder / name, _filled(name))
    with appearing_folder(folder / f"{particle}s") as part:
        for name, content in files.items():
            (part / name).write_bytes(content)
    with appearing_folder(folder / "caloman") as part:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(__file__).parents[1], part, dirs_exist_ok=True, ignore=ignored)
    script = folder / f"run-{particle}-sample.sh"
    write(script, _filled("run-sample.sh", particle=particle))
    script.chmod(0o755)
    covered = model.conditions[0].covers(np.array(ENERGIES) * 1e3)
    outside = ", ".join(f"{energy} GeV" for energy, inside in zip(ENERGIES, covered, strict=True) if not inside)
    refused = f"; it will refuse {outside}, outside its training" if outside else ""
    return f"{output}: {particle} generator for the CMS HGCal comparison, see README.md there{refused}"


def _filled(name: str, **names: str) -> str:
    template = resources.files("caloman.exporting").joinpath("snippets", f"{name}.in").read_text(encoding="utf-8")
    needed = [f'"{line}"' for line in metadata.requires("caloman") or () if "extra ==" not in line]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Template(template).substitute(names, requirements=" ".join(needed), python=python)
