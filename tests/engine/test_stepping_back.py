"""A thread that prepares something beside a stream is nicer, and leaves nobody nice behind."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from engine_harness import Run, node, video

from comfystream.engine import stepping_back as module
from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import EngineOptions
from comfystream.engine.stepping_back import STEP, can_step_back, stepping_back

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux only")

PACK = """
import os
import threading

SEEN = []

def niceness():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

class NiceLoad:
    RETURN_TYPES, FUNCTION, CATEGORY = ("FLOAT",), "load", "test"
    @classmethod
    def INPUT_TYPES(cls): return {"required": {"value": ("FLOAT", {"default": 1.0})}}
    def load(self, value):
        SEEN.append(niceness())
        return (value,)

class NiceApply:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"
    @classmethod
    def INPUT_TYPES(cls): return {"required": {"image": ("IMAGE",), "value": ("FLOAT", {"default": 1.0})}}
    def run(self, image, value): return (image * value,)

NODE_CLASS_MAPPINGS = {cls.__name__: cls for cls in (NiceLoad, NiceApply)}
"""


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def on_a_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def graph(value: float) -> dict[str, Any]:
    return {"in": node("LoadTensor"), "load": node("NiceLoad", value=value),
            "do": node("NiceApply", image=["in", 0], value=["load", 0]),
            "out": node("SaveTensor", images=["do", 0])}  # fmt: skip


needs_permission = pytest.mark.skipif(
    not can_step_back(), reason="this user may not make a thread less nice: run with `ulimit -e 20` or SYS_NICE"
)


@needs_permission
def test_threads_that_are_started_meanwhile_get_their_share_back() -> None:
    pool = ThreadPoolExecutor(1)

    def work() -> tuple[int, int, int, int, int]:
        usual = niceness()
        with stepping_back():
            inside, inherited = niceness(), pool.submit(niceness).result()
        return usual, inside, inherited, niceness(), pool.submit(niceness).result()

    usual, inside, inherited, after, of_the_other = on_a_thread(work)
    pool.shutdown()
    assert (inside, inherited) == (usual + STEP, usual + STEP)
    assert (after, of_the_other) == (usual, usual)


@needs_permission
def test_only_what_is_prepared_beside_a_live_stream_steps_back(tmp_path: Path) -> None:
    (tmp_path / "nice_pack.py").write_text(PACK)
    engine = LocalEngine(EngineOptions(packs=(str(tmp_path / "nice_pack.py"),), threads=1))
    run = Run(engine, live=True)
    run.load(graph(0.5))  # nothing runs yet
    run.feed(video(1))
    run.first_frame.result(30)
    run.load(graph(0.25))
    spec = engine.host.catalog.get("NiceLoad")
    assert spec is not None
    first, second = vars(sys.modules[spec.cls.__module__])["SEEN"]
    run.runner.close()
    engine.close()
    assert second == first + STEP


def test_nothing_is_done_where_it_could_not_be_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "can_step_back", lambda: False)

    def work() -> tuple[int, int]:
        usual = niceness()
        with stepping_back():
            return usual, niceness()

    usual, inside = on_a_thread(work)
    assert inside == usual


def test_a_refusal_of_the_system_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.setpriority

    def refuse(which: int, who: int, priority: int) -> None:
        if priority < os.getpriority(which, who):
            raise PermissionError(13, "Permission denied")
        real(which, who, priority)

    monkeypatch.setattr(os, "setpriority", refuse)
    assert on_a_thread(module._goes_there_and_back) is False
