"""`get_executing_context()` names the node that is called, on each of the ways in which the engine calls nodes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from engine_harness import Run, node, video

from comfystream.engine.local import LocalEngine
from comfystream.engine.once import OnceRunner
from comfystream.engine.progress import PrepareProgress
from comfystream.engine.protocol import EngineOptions, Event, Progress
from comfystream.workflow.api_format import parse_api

PACK = """
from comfy_api.latest import ComfyAPI, ComfyAPISync
from comfy_execution.utils import get_executing_context

SEEN = []

class Base:
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True
    @classmethod
    def INPUT_TYPES(cls): return {"required": {"value": ("INT", {})}}
    def run(self, value):
        context = get_executing_context()
        SEEN.append([context.node_id, context.list_index])
        return ()

class ToldInTurn(Base):
    def run(self, value):
        super().run(value)
        ComfyAPISync().execution.set_progress(value, 10)
        return ()

class ToldLater(Base):
    async def run(self, value):
        super().run(value)
        await ComfyAPI().execution.set_progress(value, 10)
        super().run(value)
        return ()

class Frame(Base):
    RETURN_TYPES, OUTPUT_NODE = ("IMAGE",), False
    @classmethod
    def INPUT_TYPES(cls): return {"required": {"value": ("IMAGE",)}}
    def run(self, value):
        super().run(value)
        return (value,)

class Three:
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_IS_LIST = ("INT",), "run", "test", (True,)
    @classmethod
    def INPUT_TYPES(cls): return {"required": {}}
    def run(self): return ([1, 2, 3],)

NODE_CLASS_MAPPINGS = {cls.__name__: cls for cls in (ToldInTurn, ToldLater, Frame, Three)}
"""


@pytest.fixture
def engine(tmp_path: Path):
    (tmp_path / "context_pack.py").write_text(PACK)
    hosted = LocalEngine(EngineOptions(packs=(str(tmp_path / "context_pack.py"),), threads=1))
    yield hosted
    hosted.close()


def seen_by(engine: LocalEngine) -> list[Any]:
    spec = engine.host.catalog.get("Frame")
    assert spec is not None
    return vars(sys.modules[spec.cls.__module__])["SEEN"]


def test_a_node_of_the_compiled_tick_hears_its_id_in_each_frame(engine: LocalEngine) -> None:
    run = Run(engine)
    run.load({"in": node("LoadTensor"), "a": node("Frame", value=["in", 0]), "b": node("Frame", value=["a", 0]),
              "out": node("SaveTensor", images=["b", 0])})  # fmt: skip
    seen_by(engine).clear()  # of the rehearsal
    run.feed(video(1), video(2)).finish()
    assert seen_by(engine) == [["a", 0], ["b", 0]] * 2


@pytest.mark.parametrize(("kind", "times"), [("ToldInTurn", 1), ("ToldLater", 2)])
def test_a_node_hears_its_own_id_and_tells_its_progress(engine: LocalEngine, kind: str, times: int) -> None:
    events: list[Event] = []
    graph = {"three": {"class_type": "Three", "inputs": {}}, "told": node(kind, value=["three", 0])}
    runner = OnceRunner(engine.host)

    def run() -> None:
        with engine.host.progress_goes_to(PrepareProgress(1, events.append)):
            runner.run_here(parse_api(graph, source="test"))

    runner.submit(run).result()
    runner.close()
    assert sorted(seen_by(engine)) == sorted([["told", index] for index in range(3)] * times)
    steps = [(event.value, event.maximum) for event in events if isinstance(event, Progress) and event.maximum]
    assert (3, 10) in steps
