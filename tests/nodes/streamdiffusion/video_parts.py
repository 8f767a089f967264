"""A tiny video model in memory, with its prompts and pictures."""

from __future__ import annotations

from dataclasses import replace

import tiny_video
import torch
from torch import Tensor

from comfystream_nodes.streamdiffusion.core.video import Window
from comfystream_nodes.streamdiffusion.text import Embedding
from comfystream_nodes.streamdiffusion.video.model import VideoModel
from comfystream_nodes.streamdiffusion.video.pipelines import Pipeline
from comfystream_nodes.streamdiffusion.video.stream import VideoStream
from comfystream_nodes.streamdiffusion.video.tae import tiny_video_autoencoder
from comfystream_nodes.streamdiffusion.video.text import VideoText
from comfystream_nodes.streamdiffusion.video.transformer import CausalStep
from comfystream_nodes.streamdiffusion.video.wan_vae import wan_autoencoder

SIDES = (48, 32)  # width, height
ONE = Pipeline("one", 1, Window(3, 1), (1000, 750), (750, 250), SIDES)
THREE = replace(ONE, name="three", chunk=3, window=Window(7, 3))


def model_of(pipeline: Pipeline = ONE, kind: str = "tae", **more) -> VideoModel:
    made = tiny_video.wan_vae() if kind == "wan" else tiny_video.tae()
    vae = wan_autoencoder(made, "vae") if kind == "wan" else tiny_video_autoencoder(made)
    text = VideoText(None, None, tokens=tiny_video.TOKENS)
    return VideoModel("tiny", pipeline, CausalStep(tiny_video.transformer(**more)), vae, text)


def prompt(seed: int = 1) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    return Embedding(torch.randn(1, tiny_video.TOKENS, tiny_video.TEXT_WIDTH, generator=generator))


def picture(number: int, side: tuple[int, int] = SIDES) -> Tensor:
    return torch.rand(1, side[1], side[0], 3, generator=torch.Generator().manual_seed(100 + number))


def run(stream: VideoStream, numbers: range) -> list[Tensor | None]:
    return [stream.process(picture(number)) for number in numbers]
