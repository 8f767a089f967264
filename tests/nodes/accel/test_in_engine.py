"""The shipped workflows of accelerated models in the engine, on tiny models: loaded once, edited, refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_harness import Run, video
from tiny_models import tiny_depth

from comfystream.accel.upscalers import SrvggNet
from comfystream.catalog import standin
from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import EngineOptions
from comfystream.errors import ComfyStreamError


@pytest.fixture
def run(nodes: dict[str, Any], tmp_path: Path) -> Any:
    names = ("models", "input", "output", "temp")
    folders = standin.Folders(base=str(tmp_path), **{name: str(tmp_path / name) for name in names})
    engine = LocalEngine(EngineOptions(folders=folders))
    with torch.inference_mode(False):
        yield Run(engine)
    engine.close()


def graph_of(repository: Path, name: str, **changes: Any) -> dict[str, Any]:
    graph: dict[str, Any] = json.loads((repository / f"workflows/{name}.json").read_text("utf-8"))
    graph["2"]["inputs"] |= changes
    return graph


def test_an_upscaler_on_a_stream(run: Run, repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models/upscale_models"
    folder.mkdir()
    torch.save({"params": SrvggNet(8, 2, 4).state_dict()}, folder / "realesr-general-x4v3.pth")
    run.load(graph_of(repository, "super_resolution", backend="eager", width=32, height=16))
    run.feed(video(0), video(1), video(2)).finish()
    assert [(one.image.width, one.image.height) for one in run.pictures] == [(128, 64)] * 3


def test_a_depth_model_on_a_stream(run: Run, repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs transformers")
    tiny_depth().save_pretrained(tmp_path / "models/depth/depth-anything-v2-small")
    run.load(graph_of(repository, "depth_map", backend="eager", side=28))
    run.feed(video(0), video(1)).finish()
    assert [(one.image.width, one.image.height) for one in run.pictures] == [(32, 16)] * 2


def test_a_backend_that_is_missing_is_told_at_its_node_and_the_stream_goes_on(
    run: Run, repository: Path, tmp_path: Path
) -> None:
    from comfystream.accel.registry import probe_all

    if {one.backend: one.can_run for one in probe_all()}["tensorrt"]:
        pytest.skip("TensorRT is installed here")
    folder = tmp_path / "models/upscale_models"
    folder.mkdir()
    torch.save({"params": SrvggNet(8, 2, 4).state_dict()}, folder / "realesr-general-x4v3.pth")
    run.load(graph_of(repository, "super_resolution", backend="eager", width=32, height=16))
    run.feed(video(0))
    with pytest.raises(
        ComfyStreamError, match='AcceleratedUpscaleModelLoader": the backend tensorrt does not'
    ) as caught:
        run.load(graph_of(repository, "super_resolution", backend="tensorrt"))
    assert caught.value.node_id == "2"
    run.feed(video(1)).finish()
    assert len(run.pictures) == 2
