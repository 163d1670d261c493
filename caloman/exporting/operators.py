"""Functions that ONNX does not have, or not to the digits that a generator needs, written with those it has."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import ir, opset18
from onnxscript.rewriter.pattern import RewriteRule, RewriteRuleSet

op: Any = opset18  # its types are those of script functions; here values of a graph go in and out

CENTER = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip
ERFC = (
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
    -1.26551223,
)  # fmt: skip


def erfc(values: ir.Value) -> ir.Value:
    """Complementary error function with all digits in its upper tail, where 1 - Erf has none, and below it.

    References:
        Press et al., Numerical Recipes, section 6.2 (erfcc).
    """
    z = op.Abs(values)
    t = op.Div(_number(1), op.Add(_number(1), op.Mul(_number(0.5), z)))
    upper = op.Mul(t, op.Exp(op.Sub(_polynomial(ERFC, t), op.Mul(z, z))))
    return op.Where(op.Less(values, _number(0.5)), op.Sub(_number(1), op.Erf(values)), upper)


def sigmoid(values: ir.Value) -> ir.Value:
    """Logistic function with all digits where it is small; onnxruntime's own is right to 1e-7 absolute only."""
    return op.Reciprocal(op.Add(_number(1), op.Exp(op.Neg(values))))


def ndtri(probability: ir.Value) -> ir.Value:
    """Quantile of the standard normal distribution.

    References:
        Giles, Approximating the erfinv function, GPU Computing Gems 2 (2010).
    """
    x = op.Sub(op.Mul(_number(2), probability), _number(1))
    w = op.Neg(op.Log(op.Mul(op.Mul(_number(4), probability), op.Sub(_number(1), probability))))
    center = _polynomial(CENTER, op.Sub(w, _number(2.5)))
    tail = _polynomial(TAIL, op.Sub(op.Sqrt(w), _number(3)))
    return op.Mul(op.Mul(_number(2**0.5), x), op.Where(op.Less(w, _number(5)), center, tail))


def cumprod(values: ir.Value, dim: int, dtype: int | None = None) -> ir.Value:
    """Running product along an axis of known length."""
    products = list(op.Split(values, num_outputs=values.shape[dim], axis=dim))  # type: ignore[index]
    for i in range(1, len(products)):
        products[i] = op.Mul(products[i - 1], products[i])
    return op.Concat(*products, axis=dim)


def softmax(values: ir.Value, dim: int, dtype: int | None = None) -> ir.Value:
    """Softmax, by its parts if the axis is not the last one, where onnxruntime's own transposes."""
    if dim in (-1, len(values.shape) - 1):  # type: ignore[arg-type]
        return op.Softmax(values, axis=-1)
    axis = op.Constant(value_ints=[dim])
    exponentials = op.Exp(op.Sub(values, op.ReduceMax(values, axis, keepdims=1)))
    return op.Div(exponentials, op.ReduceSum(exponentials, axis, keepdims=1))


def clamp(values: ir.Value, lower: ir.Value | None = None, upper: ir.Value | None = None) -> ir.Value:
    """Values within bounds that are single numbers, in one operation in the place of two."""
    return op.Clip(values, *(bound and op.CastLike(bound, values) for bound in (lower, upper)))


def asinh(values: ir.Value) -> ir.Value:
    """Inverse hyperbolic sine; onnxruntime's own takes one number at a time."""
    size = op.Abs(values)
    return op.Mul(op.Sign(values), op.Log(op.Add(size, op.Sqrt(op.Add(op.Mul(size, size), _number(1))))))


def sinh(values: ir.Value) -> ir.Value:
    """Hyperbolic sine, likewise."""
    return op.Mul(_number(0.5), op.Sub(op.Exp(values), op.Exp(op.Neg(values))))


def index_select(values: ir.Value, dim: int, index: ir.Value) -> ir.Value:
    """Chosen rows or columns; numbers of a list by the operation that onnxruntime does ten times as fast."""
    return op.GatherElements(values, index) if len(values.shape) == 1 else op.Gather(values, index, axis=dim)  # type: ignore[arg-type]


def softplus(values: ir.Value, beta: float = 1.0, threshold: float = 20.0) -> ir.Value:
    """Softplus of values up to 80; onnxruntime's own takes one number at a time, six times as long."""
    return op.Log(op.Add(_number(1), op.Exp(op.Clip(values, None, _number(80)))))


TRANSLATIONS: dict[Callable, Callable] = {
    torch.ops.aten.asinh.default: asinh,
    torch.ops.aten.clamp.Tensor: clamp,
    torch.ops.aten.erfc.default: erfc,
    torch.ops.aten.index_select.default: index_select,
    torch.ops.aten.sinh.default: sinh,
    torch.ops.aten.sigmoid.default: sigmoid,
    torch.ops.aten.special_ndtri.default: ndtri,
    torch.ops.aten.cumprod.default: cumprod,
    torch.ops.aten.softmax.int: softmax,
    torch.ops.aten.softplus.default: softplus,
}


def _is_symmetric(context: object, lower: ir.Value, upper: ir.Value, **others: object) -> bool:
    bounds = [bound.const_value.numpy() if bound.const_value is not None else math.nan for bound in (lower, upper)]
    return bool(bounds[0] == -bounds[1])


def _shrink(context: Any, values: ir.Value, lower: ir.Value, upper: ir.Value) -> ir.Value:  # noqa: ANN401
    bound = float(upper.const_value.numpy())  # type: ignore[union-attr]
    return context.Shrink(values, lambd=bound, bias=bound)


REWRITING = RewriteRuleSet(
    [
        RewriteRule(lambda op, x: op.Div(x, op.Add(op.Abs(x), 1.0)), lambda op, x: op.Softsign(x)),
        RewriteRule(
            lambda op, values, lower, upper: op.Sub(values, op.Clip(values, lower, upper)), _shrink, _is_symmetric
        ),
    ]
)
"""Several operations that are one in ONNX."""


def _polynomial(coefficients: Sequence[float], x: ir.Value) -> ir.Value:
    result = _number(coefficients[0])
    for coefficient in coefficients[1:]:
        result = op.Add(op.Mul(result, x), _number(coefficient))
    return result


def _number(value: float) -> ir.Value:
    return op.Constant(value_float=float(value))
