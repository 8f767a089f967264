"""A node that raises, and what comes out then, on both engines."""

from __future__ import annotations

from typing import Any

import pytest
from engine_graphs import LIVE, Open
from engine_harness import grey, link, node, video

from comfystream.engine.events import NodeFailed
from comfystream.engine.protocol import FailPolicy
from comfystream.errors import NodeError, WorkflowError


class TestFailures:
    GRAPH: dict[str, Any] = {
        "in": node("LoadTensor"),
        "bad": node("TestFail", value=LIVE, on="2"),
        "i": node("ImageInvert", image=link("bad")),
        "out": node("SaveTensor", images=link("i")),
    }

    @pytest.mark.parametrize(
        ("policy", "second"), [(FailPolicy.HOLD, 255), (FailPolicy.PASSTHROUGH, 100), (FailPolicy.SLATE, None)]
    )
    def test_the_stream_goes_on_by_policy(self, open_run: Open, policy: FailPolicy, second: int | None) -> None:
        run = open_run(on_error=policy)
        run.load(self.GRAPH)
        run.feed(video(0, 0), video(1, 100), video(2, 200)).finish()
        values = [grey(f) for f in run.pictures]
        assert [f.id for f in run.pictures] == [0, 1, 2]
        assert values[0] == 255
        assert values[2] == pytest.approx(55, abs=1)
        assert values[1] == pytest.approx(second, abs=1) if second is not None else values[1] not in (255, 100)
        (failed,) = run.events_of(NodeFailed)
        assert (failed.node_id, failed.class_type, failed.message, failed.frame) == (
            "bad",
            "TestFail",
            "the test asked for this",
            1,
        )
        assert "trouble.py" in failed.trace
        assert run.runner.stats().failed == 1

    def test_stop_ends_the_run_with_the_error(self, open_run: Open) -> None:
        run = open_run(on_error=FailPolicy.STOP)
        run.load(self.GRAPH)
        with pytest.raises(NodeError, match='node bad "TestFail": the test asked for this'):
            run.feed(video(0), video(1)).finish()

    def test_repeats_are_counted_not_flooded(self, open_run: Open) -> None:
        run = open_run(on_error=FailPolicy.HOLD)
        run.load({**self.GRAPH, "bad": node("TestFail", value=LIVE, on="all")})
        run.feed(*(video(i) for i in range(60))).finish()
        assert run.runner.stats().failed == 60
        assert 1 <= len(run.events_of(NodeFailed)) <= 5

    def test_a_workflow_that_fails_the_check_is_refused_in_words(self, open_run: Open) -> None:
        run = open_run()
        with pytest.raises(WorkflowError, match="ImageInvert"):
            run.load({**self.GRAPH, "i": node("ImageInvrt", image=link("bad"))})
