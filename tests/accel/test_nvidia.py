"""TensorRT: the contract of its runner on a fake runtime, and the real parser and builder of TensorRT-RTX."""

from __future__ import annotations

import inspect
import itertools
import logging
import sys
import threading
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import fake_tensorrt
import pytest
import torch
from fake_cuda_graphs import FakeCuda
from fake_tensorrt import FakeContext, FakeEngine
from tiny_models import BATCH, PAIR, Pair, tiny_unet
from torch.utils._python_dispatch import TorchDispatchMode

from comfystream.accel import nvidia
from comfystream.accel.backend import BuildOptions
from comfystream.accel.graphed import GraphedRunner, capture_cuda_graph
from comfystream.accel.machine import Machine
from comfystream.accel.model_specs import Ranges, unet_spec
from comfystream.accel.modules import UNetModule
from comfystream.accel.nvidia import NvidiaBackend, TensorRtRunner, spec_of_engine, tensorrt, tensorrt_rtx
from comfystream.accel.nvidia_messages import logger_of
from comfystream.accel.onnx_runtime import verify_onnx
from comfystream.accel.spec import ModelSpec, TensorSpec
from comfystream.errors import EngineError

DOUBLE = ModelSpec("double", (TensorSpec("x", "float32", (BATCH, 4)),), ("y",))
LEGACY = BuildOptions(exporter="legacy")


def real_rtx() -> Any:
    for name in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
        try:
            return __import__(name)
        except (ImportError, OSError):
            continue
    return None


needs_rtx = pytest.mark.skipif(
    real_rtx() is None, reason="TensorRT-RTX NOT RUN: pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs"
)


def runner_of(engine: FakeEngine) -> TensorRtRunner:
    streams = itertools.count(100)
    return TensorRtRunner(fake_tensorrt, engine, DOUBLE, "cpu", "tensorrt", stream=lambda: next(streams))


def calls_of(context: FakeContext, name: str) -> list[tuple[Any, ...]]:
    return [call for call in context.calls if call[0] == name]


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_it_runs() -> None:
    runner = runner_of(FakeEngine())
    for batch in (2, 4, 1):
        x = torch.randn(batch, 4)
        torch.testing.assert_close(runner.run({"x": x})["y"], 2 * x)


def test_a_tick_is_one_copy_and_one_launch() -> None:
    """Defect 4 of the known implementations: a synchronise per launch, inputs copied twice, a stream of its own."""
    engine = FakeEngine()
    runner, x = runner_of(engine), torch.randn(2, 4)
    runner.run({"x": x})
    context = engine.contexts[0]
    context.calls.clear()
    with Operations() as operations:
        runner.run({"x": x})
        runner.run({"x": x})
    assert operations.names == ["aten.copy_.default"] * 2
    assert [call[0] for call in context.calls] == ["execute_async_v3"] * 2
    assert context.calls[0][1] != context.calls[1][1]  # torch's stream of that moment, asked for each time


def test_addresses_are_set_once_per_shape() -> None:
    engine = FakeEngine()
    runner = runner_of(engine)
    for batch in (2, 2, 4, 4):
        runner.run({"x": torch.randn(batch, 4)})
    context = engine.contexts[0]
    assert len(engine.contexts) == 1
    assert [call[2] for call in calls_of(context, "set_input_shape")] == [(2, 4), (4, 4)]
    last = {name: address for _, name, address in calls_of(context, "set_tensor_address")[-2:]}
    assert last == {"x": runner.inputs["x"].data_ptr(), "y": runner.outputs["y"].data_ptr()}


def test_it_can_be_recorded() -> None:
    engine = FakeEngine()
    captures: list[int] = []

    def capture(run: Any) -> Any:
        captures.append(1)
        return run

    runner = GraphedRunner(runner_of(engine), capture)
    for batch in (2, 2, 3):
        x = torch.randn(batch, 4)
        torch.testing.assert_close(runner.run({"x": x})["y"], 2 * x)
    assert len(captures) == 2


