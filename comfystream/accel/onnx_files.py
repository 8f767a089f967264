"""ONNX files from elsewhere: what they take, and half precision for those in single precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from comfystream.errors import AssetError, ConfigError, EngineError

from .spec import ModelSpec, TensorSpec

__all__ = ["data_files", "spec_of_graph", "to_half"]

DTYPES = {1: "float32", 10: "float16", 16: "bfloat16", 6: "int32", 7: "int64", 9: "bool", 2: "uint8", 3: "int8"}


def spec_of_graph(path: Path, name: str, shapes: Mapping[str, Sequence[int]], precision: str) -> ModelSpec:
    """What a graph takes.

    Args:
        path: the ONNX file.
        name: for people.
        shapes: of inputs that leave theirs open.
        precision: that the engine is to have.

    Raises:
        AssetError: it is missing or broken.
        ConfigError: an input leaves its shape open, and none is given.
    """
    graph = _load(path, with_weights=False).graph
    weights = {one.name for one in graph.initializer}
    inputs = []
    for one in graph.input:
        if one.name in weights:
            continue
        kind = one.type.tensor_type
        shape = tuple(size.dim_value for size in kind.shape.dim)
        if one.name in shapes:
            shape = tuple(shapes[one.name])
        if 0 in shape:
            raise ConfigError(
                f"{name}: {path.name} leaves the shape of {one.name} open: {list(shape)}",
                code="bad_targets",
                hint=f"give it: shapes: {{{one.name}: [1, 3, 518, 518]}}",
            )
        if kind.elem_type not in DTYPES:
            raise EngineError(f"{name}: {one.name} has an element type that is not known here", code="bad_graph")
        inputs.append(TensorSpec(one.name, DTYPES[kind.elem_type], shape))
    return ModelSpec(name, tuple(inputs), tuple(one.name for one in graph.output), precision)


def data_files(path: Path) -> list[Path]:
    """Files with weights that belong to a graph."""
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    graph = _load(path, with_weights=False).graph
    names = {ExternalDataInfo(one).location for one in graph.initializer if uses_external_data(one)}
    return [path.parent / name for name in sorted(names)]


def to_half(path: Path, target: Path) -> Path:
    """The graph with its weights and its work in half precision; inputs and outputs stay as they are.

    Raises:
        EngineError: the package for it is missing.
        AssetError: the file is broken.
    """
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError:
        raise EngineError(
            "half precision needs the packages onnx and onnxruntime",
            code="backend_missing",
            hint="pip install 'comfystream[onnx]'",
        ) from None
    model = convert_float_to_float16(_load(path, with_weights=True), keep_io_types=True)
    onnx.save(model, str(target), save_as_external_data=model.ByteSize() > 1 << 30)
    return target


def _load(path: Path, *, with_weights: bool) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise EngineError(
            "reading ONNX needs the package onnx", code="backend_missing", hint="pip install 'comfystream[onnx]'"
        ) from None
    try:
        return onnx.load(str(path), load_external_data=with_weights)
    except OSError as error:
        raise AssetError(f"{path}: {error.strerror}", code="no_file", hint="comfystream fetch models") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise AssetError(
            f"{path}: not an ONNX file, or cut off", code="broken_weights", hint="delete it and fetch it again"
        ) from error
