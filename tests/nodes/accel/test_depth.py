"""Depth by a backend, and by engine files of the Depth Anything TensorRT nodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from backends_here import need_backend
from tiny_models import tiny_depth
from torch import Tensor
from torch.nn import functional

from comfystream.accel.backend import BuildOptions
from comfystream.accel.depth import DepthModule, depth_spec, load_depth_model
from comfystream.accel.eager import FunctionRunner
from comfystream.accel.export import export_onnx
from comfystream.accel.nvidia import NvidiaBackend, tensorrt_rtx
from comfystream.accel.onnx_runtime import verify_onnx
from comfystream.accel.registry import probe_all
from comfystream.accel.spec import ModelSpec, TensorSpec
from comfystream.errors import ComfyStreamError

pytest.importorskip("transformers", reason="needs transformers")
CAN = {one.backend: one for one in probe_all()}
needs_onnx = pytest.mark.skipif(not CAN["onnxruntime"].can_build, reason="needs onnxruntime")
LEGACY = BuildOptions(exporter="legacy")


@pytest.fixture
def folder(tmp_path: Path, nodes: dict[str, Any]) -> Path:
    made = tmp_path / "models/depth/tiny"
    tiny_depth().save_pretrained(made)
    return made


def test_a_graph_gives_what_torch_gives(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    model = tiny_depth()
    spec = depth_spec(model, 56)
    graph = export_onnx(DepthModule(model), spec, tmp_path / "graph.onnx", LEGACY)
    assert verify_onnx(graph, DepthModule(model), spec) < 1e-3


@pytest.mark.slow
@pytest.mark.skipif(not CAN["tensorrt-rtx"].can_build, reason="TensorRT-RTX NOT RUN: it is not installed")
def test_the_real_builder_takes_it(tmp_path: Path) -> None:
    backend, model = tensorrt_rtx(), tiny_depth()
    spec = depth_spec(model, 56)
    source = backend.export(DepthModule(model), spec, tmp_path, LEGACY)
    assert backend.build(source, spec, tmp_path, BuildOptions(), lambda step, share: None).stat().st_size > 10_000


@pytest.mark.parametrize("backend", ["eager", pytest.param("onnxruntime", marks=needs_onnx)])
def test_near_is_bright_as_transformers_sees_it(backend: str, call: Any, folder: Path) -> None:
    made = call("AcceleratedDepthLoader", model="tiny", side=56, backend=backend, precision="fp32")
    image = torch.rand(2, 40, 60, 3)
    found = call("AcceleratedDepth", depth_model=made, image=image)
    assert found.shape == (2, 40, 60, 3)
    small = functional.interpolate(image.movedim(-1, 1), (56, 56), mode="bilinear", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    given = (small - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    depth = load_depth_model(folder)(pixel_values=given).predicted_depth[:, None]
    low, high = depth.amin((2, 3), keepdim=True), depth.amax((2, 3), keepdim=True)
    expected = functional.interpolate((depth - low) / (high - low), (40, 60), mode="bilinear")
    torch.testing.assert_close(found, expected.movedim(1, -1).expand(-1, -1, -1, 3), atol=1e-3, rtol=1e-3)


def engine_file(folder: Path, name: str) -> Path:
    path = folder / "models/tensorrt/depth-anything" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"engine")
    return path


def brightness(input: Tensor) -> Tensor:
    return input.mean(1)


SPEC = ModelSpec("engine", (TensorSpec("input", "float32", (1, 3, 28, 28)),), ("output",))


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nodes: dict[str, Any]) -> list[Path]:
    """TensorRT that reads any file: depth is brightness. Gives the list of what was loaded."""
    loaded: list[Path] = []

    def load(self: NvidiaBackend, plan: Path, spec: Any, device: str) -> FunctionRunner:
        loaded.append(plan)
        return FunctionRunner(brightness, SPEC, "cpu", "tensorrt")

    from comfystream_nodes.accel import depth

    depth._engine.cache_clear()
    monkeypatch.setattr("comfystream.accel.engine_unet.nvidia_backend", tensorrt_rtx)
    monkeypatch.setattr(NvidiaBackend, "load", load)
    return loaded


NAME = "depth_anything_vitl14-fp16.engine"


def test_the_nodes_of_the_depth_anything_pack(
    nodes: dict[str, Any], call: Any, engines: list[Path], tmp_path: Path
) -> None:
    path = engine_file(tmp_path, NAME)
    assert nodes["DepthAnythingTensorrt"].INPUT_TYPES()["required"]["engine"] == ([NAME],)
    ramp = torch.linspace(0.2, 0.8, 56).view(1, 1, 56, 1).expand(3, 56, 56, 3)
    shown = call("DepthAnythingTensorrt", images=ramp, engine=NAME)
    assert shown.shape == (3, 56, 56, 3)
    torch.testing.assert_close((shown.amin(), shown.amax()), (torch.tensor(0.0), torch.tensor(1.0)))
    assert (shown[0, 28, 1:, 0] >= shown[0, 28, :-1, 0]).all()
    raw = call("DepthAnythingTensorrtAdvanced", images=ramp, engine=NAME)
    assert raw.shape == (3, 56, 56)
    assert abs(float(raw[0, 28, 28]) - 0.5) < 0.02
    assert engines == [path], "loaded once"
    os.utime(path, ns=(1, 1))
    call("DepthAnythingTensorrt", images=ramp, engine=NAME)
    assert engines == [path, path], "a file that was built anew is loaded anew"


def test_a_metric_engine_gives_distances(call: Any, engines: list[Path], tmp_path: Path) -> None:
    engine_file(tmp_path, "depth_metric.engine")
    ramp = torch.linspace(0.2, 0.8, 28).view(1, 1, 28, 1).expand(1, 28, 28, 3)
    shown = call("DepthAnythingTensorrt", images=ramp, engine="depth_metric.engine")
    assert shown[0, 14, 0, 0] == 1
    assert shown[0, 14, -1, 0] == 0


def test_bad_input_is_told_with_the_node(call: Any, folder: Path, tmp_path: Path) -> None:
    def said(key: str, **inputs: Any) -> str:
        with pytest.raises(ComfyStreamError) as caught:
            call(key, **inputs)
        return str(caught.value)

    loader, asked = "AcceleratedDepthLoader", {"backend": "eager", "precision": "fp32"}
    assert f"{loader}: there is no depth model none in " in said(loader, model="none", side=56, **asked)
    assert "a side of 60 is no multiple of the model's patches of 14 (use 56)" in said(
        loader, model="tiny", side=60, **asked
    )
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    assert "model.safetensors: cut off" in said(loader, model="tiny", side=56, **asked)
    (folder / "config.json").write_text('{"model_type": "clip"}')
    weights.unlink()
    assert f"{loader}: {folder}: cannot be loaded as a depth model" in said(loader, model="tiny", side=56, **asked)
    images = torch.rand(1, 28, 28, 3)
    there = said("DepthAnythingTensorrt", images=images, engine=NAME)
    assert f"DepthAnythingTensorrt: there is no {NAME} in " in there
    assert "comfystream engines build" in there
    assert "an engine is named by its file" in said("DepthAnythingTensorrt", images=images, engine="../../x.engine")
    assert "Depth Anything 3 is not known here" in said("DepthAnythingTensorrt", images=images, engine="DA3.engine")
    engine_file(tmp_path, NAME)
    broken = said("DepthAnythingTensorrt", images=images, engine=NAME)
    has_any = CAN["tensorrt"].version or CAN["tensorrt-rtx"].version
    assert ("refuses this engine" if has_any else "an engine needs TensorRT") in broken


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "cuda-graph", "inductor", "auto"])
def test_on_a_gpu_it_stays_there(backend: str, call: Any, folder: Path) -> None:
    need_backend(backend)
    image = torch.rand(1, 40, 60, 3)
    made = call("AcceleratedDepthLoader", model="tiny", side=56, backend=backend, precision="fp32")
    found = call("AcceleratedDepth", depth_model=made, image=image.cuda())
    assert found.is_cuda
    small = functional.interpolate(image.movedim(-1, 1), (56, 56), mode="bilinear", antialias=True)
    depth = DepthModule(load_depth_model(folder))(small)
    shown = (depth - depth.amin()) / (depth.amax() - depth.amin())
    expected = functional.interpolate(shown, (40, 60), mode="bilinear").movedim(1, -1)
    torch.testing.assert_close(found[..., :1].cpu(), expected, atol=3e-2, rtol=3e-2)
