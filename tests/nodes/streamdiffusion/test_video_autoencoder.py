"""Autoencoders chunk by chunk against the whole clip at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")

import tiny_video

from comfystream.accel import accelerate as accelerating
from comfystream.accel.accelerate import Accelerated, How
from comfystream.accel.eager import EagerBackend
from comfystream.accel.graphed import GraphedRunner
from comfystream.errors import AssetError
from comfystream_nodes.streamdiffusion.video import autoencoder
from comfystream_nodes.streamdiffusion.video.autoencoder import AutoencoderStream
from comfystream_nodes.streamdiffusion.video.tae import (
    MemBlock,
    TinyVideoAutoencoder,
    tiny_autoencoder_of,
    tiny_video_autoencoder,
)
from comfystream_nodes.streamdiffusion.video.wan_vae import wan_autoencoder

SIZE = (32, 16)
EAGER = How("eager", "cpu")


def clip(frames: int) -> Tensor:
    return torch.rand(frames, 3, *SIZE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def chunks(frames: Tensor, size: int) -> list[Tensor]:
    first = 1 + 4 * (size - 1)
    return [frames[:first], *frames[first:].split(4 * size)]


def tae(seed: int = 0) -> TinyVideoAutoencoder:
    torch.manual_seed(seed)
    return TinyVideoAutoencoder(6, (8, 6, 5, 4)).eval().requires_grad_(False)


@pytest.mark.parametrize("size", [1, 3])
def test_wan_chunk_by_chunk_is_the_whole_clip(size: int) -> None:
    vae = tiny_video.wan_vae().double()
    frames = clip(1 + 4 * (4 * size - 1))
    wanted = vae.encode((frames * 2 - 1).transpose(0, 1)[None]).latent_dist.mode()
    mean, spread = (
        torch.tensor(part).view(1, -1, 1, 1, 1) for part in (vae.config.latents_mean, vae.config.latents_std)
    )
    stream = AutoencoderStream(wan_autoencoder(vae, "vae"), SIZE, EAGER)
    for _ in range(2):  # and again after forgetting
        latents = [stream.encode(chunk) for chunk in chunks(frames, size)]
        assert [one.shape for one in latents] == [(1, size, 16, 4, 2)] * 4
        found = torch.cat(latents, 1)
        assert (found.transpose(1, 2) - (wanted - mean) / spread).abs().max() < 1e-5
        pictures = vae.decode(wanted).sample[0].transpose(0, 1) / 2 + 0.5
        decoded = [stream.decode(one) for one in latents]
        assert [len(one) for one in decoded] == [len(one) for one in chunks(frames, size)]
        assert (torch.cat(decoded) - pictures).abs().max() < 1e-5
        stream.forget()
    assert pictures.std() > 1e-3


def whole(layers: torch.nn.Sequential, x: Tensor) -> Tensor:
    """All frames through one layer after the other: each block sees the frames, and the frames one earlier."""
    for layer in layers:
        before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
        x = layer(x, before) if isinstance(layer, MemBlock) else layer(x)
    return x


@pytest.mark.parametrize("size", [1, 3])
def test_tae_chunk_by_chunk_is_the_whole_clip(size: int) -> None:
    module = tae().double()
    frames = clip(1 + 4 * (4 * size - 1))
    wanted = whole(module.encoder, torch.cat([frames[:1].expand(3, -1, -1, -1), frames]))
    pictures = whole(module.decoder, wanted)[3:].clamp(0, 1)
    stream = AutoencoderStream(tiny_video_autoencoder(module), SIZE, EAGER)
    latents = [stream.encode(chunk) for chunk in chunks(frames, size)]
    assert (torch.cat(latents, 1)[0] - wanted).abs().max() < 1e-5
    decoded = [stream.decode(one) for one in latents]
    assert [len(one) for one in decoded] == [len(one) for one in chunks(frames, size)]
    assert (torch.cat(decoded) - pictures).abs().max() < 1e-5
    assert pictures.std() > 1e-3


@pytest.mark.parametrize("kind", ["wan", "tae"])
def test_what_came_before_matters(kind: str) -> None:
    model = (
        wan_autoencoder(tiny_video.wan_vae().double(), "vae")
        if kind == "wan"
        else tiny_video_autoencoder(tae().double())
    )
    frames, stream = clip(9), AutoencoderStream(model, SIZE, EAGER)
    stream.encode(frames[:1])
    after = stream.encode(frames[5:])
    stream.forget()
    stream.encode(frames[:1])
    stream.encode(frames[1:5])
    assert (after - stream.encode(frames[5:])).abs().max() > 1e-6
    with pytest.raises(ValueError, match="3 pictures are no whole latent frames"):
        stream.encode(frames[:3])


@pytest.mark.parametrize("kind", ["wan", "tae"])
def test_a_recorded_half_gives_the_same(kind: str, monkeypatch) -> None:
    """Once all shapes have settled a half is one runner whose memory stays in its buffers."""
    captured = []

    def capture(run):
        captured.append(run)
        run()
        return run

    def recorded(module, spec, how) -> Accelerated:
        runner = GraphedRunner(EagerBackend().wrap(module, spec, "cpu"), capture)
        runner.bind()
        return Accelerated(runner, None)

    model = wan_autoencoder(tiny_video.wan_vae(), "vae") if kind == "wan" else tiny_video_autoencoder(tae())
    plain = AutoencoderStream(model, SIZE, EAGER)
    monkeypatch.setattr(autoencoder, "accelerate", recorded)
    fast = AutoencoderStream(model, SIZE, How("cuda-graph", "cpu"))
    assert len(captured) == 2
    frames = clip(17).float()
    for _ in range(2):
        for chunk in chunks(frames, 1):
            latents = plain.encode(chunk)
            torch.testing.assert_close(fast.encode(chunk), latents)
            torch.testing.assert_close(fast.decode(latents), plain.decode(latents))
        plain.forget()
        fast.forget()
    assert accelerating.accelerate is not recorded


def test_tae_has_the_layout_of_the_published_files() -> None:
    names = set(TinyVideoAutoencoder().state_dict())
    assert {"encoder.0.weight", "encoder.0.bias", "encoder.2.conv.weight", "encoder.3.weight"} <= names
    assert {"encoder.4.conv.0.weight", "encoder.16.conv.4.bias", "encoder.17.weight"} <= names
    assert {"decoder.1.weight", "decoder.3.conv.2.weight", "decoder.7.conv.weight", "decoder.8.weight"} <= names
    assert {"decoder.13.conv.weight", "decoder.19.conv.weight", "decoder.20.weight", "decoder.22.bias"} <= names
    assert "decoder.8.bias" not in names
    assert sum(one.numel() for one in TinyVideoAutoencoder().parameters()) == pytest.approx(11.3e6, rel=0.02)


def test_tae_of_a_file() -> None:
    module = tae()
    weights = dict(module.state_dict())
    grown = weights["decoder.7.conv.weight"]
    weights["decoder.7.conv.weight"] = torch.cat([torch.randn_like(grown), grown])  # as in files that double time here
    loaded = tiny_autoencoder_of(weights, "file.pth")
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in loaded.state_dict().items())
    for bad, said in (({}, "file.pth is no tiny video autoencoder"), ({**weights, "x": grown}, "1 tensors unknown")):
        with pytest.raises(AssetError, match=said):
            tiny_autoencoder_of(bad, "file.pth")


def test_the_autoencoder_of_another_model_is_refused() -> None:
    vae = tiny_video.wan_vae()
    vae.register_to_config(patch_size=2)
    with pytest.raises(AssetError, match="vae is no autoencoder of Wan 2.1's kind"):
        wan_autoencoder(vae, "vae")
