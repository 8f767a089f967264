"""Exports of real architectures beside torch, by ONNX Runtime; and what cannot be exported."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import PAIR, Pair, tiny_unet
from torch import nn

from comfystream.accel.backend import BuildOptions
from comfystream.accel.export import export_onnx, export_program
from comfystream.accel.model_specs import Ranges, controlnet_spec, decoder_spec, encoder_spec, unet_spec
from comfystream.accel.modules import ControlNetModule, UNetModule, VaeDecoderModule, VaeEncoderModule
from comfystream.accel.onnx_graph import simplified
from comfystream.accel.onnx_runtime import OnnxRunner, verify_onnx
from comfystream.accel.spec import ModelSpec, TensorSpec
from comfystream.accel.taesd import TaesdDecoder, TaesdEncoder
from comfystream.errors import EngineError

diffusers: Any = pytest.importorskip("diffusers", reason="needs diffusers")
LEGACY = BuildOptions(exporter="legacy")
SMALL = Ranges(batch=(1, 2, 4), height=64, width=64, tokens=7)
NET = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 24,
}
LARGE = ("unet with residuals", "unet of SDXL")
RESIDUALS = ((16, 1), (16, 1), (16, 2), (32, 2), (32, 2))


def models() -> dict[str, tuple[nn.Module, ModelSpec]]:
    torch.manual_seed(1)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    net = diffusers.ControlNetModel(**NET, conditioning_embedding_out_channels=(4, 8, 8, 16))
    for parameter in net.parameters():  # its last layers are zero until it is trained: nothing would be compared
        nn.init.normal_(parameter, std=0.05)
    sizes = Ranges(batch=(1, 2, 2), height=(64, 64, 128), width=64, step=8)
    return {
        "unet": (UNetModule(tiny_unet()), unet_spec(SMALL, text_width=16)),
        "unet with residuals": (
            UNetModule(tiny_unet(), controls=len(RESIDUALS)),
            unet_spec(Ranges(batch=2, height=64, width=64, tokens=7), text_width=16, residuals=RESIDUALS),
        ),
        "unet of SDXL": (UNetModule(tiny_unet(**XL), is_xl=True), unet_spec(SMALL, text_width=16, pooled_width=24)),
        "controlnet": (ControlNetModule(net), controlnet_spec(SMALL, text_width=16, outputs=5)),
        "vae encoder": (VaeEncoderModule(vae), encoder_spec(Ranges(height=32, width=32))),
        "taesd encoder": (TaesdEncoder(8), encoder_spec(sizes)),
        "taesd decoder": (TaesdDecoder(8), decoder_spec(sizes)),
    }


@pytest.mark.parametrize("name", list(models()))
def test_a_graph_gives_what_torch_gives(name: str, tmp_path: Path) -> None:
    module, spec = models()[name]
    graph = export_onnx(module, spec, tmp_path / "graph.onnx", LEGACY)
    assert verify_onnx(graph, module, spec) < 1e-4


def test_the_autoencoder_back() -> None:
    vae = diffusers.AutoencoderTiny(encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8))
    latent = torch.randn(1, 4, 4, 4)
    torch.testing.assert_close(VaeDecoderModule(vae.eval())(latent), vae.decode(latent).sample)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", list(models()))
@pytest.mark.long
def test_the_newer_exporter_gives_the_same(name: str, tmp_path: Path) -> None:
    module, spec = models()[name]
    graph = export_onnx(module, spec, tmp_path / "graph.onnx", BuildOptions())
    assert verify_onnx(graph, module, spec) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["taesd decoder", *(pytest.param(one, marks=pytest.mark.long) for one in LARGE)])
def test_its_graph_is_as_small_as_the_exporter_itself_makes_it(name: str) -> None:
    """Without one of its rules, whose time grows with the square of the graph."""

    def exported(is_optimized: bool) -> Any:
        module, spec = models()[name]
        program = export_program(module, spec)
        return torch.onnx.export(program, (), dynamo=True, optimize=is_optimized, verbose=False)

    def kinds(program: Any) -> Counter[str]:
        return Counter(node.op_type for node in program.model.graph)

    plain, wanted = exported(False), kinds(exported(True))
    before = kinds(plain)
    assert before.total() > wanted.total()
    assert kinds(simplified(plain)) == wanted


class Joined(nn.Module):
    def forward(self, half: torch.Tensor, single: torch.Tensor) -> torch.Tensor:
        wide = single.float()
        return torch.cat([half, wide], -1).half() + torch.concat([wide * 2, half], -1).half()


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
def test_tensors_of_two_types_are_joined_in_one(exporter: str, tmp_path: Path) -> None:
    """As pooled text and sizes are in SDXL. The newer exporter alone makes a graph that nothing reads."""
    inputs = TensorSpec("half", "float16", (2, 3)), TensorSpec("single", "float32", (2, 3))
    spec = ModelSpec("joined", inputs, ("both",), "fp16")
    graph = export_onnx(Joined(), spec, tmp_path / "graph.onnx", BuildOptions(exporter=exporter))
    assert verify_onnx(graph, Joined(), spec) < 1e-3


def test_weights_that_were_made_in_inference_mode(tmp_path: Path) -> None:
    """As nodes make them: an engine's threads are in it."""
    with torch.inference_mode():
        module = Pair()
    assert all(one.requires_grad and one.is_inference() for one in module.parameters())
    graph = export_onnx(module, PAIR, tmp_path / "graph.onnx", BuildOptions())
    assert verify_onnx(graph, module, PAIR) < 1e-5


