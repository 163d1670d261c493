import ast
import subprocess
import sys
from pathlib import Path

import pytest

import caloman

ROOT = Path(caloman.__file__).parent
MODULES = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in ROOT.rglob("*.py")}

EVERYTHING = {"everything"}
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "progress": set(),
    "specification": {"errors", "files"},
    "run_folders": {"errors", "files", "specification"},
    "showers": {"errors", "files"},
    "data": {"errors", "files", "showers"},
    "nn": {"errors"},
    "evaluation": {"errors", "files", "progress", "showers", "nn"},
    "flows": {"errors", "nn"},
    "preprocessing": {"errors", "showers", "nn"},
    "manifold": {"errors", "showers", "nn", "flows", "preprocessing"},
    "models": {"errors", "showers", "nn", "flows", "preprocessing", "manifold"},
    "rivals": {"errors", "showers", "nn", "flows", "preprocessing", "manifold", "models"},
    "demonstrations": {"errors", "files", "nn", "flows", "preprocessing", "manifold"},
    "generators": {"errors", "files", "specification", "showers", "data", "models"},
    "bundle": {"errors", "files", "specification", "showers", "models", "generators"},
    "sharing": {"errors", "files", "generators", "bundle"},
    "generation": {"errors", "files", "progress", "showers", "manifold", "models", "bundle", "evaluation"},
    "exporting": {"errors", "files", "progress", "showers", "flows", "models", "bundle", "sharing"},
    "benchmarking": {
        "errors",
        "files",
        "progress",
        "specification",
        "showers",
        "models",
        "rivals",
        "bundle",
        "exporting",
        "evaluation",
    },
    "training": {
        *("errors", "files", "run_folders", "specification", "showers", "evaluation"),
        *("nn", "flows", "preprocessing", "manifold", "models", "rivals", "bundle"),
    },
    "cli": EVERYTHING,
    "__main__": {"cli"},
}
"""Part of the package -> the parts below it. A new part has to take its place here."""

RESERVED = {
    "h5py": ("caloman.showers", "caloman.data"),
    "matplotlib": ("caloman.evaluation.plots",),
    "pytorch_lightning": ("caloman.training",),
    "lightning": ("caloman.training",),
    "onnx": ("caloman.exporting",),
    "onnxruntime": ("caloman.exporting",),
    "onnxscript": ("caloman.exporting",),
    "lightning_fabric": ("caloman.training",),
    "wandb": ("caloman.training",),
    "distributed": ("caloman.generation.cluster",),
}
"""Third-party package -> the only modules that may import it."""


def imports(path):
    """Full names of all imported modules, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(module):
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("module", [name for name in MODULES if name != "caloman.__init__"])
def test_imports_lead_downward_only(module):
    own = part(module)
    assert own in MAY_IMPORT, f"{own} has no place in MAY_IMPORT"
    used = {part(name) for name in imports(MODULES[module]) if name.split(".")[0] == "caloman"}
    allowed = {own, "__version__"} | MAY_IMPORT[own]
    assert MAY_IMPORT[own] is EVERYTHING or used <= allowed


def test_no_part_is_below_itself():
    def below(name, seen=()):
        assert name not in seen, f"cycle: {[*seen, name]}"
        for other in MAY_IMPORT[name] - EVERYTHING:
            below(other, (*seen, name))

    for name in MAY_IMPORT:
        below(name)


@pytest.mark.parametrize("package", RESERVED)
def test_reserved_packages_stay_in_their_place(package):
    users = {name for name, path in MODULES.items() if package in {i.split(".")[0] for i in imports(path)}}
    assert all(user.startswith(RESERVED[package]) for user in users)


@pytest.mark.parametrize("module", MODULES)
def test_no_star_import_and_no_print(module):
    tree = ast.parse(MODULES[module].read_text())
    assert not any(name.endswith(".*") for name in imports(MODULES[module]))
    calls = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert "print" not in calls


HEAVY = "{'torch', 'pytorch_lightning', 'wandb', 'matplotlib', 'h5py'}"


@pytest.mark.parametrize("statement", ["import caloman", "from caloman.cli import main; main(['--help'])"])
def test_light_entry_points_load_nothing_heavy(statement):
    code = f"import sys; {statement}; loaded = {HEAVY} & set(sys.modules); sys.exit(', '.join(loaded) or None)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", caloman.__all__)
def test_public_names_are_found(name):
    assert getattr(caloman, name).__module__.startswith("caloman.")
    assert name in dir(caloman)


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        _ = caloman.nothing
