"""NVIDIA's own parser and builder take the networks of a stream, with everything that changes per frame as an input.

TensorRT-RTX builds on any machine; it runs nothing here.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny

from comfystream.accel.backend import BuildOptions
from comfystream.accel.nvidia import tensorrt_rtx
from comfystream.accel.registry import Choice
from comfystream_nodes.streamdiffusion.acceleration import Acceleration
from comfystream_nodes.streamdiffusion.control import ControlModel
from comfystream_nodes.streamdiffusion.layout import Layout, Network
from comfystream_nodes.streamdiffusion.loader_nodes import add_image_prompt
from comfystream_nodes.streamdiffusion.loading.entry import placed
from comfystream_nodes.streamdiffusion.loading.folder import load_folder

LEGACY = BuildOptions(exporter="legacy")
RTX = tensorrt_rtx()
needs_rtx = pytest.mark.skipif(
    not RTX.probe().can_build,
    reason="TensorRT-RTX NOT RUN: pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs",
)


@pytest.fixture(scope="module")
def styled(tmp_path_factory, model_folders):
    """SD 1.5, SDXL and LCM's UNet with an IP-Adapter each, in both precisions, loaded in inference mode."""
    made = {}
    lcm = tiny.write_folder(tmp_path_factory.mktemp("told") / "lcm")
    tiny.unet("sd15", time_cond_proj_dim=256).save_pretrained(lcm / "unet")
    for family, path in {**model_folders, "lcm": lcm}.items():
        folder = tmp_path_factory.mktemp(family)
        tiny.write_ip_adapter(folder / "adapter.safetensors", load_folder(path).unet)
        tiny.image_encoder().save_pretrained(folder / "encoder")
        for precision, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
            with torch.inference_mode():
                model = placed(load_folder(path), torch.device("cpu"), dtype)
                paths = str(folder / "adapter.safetensors"), str(folder / "encoder")
                made[family, precision] = add_image_prompt(model, *paths)
    return made


def networks(styled: Any, family: str, precision: str, rows: int = 2) -> dict[str, Network]:
    acceleration = Acceleration(Choice(RTX, RTX.probe(), ""), precision=precision, max_rows=4)
    model = styled[family, precision]
    net = ControlModel("net", tiny.controlnet(model.family).to(model.dtype))
    layout = Layout((rows,), 1, (64, 64), 77, (net,), takes_residuals=True)
    return {one.label: one for one in layout.networks(model, acceleration)}


@pytest.mark.parametrize("family", ["sd15", "sdxl", "lcm"])
def test_all_that_changes_per_frame_is_an_input(styled, family: str) -> None:
    """Defect 5: pooled text and sizes are inputs; so are residuals, the strength of each layer, and that of a net."""
    spec = networks(styled, family, "fp16")["unet"].spec
    names = [one.name for one in spec.inputs]
    assert names[:4] == ["sample", "timestep", "encoder_hidden_states", "ipadapter_scale"]
    assert spec.input("encoder_hidden_states").shape[1] == 77 + 4
    assert ("text_embeds" in names, "time_ids" in names) == (family == "sdxl",) * 2
    assert ("timestep_cond" in names) == (family == "lcm")
    assert names[-1] == "input_control_middle"
    assert str(spec.input("sample").shape[0]) == "1..4"
    control = networks(styled, family, "fp16")["controlnet net"].spec
    assert control.input("encoder_hidden_states").shape[1] == 77
    assert control.input("conditioning_scale").shape == (1,)


@needs_rtx
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("family", ["sd15", "sdxl", "lcm"])
def test_the_real_builder_takes_every_network(styled, tmp_path, family: str, precision: str, exporter: str) -> None:
    for label, network in networks(styled, family, precision).items():
        folder = tmp_path / label.replace(" ", "_")
        folder.mkdir()
        with torch.inference_mode(False), torch.no_grad():
            source = RTX.export(network.module(), network.spec, folder, BuildOptions(exporter=exporter))
        plan = RTX.build(source, network.spec, folder, BuildOptions(level=0), lambda step, share: None)
        assert plan.stat().st_size > 10_000


@needs_rtx
def test_a_build_is_stopped_from_within(styled, tmp_path) -> None:
    """What `on_step` raises comes out after the builder has ended, and nothing is written."""
    network = networks(styled, "sd15", "fp32")["vae_decoder"]
    with torch.inference_mode(False), torch.no_grad():
        source = RTX.export(network.module(), network.spec, tmp_path, LEGACY)

    class Unwanted(BaseException):
        pass

    def stop(step: str, share: float) -> None:
        if step == "building":
            raise Unwanted

    with pytest.raises(Unwanted):
        RTX.build(source, network.spec, tmp_path, BuildOptions(), stop)
    assert not (tmp_path / RTX.plan_name).exists()
