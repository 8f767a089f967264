"""Networks with ComfyUI's calling conventions: what they give, their exports, and engines with residuals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fake_comfy_models import FakeControlNet, fake_unet
from tiny_models import tiny_unet
from torch import Tensor, nn

from comfystream.accel.backend import BuildOptions
from comfystream.accel.comfy_modules import (
    ComfyControlModule,
    ComfyUNetModule,
    comfy_control_spec,
    comfy_unet_spec,
    diffusers_unet,
    residuals_of,
    residuals_of_config,
)
from comfystream.accel.eager import FunctionRunner
from comfystream.accel.engine_control import EngineControlNet
from comfystream.accel.engine_unet import EngineUNet
from comfystream.accel.export import export_onnx
from comfystream.accel.model_specs import Ranges
from comfystream.accel.nvidia import tensorrt_rtx
from comfystream.accel.onnx_runtime import verify_onnx
from comfystream.accel.spec import Axis, ModelSpec, TensorSpec
from comfystream.errors import EngineError

LEGACY = BuildOptions(exporter="legacy")
SIZES = Ranges((1, 2, 2), 64, 64, 7)
RESIDUALS = residuals_of((8, 16), (1, 1))
XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 24,
}


def models() -> dict[str, tuple[nn.Module, ModelSpec]]:
    spec = comfy_unet_spec(SIZES, "fp32", text_width=16, pooled_width=24, residuals=RESIDUALS)
    control = comfy_control_spec(SIZES, "fp32", text_width=16, outputs=3, pooled_width=24)
    made = {
        "ComfyUI's UNet": (ComfyUNetModule(fake_unet(24), True, len(RESIDUALS)), spec),
        "ComfyUI's ControlNet": (ComfyControlModule(FakeControlNet(24).control_model, True), control),
    }
    pytest.importorskip("diffusers", reason="needs diffusers")
    for name, options in (("diffusers' UNet", {}), ("diffusers' SDXL UNet", XL)):
        made[name] = diffusers_unet(tiny_unet(**options), SIZES, "fp32", False)
        made[f"{name} with residuals"] = diffusers_unet(tiny_unet(**options), SIZES, "fp32", True)
    return made


NAMES = [
    "ComfyUI's UNet",
    "ComfyUI's ControlNet",
    "diffusers' UNet",
    "diffusers' UNet with residuals",
    "diffusers' SDXL UNet",
    "diffusers' SDXL UNet with residuals",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_gives_what_torch_gives(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    module, spec = models()[name]
    assert verify_onnx(export_onnx(module, spec, tmp_path / "graph.onnx", LEGACY), module, spec) < 1e-4


@pytest.mark.slow
@pytest.mark.skipif(not tensorrt_rtx().probe().can_build, reason="TensorRT-RTX NOT RUN: it is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_the_real_builder_takes_them(name: str, tmp_path: Path) -> None:
    backend, (module, spec) = tensorrt_rtx(), models()[name]
    source = backend.export(module, spec, tmp_path, LEGACY)
    assert backend.build(source, spec, tmp_path, BuildOptions(), lambda step, share: None).stat().st_size > 10_000


def test_residuals_are_those_of_stable_diffusion() -> None:
    sd15 = residuals_of((320, 640, 1280, 1280), (2, 2, 2, 2))
    assert len(sd15) == 13
    assert sd15[:4] == ((320, 1), (320, 1), (320, 1), (320, 2))
    assert sd15[-2:] == ((1280, 8), (1280, 8))
    assert len(residuals_of((320, 640, 1280), (2, 2, 2))) == 10  # SDXL


def test_residuals_are_those_that_a_controlnet_gives() -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers")
    unet = tiny_unet(layers_per_block=2)
    net = diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 16))
    down, middle = net(torch.randn(1, 4, 8, 8), 1, torch.randn(1, 7, 16), torch.rand(1, 3, 64, 64), return_dict=False)
    given = tuple((one.shape[1], 8 // one.shape[2]) for one in (*down, middle))
    assert residuals_of_config(unet.config) == given


def test_sizes_are_embedded_as_diffusers_does() -> None:
    pytest.importorskip("diffusers", reason="needs diffusers")
    unet = tiny_unet(**XL)
    module, _ = diffusers_unet(unet, SIZES, "fp32", False)
    x, times, context = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 50.0]), torch.randn(2, 7, 16)
    pooled, sizes = torch.randn(2, 24), torch.tensor([[512.0, 512, 0, 0, 512, 512], [64, 32, 0, 8, 64, 32]])
    half = 8 // 2
    angles = sizes[..., None] * torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(half) / half)
    y = torch.cat([pooled, torch.cat([angles.cos(), angles.sin()], -1).flatten(1)], 1)  # as ComfyUI's SDXL does
    added = {"text_embeds": pooled, "time_ids": sizes}
    with torch.no_grad():
        expected = unet(x, times, context, added_cond_kwargs=added, return_dict=False)[0]
        torch.testing.assert_close(module(x, times, context, y), expected, atol=1e-5, rtol=1e-4)


def engine(pooled: int = 0, rows: int | tuple[int, int, int] = (1, 2, 2)) -> tuple[EngineUNet, fake_unet]:
    unet = fake_unet(pooled).eval()
    sizes = Ranges(rows, 64, 64, 7)
    spec = comfy_unet_spec(sizes, "fp32", text_width=16, pooled_width=pooled, residuals=RESIDUALS)
    module = ComfyUNetModule(unet, bool(pooled), len(RESIDUALS))
    return EngineUNet(FunctionRunner(module, spec, "cpu", "tensorrt")), unet


def control(rows: int) -> dict[str, list[Tensor]]:
    torch.manual_seed(5)
    return {
        "output": [torch.randn(rows, width, 8 // by, 8 // by) for width, by in RESIDUALS[:-1]],
        "middle": [torch.randn(rows, 16, 4, 4)],
    }


@pytest.mark.parametrize("pooled", [0, 24])
def test_an_engine_takes_the_residuals_of_a_controlnet(pooled: int) -> None:
    made, unet = engine(pooled)
    values = torch.randn(3, 4, 8, 8), torch.rand(3), torch.randn(3, 7, 16)
    y = torch.randn(3, pooled) if pooled else None
    given = control(3)
    with torch.no_grad():
        torch.testing.assert_close(made(*values, y=y, control=given), unet(*values, y=y, control=control(3)))
        assert len(given["output"]) == 4, "what came is somebody else's"
        without = unet(*values, y=y)
        torch.testing.assert_close(made(*values, y=y), without)
        assert (made(*values, y=y, control=given) - without).abs().max() > 0.1


def test_one_row_of_residuals_serves_all_rows() -> None:
    made, unet = engine()
    values = torch.randn(2, 4, 8, 8), torch.rand(2), torch.randn(2, 7, 16)
    doubled = {kind: [one.repeat(2, 1, 1, 1) for one in some] for kind, some in control(1).items()}
    with torch.no_grad():
        torch.testing.assert_close(made(*values, control=control(1)), unet(*values, control=doubled))


def test_residuals_that_are_missing_are_nothing() -> None:
    """ComfyUI's lists may be short, or have gaps; their end belongs to the deepest skip."""
    made, unet = engine()
    values = torch.randn(1, 4, 8, 8), torch.rand(1), torch.randn(1, 7, 16)
    whole = control(1)
    gaps = {"output": [torch.zeros_like(whole["output"][0]), *whole["output"][1:]], "middle": whole["middle"]}
    with torch.no_grad():
        expected = unet(*values, control={kind: list(some) for kind, some in gaps.items()})
        short = {"output": whole["output"][1:], "middle": whole["middle"]}
        torch.testing.assert_close(made(*values, control=short), expected)
        hole = {"output": [None, *whole["output"][1:]], "middle": whole["middle"]}
        torch.testing.assert_close(made(*values, control=hole), expected)


