"""Whole streams on tiny random models that are loaded from disk by the code that loads real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny

from comfystream_nodes.streamdiffusion.core import Guidance, Schedule, ScheduleKind
from comfystream_nodes.streamdiffusion.loading.folder import load_folder
from comfystream_nodes.streamdiffusion.settings import StreamSettings
from comfystream_nodes.streamdiffusion.stream import Stream


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("models")
    return {family: tiny.write_folder(base / family, family) for family in tiny.FAMILIES}


@pytest.fixture(scope="session")
def models(model_folders):
    return {family: load_folder(folder) for family, folder in model_folders.items()}


def picture(seed: int = 0, side: int = 64) -> torch.Tensor:
    return torch.rand(1, side, side, 3, generator=torch.Generator().manual_seed(seed))


def settings_for(model, text: str = "a cat", **more) -> StreamSettings:
    return StreamSettings(prompt=model.prompts.encode(text), negative=model.prompts.encode("blurry"), **more)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("mode", ["none", "full", "self", "initialize"])
def test_every_family_in_every_mode(models, family: str, mode: str) -> None:
    model = models[family]
    assert model.family == family
    stream = Stream(model, settings_for(model, guidance=Guidance.of(mode, 1.4, 0.7)))
    out = [stream.process(picture(i)) for i in range(3)]
    assert all(one.shape == (1, 64, 64, 3) and torch.isfinite(one).all() for one in out)
    assert not torch.equal(out[1], out[2])
