"""The way of frames on a real GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_harness import Run, grey, link, node, video, wait_for

from comfystream.catalog.standin import Folders
from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import EngineOptions

pytestmark = pytest.mark.gpu
PACK = Path(__file__).with_name("device_pack.py")
HALF = 2


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    folders = Folders(base=str(tmp_path_factory.mktemp("home")))
    engine = LocalEngine(EngineOptions(packs=(str(PACK),), folders=folders, frames_on="cuda"))
    yield engine
    engine.close()


@pytest.fixture
def run(engine: LocalEngine) -> Iterator[Run]:
    run = Run(engine, live=False)
    yield run
    run.runner.close()


def chain(*classes: str) -> dict[str, Any]:
    graph: dict[str, Any] = {"in": node("LoadTensor")}
    above = link("in")
    for number, name in enumerate(classes):
        graph[f"n{number}"] = node(name, image=above)
        above = link(f"n{number}")
    return {**graph, "out": node("SaveTensor", images=above)}


def test_each_node_gets_its_pictures_where_it_can_take_them(run: Run) -> None:
    run.load(chain("DevFine", "DevNumpy", "DevMixes", "DevFine"))
    run.feed(*(video(id, 2 * id) for id in range(100))).finish()
    assert [grey(frame) for frame in run.pictures] == pytest.approx([2 * id for id in range(100)], abs=HALF)
    places = {timing.node_id: timing.place for timing in run.runner.stats().nodes}
    assert places == {"n0": "cuda", "n1": "host", "n2": "host", "n3": "cuda"}


def test_many_large_pictures_come_out_each_as_itself(run: Run) -> None:
    run.load(chain("DevFine", "DevFine"), (1920, 1080))
    frames = [video(id, id % 250, width=1920, height=1080) for id in range(200)]
    run.feed(*frames).finish()
    assert [grey(frame) for frame in run.pictures] == pytest.approx([id % 250 for id in range(200)], abs=HALF)


def test_sizes_may_change_while_pictures_are_under_way(run: Run) -> None:
    run.load(chain("DevFine"))
    sizes = [(32, 16), (640, 360), (33, 21), (1280, 720), (32, 16)] * 6
    run.feed(*(video(id, id, width=w, height=h) for id, (w, h) in enumerate(sizes))).finish()
    assert [(frame.image.width, frame.image.height) for frame in run.pictures] == sizes
    assert [grey(frame) for frame in run.pictures] == pytest.approx([*range(len(sizes))], abs=HALF)


def test_the_lane_never_waits_for_the_gpu(run: Run) -> None:
    import torch

    run.load(chain("DevFine", "DevFine"))
    run.feed(*(video(id) for id in range(10)))
    wait_for(lambda: len(run.pictures) == 10, "warm-up")
    torch.cuda.set_sync_debug_mode("error")
    try:
        run.feed(*(video(id) for id in range(10, 100)))
        wait_for(lambda: len(run.pictures) == 100, "all pictures")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert run.runner.stats().failed == 0
