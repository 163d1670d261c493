"""ONNX for onnxruntime of any age."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloman.errors import CalomanError
from caloman.exporting.formats import IR_VERSION, OPSET
from caloman.exporting.targets import Target

try:
    import onnx
    import onnxruntime
    from onnx_ir.passes import common as passes
    from onnxscript import ir, optimizer

    from caloman.exporting.operators import REWRITING, TRANSLATIONS
except ImportError as error:
    raise CalomanError(f"{error.name} is not installed; get it with pip install 'caloman[export]'") from None


WORTHWHILE = 1000  # numbers in a weight from which on it is stored in float16


def write(
    target: Target, inputs: tuple[Tensor, ...], manifest: Mapping[str, object], path: Path, half: bool = True
) -> None:
    """Writes a target with a dynamic batch axis and the manifest in its metadata.

    Args:
        target: the generator with the inputs of its client.
        inputs: examples of them.
        manifest: what the file says of itself.
        path: of the file.
        half: store weights in float16 where no digit is lost.
    """
    outputs = ["showers", "noise"][: 2 if isinstance(target(*inputs), tuple) else 1]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing
    program = torch.onnx.export(
        target,
        inputs,
        input_names=list(target.inputs),
        output_names=outputs,
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=target.batch_axes("batch"),
        custom_translation_table=TRANSLATIONS,
        optimize=False,  # it would take constants below 1e-8 for zero; folding constants alone does not
        verbose=False,
    )
    assert program is not None  # only the other exporter returns nothing
    optimizer.fold_constants(program.model)
    _join_permutations(program.model.graph)
    REWRITING.apply_to_model(program.model)
    _share(program.model)
    for node in program.model.graph:
        node.metadata_props.clear()  # a sixth of a file, paths of this machine among it
    if half:
        _store_in_half(program.model.graph)
    model = program.model_proto
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "caloman", str(manifest["caloman"])
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in manifest.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _share(model: ir.Model) -> None:
    """Keeps one of equal constants, and of nodes that do the same."""
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.DeduplicateInitializersPass(size_limit=2**16)(model)
    passes.CommonSubexpressionEliminationPass()(model)
    optimizer.remove_unused_nodes(model)


def _join_permutations(graph: ir.Graph) -> None:
    """Lets each choice of columns look through the one before it: between couplings there are four in a row."""
    for node in graph:
        columns, before = _chosen_columns(node), node.inputs[0].producer() if node.inputs and node.inputs[0] else None
        earlier = _chosen_columns(before) if before else None
        if before is None or columns is None or earlier is None:
            continue
        joined = ir.Value(name=f"{node.name}_columns", const_value=ir.tensor(earlier[columns]))
        graph.register_initializer(joined)
        node.replace_input_with(0, before.inputs[0])
        node.replace_input_with(1, joined)


def _store_in_half(graph: ir.Graph) -> None:
    """Stores weights with all their digits in float16, as those of a published bundle, in half the space.

    A program turns them into float32 once, when it reads the file.
    """
    for name, value in list(graph.initializers.items()):
        array = value.const_value.numpy() if value.const_value is not None else np.zeros(0)
        if array.dtype != np.float32 or array.size < WORTHWHILE or (array.astype(np.float16) != array).any():
            continue
        half = ir.Value(name=f"{name}_half", const_value=ir.tensor(array.astype(np.float16), name=f"{name}_half"))
        graph.register_initializer(half)
        cast = ir.node("Cast", [half], attributes={"to": int(ir.DataType.FLOAT)})
        cast.outputs[0].name = f"{name}_whole"
        graph.insert_before(graph[0], cast)
        value.replace_all_uses_with(cast.outputs[0])
        del graph.initializers[name]


def _chosen_columns(node: ir.Node) -> NDArray[np.int64] | None:
    """The columns that a node picks from a matrix; None if it does something else."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 1:
        return None
    index = node.inputs[1]
    constant = index.const_value if index else None
    return constant.numpy() if constant is not None and constant.numpy().ndim == 1 else None


def read(path: Path, threads: int = 1) -> Callable[..., list]:
    """Reads an ONNX file as a function of arrays, on one thread or more.

    Raises:
        CalomanError: if it is no ONNX file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own kinds, all of them children of this one
        raise CalomanError(f"{path}: not an ONNX file of `caloman export` ({type(error).__name__})") from None
    names = [argument.name for argument in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))


def quantize(path: Path) -> None:
    """Turns the weights of a file into int8 by onnxruntime's dynamic quantization, to measure what that does."""
    from onnxruntime.quantization import quantize_dynamic

    model = onnx.load(path)
    del model.graph.value_info[:]  # the quantization transposes weights, but not the shapes that it finds
    quantize_dynamic(model, path)
