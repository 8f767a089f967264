"""TensorRT 10.13 and later, 11, and TensorRT-RTX: one code path, strongly typed networks only.

What is used here exists in all of them. Precision is a matter of the graph: weak typing (the FP16 flag) is gone in 11.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from comfystream.errors import EngineError
from comfystream.gpu_turns import device_wide

from .backend import Backend, BuildOptions, Capability, Capture, Step
from .export import export_onnx
from .graphed import cuda_capture
from .machine import machine
from .nvidia_messages import logger_of, monitor_of
from .runner import Runner, memory_trouble, on_device, torch_dtype
from .spec import Axis, ModelSpec, Shape, TensorSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["NvidiaBackend", "TensorRtRunner", "spec_of_engine", "tensorrt", "tensorrt_rtx"]

log = logging.getLogger(__name__)

OLDEST = (10, 13)
DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


SIZED_BY_VALUES = {"NON_ZERO", "NMS", "TRIP_LIMIT"}


class NvidiaBackend(Backend):
    """TensorRT or TensorRT-RTX.

    Args:
        name: of the backend.
        modules: where its Python package may be, the first that is there is used.
        oldest: the first release whose API this code speaks.
        builds_without_gpu: whether engines can be made on any machine.
        hint: how to get it.
    """

    source_name = "graph.onnx"
    plan_name = "plan.engine"

    def __init__(
        self, name: str, modules: Sequence[str], oldest: tuple[int, int], builds_without_gpu: bool, hint: str
    ) -> None:
        self.name = name
        self._modules = modules
        self._oldest = oldest
        self._builds_without_gpu = builds_without_gpu
        self._hint = hint

    def tick_capture(self, device: str) -> Capture | None:
        return cuda_capture(device)

    def probe(self) -> Capability:
        try:
            trt = self._import()
        except EngineError as error:
            return Capability(self.name, "", False, False, error.message, error.hint)
        version = str(trt.__version__)
        if _numbers(version) < self._oldest:
            wanted = ".".join(map(str, self._oldest))
            return Capability(self.name, version, False, False, f"{version} is too old, {wanted} is needed", self._hint)
        here = machine()
        if here.gpu and self._builds_without_gpu and not _is_made_for(trt, here.compute_capability):
            reason = f"not made for {here.gpu} (compute capability {here.compute_capability}): it can only build"
            return Capability(self.name, version, True, False, reason, "use another backend")
        if not here.gpu:
            can_build = self._builds_without_gpu
            reason = f"{here.why_no_gpu}: " + ("engines can be built, not run" if can_build else "nothing can be done")
            return Capability(self.name, version, can_build, False, reason, "it needs an NVIDIA GPU")
        return Capability(self.name, version, True, True, f"{version} on {here.gpu}")

    def export(self, module: nn.Module, spec: ModelSpec, folder: Path, options: BuildOptions) -> Path:
        return export_onnx(module, spec, folder / self.source_name, options)

    def build(self, source: Path, spec: ModelSpec, folder: Path, options: BuildOptions, on_step: Step) -> Path:
        trt = self._import()
        logger = logger_of(trt)
        builder = self._begun(lambda: trt.Builder(logger), logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        on_step("reading the graph", 0.0)
        self._parse(trt, logger, network, source, spec)
        config = builder.create_builder_config()
        _make_recordable(trt, config, network)
        config.builder_optimization_level = options.level
        if options.workspace_mb:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
        if spec.is_dynamic:
            config.add_optimization_profile(_profile(builder, spec))
        monitor = monitor_of(trt, on_step)
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
        if monitor.stopped_by is not None:
            raise monitor.stopped_by
        if plan is None:
            raise EngineError(
                f"{spec.name}: {self.name} could not build it: {logger.last or 'it did not say why'}",
                code="build_failed",
                hint="--debug shows all that it said",
            )
        path = folder / self.plan_name
        path.write_bytes(memoryview(plan))
        on_step("done", 1.0)
        return path

    def _parse(self, trt: Any, logger: Any, network: Any, source: Path, spec: ModelSpec) -> None:
        parser = trt.OnnxParser(network, logger)
        if not source.is_file():
            raise EngineError(f"{source}: no such file", code="no_file")
        if not parser.parse_from_file(str(source)):
            said = "; ".join(str(parser.get_error(at).desc()) for at in range(parser.num_errors)) or logger.last
            raise EngineError(
                f"{spec.name}: {self.name} cannot read {source.name}: {said[:300]}",
                code="bad_graph",
                hint="is the file complete, and are its weights beside it?",
            )
        found = {network.get_input(at).name for at in range(network.num_inputs)}
        if missing := [one.name for one in spec.inputs if one.name not in found]:
            raise EngineError(
                f"{spec.name}: {source.name} has no input {', '.join(missing)}",
                code="bad_graph",
                hint=f"it has {', '.join(sorted(found))}",
            )

    def load(self, plan: Path, spec: ModelSpec | None, device: str) -> Runner:
        """An engine; without a spec, also one that somebody else has built."""
        trt = self._import()
        logger = logger_of(trt)
        try:
            data = plan.read_bytes()
        except OSError as error:
            raise EngineError(f"{plan}: {error.strerror}", code="no_file") from error
        with memory_trouble(plan.name), on_device(device), device_wide():
            _make_room(device)
            runtime = self._begun(lambda: trt.Runtime(logger), logger)
            engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise EngineError(
                f"{plan.name}: {self.name} {trt.__version__} refuses this engine: {logger.last or 'without a reason'}",
                code="engine_refused",
                hint="engines run on the kind of GPU and the version that built them: build it again here",
            )
        if not device.startswith("cuda"):
            raise EngineError(f"{plan.name}: {self.name} does not run on {device}", code="wrong_device")
        spec = spec or spec_of_engine(trt, engine, plan.stem)
        runner = TensorRtRunner(trt, engine, spec, device, self.name)
        runner.keep_alive = (logger, runtime)
        return runner

    def _begun(self, make: Callable[[], Any], logger: Any) -> Any:
        """A builder or a runtime: the Python of TensorRT raises a TypeError where it got none."""
        logger.forget()
        try:
            return make()
        except TypeError as error:
            raise EngineError(
                f"{self.name} cannot begin: {logger.last or 'it did not say why'}",
                code="backend_missing",
                hint="the GPU may be full, or its driver too old for this version",
            ) from error

    def _import(self) -> ModuleType:
        reasons = []
        for name in self._modules:
            try:
                return importlib.import_module(name)
            except (
                ImportError,
                OSError,
                RuntimeError,
            ) as error:  # a missing libnvinfer is an OSError or a RuntimeError
                reasons.append(f"{name}: {' '.join(str(error).split())[:120]}")
        raise EngineError(
            f"{self.name} cannot be imported ({'; '.join(reasons)})", code="backend_missing", hint=self._hint
        )


def tensorrt() -> NvidiaBackend:
    """TensorRT as it comes with the images and packages for data centres."""
    return NvidiaBackend("tensorrt", ("tensorrt",), OLDEST, False, "pip install tensorrt (10.13 or later)")


def tensorrt_rtx() -> NvidiaBackend:
    """TensorRT for RTX: small, for GPUs of the RTX kind; it builds engines on machines without a GPU too."""
    modules = ("tensorrt_rtx", "tensorrt_rtx_bindings")
    return NvidiaBackend("tensorrt-rtx", modules, (1, 2), True, "pip install 'comfystream[trt-rtx]'")


class TensorRtRunner(Runner):
    """An engine with an execution context of its own, on torch's current stream.

    Args:
        trt: the Python module of the runtime.
        engine: an `ICudaEngine`.
        spec: what it takes.
        device: where the buffers are.
        backend: for messages.
        stream: handle of the stream to run on; by default torch's current one, or beside it if that is the default one.
    """

    def __init__(
        self,
        trt: Any,
        engine: Any,
        spec: ModelSpec,
        device: str,
        backend: str,
        stream: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(spec, device, backend)
        self.keep_alive: tuple[Any, ...] = ()
        self._trt = trt
        self._engine = engine
        self._stream = stream
        self._beside: torch.cuda.Stream | None = None
        with memory_trouble(self.place), on_device(device), device_wide():
            self._context = _context_of(trt, engine)
            if self._context is None:
                _make_room(device)
                self._context = _context_of(trt, engine)
        if self._context is None:
            raise EngineError(
                f"{self.place}: no room for its scratch memory ({engine.device_memory_size_v2 >> 20} MB)",
                code="out_of_memory",
                hint="unload another model, or build it for a smaller size",
            )

    def _prepare(self) -> None:
        with on_device(self.device), device_wide():  # the first run may take memory, and compile; a tick does not
            self._bind_buffers()
            self.enqueue()

    def _bind_buffers(self) -> None:
        import torch

        context, trt = self._context, self._trt
        for name, buffer in self.inputs.items():
            if not context.set_input_shape(name, tuple(buffer.shape)):
                raise EngineError(f"{self.place}: it refuses {list(buffer.shape)} for {name}", code="bad_shape")
        self.outputs = {}
        for at in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(at)
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT:
                shape = tuple(context.get_tensor_shape(name))
                if -1 in shape:
                    raise EngineError(f"{self.place}: the size of {name} shows only in a run", code="bad_graph")
                dtype = torch_dtype(_dtype_name(self._engine.get_tensor_dtype(name)))
                self.outputs[name] = torch.empty(shape, dtype=dtype, device=self.device)
        for name, buffer in {**self.inputs, **self.outputs}.items():
            if not context.set_tensor_address(name, buffer.data_ptr()):
                raise EngineError(f"{self.place}: it refuses the buffer of {name}", code="bad_graph")

    def enqueue(self) -> None:
        if not self.outputs:
            raise EngineError(f"{self.place}: nothing is bound yet", code="not_bound")
        if self._stream is not None:
            self._launch(self._stream())
            return
        import torch

        current = torch.cuda.current_stream(self.device)
        if current.cuda_stream:
            self._launch(current.cuda_stream)
            return
        if self._beside is None:  # on the default stream TensorRT waits for the device at each run
            self._beside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._beside.wait_stream(current)
        self._launch(self._beside.cuda_stream)
        current.wait_stream(self._beside)

    def _launch(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise EngineError(f"{self.place}: the engine did not start", code="enqueue_failed")

    def twin(self) -> TensorRtRunner:
        """One more execution context of the engine."""
        if self._engine is None:
            raise EngineError(f"{self.place} is closed", code="closed")
        made = TensorRtRunner(self._trt, self._engine, self.spec, self.device, self.backend, self._stream)
        made.keep_alive = self.keep_alive
        return made

    def close(self) -> None:
        super().close()
        if self._context is not None and self.device.startswith("cuda"):
            import torch

            torch.cuda.current_stream(self.device).synchronize()  # its last run may still use its scratch memory
        with device_wide():
            self._context = self._engine = None
        self.keep_alive = ()


def spec_of_engine(trt: Any, engine: Any, name: str) -> ModelSpec:
    """What an engine says of itself: inputs with their ranges, outputs."""
    inputs, outputs = [], []
    for at in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(at)
        if engine.get_tensor_mode(tensor) != trt.TensorIOMode.INPUT:
            outputs.append(tensor)
            continue
        if engine.get_tensor_location(tensor) != trt.TensorLocation.DEVICE:
            raise EngineError(f"{name}: its input {tensor} is read on the processor", code="bad_graph")
        shape = tuple(engine.get_tensor_shape(tensor))
        low, best, high = shape, shape, shape
        if -1 in shape:
            low, best, high = (tuple(point) for point in engine.get_tensor_profile_shape(tensor, 0))
        sizes = tuple(
            size if size != -1 else Axis(f"{tensor}.{axis}", low[axis], best[axis], high[axis])
            for axis, size in enumerate(shape)
        )
        inputs.append(TensorSpec(tensor, _dtype_name(engine.get_tensor_dtype(tensor)), sizes))
    dtype = next((one.dtype for one in inputs if one.dtype.endswith(("16", "32"))), "float32")
    precision = {"float16": "fp16", "bfloat16": "bf16"}.get(dtype, "fp32")
    return ModelSpec(name, tuple(inputs), tuple(outputs), precision)


def _profile(builder: Any, spec: ModelSpec) -> Any:
    profile = builder.create_optimization_profile()
    shapes: Mapping[str, tuple[Shape, Shape, Shape]] = {
        one.name: (one.at("min"), one.at("opt"), one.at("max")) for one in spec.inputs if one.is_dynamic
    }
    for name, points in shapes.items():
        profile.set_shape(name, *points)
    return profile


def _dtype_name(dtype: Any) -> str:
    name = str(dtype).rpartition(".")[2]
    if name not in DTYPES:
        raise EngineError(f"torch has no element type for {name}", code="bad_graph")
    return DTYPES[name]


def _is_made_for(trt: Any, capability: str) -> bool:
    """TensorRT-RTX has a list of the GPUs that it makes engines for; those for data centres are not in it."""
    return f"SM{capability.replace('.', '')}" in trt.ComputeCapability.__members__


def _make_recordable(trt: Any, config: Any, network: Any) -> None:
    """TensorRT-RTX else makes engines that may take memory in a run; where sizes depend on values they have to."""
    flag = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    kinds = {network.get_layer(at).type for at in range(network.num_layers)}
    if flag is not None and not {kind.name for kind in kinds} & SIZED_BY_VALUES:
        config.set_flag(flag)


def _context_of(trt: Any, engine: Any) -> Any:
    """None where there is no room. TensorRT-RTX compiles kernels for a size beside the runs, if it is let, and a graph
    that was recorded meanwhile would keep the slower ones.
    """
    strategy = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
    if strategy is None:
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER
    return engine.create_execution_context(config)


def _make_room(device: str) -> None:
    """What torch keeps for later is no memory to TensorRT."""
    import torch

    if device.startswith("cuda") and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
