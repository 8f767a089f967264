"""What is not run again, and what is kept from one revision to the next, on both engines."""

from __future__ import annotations

from typing import Any

import pytest
from engine_graphs import LIVE, Open, calls_of, chain, texts
from engine_harness import Run, link, node, video, wait_for

from comfystream.errors import NodeError


class TestCaching:
    def test_static_nodes_run_once(self, local: Any) -> None:
        run, calls = Run(local), calls_of(local)
        run.load(
            chain(
                node("TestSource", number=1.0, tag="once"),
                node("TestBrightness", value=LIVE),
                node("TestAdd", value=link("1"), amount=1.0, tag="after"),
            )
        )
        run.feed(*(video(i) for i in range(5))).finish()
        assert calls.count(("Source", "once")) == calls.count(("Add", "after")) == 1

    def test_static_results_are_kept_across_revisions(self, local: Any) -> None:
        run, calls = Run(local), calls_of(local)
        graph = chain(node("TestSource", number=4.0, tag="kept"), node("TestAdd", value=link("1"), amount=1.0))
        run.load(graph)
        run.feed(video(0))
        wait_for(lambda: run.texts)
        graph["2"]["inputs"]["amount"] = 2.0
        second = run.load(graph)
        run.feed(video(1)).finish()
        assert run.texts == ["5.0", "6.0"]
        assert second.nodes_run == ("2", "text")
        assert calls.count(("Source", "kept")) == 1

    def test_equal_nodes_with_other_ids_share_a_result(self, local: Any) -> None:
        run, calls = Run(local), calls_of(local)
        run.load(chain(node("TestSource", number=4.0, tag="shared")))
        run.feed(video(0))
        wait_for(lambda: run.texts)
        moved = chain(node("TestPass", value=LIVE), node("TestSource", number=4.0, tag="shared"))
        run.load(moved)
        run.feed(video(1)).finish()
        assert calls.count(("Source", "shared")) == 1

    def test_not_idempotent_nodes_do_not_share(self, open_run: Open) -> None:
        graph = chain(
            node("TestNotIdempotent"), node("TestNotIdempotent"), node("TestAdd", value=link("1"), amount=0.0)
        )
        graph["two"] = node("TestToText", value=link("2"))
        graph["out2"] = node("SaveTextTensor", data=link("two"))
        first, second = texts(open_run, graph)
        assert first != second

    def test_is_changed_runs_the_cone_again_only_when_it_differs(self, local: Any) -> None:
        run, calls = Run(local), calls_of(local)
        changing = local.host.catalog.get("TestChanging").cls
        changing.now = 1.0
        run.load(
            chain(
                node("TestChanging", scale=2.0),
                node("TestAdd", value=link("1"), amount=0.5, tag="cone"),
                node("TestBrightness", value=LIVE),
            )
            | {"text": node("TestToText", value=link("2"))}
        )
        run.feed(video(0), video(1))
        run.feed(
            video(2), video(3), video(4), video(5), video(6), video(7)
        )  # the queue holds four: the first two are done
        changing.now = 3.0
        run.feed(video(8)).finish()
        assert run.texts[0] == "2.5"
        assert run.texts[-1] == "6.5"
        assert calls.count(("Add", "cone")) == 2

    def test_state_on_the_instance_lives_across_frames_and_edits(self, open_run: Open) -> None:
        run = open_run()
        graph = chain(node("TestCounter", value=LIVE), node("TestAddInts", a=link("1", 1), b=0))
        run.load(graph)
        run.feed(video(0), video(1))
        wait_for(lambda: len(run.texts) == 2)
        graph["2"]["inputs"]["b"] = 100
        run.load(graph)
        run.feed(video(2)).finish()
        assert [int(text) % 100 for text in run.texts] == [1, 2, 3]

    def test_a_root_without_live_ancestor_runs_once(self, local: Any) -> None:
        run, calls = Run(local), calls_of(local)
        graph = {
            "in": node("LoadTensor"),
            "out": node("SaveTensor", images=LIVE),
            "s": node("TestSource", number=9.0),
            "sink": node("TestSink", value=link("s")),
        }
        run.load(graph)
        run.feed(video(0), video(1)).finish()
        assert calls.count(("Sink", 9.0)) == 1

    def test_live_output_nodes_run_every_tick(self, local: Any) -> None:
        run, calls = Run(local), calls_of(local)
        graph = {
            "in": node("LoadTensor"),
            "out": node("SaveTensor", images=LIVE),
            "b": node("TestBrightness", value=LIVE),
            "t": node("TestToText", value=link("b")),
            "sink": node("TestSink", value=link("t")),
        }
        run.load(graph)
        run.feed(video(0, 0), video(1, 0)).finish()
        assert calls.count(("Sink", "0.0")) == 2


class TestKeeping:
    """What is kept, and that it is let go."""

    def test_what_was_loaded_before_a_failure_is_there_for_the_next_try(self, local: Any) -> None:
        run, calls = Run(local), calls_of(local)
        graph = chain(node("TestSource", number=8.0, tag="loaded"), node("TestFail", value=link("1"), on="all"))
        with pytest.raises(NodeError):
            run.load(graph)
        graph["2"] = node("TestPass", value=link("1"))
        run.load(graph)
        run.feed(video(0)).finish()
        assert run.texts == ["8.0"]
        assert calls.count(("Source", "loaded")) == 1
        run.runner.close()

    def test_a_closed_run_leaves_nothing_behind(self, local: Any) -> None:
        before = len(local.host.store)
        run = Run(local)
        graph = chain(node("TestSource", number=8.0, tag="gone"), node("TestAdd", value=link("1"), amount=0.25))
        for amount in (0.5, 0.75, 1.0):
            graph["2"]["inputs"]["amount"] = amount
            run.load(graph)
            run.feed(video(0))
        run.finish()
        assert len(local.host.store) > before
        run.runner.close()
        assert len(local.host.store) == before
