"""A ControlNet of ComfyUI by a backend, and MODELs with pooled text and residuals into engines."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_comfy_models import FakeControlNet, FakeModel, FakeModelPatcher

from comfystream.accel.model_specs import Ranges
from comfystream.accel.registry import probe_all
from comfystream.errors import EngineError

CAN = {one.backend: one.can_run and one.can_build for one in probe_all()}
SIZE = {"rows": 2, "width": 64, "height": 64, "precision": "fp32"}


@pytest.fixture
def comfy(nodes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The two modules of a real ComfyUI that the stand-in lacks."""
    import comfy.model_management as management

    patcher = types.ModuleType("comfy.model_patcher")
    patcher.ModelPatcher = FakeModelPatcher  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "comfy.model_patcher", patcher)
    monkeypatch.setattr(management, "get_torch_device", lambda: torch.device("cpu"), raising=False)
    monkeypatch.setattr(management, "unet_offload_device", lambda: torch.device("cpu"), raising=False)
    monkeypatch.setattr(management, "load_models_gpu", lambda models, **more: None, raising=False)


@pytest.mark.parametrize(
    "backend",
    ["eager", pytest.param("onnxruntime", marks=pytest.mark.skipif(not CAN["onnxruntime"], reason="no onnxruntime"))],
)
@pytest.mark.parametrize("pooled", [0, 24])
def test_it_gives_what_the_network_gave(backend: str, pooled: int, call: Any, comfy: None) -> None:
    net = FakeControlNet(pooled)
    fast = call("AcceleratedControlNet", control_net=net, backend=backend, **SIZE)
    values = {"x": torch.randn(2, 4, 8, 8), "timesteps": torch.tensor([3.0, 900.0])}
    values |= {"hint": torch.rand(2, 3, 64, 64), "context": torch.randn(2, 77, 16)}
    values |= {"y": torch.randn(2, 24)} if pooled else {}
    found, expected = fast.control_model(**values), net.control_model(**values)
    for kind in ("output", "middle"):
        for one, wanted in zip(found[kind], expected[kind], strict=True):
            torch.testing.assert_close(one, wanted, atol=1e-4, rtol=1e-4)
    assert fast.control_model_wrapped.model is fast.control_model
    assert fast.strength == 0.7
    assert net.control_model is not fast.control_model
    assert net.control_model_wrapped == "of the network"


def test_what_is_no_controlnet_is_told(call: Any, comfy: None) -> None:
    with pytest.raises(EngineError, match="^AcceleratedControlNet: a SimpleNamespace is no ControlNet"):
        call("AcceleratedControlNet", control_net=types.SimpleNamespace(), backend="eager", **SIZE)


@pytest.mark.parametrize(("pooled", "takes_control"), [(0, False), (0, True), (24, False), (24, True)])
def test_a_model_as_a_module(pooled: int, takes_control: bool, comfy: None) -> None:
    from comfystream_nodes.accel.convertible import module_of_model

    model = FakeModel(pooled)
    module, spec = module_of_model(model, Ranges(1, 64, 64, 7), takes_control)
    names = [one.name for one in spec.inputs]
    assert names[:3] == ["x", "timesteps", "context"]
    assert ("y" in names) == bool(pooled)
    assert sum("control" in name for name in names) == 5 * takes_control
    values = [torch.randn(one.at("opt")) for one in spec.inputs]
    given: dict[str, Any] = {"y": values[3]} if pooled else {}
    if takes_control:
        given["control"] = {"output": list(values[-5:-1]), "middle": [values[-1]]}
    expected = model.get_model_object("diffusion_model")(*values[:3], **given)
    torch.testing.assert_close(module(*values), expected)


def test_another_kind_of_model_is_told(comfy: None) -> None:
    from comfystream_nodes.accel.convertible import module_of_model

    model = FakeModel()
    del model.model.model_config.unet_config["context_dim"]
    with pytest.raises(EngineError, match="a fake_unet is no UNet of Stable Diffusion"):
        module_of_model(model, Ranges(), False)
    with pytest.raises(EngineError, match="there is no UNet in a int"):
        module_of_model(3, Ranges(), False)


@pytest.mark.slow
@pytest.mark.skipif(
    not {one.backend: one.can_build for one in probe_all()}["tensorrt-rtx"],
    reason="TensorRT-RTX NOT RUN: it is not installed",
)
def test_sdxl_with_residuals_becomes_an_engine_file(nodes: dict[str, Any], comfy: None, tmp_path: Path) -> None:
    sizes = {"batch_size_opt": 1, "height_opt": 64, "width_opt": 64, "context_opt": 1, "num_video_frames": 0}
    nodes["STATIC_TRT_MODEL_CONVERSION"]().convert(FakeModel(24), "tensorrt/xl", controlnet=True, **sizes)
    assert (tmp_path / "output/tensorrt/xl_$stat-b-1-h-64-w-64_00001_.engine").stat().st_size > 10_000


def test_residuals_need_one_size(nodes: dict[str, Any], comfy: None) -> None:
    from comfystream_nodes.accel.convertible import module_of_model

    with pytest.raises(EngineError, match="an engine with ControlNet residuals has one size"):
        module_of_model(FakeModel(), Ranges(1, (64, 64, 128), 64), True)
