"""A torch module as a file: an ONNX graph, or a program of torch.export. Shapes with a range stay dynamic."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfystream.errors import EngineError

from .backend import BuildOptions
from .onnx_graph import simplified
from .runner import torch_dtype
from .spec import Axis, ModelSpec, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["example_inputs", "export_onnx", "export_program"]

log = logging.getLogger(__name__)


def example_inputs(
    spec: ModelSpec, device: str, seed: int = 0, shapes: Mapping[str, Shape] | None = None
) -> tuple[Tensor, ...]:
    """Random inputs.

    Args:
        spec: what the model takes.
        device: where they are made.
        seed: of the numbers.
        shapes: by input; by default what the model is best at, but never 1 where a size may vary: torch.export takes a
            1 for a constant.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    made = []
    for one in spec.inputs:
        shape = shapes[one.name] if shapes else tuple(_example_size(size) for size in one.shape)
        dtype = torch_dtype(one.dtype)
        if dtype.is_floating_point:
            made.append(torch.randn(shape, generator=generator).to(device, dtype))
        else:
            made.append(torch.randint(0, 2, shape, generator=generator).to(device, dtype))
    return tuple(made)


def _example_size(size: int | Axis) -> int:
    if isinstance(size, int):
        return size
    return size.opt if size.opt > 1 else min(size.max, 2)


def dynamic_shapes(module: nn.Module, spec: ModelSpec) -> tuple[Any, ...] | None:
    """What may vary, in the words of torch.export; None when nothing does."""
    from torch.export import Dim

    known: dict[str, Any] = {}

    def dim(axis: Axis) -> Any:
        if axis.name not in known:
            if axis.step == 1:
                known[axis.name] = Dim(axis.name, min=axis.min, max=axis.max)
            else:
                counted = Dim(f"{axis.name}_steps", min=axis.min // axis.step, max=axis.max // axis.step)
                known[axis.name] = axis.step * counted
        return known[axis.name]

    if not spec.is_dynamic:
        return None
    flat = tuple(
        {at: dim(size) for at, size in enumerate(one.shape) if isinstance(size, Axis) and size.min != size.max} or None
        for one in spec.inputs
    )
    kinds = [one.kind for one in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return flat
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*flat[:named], flat[named:]) if len(flat) > named else flat  # what `*more` takes is one argument there


def export_program(module: nn.Module, spec: ModelSpec) -> torch.export.ExportedProgram:
    """A program of torch.export, weights included.

    It is not written to a file on its way to the compiler: after `torch.export.save` and `load`, what torch 2.13
    compiles for a batch of 1..2 reads past its buffers when the batch is 1 (`verify` found it).

    Raises:
        EngineError: torch cannot follow what the module does.
    """
    import torch

    module = module.eval().requires_grad_(False)  # torch.export refuses weights of inference mode that want gradients
    with _export_trouble(spec), torch.no_grad():
        examples = example_inputs(spec, _device_of(module))
        return torch.export.export(module, examples, dynamic_shapes=dynamic_shapes(module, spec), strict=False)


def export_onnx(module: nn.Module, spec: ModelSpec, path: Path, options: BuildOptions) -> Path:
    """Write an ONNX graph; its weights lie beside it in `NAME.data` when they are large.

    Names of inputs, outputs and weights are those of the spec and of the module, so that an engine can be refitted.

    Raises:
        EngineError: torch cannot follow what the module does, or the packages for it are missing.
    """
    import torch

    try:
        import onnx  # noqa: F401 - both exporters need it, and say so less clearly
    except ImportError:
        raise EngineError(
            "exporting to ONNX needs the package onnx", code="backend_missing", hint="pip install 'comfystream[onnx]'"
        ) from None
    module = module.eval()
    names: dict[str, Any] = {
        "input_names": [one.name for one in spec.inputs],
        "output_names": list(spec.outputs),
        "opset_version": options.opset,
    }
    if options.exporter == "legacy":
        examples = example_inputs(spec, _device_of(module))
        names |= {"dynamic_axes": _dynamic_axes(spec), "do_constant_folding": True}
        with _export_trouble(spec), torch.no_grad(), _without_chatter():
            torch.onnx.export(module, examples, str(path), dynamo=False, **names)
        return path
    # the program is made here: the exporter's own call of torch.export takes no shapes of `*more`
    program = _joined_in_one_type(export_program(module, spec))
    with _export_trouble(spec), torch.no_grad(), _without_chatter():
        made = torch.onnx.export(program, (), dynamo=True, optimize=False, verbose=False, **names)
        assert made is not None
        simplified(made).save(str(path), external_data=_is_large(module))
    return path


def _joined_in_one_type(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Spell out how `cat` and `stack` bring inputs of several types to one.

    The newer exporter (torch 2.13) leaves that out, and then no reader takes the graph: "Invalid Node - node_concat".
    SDXL in half precision has such a place, where sizes in single precision meet the pooled text.
    """
    import torch

    joins = {torch.ops.aten.cat.default, torch.ops.aten.concat.default, torch.ops.aten.stack.default}
    graph = program.graph_module.graph
    for node in graph.nodes:
        if node.target not in joins:
            continue
        dtype = node.meta["val"].dtype
        with graph.inserting_before(node):
            node.args = ([_as_type(part, dtype) for part in node.args[0]], *node.args[1:])
    program.graph_module.recompile()
    return program


def _as_type(node: torch.fx.Node, dtype: torch.dtype) -> torch.fx.Node:
    import torch

    value = node.meta["val"]
    if value.dtype == dtype:
        return node
    cast = node.graph.call_function(torch.ops.aten._to_copy.default, (node,), {"dtype": dtype})
    cast.meta["val"] = value.to(dtype)
    return cast


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """What the exporters say that nobody can act on: which of them is newer, and that torchvision is not there."""
    about_packages = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = about_packages.level
    about_packages.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        about_packages.setLevel(level)


def _dynamic_axes(spec: ModelSpec) -> Mapping[str, Mapping[int, str]]:
    return {
        one.name: {at: size.name for at, size in enumerate(one.shape) if isinstance(size, Axis)}
        for one in spec.inputs
        if one.is_dynamic
    }


def _is_large(module: nn.Module) -> bool:
    """An ONNX file holds at most 2 GB."""
    size: int = sum(one.numel() * one.element_size() for one in module.state_dict().values())
    return size > 1 << 30


def _device_of(module: nn.Module) -> str:
    return str(next((one.device for one in module.parameters()), "cpu"))


@contextlib.contextmanager
def _export_trouble(spec: ModelSpec) -> Iterator[None]:
    """The exporters raise many kinds of things, and long ones."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, EngineError):
        raise
    except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
        log.debug("exporting %s", spec.name, exc_info=True)
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EngineError(
            f"{spec.name} cannot be exported: {first[:200]}",
            code="export_failed",
            hint="use the backend eager or cuda-graph for it; --debug shows torch's whole report",
        ) from error
