"""The file formats: each is written from a target and read again as a function of arrays."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloman.errors import CalomanError
from caloman.exporting.targets import Target
from caloman.flows.folded import fold

Array = NDArray[np.float32]
Run = Callable[..., list[Array]]  # turns the inputs of a target into its outputs


OPSET, IR_VERSION = 18, 8  # of ONNX files: onnxruntime 1.14 and newer read them


class Format(NamedTuple):
    """How to write and to read a kind of file, and what its readers need."""

    write: Callable[[Target, tuple[Tensor, ...], Mapping[str, object], Path], None]
    read: Callable[[Path], Run]
    needs: Mapping[str, object]


def write_torch_export(target: Target, inputs: tuple[Tensor, ...], manifest: Mapping[str, object], path: Path) -> None:
    """Writes a ``.pt2`` of `torch.export`, with the manifest as the extra file ``manifest.json``."""
    batch = torch.export.Dim("batch", min=1)
    target = fold(target)
    with _quiet():
        axes = target.batch_axes(batch)
        program = torch.export.export(target, inputs, dynamic_shapes=axes, strict=False)
        buffer = BytesIO()  # torch itself does not tell a full disk from other errors
        torch.export.save(program, buffer, extra_files={"manifest.json": json.dumps(manifest)})
    path.write_bytes(buffer.getvalue())


def read_torch_export(path: Path) -> Run:
    """Reads a ``.pt2``."""
    with _quiet(), path.open("rb") as file:
        return _on_arrays(torch.export.load(file).module())


def write_torchscript(target: Target, inputs: tuple[Tensor, ...], manifest: Mapping[str, object], path: Path) -> None:
    """Writes a TorchScript trace for LibTorch, with the manifest as the extra file ``manifest.json``."""
    with _quiet():
        script = torch.jit.trace(fold(target), inputs, check_trace=False)
        buffer = BytesIO()
        torch.jit.save(torch.jit.freeze(script), buffer, _extra_files={"manifest.json": json.dumps(manifest)})
    path.write_bytes(buffer.getvalue())


def read_torchscript(path: Path) -> Run:
    """Reads a TorchScript file."""
    with _quiet():
        return _on_arrays(torch.jit.load(str(path)))


def write_onnx(
    target: Target, inputs: tuple[Tensor, ...], manifest: Mapping[str, object], path: Path, half: bool = True
) -> None:
    """Writes an ONNX file; see `caloman.exporting.onnx`."""
    from caloman.exporting import onnx

    with _quiet():
        onnx.write(fold(target), inputs, manifest, path, half)


def read_onnx(path: Path) -> Run:
    """Reads an ONNX file with onnxruntime on one thread."""
    from caloman.exporting import onnx

    return onnx.read(path)


FORMATS = {
    ".onnx": Format(write_onnx, read_onnx, {"opset": OPSET, "ir_version": IR_VERSION}),
    ".pt2": Format(write_torch_export, read_torch_export, {"torch": torch.__version__}),
    ".pt": Format(write_torchscript, read_torchscript, {"torch": torch.__version__}),
}


def find_format(path: Path) -> Format:
    """The format that a file's suffix stands for.

    Raises:
        CalomanError: if it stands for none.
    """
    if path.suffix not in FORMATS:
        raise CalomanError(f"{path}: the suffix tells the format; use one of {', '.join(FORMATS)}")
    return FORMATS[path.suffix]


def _on_arrays(module: Callable) -> Run:
    def run(*inputs: Array) -> list[Array]:
        with torch.inference_mode():
            outputs = module(*map(torch.from_numpy, inputs))
        return [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters warn about themselves: deprecated, being rewritten."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield
