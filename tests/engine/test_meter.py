"""What the table of nodes says: how often each was really called."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engine_harness import Run, link, node, video

from comfystream.engine.protocol import FailPolicy

# call 1 of a node is the rehearsal, which counts in none of them
GRAPH = {
    "in": node("LoadTensor"),
    "before": node("TestFill", like=link("in"), number=0.5),
    "bad": node("TestFail", value=link("before"), on="3,4"),
    "after": node("TestFill", like=link("bad"), number=0.2),
    "out": node("SaveTensor", images=link("after")),
}


def test_a_failed_tick_counts_for_the_nodes_that_ran(
    open_run: Callable[..., Run], request: pytest.FixtureRequest
) -> None:
    run = open_run(on_error=FailPolicy.PASSTHROUGH)
    run.load(GRAPH)
    run.feed(*map(video, range(6))).finish()
    stats = run.runner.stats()
    calls = {timing.node_id: timing.calls for timing in stats.nodes}
    assert stats.failed == 2
    assert calls["before"] == 6
    assert calls["after"] == 4
    # the scheduler has the time of a call that failed, and counts it; the compiled function has neither
    is_scheduled = "scheduled" in request.node.name
    assert calls["bad"] == (6 if is_scheduled else 4)
