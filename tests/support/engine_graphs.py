"""Short graphs for the tests of the engine: a line of nodes whose result is read as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine_harness import Run, link, node, video

__all__ = ["LIVE", "Open", "calls_of", "chain", "texts"]

Open = Callable[..., Run]
LIVE = link("in")


def texts(open_run: Open, graph: dict[str, Any], frames: int = 1) -> list[str]:
    """What a graph puts out as text for some frames."""
    run = open_run()
    run.load(graph)
    return run.feed(*(video(i) for i in range(frames))).finish().texts


def chain(*steps: dict[str, Any], out: str = "SaveTextTensor") -> dict[str, Any]:
    """LoadTensor, then the steps (ids "1", "2", ...), then the last as text."""
    graph = {"in": node("LoadTensor"), **{str(i): step for i, step in enumerate(steps, 1)}}
    graph["text"] = node("TestToText", value=link(str(len(steps))))
    graph["out"] = node(out, data=link("text"))
    return graph


def calls_of(local: Any) -> list[tuple[str, object]]:
    """What the testing pack writes of each call of its nodes, emptied; of an engine in this process."""
    counted = local.host.catalog.get("TestAdd").cls  # an engine since may have loaded the pack anew, by the same name
    kept: list[tuple[str, object]] = getattr(counted, counted.FUNCTION).__globals__["CALLS"]
    kept.clear()
    return kept