def test_a_twin_has_a_context_and_buffers_of_its_own() -> None:
    engine = FakeEngine()
    one = runner_of(engine)
    two = one.twin()
    x, y = torch.randn(2, 4), torch.randn(3, 4)
    first = one.run({"x": x})["y"]
    torch.testing.assert_close(two.run({"x": y})["y"], 2 * y)
    torch.testing.assert_close(first, 2 * x)
    assert len(engine.contexts) == 2
    one.close()
    torch.testing.assert_close(two.run({"x": y})["y"], 2 * y)
    with pytest.raises(EngineError, match="is closed"):
        one.twin()


def test_an_engine_says_what_it_takes() -> None:
    spec = spec_of_engine(fake_tensorrt, FakeEngine(), "double")
    assert [str(one) for one in spec.inputs] == ["[1..4, 4]"]
    assert spec.outputs == ("y",)
    assert spec.precision == "fp32"


def test_no_room_for_a_context_is_told() -> None:
    with pytest.raises(EngineError, match=r"double \(tensorrt\): no room for its scratch memory \(3 MB\)") as caught:
        runner_of(FakeEngine(has_room=False))
    assert caught.value.code == "out_of_memory"


def test_shapes_outside_of_the_profile_are_told() -> None:
    runner = runner_of(FakeEngine())
    with pytest.raises(EngineError, match=r"double: input x is \[5, 4\], but it was made for \[1..4, 4\]"):
        runner.run({"x": torch.zeros(5, 4)})


def module_of(monkeypatch: pytest.MonkeyPatch, version: str) -> NvidiaBackend:
    module = ModuleType("fake_nvidia")
    module.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_nvidia", module)
    return NvidiaBackend("tensorrt", ("fake_nvidia",), (10, 13), False, "get a newer one")


