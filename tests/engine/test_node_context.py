"""`get_executing_context()` names the node that is called, on each of the ways in which the engine calls nodes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_harness import Run, node, video

from comfystream.engine.events import Event, Progress
from comfystream.engine.local import LocalEngine
from comfystream.engine.once import OnceRunner
from comfystream.engine.progress import PrepareProgress
from comfystream.engine.protocol import EngineOptions, FailPolicy
from comfystream.workflow.api_format import parse_api

PACK = """
from contextvars import copy_context

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

class Keeper(Frame):
    KEPT = []
    def run(self, value):
        self.KEPT.append(copy_context())
        return (value,)

class Three:
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_IS_LIST = ("INT",), "run", "test", (True,)
    @classmethod
    def INPUT_TYPES(cls): return {"required": {}}
    def run(self): return ([1, 2, 3],)

NODE_CLASS_MAPPINGS = {cls.__name__: cls for cls in (ToldInTurn, ToldLater, Frame, Keeper, Three)}
"""

HELPER = """
import threading
from contextvars import copy_context
from comfy_execution.utils import get_executing_context

SEEN = []

def note():
    context = get_executing_context()
    prompt_id, node_id, index = context
    assert (prompt_id, node_id, index) == (context.prompt_id, context.node_id, context.list_index)
    SEEN.append(node_id)

def note_on_thread():
    thread = threading.Thread(target=copy_context().run, args=(note,))
    thread.start()
    thread.join()
"""

HELPED = """
import helper_of_contexts

class Helped:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"
    @classmethod
    def INPUT_TYPES(cls): return {"required": {"value": ("IMAGE",)}}
    def run(self, value):
        helper_of_contexts.note()
        return (value,)

class HelpedOnThread(Helped):
    def run(self, value):
        helper_of_contexts.note_on_thread()
        return (value,)

class Fails(Helped):
    does = False
    def run(self, value):
        helper_of_contexts.note()
        if self.does:
            raise ValueError("no")
        return (value,)

class Twice(Helped):
    OUTPUT_IS_LIST = (True,)
    def run(self, value):
        helper_of_contexts.note()
        return ([value],)

NODE_CLASS_MAPPINGS = {cls.__name__: cls for cls in (Helped, HelpedOnThread, Fails, Twice)}
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


def test_a_context_that_a_node_keeps_goes_on_to_name_it(engine: LocalEngine) -> None:
    run = Run(engine)
    run.load({"in": node("LoadTensor"), "a": node("Keeper", value=["in", 0]), "b": node("Frame", value=["a", 0]),
              "out": node("SaveTensor", images=["b", 0])})  # fmt: skip
    run.feed(video(1)).finish()
    spec = engine.host.catalog.get("Keeper")
    assert spec is not None
    who = vars(sys.modules[spec.cls.__module__])["get_executing_context"]
    assert {context.run(who).node_id for context in vars(spec.cls)["KEPT"]} == {"a"}


@pytest.fixture
def helped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LocalEngine, list[str]]]:
    """A pack that has nothing of ComfyUI, with a module outside of it that asks, and what that has heard."""
    (tmp_path / "helper_of_contexts.py").write_text(HELPER)
    (tmp_path / "helped_pack.py").write_text(HELPED)
    monkeypatch.syspath_prepend(tmp_path)
    hosted = LocalEngine(EngineOptions(packs=(str(tmp_path / "helped_pack.py"),), threads=1))
    yield hosted, vars(sys.modules["helper_of_contexts"])["SEEN"]
    hosted.close()
    del sys.modules["helper_of_contexts"]


def chain(*kinds: str) -> dict[str, Any]:
    """Nodes "1", "2", ... in a row."""
    nodes = {str(i): node(kind, value=[str(i - 1) if i > 1 else "in", 0]) for i, kind in enumerate(kinds, 1)}
    return {"in": node("LoadTensor"), **nodes, "out": node("SaveTensor", images=[str(len(kinds)), 0])}


def test_who_asks_for_a_node_from_outside_of_its_pack_hears_its_id(helped: tuple[LocalEngine, list[str]]) -> None:
    engine, seen = helped
    run = Run(engine)
    run.load(chain("Helped", "Helped", "Twice", "Helped", "HelpedOnThread", "Helped"))
    seen.clear()
    run.feed(video(1), video(2)).finish()
    assert seen == ["1", "2", "3", "4", "5", "6"] * 2


def test_a_node_that_raises_leaves_nothing_to_the_next_frame(helped: tuple[LocalEngine, list[str]]) -> None:
    engine, seen = helped
    run = Run(engine, on_error=FailPolicy.HOLD)
    run.load(chain("Helped", "Fails", "Helped"))
    fails: Any = engine.host.catalog.get("Fails")
    fails.cls.does = True
    seen.clear()
    run.feed(video(1), video(2)).finish()
    assert seen == ["1", "2"] * 2


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
