"""ONNX Runtime on the processor: what an exported graph really computes, beside what torch computes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfystream.errors import EngineError

from .backend import Backend, BuildOptions, Capability, Step
from .export import export_onnx
from .machine import version_of
from .runner import Runner
from .spec import ModelSpec
from .verify import verify_runner

if TYPE_CHECKING:
    from torch import nn

__all__ = ["OnnxRuntimeBackend", "verify_onnx"]


class OnnxRuntimeBackend(Backend):
    """Runs the ONNX graph itself, on the processor."""

    name = "onnxruntime"
    source_name = "graph.onnx"
    plan_name = "plan.onnx"

    def probe(self) -> Capability:
        version = version_of("onnxruntime") or version_of("onnxruntime-gpu")
        if not version:
            hint = "pip install 'comfystream[onnx]'"
            return Capability(self.name, "", False, False, "onnxruntime is not installed", hint)
        can_build = bool(version_of("onnx"))
        reason = "runs on the processor; meant for checking exports" + ("" if can_build else ", onnx is missing")
        return Capability(self.name, version, can_build, True, reason)

    def export(self, module: nn.Module, spec: ModelSpec, folder: Path, options: BuildOptions) -> Path:
        return export_onnx(module, spec, folder / self.source_name, options)

    def build(self, source: Path, spec: ModelSpec, folder: Path, options: BuildOptions, on_step: Step) -> Path:
        """The graph is the engine; weights beside it keep their name, which the graph says."""
        plan = folder / self.plan_name
        weights = source.with_name(source.name + ".data")
        if weights.exists() and weights.parent != folder:
            shutil.copy2(weights, folder / weights.name)
        shutil.copy2(source, plan)
        on_step("done", 1.0)
        return plan

    def load(self, plan: Path, spec: ModelSpec, device: str) -> Runner:
        return OnnxRunner(plan, spec)


class OnnxRunner(Runner):
    """A session with its buffers bound once; a run copies nothing.

    Args:
        plan: the graph's file.
        spec: what it takes and gives.
        session: of another runner of the same file; by default one of its own.
    """

    def __init__(self, plan: Path, spec: ModelSpec, session: Any = None) -> None:
        super().__init__(spec, "cpu", "onnxruntime")
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        self._plan = plan
        self._binding: Any = None
        if session is not None:
            self._session = session
            return
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(plan), options, providers=["CPUExecutionProvider"])
        except (state.Fail, state.InvalidProtobuf, state.InvalidGraph, state.NoSuchFile, state.NotImplemented) as error:
            raise EngineError(
                f"{plan.name}: not an ONNX graph that can be run: {' '.join(str(error).split())[:160]}",
                code="engine_refused",
            ) from error

    def twin(self) -> OnnxRunner:
        """The same session with another binding."""
        if self._session is None:
            raise EngineError(f"{self.place} is closed", code="closed")
        return OnnxRunner(self._plan, self.spec, self._session)

    def _prepare(self) -> None:
        """One run without buffers of ours shows how large the outputs are."""
        import torch
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        values = {name: buffer.numpy() for name, buffer in self.inputs.items() if not _is_unused(self._session, name)}
        try:
            results = self._session.run(list(self.spec.outputs), values)
        except (state.Fail, state.InvalidArgument, state.RuntimeException) as error:
            raise EngineError(
                f"{self.place}: the graph does not run with these shapes: {' '.join(str(error).split())[-200:]}",
                code="engine_differs",
                hint="the module was exported wrongly; use another exporter (dynamo, legacy)",
            ) from error
        pairs = zip(self.spec.outputs, results, strict=True)
        self.outputs = {name: torch.from_numpy(result.copy()) for name, result in pairs}
        self._binding = self._session.io_binding()
        for name in values:
            buffer = self.inputs[name]
            self._binding.bind_input(name, "cpu", 0, buffer.numpy().dtype, list(buffer.shape), buffer.data_ptr())
        for name, buffer in self.outputs.items():
            self._binding.bind_output(name, "cpu", 0, buffer.numpy().dtype, list(buffer.shape), buffer.data_ptr())

    def enqueue(self) -> None:
        if self._binding is None:
            raise EngineError(f"{self.place}: nothing is bound yet", code="not_bound")
        self._session.run_with_iobinding(self._binding)

    def close(self) -> None:
        super().close()
        self._session = self._binding = None


def _is_unused(session: Any, name: str) -> bool:
    """Exporters leave out inputs that a model does not read."""
    return all(one.name != name for one in session.get_inputs())


def verify_onnx(graph: Path, module: nn.Module, spec: ModelSpec, seed: int = 0) -> float:
    """Run the same random inputs through an ONNX graph and the module that it is of, on the processor.

    Returns:
        The largest difference, in units of the largest output.

    Raises:
        EngineError: they differ by more than rounding, or the graph does not run.
    """
    runner = OnnxRunner(graph, spec)
    try:
        return verify_runner(runner, module, spec, seed)
    finally:
        runner.close()
