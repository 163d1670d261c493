"""Every code block of README and manual, run in order in a folder with tiny stand-ins for data and trained models.

A comment before a block says where it cannot run: ``<!-- test: parsed -->`` for commands that only pass the parser, as
they would take hours, a cluster or a GPU; ``<!-- test: not run: REASON -->`` for what needs a network, a compiler or a
diverged run. All other commands pass the parser as they are printed, and run with small numbers in place of large.
"""

import importlib
import inspect
import json
import os
import pkgutil
import re
import shlex
import shutil
import tomllib
import warnings
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path

import pytest
import yaml

import caloman
from caloman.cli import FUNCTIONS, main
from caloman.evaluation.presets import QUICK
from caloman.showers.geometry import BUILT_IN
from caloman.showers.showers import Showers
from caloman.training.config import load_pipeline

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "generated" not in page.parts and "_build" not in page.parts]
SAMPLES = ROOT / "data_prep" / "samples"
NOT_RUN = 9
"""Blocks that nothing can run here. A new one has to raise this number, so that it is a decision."""

SHOWERS = 60
FENCE = re.compile(
    r"(?:<!-- test: (?P<mark>[^>]*?) -->\n)?^(?P<ticks>```+)(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=ticks)$",
    re.M | re.S,
)
LANGUAGES = {"bash", "python", "yaml", "toml", "xml", "text"}


@dataclass(frozen=True)
class Block:
    """A block of code: how it is marked, what it is written in, the file that it is, and the code."""

    mark: str
    language: str
    file: str
    code: str


def blocks(page):
    for match in FENCE.finditer(page.read_text()):
        language = match["language"].strip()
        caption = re.match(r":caption: *(.*)\n+", match["code"])
        if not language.startswith("{") or language.startswith("{code-block}"):
            code = match["code"][caption.end() :] if caption else match["code"]
            language = language.removeprefix("{code-block}").strip()
            yield Block(match["mark"] or "", language, caption[1] if caption else "", code)


def commands(code):
    """The command lines of a block of shell code, as lists of words."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


@pytest.fixture(scope="module", autouse=True)
def small_judge():
    """A judge without figures, whose classifiers are tiny: their tests are elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        tiny = replace(QUICK, repeats=1, hidden=(8,), epochs=1, min_updates=0)
        for module in ("presets", "command"):
            patch.setattr(f"caloman.evaluation.{module}.QUICK", tiny)
        patch.setattr("caloman.evaluation.plots.pictures", lambda *_: ())
        yield


@pytest.fixture(scope="module")
def stand_ins(small_judge, tmp_path_factory):
    """A trained model and shower files, as the pages suppose them to exist."""
    folder = tmp_path_factory.mktemp("stand-ins")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("configs", "data_prep", "scripts"):
            (folder / name).symlink_to(ROOT / name)
        photons = BUILT_IN["1-photons"]
        test, train = (Showers.load(SAMPLES / f"photons_{name}.hdf5", photons) for name in ("test", "train"))
        test[:SHOWERS].save("geant4.hdf5")
        train[:SHOWERS].save("other_geant4.hdf5")
        run_command(["fit", "configs/1-photons/caloman.yaml", "--output", "runs/photons"])
        for name in ("caloinn", "electrons"):
            shutil.copytree("runs/photons", f"runs/{name}")
        run_command(["generate", "runs/photons", "generated.hdf5", "--energies", "geant4.hdf5", "--seed", "1"])
        run_command(["evaluate", "generated.hdf5", "geant4.hdf5", "--output", "report-monday"])
        shutil.copytree("report-monday", "report-tuesday")
    return folder


@pytest.fixture(scope="module", autouse=True)
def generators(stand_ins):
    """A generator of the package, of the same size as the other stand-ins."""
    bundle = shutil.copytree(stand_ins / "runs/photons/bundle", stand_ins / "package/photons")
    metrics = json.loads((stand_ins / "report-monday/metrics.json").read_text())["samples"][0]["metrics"]
    metrics["auc_low"] = metrics["auc_high"]
    facts = {"detector": "a stand-in", "milliseconds": 1.0, "metrics": metrics}
    (bundle / "evaluation.json").write_text(json.dumps(facts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caloman.generators.names.FOLDER", stand_ins / "package")
        yield


@pytest.fixture
def folder(stand_ins, tmp_path, monkeypatch):
    """A folder of one's own with the stand-ins."""
    shutil.copytree(stand_ins, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "site").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "work" / "site")
    return tmp_path / "work"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the exporters
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page, folder):
    names = {"__name__": "page"}
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page}: a block in {block.language!r}, which no test understands"
        if block.file:
            Path(block.file).parent.mkdir(exist_ok=True)
            Path(block.file).write_text(block.code)
        if block.language == "yaml":
            assert yaml.safe_load(block.code)
        elif block.language == "toml":
            assert tomllib.loads(block.code)
        elif block.language == "xml":
            assert len(ET.fromstring(block.code))
        elif block.language == "python":
            code = compile(block.code, f"{page.name}: {block.code[:60]!r}", "exec")
            if not block.mark.startswith("not run"):
                exec(code, names)
        elif block.language == "bash":
            for words in commands(block.code):
                shell(words, run=not block.mark)


