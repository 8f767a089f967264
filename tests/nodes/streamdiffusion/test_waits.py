"""A tick waits for nothing, shown on a device that computes nothing: each copy to it and each look at it is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny
import tiny_video
from frames import settings_for

from comfystream_nodes.streamdiffusion.control import Control, load_control
from comfystream_nodes.streamdiffusion.core import Guidance
from comfystream_nodes.streamdiffusion.core.video import Window
from comfystream_nodes.streamdiffusion.loading.entry import placed
from comfystream_nodes.streamdiffusion.loading.folder import load_folder
from comfystream_nodes.streamdiffusion.stream import Stream
from comfystream_nodes.streamdiffusion.text import Embedding
from comfystream_nodes.streamdiffusion.video.loading import placed as video_placed
from comfystream_nodes.streamdiffusion.video.model import VideoModel
from comfystream_nodes.streamdiffusion.video.pipelines import Pipeline
from comfystream_nodes.streamdiffusion.video.settings import VideoSettings
from comfystream_nodes.streamdiffusion.video.stream import VideoStream
from comfystream_nodes.streamdiffusion.video.tae import tiny_video_autoencoder
from comfystream_nodes.streamdiffusion.video.text import VideoText
from comfystream_nodes.streamdiffusion.video.transformer import CausalStep

META = torch.device("meta")
LOOKS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero")


class Waits(TorchDispatchMode):
    """Lists what would wait for a GPU: a look at a value, a copy between devices that does not say `non_blocking`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func._schema.name
        tensors = [one for one in tree_leaves((args, kwargs, made)) if isinstance(one, Tensor)]
        crosses = len({one.device.type for one in tensors}) > 1
        flags = dict(zip((one.name for one in func._schema.arguments), args, strict=False)) | (kwargs or {})
        if name in LOOKS or (crosses and not flags.get("non_blocking")):
            self.seen.append(f"{name} {[list(one.shape) for one in tensors]}")
        return made


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_tick_and_an_edit_wait_for_nothing(tmp_path, family: str) -> None:
    model = load_folder(tiny.write_folder(tmp_path / "model", family))
    told = settings_for(model)
    prompt = Embedding.of([part.to(META, torch.float16) for part in told.prompt.parts()])
    tiny.controlnet(family).save_pretrained(tmp_path / "net")
    net = load_control(tmp_path / "net")
    net.module.to(META, torch.float16)
    picture = torch.zeros(1, 64, 64, 3, device=META)
    settings = replace(told, prompt=prompt, controls=(Control(net, 0.5, "lineart"),))
    stream = Stream(placed(model, META, torch.float16), settings)
    stream.process(picture)
    for change in (
        {},
        {"guidance": Guidance.of("self", 1.4, 0.7)},
        {"steps": (20, 40)},
        {"seeds": ((7, 0.5), (8, 0.5)), "transition_frames": 2},
        {},
        {"guidance": Guidance.of("full", 1.4, 0.7)},
        {"controls": (Control(net, 0.5, picture=torch.zeros(1, 32, 32, 3)),)},  # of a node on the host
        {"is_batched": False},
    ):
        stream.settings = replace(stream.settings, **change)
        with Waits() as waits:
            stream.process(picture)
        assert waits.seen == [], change


@pytest.mark.parametrize("has_picture", [True, False])
def test_a_chunk_of_video_waits_for_nothing(has_picture: bool) -> None:
    pipeline = Pipeline("one", 1, Window(3, 1), (1000, 750), (750, 250), (48, 32), attention_bias=0.5)
    vae, text = tiny_video_autoencoder(tiny_video.tae()), VideoText(None, None, tokens=tiny_video.TOKENS)
    model = VideoModel("tiny", pipeline, CausalStep(tiny_video.transformer()), vae, text)
    prompt = Embedding(torch.zeros(1, tiny_video.TOKENS, tiny_video.TEXT_WIDTH, device=META, dtype=torch.bfloat16))
    stream = VideoStream(video_placed(model, META, torch.bfloat16), VideoSettings(prompt))
    picture = torch.zeros(1, 32, 48, 3, device=META) if has_picture else None
    stream.process(picture)
    with Waits() as waits:
        for _ in range(20):
            stream.process(picture)
    assert waits.seen == []
