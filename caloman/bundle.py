"""A trained generator as a folder that is safe to load: YAML, safetensors and the binning, no pickle.

``config.yaml`` is the manifest: format, classes and their arguments, trained ranges, training data and the SHA-256 of
weights and mesh. ``model.safetensors`` holds weights and statistics, ``geometry.xml`` the voxel mesh, ``training.json``
tells how the model was trained, and ``README.md`` is the model card.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.nn.modules.module import register_module_parameter_registration_hook

from caloman import __version__
from caloman.errors import CalomanError, first_line
from caloman.files import appearing_folder, restore, sha256
from caloman.generators.card import model_card
from caloman.generators.names import locate
from caloman.models import ShowerModel
from caloman.showers.conditions import ENERGY, Condition, Conditions
from caloman.showers.geometry import Geometry
from caloman.showers.spectra import MOST_SHOWERS
from caloman.specification import build, read_yaml, to_yaml

FORMAT, OLDEST = 4, 2
"""Format of the bundles that are written, and the oldest one that is read: bundles of format 2 list no conditions."""
UNLIMITED = 3, re.compile(r"\S+\.shares\.(start|step|edges|limits)")
"""Format up to which shares of layers had no limits, and the tensors of these: they stay as they are before a fit."""
LARGEST_SIZE = 1_000_000
HASHED = ("geometry.xml", "model.safetensors")
Factory = Callable[[Geometry, Conditions], ShowerModel]
ENERGY_RANGE = "energy_range"
"""Tensor with the trained energies [MeV] in bundles from before other conditions, which list none."""


def load(path: str | Path) -> ShowerModel:
    """Loads a generator.

    Args:
        path: run folder of ``caloman fit`` or a bundle; the name of a generator of the package, see `list_models`; or
            the address of a shared one: ``hf://OWNER/NAME``, or ``https://...`` or ``doi:.../FILE`` of a zip file, each
            with ``#sha256=`` and its SHA-256.

    Raises:
        CalomanError: if there is no such generator, or one that is damaged or newer than this code.
    """
    folder = find(path)
    config = read_config(folder)
    _check_files(folder, config["files"])
    geometry = Geometry.from_xml(folder / "geometry.xml")
    weights = folder / "model.safetensors"
    source = folder / "config.yaml"
    if _largest(config["model"]) > LARGEST_SIZE:
        raise CalomanError(f"{source}: 'model' has a number above {LARGEST_SIZE}; no size of a generator is")
    factory = _factory(config["model"], source)
    conditions = _conditions(config, source, weights)
    shapes, optional = _shapes(weights), UNLIMITED[1] if config["format"] <= UNLIMITED[0] else None
    _check_plan(factory, geometry, conditions, source, shapes, optional)
    model = factory(geometry, conditions)
    try:
        tensors = {name: tensor for name, tensor in load_file(weights).items() if name in shapes}
        model.load_state_dict(tensors, strict=optional is None)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CalomanError(f"{weights}: does not fit its config.yaml, copy the bundle again ({reason})") from None
    broken = [name for name, tensor in model.state_dict().items() if tensor.isnan().any()]
    broken += [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    if broken:
        raise CalomanError(f"{weights}: {broken[0]!r} holds values that are not finite numbers; train the model again")
    return model.eval()


def find(path: str | Path) -> Path:
    """The folder of a bundle, given that, the run folder around it, or what else `load` takes.

    Raises:
        CalomanError: if there is no such generator, or the path is a file, such as a checkpoint.
    """
    folder = locate(path)
    if folder.is_file():
        raise CalomanError(
            f"{path}: a generator is a folder, a bundle or a run of `caloman fit`; name that, not a file"
        )
    restore(folder / "bundle")
    return folder / "bundle" if (folder / "bundle").is_dir() else folder


def fingerprint(path: str | Path) -> str:
    """SHA-256 of all that a generator's showers depend on: manifest, weights and mesh."""
    folder = find(path)
    digests = [sha256(folder / name) for name in ("config.yaml", *HASHED)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def save(
    model: ShowerModel,
    spec: Mapping[str, Any],
    training: Mapping[str, Any],
    folder: Path,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Writes a bundle, which takes its name only when it is complete.

    Args:
        model: the trained generator.
        spec: its ``class_path`` and ``init_args``.
        training: what the model was trained on, for config and card.
        folder: the bundle; an older one is replaced.
        record: how the model was trained, with what versions and on what machine; for people, nothing reads it.

    Raises:
        CalomanError: if a condition of the model has no trained range or categories.
    """
    _check_trained(model.conditions, folder, "set those of the training showers, `model.conditions.trained(values)`")
    with appearing_folder(folder) as partial:
        model.geometry.to_xml(partial / "geometry.xml")
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, partial / "model.safetensors")
        if record is not None:
            (partial / "training.json").write_text(json.dumps(record, indent=2) + "\n")
        config = {
            "format": FORMAT,
            "caloman": __version__,
            "files": {name: sha256(partial / name) for name in HASHED},
            "model": spec,
            "conditions": model.conditions.plain(),
            "training": training,
        }
        (partial / "config.yaml").write_text(to_yaml(config))
        (partial / "README.md").write_text(model_card(model, training, record or {}))


def build_model(spec: Mapping[str, Any], geometry: Geometry, conditions: Conditions, source: Path) -> ShowerModel:
    """Makes an untrained generator from its ``class_path`` and ``init_args``.

    Raises:
        CalomanError: if the specification does not fit the classes, or names one outside caloman.
    """
    return _factory(spec, source)(geometry, conditions)


def _factory(spec: Mapping[str, Any], source: Path) -> Factory:
    factory, _ = build(spec, Factory, f"{source}: model")
    return factory


def _conditions(config: Mapping[str, Any], source: Path, weights: Path) -> Conditions:
    """The conditions that a manifest lists; the energy alone if it is older than others."""
    listed = config["conditions"] if "conditions" in config else [_energy(source, weights)]
    try:
        conditions = Conditions(build(listed, list[Condition], "conditions")[0])
    except CalomanError as error:
        raise CalomanError(f"{source}: {error}") from None
    _check_trained(conditions, source, "copy the bundle again")
    return conditions


def _check_trained(conditions: Conditions, place: Path, cure: str) -> None:
    for condition in conditions:
        if not (condition.range or condition.categories):
            raise CalomanError(
                f"{place}: condition {condition.name!r} has no range or categories of the training; {cure}"
            )


def _energy(source: Path, weights: Path) -> dict[str, object]:
    """The condition of a bundle that lists none."""
    with _reading(weights) as file:
        if ENERGY_RANGE not in file.keys():  # noqa: SIM118 - no mapping
            raise CalomanError(f"{source}: lists no conditions; copy the bundle again")
        return {"name": ENERGY.name, "unit": ENERGY.unit, "range": file.get_tensor(ENERGY_RANGE).tolist()}


def _check_plan(
    factory: Factory,
    geometry: Geometry,
    conditions: Conditions,
    source: Path,
    shapes: Mapping[str, list[int]],
    optional: re.Pattern[str] | None,
) -> None:
    """Makes sure that a generator has the stored weights, except for optional ones, before it takes any memory."""
    parameters = 0

    def count(*_: object) -> None:
        nonlocal parameters
        parameters += 1
        if parameters > len(shapes):
            raise CalomanError(f"{source}: describes more than the {len(shapes)} tensors of model.safetensors")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            planned = factory(geometry, conditions).state_dict()
    except (RuntimeError, TypeError, ValueError, ArithmeticError, IndexError) as error:  # numbers without sense
        raise CalomanError(f"{source}: 'model' cannot be built ({first_line(error)}); copy the bundle again") from None
    finally:
        hook.remove()
    for name in {**planned, **shapes}:
        if name not in shapes and optional and optional.fullmatch(name):
            continue
        if name not in planned or list(planned[name].shape) != shapes.get(name):
            raise CalomanError(f"{source}: does not describe the tensor {name!r} of model.safetensors; copy it again")


def _largest(spec: object) -> float:
    """The largest number in a specification."""
    if isinstance(spec, Mapping | list):
        return max((_largest(part) for part in (spec.values() if isinstance(spec, Mapping) else spec)), default=0)
    return abs(spec) if isinstance(spec, int | float) else 0


def _shapes(weights: Path) -> dict[str, list[int]]:
    """Shapes of the stored weights and statistics by name."""
    with _reading(weights) as file:
        names = [name for name in file.keys() if name != ENERGY_RANGE]  # noqa: SIM118 - no mapping
        return {name: file.get_slice(name).get_shape() for name in names}


@contextmanager
def _reading(weights: Path) -> Iterator[Any]:
    try:
        with safe_open(weights, "pt") as file:
            yield file
    except (OSError, SafetensorError, ValueError) as error:
        raise CalomanError(f"{weights}: damaged, copy the bundle again ({first_line(error)})") from None


def read_config(path: str | Path) -> dict[str, Any]:
    """The manifest of a bundle: format, specification of the model, digests and training data.

    ``training`` has among others ``files``, each with its ``sha256``, and ``showers``, their number.

    Raises:
        CalomanError: if the folder holds no bundle, or one that is damaged or of another format.
    """
    folder = find(path)
    path = folder / "config.yaml"
    if not path.is_file():
        raise CalomanError(f"{folder}: no finished model here; run `caloman fit` to its last stage, or name a bundle")
    config = read_yaml(path)
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise CalomanError(f"{path}: not the configuration of a bundle; copy the bundle again")
    if not OLDEST <= config["format"] <= FORMAT:
        cure = "upgrade to" if config["format"] > FORMAT else "train it again, or use"
        raise CalomanError(
            f"{path}: a bundle of format {config['format']}, while this version reads {OLDEST} to {FORMAT}; {cure} "
            f"caloman {str(config.get('caloman'))[:20]}"
        )
    if not isinstance(config.get("model"), dict):
        raise CalomanError(f"{path}: has no 'model' with the classes of the generator; copy the bundle again")
    files, training = config.get("files"), config.get("training")
    if not isinstance(files, dict) or set(files) != set(HASHED) or not isinstance(training, dict):
        raise CalomanError(f"{path}: needs 'files' with the SHA-256 of {' and '.join(HASHED)}, and 'training'")
    sources = training.get("files", [])
    if not isinstance(sources, list) or not all(isinstance(s, dict) and _is_digest(s.get("sha256")) for s in sources):
        raise CalomanError(f"{path}: 'training.files' has to list files with their 'sha256'; copy the bundle again")
    showers = training.get("showers", 0)
    if not (isinstance(showers, int) and 0 <= showers <= MOST_SHOWERS):
        raise CalomanError(f"{path}: 'training.showers' has to be their number; copy the bundle again")
    return config


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{1,64}", value) is not None


def _check_files(folder: Path, digests: Mapping[str, str]) -> None:
    for name in HASHED:
        path = folder / name
        if not path.is_file():
            raise CalomanError(f"{path}: missing from the bundle; copy the bundle again")
        if sha256(path) != digests[name]:
            raise CalomanError(f"{path}: not the file that the bundle was made with; copy the bundle again")
