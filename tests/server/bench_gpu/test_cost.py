"""What `bench gpu` counts without running anything: arithmetic, weights, and the limit that they set."""

from __future__ import annotations

import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="needs diffusers")
transformers = pytest.importorskip("transformers", reason="needs transformers")

REAL_GFLOP = {  # counted on diffusers' and transformers' own architectures, batch 1
    "sd21 unet": (804, 1732),
    "sd15 unet": (803, 1719),
    "sdxl unet": (1589, 5135),
    "depth small": (115, 50),
    "depth large": (1304, 671),
    "srvgg": (325, 1.2),
    "fsrcnn": (6.5, 0),
    "wan": (3005, 2838),
    "whisper tiny": (36.9, 16),
    "whisper base": (87.4, 41),
}


@pytest.mark.parametrize("name", list(REAL_GFLOP))
def test_the_architectures_are_the_published_ones(name: str) -> None:
    """Against the golden table of arithmetic and weights, on no memory at all."""
    from comfystream.accel.upscalers import Fsrcnn, SrvggNet
    from comfystream_server.bench.gpu.cost import count
    from comfystream_server.bench.gpu.scale import REAL

    kind, _, size = name.partition(" ")
    with torch.device("meta"), torch.no_grad():
        if size == "unet":
            net = diffusers.UNet2DConditionModel(**REAL.unets[kind]).half()
            width = net.config.cross_attention_dim
            added = {"text_embeds": torch.zeros(1, 1280).half(), "time_ids": torch.zeros(1, 6).half()}
            arguments = (torch.zeros(1, 4, 64, 64).half(), torch.zeros(1), torch.zeros(1, 77, width).half())
            more = {"added_cond_kwargs": added} if kind == "sdxl" else {}
        elif kind == "depth":
            given = REAL.depths[size]
            inner = transformers.Dinov2Config(
                patch_size=14, image_size=518, reshape_hidden_states=False, **given["inner"]
            )
            config = transformers.DepthAnythingConfig(backbone_config=inner, patch_size=14, **given["outer"])
            net = transformers.DepthAnythingForDepthEstimation(config).half()
            arguments, more = (torch.zeros(1, 3, 518, 518).half(),), {}
        elif kind == "wan":
            net = diffusers.WanTransformer3DModel(**REAL.video).half()
            arguments = torch.zeros(1, 16, 1, 64, 64).half(), torch.zeros(1), torch.zeros(1, 512, 4096).half()
            more = {}
        elif kind == "whisper":
            net = transformers.WhisperModel(transformers.WhisperConfig(**REAL.whispers[size])).encoder.half()
            arguments, more = (torch.zeros(1, 80, 3000).half(),), {}
        else:
            net = (SrvggNet(64, 16, 4) if kind == "srvgg" else Fsrcnn()).half()
            arguments, more = (torch.zeros(1, 3, 512, 512).half(),), {}
        cost = count(lambda: net(*arguments, **more), [net])
    flops, weights = REAL_GFLOP[name]
    assert cost.flops / 1e9 == pytest.approx(flops, rel=0.03)
    assert cost.weight_bytes / 1e6 == pytest.approx(weights, rel=0.03, abs=0.1)


def test_the_limit_is_the_larger_of_arithmetic_and_weights() -> None:
    from comfystream_server.bench.gpu.cost import Cost, Hardware

    gpu = Hardware(tflops=100.0, tb_per_s=1.0)
    assert Cost(1e12, 1e9, 0).limit_fps(gpu, 1) == pytest.approx(100)
    assert Cost(1e12, 1e9, 0).limit_fps(gpu, 4) == pytest.approx(400)
    assert Cost(1e9, 1e11, 0).limit_fps(gpu, 1) == pytest.approx(10)