def test_an_export_says_nothing_that_nobody_can_act_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    for exporter in ("dynamo", "legacy"):
        export_onnx(Pair(), PAIR, tmp_path / f"{exporter}.onnx", BuildOptions(exporter=exporter))
    assert [str(one.message) for one in recwarn if issubclass(one.category, DeprecationWarning)] == []
    said = capfd.readouterr()
    assert "torchvision" not in said.err + said.out


def test_pooled_text_reaches_the_graph(tmp_path: Path) -> None:
    """Defect 5 of the known implementations: SDXL engines that ignore it."""
    module, spec = models()["unet of SDXL"]
    runner = OnnxRunner(export_onnx(module, spec, tmp_path / "graph.onnx", LEGACY), spec)
    values = {one.name: torch.ones(one.at("opt")) for one in spec.inputs}
    first = runner.run(values)["latent"].clone()
    changed = runner.run({**values, "text_embeds": -values["text_embeds"]})["latent"]
    assert (changed - first).abs().max() > 1e-4


def test_the_strength_of_a_controlnet_is_an_input(tmp_path: Path) -> None:
    module, spec = models()["controlnet"]
    runner = OnnxRunner(export_onnx(module, spec, tmp_path / "graph.onnx", LEGACY), spec)
    values = {one.name: torch.ones(one.at("opt")) for one in spec.inputs}
    whole = runner.run(values)["middle"].clone()
    half = runner.run({**values, "conditioning_scale": torch.full((1,), 0.5)})["middle"]
    torch.testing.assert_close(half, whole / 2)


def test_a_graph_of_other_weights_is_found_out(tmp_path: Path) -> None:
    graph = export_onnx(Pair(0), PAIR, tmp_path / "graph.onnx", LEGACY)
    with pytest.raises(EngineError, match="output mixed differs from torch") as caught:
        verify_onnx(graph, Pair(1), PAIR)
    assert caught.value.code == "engine_differs"


def test_a_graph_that_is_cut_off(tmp_path: Path) -> None:
    graph = export_onnx(Pair(), PAIR, tmp_path / "graph.onnx", LEGACY)
    graph.write_bytes(graph.read_bytes()[:100])
    with pytest.raises(EngineError, match="graph.onnx: not an ONNX graph that can be run"):
        OnnxRunner(graph, PAIR)


class Undecided(nn.Module):
    def forward(self, picture: torch.Tensor, strength: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if strength.sum() > 1:
            return picture, strength
        return -picture, strength


@pytest.mark.slow
def test_a_module_that_cannot_be_exported_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="pair cannot be exported") as caught:
        export_onnx(Undecided(), PAIR, tmp_path / "graph.onnx", BuildOptions())
    assert caught.value.code == "export_failed"
    assert "eager" in caught.value.hint
