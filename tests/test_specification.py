"""Nothing in a pipeline or a bundle is run, wherever it stands and however it is wrapped."""

import json
import random
import sys
from copy import deepcopy
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from caloman import bundle
from caloman.errors import CalomanError
from caloman.specification import PACKAGES, TEXT, find_class, parameters, parse_yaml, read_layers, read_yaml, to_yaml
from caloman.training.config import load_pipeline

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "trainer")
EVIL = {"class_path": "os.system", "init_args": {"command": "echo owned"}}
AUDITED = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "shutil.rmtree", "os.remove")
"""Events that no specification may cause."""

happened: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in AUDITED:
        happened.append(event)


sys.addaudithook(_watch)

FOREIGN = (
    *("os.system", "subprocess.Popen", "builtins.exec", "builtins.eval", "pty.spawn", "runpy.run_path", "pickle.loads"),
    *(
        "torch.load",
        "torch.hub.load",
        "shutil.rmtree",
        "caloman.bundle.shutil.rmtree",
        "caloman.training.pipeline.torch",
    ),
    *("caloman.training.fit", "caloman.bundle.load", "caloman.files.write", "caloman.showers.writer.ShowerWriter"),
    *("caloman.training.config.Pipeline", "caloman.flows.spline", "caloman.flows.__builtins__", "caloman", "", "."),
)
OBJECTS = (
    *({"class_path": path, "init_args": {"command": "echo owned"}} for path in FOREIGN),
    {"class_path": json.dumps(EVIL)},
    {"class_path": ["os.system"], "init_args": {}},
    {"init_args": EVIL},
    {**EVIL, "dict_kwargs": {"command": "echo owned"}},
    {"__default_config__": "evil.yaml", **EVIL},
    {json.dumps(EVIL): EVIL},
    [EVIL],
)
TEXTS = (
    json.dumps(EVIL),
    json.dumps(json.dumps(EVIL)),
    yaml.safe_dump(EVIL),
    f"[{json.dumps(EVIL)}]",
    "os.system",
    "!!python/object/apply:os.system ['echo owned']",
    "caloman.training.fit",
    "%YAML 1.1",
    "evil.yaml",
    "/dev/stdin",
)
YAML_TEXTS = ("!!python/object/apply:os.system ['echo owned']", "&a [*a]", "*a", "!!binary aGVsbG8=", "{<<: {a: 1}}")
MARK = "a-place-for-a-payload"


def places(value, way=()):
    """The way to every node of plain data."""
    yield way
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from places(part, (*way, key))


def planted(value, way, payload):
    """A copy of plain data with another value at one node."""
    if not way:
        return payload
    result = deepcopy(value)
    place = result
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = payload
    return result


def attempt(action, *arguments):
    """Whether a specification is accepted; anything but a refusal in one sentence is an error of ours."""
    happened.clear()
    refusal = None
    try:
        action(*arguments)
    except CalomanError as error:
        refusal = str(error)
    assert happened == []
    assert refusal is None or "\n" not in refusal
    return refusal is None


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_payload_at_any_node_of_a_pipeline_is_refused_or_a_text(path, tmp_path):
    draw = random.Random(str(path.relative_to(ROOT)))
    spec = read_layers(path)
    target = tmp_path / "pipeline.yaml"
    for way in draw.sample(list(places(spec)), 12):
        for payload in (draw.choice(OBJECTS), draw.choice(TEXTS)):
            target.write_text(to_yaml(planted(spec, way, payload)))
            accepted = attempt(load_pipeline, target)
            assert not accepted or (isinstance(payload, str) and TEXT.fullmatch(payload)), (way, payload)
        target.write_text(to_yaml(planted(spec, way, MARK)).replace(MARK, draw.choice(YAML_TEXTS)))
        assert not attempt(load_pipeline, target)


