"""The ready workflows by the way of a device, beside the same on the host."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from engine_harness import Run
from fake_device import FakeBackend

from comfystream.engine.events import NodeFailed
from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import EngineOptions
from comfystream.frames import VideoFrame
from comfystream.workflow.read import read_workflow

FOLDER = Path(__file__).parents[2] / "workflows"
ABOUT = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.yaml"))}
# What needs models cannot run here, and what has no picture cannot be compared.
NAMES = [
    name
    for name, about in ABOUT.items()
    if not about["models"] and all("video" in about["modality"][way] for way in ("takes", "gives"))
]
SIZE = (64, 48)
FRAMES = 3


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[LocalEngine, LocalEngine]]:
    made = (
        LocalEngine(EngineOptions(threads=1, frames_on="host")),
        LocalEngine(EngineOptions(threads=1), backend=FakeBackend()),
    )
    yield made
    for engine in made:
        engine.close()


def frames() -> list[VideoFrame]:
    """A disc on a gradient that moves, soft enough for chroma not to matter."""
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    made = []
    for id in range(FRAMES):
        disc = 90 / (1 + np.exp((np.hypot(x - 30 - 2 * id, y - 24) - 14) / 2))
        rgb = np.stack([60 + x + disc, 60 + y + disc, 150 - x / 2 + disc / 2], -1).clip(0, 255).astype(np.uint8)
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24").reformat(format="yuv420p")
        made.append(VideoFrame(id, id, Fraction(1, 30), image))
    return made


def shown(engine: LocalEngine, file: Path) -> list[np.ndarray]:
    run = Run(engine)
    try:
        workflow = read_workflow(file, engine.host.catalog)
        revision = run.runner.prepare(workflow, SIZE).result(60)
        run.runner.activate(revision)
        run.feed(*frames()).finish()
        assert not run.events_of(NodeFailed)
        return [frame.image.to_ndarray(format="rgb24").astype(int) for frame in run.pictures]
    finally:
        run.runner.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_ready_workflow_gives_the_same_on_a_device(engines: tuple[LocalEngine, LocalEngine], name: str) -> None:
    host, device = (shown(engine, next(FOLDER.glob(f"{name}.[jp][sn]*"))) for engine in engines)
    assert len(host) == len(device) == FRAMES
    for one, other in zip(host, device, strict=True):
        assert one.shape == other.shape
        apart = np.abs(one - other)
        assert np.median(apart) <= 3
        assert apart.mean() < 12  # palettes are made from the picture: a step of one can choose another