@pytest.mark.parametrize(
    ("version", "is_old"), [("10.12.0.36", True), ("9.3", True), ("10.13.2.6", False), ("11.4.0", False)]
)
def test_old_releases_are_refused(version: str, is_old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = module_of(monkeypatch, version).probe()
    assert ("is too old, 10.13 is needed" in found.reason) == is_old


def test_without_tensorrt_the_reason_is_told() -> None:
    found = tensorrt().probe()
    if found.version:
        pytest.skip("TensorRT is installed here")
    assert not found.can_run
    assert "tensorrt cannot be imported" in found.reason
    assert found.hint


def test_beside_the_default_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the default stream, which is torch's current one in all threads, TensorRT waits for the device at each run."""
    cuda, engine = FakeCuda().install(monkeypatch), FakeEngine()
    runner = TensorRtRunner(fake_tensorrt, engine, DOUBLE, "cpu", "tensorrt")
    x = torch.randn(2, 4)
    torch.testing.assert_close(runner.run({"x": x})["y"], 2 * x)
    runner.run({"x": x})
    handles = {call[1] for call in calls_of(engine.contexts[0], "execute_async_v3")}
    assert len(handles) == 1
    assert handles != {cuda.default.cuda_stream}
    beside = next(iter(cuda.default.waited_for))
    assert {beside.cuda_stream} == handles
    assert set(beside.waited_for) == {cuda.default}


def test_on_the_stream_of_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, engine = FakeCuda().install(monkeypatch), FakeEngine()
    runner = TensorRtRunner(fake_tensorrt, engine, DOUBLE, "cpu", "tensorrt")
    runner.bind()
    capture_cuda_graph(runner.enqueue)
    handles = [call[1] for call in calls_of(engine.contexts[0], "execute_async_v3")]
    assert handles[-1] == cuda.graphs[0].stream.cuda_stream


def test_memory_that_torch_keeps_is_given_back_for_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[str] = []
    monkeypatch.setattr(nvidia, "_make_room", given_back.append)
    runner = runner_of(FakeEngine(tries=1))
    assert given_back == ["cpu"]
    runner.bind()


def test_rtx_compiles_for_a_size_before_it_is_recorded() -> None:
    class Rtx(FakeEngine):
        def create_runtime_config(self) -> SimpleNamespace:
            return SimpleNamespace(dynamic_shapes_kernel_specialization_strategy="lazy")

    strategy = SimpleNamespace(EAGER="eager")
    trt = SimpleNamespace(**vars(fake_tensorrt), DynamicShapesKernelSpecializationStrategy=strategy)
    engine = Rtx()
    TensorRtRunner(trt, engine, DOUBLE, "cpu", "tensorrt-rtx", stream=lambda: 1)
    assert engine.configs[0].dynamic_shapes_kernel_specialization_strategy == "eager"


def test_a_buffer_that_is_refused_is_told() -> None:
    engine = FakeEngine()
    runner = runner_of(engine)
    engine.contexts[0].refuses = True
    with pytest.raises(EngineError, match=r"double \(tensorrt\): it refuses the buffer of x"):
        runner.bind()


def test_an_input_on_the_host_is_refused() -> None:
    engine = FakeEngine()
    engine.place = fake_tensorrt.TensorLocation.HOST
    with pytest.raises(EngineError, match="its input x is read on the processor"):
        spec_of_engine(fake_tensorrt, engine, "double")


def test_one_logger_for_the_process_and_a_reason_per_thread() -> None:
    class ILogger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    trt = ModuleType("fake_logging_nvidia")
    trt.ILogger = ILogger  # type: ignore[attr-defined]
    logger = logger_of(trt)
    assert logger_of(trt) is logger
    logger.log(1, "no room")
    other = threading.Thread(target=logger.log, args=(1, "something else"))
    other.start()
    other.join(30)
    assert logger.last == "no room"
    logger.forget()
    assert not logger.last


def test_a_builder_that_does_not_begin_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pybind11 raises a TypeError where TensorRT gives nothing: too old a driver, a full GPU."""

    def refuse(logger: Any) -> None:
        logger.log(1, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    class ILogger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    backend = module_of(monkeypatch, "11.4.0")
    trt: Any = sys.modules["fake_nvidia"]
    trt.ILogger, trt.Builder, trt.Runtime = ILogger, refuse, refuse
    plan = tmp_path / "plan.engine"
    plan.write_bytes(b"engine")
    with pytest.raises(EngineError, match="tensorrt cannot begin: CUDA initialization failure with error: 35"):
        backend.load(plan, PAIR, "cuda")
    with pytest.raises(EngineError, match="tensorrt cannot begin"):
        backend.build(plan, PAIR, tmp_path, BuildOptions(), lambda step, share: None)


@pytest.mark.parametrize(("capability", "can_run"), [("9.0", False), ("8.9", True), ("12.0", True)])
def test_rtx_is_not_for_every_gpu(capability: str, can_run: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """auto would take it on an H200, where its engines do not run."""
    gpu = Machine("Linux", "x86_64", "2.13.0", gpu="NVIDIA GPU", compute_capability=capability)
    monkeypatch.setattr(nvidia, "machine", lambda: gpu)
    assert module_of(monkeypatch, "11.4.0").probe().can_run  # TensorRT itself is made for all
    backend = NvidiaBackend("tensorrt-rtx", ("fake_nvidia",), (1, 2), True, "get it")
    trt: Any = sys.modules["fake_nvidia"]
    trt.ComputeCapability = Enum("ComputeCapability", ["SM75", "SM80", "SM86", "SM89", "SM120", "SM121"])
    found = backend.probe()
    assert found.can_run == can_run
    assert ("not made for NVIDIA GPU (compute capability 9.0)" in found.reason) != can_run


@needs_rtx
def test_the_names_that_only_rtx_has() -> None:
    trt = real_rtx()
    assert {"SM75", "SM89", "SM120"} <= set(trt.ComputeCapability.__members__)
    assert "EAGER" in trt.DynamicShapesKernelSpecializationStrategy.__members__
    assert "REQUIRE_USER_ALLOCATION" in trt.BuilderFlag.__members__
    assert set(nvidia.SIZED_BY_VALUES) <= set(trt.LayerType.__members__)
    assert hasattr(trt.ICudaEngine, "create_runtime_config")
    assert hasattr(trt.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")


@needs_rtx
def test_the_fake_has_nothing_that_the_real_one_has_not() -> None:
    trt = real_rtx()
    for fake, real in ((FakeEngine, trt.ICudaEngine), (FakeContext, trt.IExecutionContext)):
        used = {name for name, _ in inspect.getmembers(fake) if not name.startswith("_")}
        assert used <= set(dir(real))
    assert {"INPUT", "OUTPUT"} <= set(trt.TensorIOMode.__members__)


@needs_rtx
@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_real_builder_takes_our_unet(precision: str, exporter: str, tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="needs diffusers")
    backend, steps = tensorrt_rtx(), []
    dtype = torch.float16 if precision == "fp16" else torch.float32
    spec = unet_spec(Ranges(batch=(1, 2, 4), height=64, width=64, tokens=7), precision, text_width=16)
    module = UNetModule(tiny_unet()).to(dtype)
    source = backend.export(module, spec, tmp_path, BuildOptions(exporter=exporter))
    plan = backend.build(source, spec, tmp_path, BuildOptions(), lambda step, share: steps.append((step, share)))
    assert plan.stat().st_size > 100_000
    shares = [share for step, share in steps if step == "building"]
    assert shares == sorted(shares)
    assert steps[-1] == ("done", 1.0)
    if precision == "fp32":
        assert verify_onnx(source, module, spec) < 1e-4


@needs_rtx
def test_the_real_parser_sees_our_names_types_and_ranges(tmp_path: Path) -> None:
    trt = real_rtx()
    spec = unet_spec(Ranges(batch=(1, 2, 4), height=64, width=64, tokens=7), "fp16", text_width=16)
    pytest.importorskip("diffusers", reason="needs diffusers")
    source = tensorrt_rtx().export(UNetModule(tiny_unet()).half(), spec, tmp_path, BuildOptions())
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, logger).parse_from_file(str(source))
    found = {network.get_input(at).name: network.get_input(at) for at in range(network.num_inputs)}
    assert {name: tuple(one.shape) for name, one in found.items()} == {
        "sample": (-1, 4, 8, 8),
        "timestep": (-1,),
        "encoder_hidden_states": (-1, 7, 16),
    }
    assert found["sample"].dtype == trt.DataType.HALF
    assert found["timestep"].dtype == trt.DataType.FLOAT
    assert network.get_output(0).name == "latent"
    assert network.get_output(0).dtype == trt.DataType.HALF


@needs_rtx
def test_the_real_builder_is_loud_about_a_broken_graph(tmp_path: Path) -> None:
    backend = tensorrt_rtx()
    source = backend.export(Pair(), PAIR, tmp_path, LEGACY)
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EngineError, match="pair: tensorrt-rtx cannot read graph.onnx") as caught:
        backend.build(source, PAIR, tmp_path, BuildOptions(), lambda step, share: None)
    assert caught.value.code == "bad_graph"


@needs_rtx
def test_a_broken_engine_is_refused_in_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    plan = tmp_path / "plan.engine"
    plan.write_bytes(b"no engine" * 100)
    with pytest.raises(EngineError, match="plan.engine: tensorrt-rtx .* refuses this engine: ") as caught:
        tensorrt_rtx().load(plan, PAIR, "cpu")
    assert caught.value.code == "engine_refused"
    assert "build it again here" in caught.value.hint
    assert "without a reason" not in str(caught.value)
