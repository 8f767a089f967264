"""The graph of torch's newer exporter, before it is written: constants are folded, what does nothing is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

__all__ = ["simplified"]

ROUNDS = 2
# Rules of onnxscript's own set. `slice_split_rule` is not among them: it looks at every pair of slices, never finds
# anything in these models, and takes three of the five minutes that SDXL's UNet is exported in.
RULES = (
    "add_0_rule",
    "sub_0_rule",
    "mul_by_1_rule",
    "div_by_1_rule",
    "dropout_zero_rule",
    "dropout_inference_rule",
    "two_reshapes_matmul_reshape_rule",
    "one_reshape_matmul_reshape_rule",
    "cast_constant_of_shape_rule",
    "cast_constant_of_shape_without_value_rule",
    "collapse_slice_rule",
    "collapse_slice2_rule",
    "materialize_reshape_shape_rule",
    "min_min_rule",
    "max_max_rule",
    "min_max_rule",
    "max_min_rule",
    "successive_relu_rule",
    "successive_clip_rule",
    "successive_clip_relu_rule",
    "successive_relu_clip_rule",
    "cast_cast_rule",
    "no_op_cast_rule",
    "no_op_expand_rule",
    "no_op_transpose_rule",
    "reshape_reshape_rule",
    "transpose_transpose_rule",
    "unsqueeze_unsqueeze_rule",
    "flatten_to_reshape_rule",
    "squeeze_reshape_1d_rule",
    "no_op_static_scatter_nd_rule",
    "no_op_dynamic_scatter_nd_rule",
    "fuse_pad_into_conv_rule",
    "fuse_batchnorm_into_conv_rule",
    "fuse_batchnorm_into_conv_transpose_rule",
    "fuse_batchnorm_into_gemm_rule",
    "remove_optional_bias_from_conv_rule",
    "remove_optional_bias_from_conv_transpose_rule",
    "remove_optional_bias_from_gemm_rule",
)
# Afterwards: constants become weights of the graph, what is there twice once; names and outputs stay legal.
LIFT = "LiftConstantsToInitializersPass"
PASSES = (
    LIFT,
    "LiftSubgraphInitializersToMainGraphPass",
    "DeduplicateInitializersPass",
    "CommonSubexpressionEliminationPass",
    "OutputFixPass",
    "NameFixPass",
)


def simplified(program: ONNXProgram) -> ONNXProgram:
    """The same program with fewer nodes, as `ONNXProgram.optimize` makes it, in a time that grows with the graph.

    Args:
        program: as torch.onnx.export gave it with `optimize=False`; it is changed.
    """
    from onnx_ir.passes import common as passes
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter.rules import common

    model: Any = program.model
    rules = _those_of(common, RULES)
    optimizer.inline(model)
    for _ in range(ROUNDS):
        optimizer.fold_constants(model, onnx_shape_inference=True)
        rewriter.rewrite(model, rules)
        optimizer.remove_unused_nodes(model)
    for make in _those_of(passes, PASSES):
        options = {"lift_all_constants": True, "size_limit": 0} if make.__name__ == LIFT else {}
        make(**options)(model)
    return program


def _those_of(library: Any, names: Sequence[str]) -> list[Any]:
    """Those that the installed version has: there were fewer once."""
    return [getattr(library, name) for name in names if hasattr(library, name)]