def shell(words, run):
    """Runs a command of caloman, and checks of any other that the files it names exist in the repository."""
    for word in words:
        if word.startswith(("scripts/", "configs/", "data_prep/")):
            assert (ROOT / word).exists(), f"{word}: no such file in the repository"
    if words[:2] == ["pip", "install"] and run:
        install(Path(words[2]))
    if words[0] != "caloman":
        return
    parse(words[1:])
    if run:
        run_command(words[1:])


def install(project):
    """Does what pip would do with a project of one module and its entry points, without building a wheel."""
    facts = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    site, name = Path("site"), facts["name"].replace("-", "_")
    shutil.copy(project / f"{name}.py", site)
    metadata = site / f"{name}-{facts['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {facts['name']}\nVersion: {facts['version']}\n")
    points = [f"[{group}]\n" + "\n".join(map(" = ".join, p.items())) for group, p in facts["entry-points"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(points))
    importlib.invalidate_caches()


def parse(arguments):
    """Sends a command through the parser as it is, with nothing behind it but the check of a pipeline."""
    name, calls = arguments[0], []
    command = getattr(caloman, FUNCTIONS[name])

    @wraps(command)
    def pretend(*args, **kwargs):
        calls.append(inspect.signature(command).bind(*args, **kwargs).arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caloman, FUNCTIONS[name], pretend)
        assert main(arguments) == 0, f"caloman {shlex.join(arguments)}"
    (call,) = calls
    if name == "fit" and not Path(call["config"]).is_dir():
        layers = [f"--trainer={layer}" for layer in call.get("trainer", ())]
        load_pipeline(call["config"], [*layers, *call.get("overrides", ())])


def run_command(arguments):
    """Runs a command, with small numbers in the place of large ones."""
    arguments = [re.sub(r"^\d{3,}$", str(SHOWERS), word) for word in arguments]
    arguments = [small_slice(word) for word in arguments]
    if arguments[0] == "fit":
        arguments += ["--overwrite", *small_training(arguments[1])]
    if arguments[0] == "evaluate" and "--modes" not in arguments:  # the README runs all, in Python
        arguments += ["--modes", "hist", "cls-high"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # so few showers that some figures have nothing to show
        assert main(arguments) == 0, f"caloman {shlex.join(arguments)}"


def small_slice(word):
    """Names the first showers of a sample in the place of all."""
    return f"{word}[0:{SHOWERS}]" if word.startswith("data_prep/samples/") and word.endswith(".hdf5") else word


def small_training(config):
    """Options that train a pipeline in a second or two."""
    _, spec = load_pipeline(config)
    options = ["--monitor=null", "--data.max_showers=300", "--model.shape.autoencoder.hidden=[8]"]
    for name in spec["stages"]:
        options += [f"--stages.{name}.trainer.max_epochs=1", f"--stages.{name}.trainer.batch_size=25"]
    arguments = spec["model"]["init_args"]
    flows = {"energy": arguments["energy"], **{f"shape.{k}": v for k, v in arguments["shape"]["init_args"].items()}}
    for part, module in flows.items():
        if isinstance(module, dict) and "flow" in module["init_args"]:
            options += [f"--model.{part}.flow.transforms=1", f"--model.{part}.flow.hidden=8"]
    return options


def test_blocks_that_cannot_run_are_few_and_have_a_reason():
    marks = [block.mark for page in PAGES for block in blocks(page) if block.mark]
    assert all(re.fullmatch(r"parsed|not run: .+", mark) for mark in marks)
    assert sum(mark.startswith("not run") for mark in marks) == NOT_RUN


def test_readme_is_read_to_the_end():
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_links_of_the_readme_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_files_and_names_in_the_text_exist():
    """Files of the repository, and dotted names of the package, that stand in code marks within sentences."""
    for page in PAGES:
        if page.name == "changelog.md":
            continue
        text = FENCE.sub("", page.read_text())
        for word in re.findall(r"`((?:scripts|configs|data_prep|tests|docs)/[\w./-]+)`", text):
            assert (ROOT / word).exists(), f"{page}: {word}"
        for name in re.findall(r"`(caloman(?:\.(?!yaml)\w+)+)`", text):
            assert pkgutil.resolve_name(name) is not None, f"{page}: {name}"


def test_pages_are_all_listed():
    """No page is left out of the index of its folder."""
    for page in (ROOT / "docs").rglob("*.md"):
        if page.name != "index.md" and page in PAGES:
            index = (page.parent / "index.md").read_text()
            assert re.search(rf"^{re.escape(page.stem)}$", index, re.M), page


os.environ.setdefault("MPLBACKEND", "agg")