def test_engines_of_the_first_generation_name_residuals_otherwise() -> None:
    batch = Axis("batch", 1, 1, 2)
    skips = [TensorSpec(f"output_control_{n}", "float32", (batch, 2, 8, 8)) for n in range(2)]
    inputs = [TensorSpec(f"input_control_{n}", "float32", (batch, 2, 8, 8)) for n in range(2)]
    spec = ModelSpec(
        "old",
        (
            TensorSpec("x", "float32", (batch, 2, 8, 8)),
            TensorSpec("timesteps", "float32", (batch,)),
            TensorSpec("context", "float32", (batch, 7, 16)),
            *inputs,
            *skips,
            TensorSpec("middle_control_0", "float32", (batch, 2, 8, 8)),
        ),
        ("h",),
    )

    def digits(x: Tensor, t: Tensor, c: Tensor, in0: Tensor, in1: Tensor, o0: Tensor, o1: Tensor, m: Tensor) -> Tensor:
        return x + in0 + 10 * in1 + 100 * o0 + 1000 * o1 + 10000 * m

    made = EngineUNet(FunctionRunner(digits, spec, "cpu", "tensorrt"))
    one = torch.ones(1, 2, 8, 8)
    given = {"output": [one * 3, one * 4], "middle": [one * 5], "input": [one, one * 2]}
    values = torch.zeros(1, 2, 8, 8), torch.rand(1), torch.randn(1, 7, 16)
    assert made(*values, control=given).unique().tolist() == [54321.0]
    assert made(*values).unique().tolist() == [0.0]


def test_what_an_engine_with_residuals_cannot_do_is_told() -> None:
    made, _ = engine(24)
    values = torch.randn(1, 4, 8, 8), torch.rand(1), torch.randn(1, 7, 16)
    with pytest.raises(EngineError, match="this engine needs pooled text, and none came"):
        made(*values)
    adapter = {**control(1), "input": [torch.ones(1, 8, 8, 8)]}
    with pytest.raises(EngineError, match="1 input residuals of a ControlNet came, the engine takes 0"):
        made(*values, y=torch.randn(1, 24), control=adapter)


@pytest.mark.parametrize("pooled", [0, 24])
def test_a_runner_in_the_place_of_a_controlnet(pooled: int) -> None:
    network = FakeControlNet(pooled).control_model
    spec = comfy_control_spec(SIZES, "fp32", text_width=16, outputs=3, pooled_width=pooled)
    module = ComfyControlModule(network, bool(pooled))
    made = EngineControlNet(FunctionRunner(module, spec, "cpu", "eager"))
    values = {"x": torch.randn(3, 4, 8, 8), "timesteps": torch.rand(3) * 999, "context": torch.randn(3, 7, 16)}
    y = {"y": torch.randn(3, pooled)} if pooled else {}
    hint = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found, expected = made(hint=hint, **values, **y), network(hint=hint.repeat(3, 1, 1, 1), **values, **y)
    assert {kind: len(some) for kind, some in found.items()} == {"output": 2, "middle": 1}
    for kind in found:
        for one, wanted in zip(found[kind], expected[kind], strict=True):
            torch.testing.assert_close(one, wanted)
