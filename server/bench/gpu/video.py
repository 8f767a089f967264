"""Video by a causal transformer, chunk by chunk: a `VideoStream` of the nodes. A tick is one chunk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from comfystream_nodes.streamdiffusion.text import Embedding
from comfystream_nodes.streamdiffusion.video.autoencoder import VideoAutoencoder
from comfystream_nodes.streamdiffusion.video.model import VideoModel
from comfystream_nodes.streamdiffusion.video.pipelines import pipeline_of
from comfystream_nodes.streamdiffusion.video.settings import VideoSettings
from comfystream_nodes.streamdiffusion.video.stream import VideoStream
from comfystream_nodes.streamdiffusion.video.tae import TinyVideoAutoencoder, tiny_video_autoencoder
from comfystream_nodes.streamdiffusion.video.text import VideoText
from comfystream_nodes.streamdiffusion.video.transformer import CausalStep
from comfystream_nodes.streamdiffusion.video.wan_vae import wan_autoencoder

from .cost import Cost, count
from .models import library, random_weights
from .prepared import Prepared
from .scale import Scale
from .stages import Stages
from .streams import DTYPES

__all__ = ["VideoCase"]


@dataclass(frozen=True, slots=True)
class VideoCase:
    """StreamDiffusionV2 on a live picture: two steps and the pass that writes the cache, one latent frame at a time.

    Attributes:
        vae: "wan", the large one, or "tae", the tiny one.
        is_wide: at 832 x 480 in place of 512 x 512.
    """

    vae: str
    is_wide: bool = False

    def prepare(self, scale: Scale, rows: int, backend: str, device: str, precision: str) -> Prepared:
        """Make the model, count, accelerate, fill the window.

        Raises:
            ComfyStreamError: the backend is none for video.
        """
        model = self._model(scale, torch.device(device), DTYPES[precision])
        size = scale.wide if self.is_wide else (scale.side, scale.side)
        settings = VideoSettings(_prompt(model), size=size)
        shape = (model.pipeline.frames, size[1], size[0], 3)
        pictures = torch.rand(shape, device=model.device, dtype=model.dtype)
        cost = _count(model, settings, pictures)
        fast = model.with_parts(acceleration="none" if backend == "eager" else backend)
        began = time.perf_counter()
        stream = _filled(fast, settings, pictures)
        cold_s = time.perf_counter() - began
        began = time.perf_counter()
        _filled(fast, settings, pictures)
        cached_s = time.perf_counter() - began
        facts = {
            "model": f"{model.pipeline.name} {scale.name}",
            "weights": "random",
            "size": f"{size[0]}x{size[1]}",
            "pictures_per_tick": len(pictures),
            "steps": list(model.pipeline.video_steps),
            "window": model.pipeline.window.frames,
            "vae": self.vae,
            "precision": precision,
        }
        return Prepared(
            _tick(stream),
            pictures,
            cost,
            cold_s,
            cached_s,
            facts,
            lambda: _proof(stream),
            lambda stages: _stage(stages, stream),
        )

    def _model(self, scale: Scale, device: torch.device, dtype: torch.dtype) -> VideoModel:
        diffusers = library("diffusers")
        with device:
            transformer = random_weights(diffusers.WanTransformer3DModel(**scale.video))
            autoencoder = self._autoencoder(scale, diffusers)
        autoencoder.module.to(dtype)
        nn.Module.to(transformer, dtype)
        text = VideoText(None, None, dtype, scale.video_tokens)
        pipeline = pipeline_of("streamdiffusionv2")
        return VideoModel("random", pipeline, CausalStep(transformer), autoencoder, text, device, dtype)

    def _autoencoder(self, scale: Scale, diffusers: Any) -> VideoAutoencoder:
        if self.vae == "tae":
            encoder, decoder = scale.tae_widths
            return tiny_video_autoencoder(random_weights(TinyVideoAutoencoder(encoder, decoder), 1))
        vae = random_weights(diffusers.AutoencoderKLWan(base_dim=scale.wan_width), 1)
        return wan_autoencoder(vae, "the random one")


def _prompt(model: VideoModel) -> Embedding:
    return Embedding(torch.randn(1, model.text.tokens, model.transformer.config.text_dim), None, "random")


def _filled(model: VideoModel, settings: VideoSettings, pictures: Tensor) -> VideoStream:
    """A stream whose window is full, so that what is recorded runs."""
    stream = VideoStream(model, settings)
    for _ in range(model.pipeline.window.frames + 2):
        stream.process(pictures)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return stream


def _count(model: VideoModel, settings: VideoSettings, pictures: Tensor) -> Cost:
    stream = _filled(model, settings, pictures)
    return count(lambda: stream.process(pictures), [model.transformer, model.autoencoder.module])


def _tick(stream: VideoStream) -> Callable[[Tensor], Tensor]:
    def tick(pictures: Tensor) -> Tensor:
        made: Tensor | None = stream.process(pictures)
        assert made is not None
        return made

    return tick


def _proof(stream: VideoStream) -> dict[str, Any]:
    places = sorted(stream.places)
    return {"networks": places, "graph": any("CUDA graph" in one for one in places), "engines": {}}


def _stage(stages: Stages, stream: VideoStream) -> None:
    stages.on(stream.autoencoder, "encode", "VAE encode")
    stages.on(stream.denoiser, "chunk", "transformer")
    stages.on(stream.autoencoder, "decode", "VAE decode")