def test_a_payload_in_an_overlay_or_an_option_is_refused(tmp_path):
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump({"model": EVIL}))
    assert not attempt(load_pipeline, "1-photons/caloman", [f"--trainer={tmp_path / 'evil.yaml'}"])
    (tmp_path / "based.yaml").write_text("base: evil.yaml\n")
    assert not attempt(load_pipeline, tmp_path / "based.yaml")
    payloads = (*map(json.dumps, OBJECTS), *TEXTS, *YAML_TEXTS)
    draw = random.Random(1)
    for key in ("model", "model.shape", "model.shape.density.flow", "stages", "stages.latent.task", "stages.x", "data"):
        for payload in draw.sample(payloads, 8):
            assert not attempt(load_pipeline, "1-photons/caloman", [f"--{key}={payload}"]), (key, payload)


def test_a_payload_at_any_node_of_a_bundle_is_refused_or_a_text(run):
    path = run / "bundle" / "config.yaml"
    spec = read_yaml(path)
    draw = random.Random(1)
    for way in places(spec):
        for payload in draw.sample((*OBJECTS, *TEXTS), 3):
            path.write_text(to_yaml(planted(spec, way, payload)))
            accepted = attempt(bundle.load, run)
            assert not accepted or way[:1] == ("caloman",) or way[:1] == ("training",), (way, payload)


def every_class():
    for module in PACKAGES:
        import_module(module)
    names = [f"{module}.{name}" for module in PACKAGES for name in sys.modules[module].__all__]
    found = [(path, getattr(sys.modules[path.rpartition(".")[0]], path.rpartition(".")[2])) for path in names]
    return [path for path, value in found if isinstance(value, type) and not issubclass(value, tuple)]


@pytest.mark.parametrize("path", every_class())
def test_the_arguments_of_a_class_are_those_that_the_parser_knows(path):
    found = find_class(path, "test")
    parser = ArgumentParser()
    try:
        keys = set(parser.add_class_arguments(found, "x", fail_untyped=False))
    except (ValueError, TypeError):
        pytest.skip("not a class that a specification could make")
    assert {key.removeprefix("x.") for key in keys} <= set(parameters(found))


def test_a_typing_error_is_met_with_the_right_word():
    with pytest.raises(CalomanError, match="'seeed' is not accepted; did you mean 'seed'"):
        load_pipeline("1-photons/caloman", ["--seeed=1"])
    with pytest.raises(CalomanError, match=r"did you mean 'caloman\.manifold\.VAE'"):
        load_pipeline("1-photons/caloman", ["--model.shape.autoencoder.class_path=caloman.manifold.VAEE"])
    with pytest.raises(CalomanError, match="1-photons/caloman"):
        load_pipeline("1-photons/calomann")


SCALARS = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
TEXT_VALUES = st.text(st.characters(max_codepoint=0xD7FF), max_size=20)


def collections(inner):
    return st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)


@settings(max_examples=200, deadline=None)
@given(st.recursive(SCALARS | TEXT_VALUES, collections))
def test_plain_data_survives_the_parser(value):
    assert parse_yaml(json.dumps(value), "test") == value


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "? [1]\n: 2", "[" * 100, "{a: *b}", "a: &b 1", "a: !x 1", "\0", "a: [", "%X"]
)
def test_what_is_no_plain_yaml_is_refused_in_one_sentence(text):
    with pytest.raises(CalomanError, match=r"^file: "):
        parse_yaml(text, "file")


def test_an_alias_bomb_and_a_huge_file_are_refused_at_once(tmp_path):
    names = "abcdefghijklmnopqrst"
    lines = [f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise(names)]
    bomb = "a: &a [x, x]\n" + "".join(lines)
    with pytest.raises(CalomanError, match="alias"):
        parse_yaml(bomb, "bomb")
    (tmp_path / "huge.yaml").write_text("a: " + "x" * 2**21)
    with pytest.raises(CalomanError, match="larger than a megabyte"):
        load_pipeline(tmp_path / "huge.yaml")


def test_a_folder_with_a_dotted_name_is_a_text_and_no_class():
    pipeline, resolved = load_pipeline("1-photons/caloflow_student_small", ["--stages.student.task.teacher=teacher.v2"])
    assert resolved["stages"]["student"]["task"]["init_args"]["teacher"] == "teacher.v2"
    assert pipeline.stages["student"].task.keywords["teacher"] == "teacher.v2"
