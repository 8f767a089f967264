"""Switching revisions while frames flow: beside the running one, at a frame border, back if it fails."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from engine_graphs import LIVE, Open
from engine_harness import DEADLINE_S, camera, fill, grey, link, node, shown, sound, video, wait_for

from comfystream.engine.events import Activated, NodeFailed, Progress, RolledBack
from comfystream.engine.protocol import FailPolicy
from comfystream.errors import NodeError, WorkflowError
from comfystream.workflow.read import parse_workflow


class TestSwitch:
    def test_a_patch_takes_effect_at_a_frame_border(self, open_run: Open) -> None:
        run = open_run(live=True)
        run.load(fill(0.0))
        with camera(run):
            wait_for(lambda: shown(run) == 0)
            run.load(fill(1.0))
            first = run.first_frame.result(DEADLINE_S)
            wait_for(lambda: run.pictures[-1].id >= first)
        assert {grey(f) for f in run.pictures if f.id < first} == {0}
        assert {grey(f) for f in run.pictures if f.id >= first} == {255}
        assert [event.first_frame for event in run.events_of(Activated)][-1] == first

    def test_the_running_revision_keeps_its_pace_while_a_slow_one_is_prepared(self, open_run: Open) -> None:
        run = open_run(live=True)
        run.load(fill(0.0))
        slow = fill(0.0, slow=node("TestSource", number=1.0, seconds=1.0))
        slow["fill"]["inputs"]["number"] = link("slow")
        with camera(run):
            wait_for(lambda: shown(run) == 0)
            before = len(run.pictures)
            run.load(slow)
            during = len(run.pictures) - before
            wait_for(lambda: shown(run) == 255)
        assert during > 20
        assert any(event.phase == "load" and event.node_id == "slow" for event in run.events_of(Progress))

    def test_outputs_stay_in_order_through_many_edits(self, open_run: Open) -> None:
        run = open_run(live=True)
        run.load(fill(0.0))
        with camera(run):
            for i in range(10):
                run.load(fill(i / 10))
        ids = [f.id for f in run.pictures]
        assert ids == sorted(set(ids))

    def test_another_topology(self, open_run: Open) -> None:
        run = open_run(live=True)
        run.load(fill(0.0))
        with camera(run):
            wait_for(lambda: shown(run) == 0)
            run.load(
                {
                    "in": node("LoadImage", image="x.png"),
                    "up": node("ImageScaleBy", image=LIVE, upscale_method="nearest-exact", scale_by=2.0),
                    "out": node("PreviewImage", images=link("up")),
                }
            )
            wait_for(lambda: run.pictures[-1].image.width == 64)
        widths = [picture.image.width for picture in run.pictures]
        assert widths == sorted(widths), "from one frame on, and none of before comes after it"
        assert set(widths) == {32, 64}


class TestRefusal:
    @pytest.mark.parametrize(
        ("broken", "error", "words"),
        [
            (fill(0.5, fill=node("TestFil", like=LIVE)), WorkflowError, "TestFil"),
            (fill(0.5, fill=node("TestAdd", value=LIVE, amount=99.0)), WorkflowError, "amount"),
            (
                fill(0.5, s=node("TestFail", value=1.0, on="all"), k=node("TestSink", value=link("s"))),
                NodeError,
                "node s",
            ),
            (fill(0.5, fill=node("TestFail", value=LIVE, on="all")), NodeError, "node fill"),
        ],
        ids=["unknown class", "out of range", "static node raises", "live node raises in the rehearsal"],
    )
    def test_the_running_revision_goes_on(
        self, open_run: Open, broken: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        run = open_run(live=True)
        run.load(fill(0.0))
        with camera(run):
            wait_for(lambda: shown(run) == 0)
            with pytest.raises(error, match=words):
                run.runner.prepare(parse_workflow(broken)).result(DEADLINE_S)
            count = len(run.pictures)
            wait_for(lambda: len(run.pictures) > count + 5)
        assert shown(run) == 0
        assert not run.events_of(NodeFailed)

    def test_a_revision_that_fails_on_its_first_frame_is_rolled_back(self, open_run: Open) -> None:
        run = open_run(live=True, on_error=FailPolicy.HOLD)
        run.load(fill(0.0))
        with camera(run):
            wait_for(lambda: shown(run) == 0)
            run.load(fill(1.0, fill=node("TestFail", value=LIVE, on="2")))  # call 1 is the rehearsal
            with pytest.raises(NodeError, match="node fill"):
                run.first_frame.result(DEADLINE_S)
            count = len(run.pictures)
            wait_for(lambda: len(run.pictures) > count + 5)
        (event,) = run.events_of(RolledBack)
        assert (event.revision, event.restored) == (2, 1)
        assert {grey(f) for f in run.pictures} == {0}


class TestLive:
    def test_newest_wins_and_drops_are_counted(self, open_run: Open) -> None:
        run = open_run(live=True)
        run.load(fill(0.0, fill=node("TestSlow", value=LIVE, seconds=0.2)))
        for i in range(10):
            run.runner.submit(video(i))
            wait_for(lambda i=i: sum(run.runner.stats().submitted.values()) > i)
        wait_for(lambda: run.pictures and run.pictures[-1].id == 9)
        assert run.runner.finish(DEADLINE_S)
        stats = run.runner.stats()
        assert len(run.pictures) + stats.dropped["newest_wins"] == 10
        assert stats.dropped["newest_wins"] >= 1

    def test_sound_goes_on_while_the_picture_is_slow(self, open_run: Open) -> None:
        run = open_run(live=True)
        run.load(
            {
                "in": node("LoadTensor"),
                "slow": node("TestSlow", value=LIVE, seconds=1.0),
                "out": node("SaveTensor", images=link("slow")),
                "snd": node("LoadAudioTensor", buffer_size=10.0),
                "gain": node("TestGain", value=link("snd"), gain=0.5),
                "sout": node("SaveAudioTensor", audio=link("gain")),
            }
        )
        run.runner.submit(video(0))
        for i in range(20):
            run.runner.submit(sound(i))
        wait_for(lambda: len(run.sounds) == 20)
        assert not run.pictures

    def test_inputs_that_the_workflow_does_not_take_pass_through(self, open_run: Open) -> None:
        run = open_run(live=True)
        run.load(fill(0.0))
        run.runner.submit(sound(3))
        wait_for(lambda: run.sounds)
        assert run.sounds[0].id == 3

    def test_the_clock_stops_when_the_run_is_closed(self, open_run: Open) -> None:
        run = open_run(live=True, clock_fps=100.0)
        run.load({"c": node("TestCard", number=0.5, size=16), "out": node("SaveTensor", images=link("c"))})
        wait_for(lambda: len(run.pictures) > 3)
        run.runner.close()
        count = len(run.pictures)
        threading.Event().wait(0.05)
        assert len(run.pictures) == count
