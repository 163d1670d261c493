"""Ways to run a generator: as PyTorch does by itself, compiled, and as an ONNX graph."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from caloman import __version__
from caloman.errors import CalomanError
from caloman.exporting.clients import make_target
from caloman.exporting.formats import Run, write_onnx
from caloman.exporting.verify import reference_inputs
from caloman.models import ShowerModel

Generate = Callable[[Tensor, Tensor], object]
"""Turns noise (N, noise_dim) and conditions (N, C) into showers in the memory of the host."""


def eager(model: ShowerModel) -> Generate:
    """The model as it is, on its device."""
    return lambda noise, conditions: model(noise, conditions).cpu()


def compiled(model: ShowerModel) -> Generate:
    """The model as `torch.compile` translates it, anew for each batch size.

    Raises:
        CalomanError: if there is no C++ compiler.
    """
    if not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise CalomanError("there is no C++ compiler")
    program = torch.compile(model, dynamic=False)
    return lambda noise, conditions: program(noise, conditions).cpu()


def exported(model: ShowerModel, weights: str = "float16") -> Generate:
    """The model as an ONNX graph, on as many threads of the CPU as PyTorch uses.

    Args:
        model: the generator.
        weights: in the file: float16 where that has all their digits, as `caloman export` writes it, or float32, or
            int8 by onnxruntime's own dynamic quantization, which gives other showers.

    Raises:
        CalomanError: if the model cannot be exported, or the extra packages are missing.
    """
    if model.device.type != "cpu":
        raise CalomanError("onnxruntime runs on the CPU here")
    from caloman.exporting import onnx

    target = make_target(model, "calochallenge")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "generator.onnx"
        inputs = target.arguments(*reference_inputs(model, 2, seed=0))
        write_onnx(target, inputs, {"caloman": __version__}, path, half=weights == "float16")
        if weights == "int8":
            onnx.quantize(path)
        return _on_tensors(onnx.read(path, torch.get_num_threads()))


def read_export(path: Path, model: ShowerModel) -> Generate:
    """The graph of an ONNX file of the model.

    Raises:
        CalomanError: if the file does not take the noise and the conditions of the model.
    """
    from caloman.exporting import onnx

    generate = _on_tensors(onnx.read(path, torch.get_num_threads()))
    try:
        generate(*reference_inputs(model, 2, seed=0))
    except Exception as error:  # onnxruntime has its own kinds
        raise CalomanError(
            f"{path}: does not take {model.noise_dim} numbers of noise and {', '.join(model.conditions.names)} as the "
            f"run does; make it with `caloman export` for the target calochallenge ({type(error).__name__})"
        ) from None
    return generate


def _on_tensors(run: Run) -> Generate:
    return lambda noise, conditions: run(noise.numpy(), *(column.numpy() for column in conditions.split(1, 1)))[0]


ENGINES: dict[str, Callable[[ShowerModel], Generate]] = {
    "eager": eager,
    "compiled": compiled,
    "ONNX": exported,
    "float32": partial(exported, weights="float32"),
    "int8": partial(exported, weights="int8"),
}
USUAL = ("eager", "compiled", "ONNX")
