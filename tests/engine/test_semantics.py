"""What a compatible executor must do, one test per item, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from engine_harness import Run, grey, link, node, sound, video, wait_for

from comfystream.engine.events import NodeBlocked, NodeFailed, Stopped
from comfystream.engine.protocol import FailPolicy
from comfystream.errors import NodeError, WorkflowError

Open = Callable[..., Run]


def texts(open_run: Open, graph: dict[str, Any], frames: int = 1) -> list[str]:
    run = open_run()
    run.load(graph)
    return run.feed(*(video(i) for i in range(frames))).finish().texts


def chain(*steps: dict[str, Any], out: str = "SaveTextTensor") -> dict[str, Any]:
    """LoadTensor, then the steps (ids "1", "2", ...), then the last as text."""
    graph = {"in": node("LoadTensor"), **{str(i): step for i, step in enumerate(steps, 1)}}
    graph["text"] = node("TestToText", value=link(str(len(steps))))
    graph["out"] = node(out, data=link("text"))
    return graph


LIVE = link("in")


class TestCommonCase:
    def test_passthrough_is_the_very_input(self, open_run: Open) -> None:
        run = open_run()
        run.load({"in": node("LoadTensor"), "out": node("SaveTensor", images=LIVE)})
        run.feed(video(0, 10), video(1, 200)).finish()
        assert [(f.id, f.pts, grey(f)) for f in run.pictures] == [(0, 0, 10), (1, 1, 200)]
        assert run.runner.stats().convert_ms == 0

    def test_a_chain_of_nodes_computes(self, open_run: Open) -> None:
        run = open_run()
        run.load(
            {
                "in": node("LoadImage", image="camera.png"),
                "a": node("ImageInvert", image=LIVE),
                "b": node("TestPass", value=link("a")),
                "out": node("PreviewImage", images=link("b")),
            }
        )
        run.feed(video(0, 55)).finish()
        assert abs(grey(run.pictures[0]) - 200) <= 1

    def test_output_size_follows_the_graph(self, open_run: Open) -> None:
        run = open_run()
        run.load(
            {
                "in": node("LoadTensor"),
                "up": node("ImageScaleBy", image=LIVE, upscale_method="bilinear", scale_by=2.0),
                "out": node("SaveTensor", images=link("up")),
            }
        )
        run.feed(video(0)).finish()
        assert (run.pictures[0].image.width, run.pictures[0].image.height) == (64, 32)

    def test_v3_nodes(self, open_run: Open) -> None:
        assert texts(open_run, chain(node("TestV3Pass", value="hello"))) == ["hello"]

    def test_mask_of_a_live_image_is_zeros(self, open_run: Open) -> None:
        graph = chain(node("TestBrightness", value=link("in", 1)))
        graph["in"] = node("LoadImage", image="camera.png")
        assert texts(open_run, graph) == ["0.0"]


class TestLists:
    def test_mapping_repeats_the_last_item_of_the_shorter_list(self, open_run: Open) -> None:
        graph = chain(
            node("TestMakeList", value=LIVE, count=3),
            node("TestMakeList", value=LIVE, count=2),
            node("TestAddInts", a=link("1"), b=link("2")),
        )
        assert texts(open_run, graph) == ["0", "2", "3"]

    def test_input_is_list_gets_all_in_one_call(self, open_run: Open) -> None:
        graph = chain(node("TestMakeList", value=LIVE, count=4), node("TestSumList", value=link("1")))
        assert texts(open_run, graph) == ["6"]

    def test_input_is_list_wraps_single_values(self, open_run: Open) -> None:
        graph = chain(node("TestAddInts", a=3, b=4), node("TestSumList", value=link("1")))
        assert texts(open_run, graph) == ["7"]

    def test_plain_slot_beside_a_list_slot_stays_one_item(self, open_run: Open) -> None:
        graph = chain(node("TestMakeList", value=LIVE, count=3), node("TestPass", value=link("1", 1)))
        assert texts(open_run, graph) == ["plain"]

    def test_a_list_of_one_is_one_item(self, open_run: Open) -> None:
        graph = chain(node("TestMakeList", value=LIVE, count=1), node("TestAddInts", a=link("1"), b=5))
        assert texts(open_run, graph) == ["5"]

    def test_an_empty_list_names_the_input(self, open_run: Open) -> None:
        run = open_run()
        run.load(chain(node("TestMakeList", value=LIVE, count=0), node("TestAddInts", a=link("1"), b=5)))
        with pytest.raises(NodeError, match='"a" is an empty list'):
            run.feed(video(0)).finish()

    def test_static_lists_are_mapped_over_live_nodes(self, open_run: Open) -> None:
        graph = chain(
            node("TestMakeList", value=0, count=3),
            node("TestBrightness", value=LIVE),
            node("TestAdd", value=link("1"), amount=0.0),
        )
        assert texts(open_run, graph) == ["0.0", "1.0", "2.0"]


class TestLazy:
    @pytest.mark.parametrize("kind", ["TestLazySwitch", "TestV3Lazy"])
    @pytest.mark.parametrize(("pick", "expected"), [(0, "1.0"), (1, "2.0")])
    def test_only_the_asked_branch_runs(self, open_run: Open, kind: str, pick: int, expected: str) -> None:
        graph = chain(
            node("TestSource", number=1.0),
            node("TestSource", number=2.0),
            node("TestFail", value=link("2" if pick == 0 else "1"), on="all"),
            node(kind, pick=pick if kind == "TestLazySwitch" else bool(pick), a=link("1"), b=link("2")),
        )
        graph["4"]["inputs"]["b" if pick == 0 else "a"] = link("3")
        assert texts(open_run, graph) == [expected]

    def test_the_choice_may_change_per_frame(self, open_run: Open) -> None:
        run = open_run()
        run.load(
            {
                "in": node("LoadTensor"),
                "count": node("TestCounter", value=LIVE),
                "pick": node("TestAddInts", a=link("count", 1), b=-1),
                "a": node("TestFill", like=LIVE, number=0.0),
                "b": node("TestFill", like=LIVE, number=1.0),
                "switch": node("TestLazySwitch", pick=link("pick"), a=link("a"), b=link("b")),
                "out": node("SaveTensor", images=link("switch")),
            }
        )
        run.feed(video(0), video(1), video(2)).finish()
        assert [grey(f) for f in run.pictures] == [0, 255, 255]

    def test_without_check_lazy_status_it_never_arrives(self, open_run: Open) -> None:
        graph = chain(node("TestFail", value=LIVE, on="all"), node("TestLazyWithoutStatus", value=link("1")))
        assert texts(open_run, graph) == ["-1.0"]


class TestBlockers:
    def test_a_blocked_picture_holds_the_last_one(self, open_run: Open) -> None:
        run = open_run()
        run.load(
            {
                "in": node("LoadTensor"),
                "b": node("TestBlockEveryOther", value=LIVE),
                "i": node("ImageInvert", image=link("b")),
                "out": node("SaveTensor", images=link("i")),
            }
        )
        run.feed(*(video(i, 50 * i) for i in range(4))).finish()
        assert [grey(f) for f in run.pictures] == pytest.approx([255, 255, 155, 155], abs=1)
        assert run.runner.stats().dropped["blocked"] == 2

    def test_before_the_first_picture_a_blocked_one_is_black(self, open_run: Open) -> None:
        run = open_run()
        run.load(
            {
                "in": node("LoadTensor"),
                "b": node("TestBlock", value=LIVE, block=True, message=""),
                "out": node("SaveTensor", images=link("b")),
            }
        )
        run.feed(video(0, 200), video(1, 200)).finish()
        assert [grey(f) for f in run.pictures] == pytest.approx([0, 0], abs=1), "the raw input was not asked for"

    @pytest.mark.parametrize("kind", ["TestBlock", "TestV3Block"])
    def test_a_blocked_text_is_not_put_out(self, open_run: Open, kind: str) -> None:
        inputs = {"value": LIVE, **({"block": True, "message": "no"} if kind == "TestBlock" else {})}
        run = open_run()
        run.load(chain(node(kind, **inputs), node("TestPass", value=link("1"))))
        assert run.feed(video(0), video(1)).finish().texts == []
        (event,) = run.events_of(NodeBlocked)
        assert (event.node_id, event.class_type) == ("2", "TestPass")
        assert event.message == ("no" if kind == "TestBlock" else "blocked on purpose")

    def test_only_the_blocked_item_of_a_list_is_blocked(self, open_run: Open) -> None:
        graph = chain(
            node("TestMakeList", value=LIVE, count=2),
            node("TestBlock", value=link("1"), block=False, message=""),
            node("TestSumList", value=link("2")),
        )
        assert texts(open_run, graph) == ["1"]


class TestUnusualResults:
    def test_ui_dictionary(self, open_run: Open) -> None:
        assert texts(open_run, chain(node("TestUi", value="a"), node("TestPass", value=link("1"))), 3) == ["a"]

    def test_ui_dictionary_on_every_frame(self, open_run: Open) -> None:
        graph = chain(node("TestBrightness", value=LIVE), node("TestUi", value=link("1")))
        assert len(texts(open_run, graph, 3)) == 3

    def test_more_values_than_declared(self, open_run: Open) -> None:
        assert texts(open_run, chain(node("TestTooMany", value="x"))) == ["x"]

    def test_a_missing_output_is_none(self, open_run: Open) -> None:
        graph = chain(node("TestTooFew", value=LIVE), node("TestPass", value=link("1", 1)))
        assert texts(open_run, graph) == ["None"]

    def test_raw_link(self, open_run: Open) -> None:
        assert texts(open_run, chain(node("TestSource", number=1.0), node("TestRawLink", value=link("1")))) == [
            "['1', 0]"
        ]

    def test_undeclared_links_are_passed_and_constants_are_not(self, open_run: Open) -> None:
        graph = chain(node("TestSource", number=1.0), node("TestUndeclared", value=1, extra=link("1"), constant=2))
        assert texts(open_run, graph) == ["extra"]


class TestText:
    @pytest.mark.parametrize(("inputs", "expected"), [({}, "ab"), ({"remove_linebreaks": False}, "a\r\nb")])
    def test_line_breaks_are_taken_out_unless_they_are_wanted(
        self, open_run: Open, inputs: dict[str, Any], expected: str
    ) -> None:
        graph = chain(node("TestPass", value="a\r\nb"))
        graph["out"]["inputs"].update(inputs)
        assert texts(open_run, graph) == [expected]


class TestHidden:
    def test_v1_hidden_inputs(self, open_run: Open) -> None:
        assert texts(open_run, chain(node("TestHidden", value=LIVE))) == ["1|TestHidden|None|True|None"]

    def test_v3_hidden_and_locked_class(self, open_run: Open) -> None:
        assert texts(open_run, chain(node("TestV3Who", value=LIVE))) == ["1|None|True"]

    def test_nodes_run_in_inference_mode(self, open_run: Open) -> None:
        static = chain(node("TestInferenceMode", value=0))
        live = chain(node("TestInferenceMode", value=LIVE))
        assert texts(open_run, static) + texts(open_run, live) == ["1.0", "1.0"]


class TestAsync:
    @pytest.mark.parametrize("kind", ["TestAsyncAdd", "TestV3Async"])
    def test_live_and_static(self, open_run: Open, kind: str) -> None:
        more = {"amount": 1.0} if kind == "TestAsyncAdd" else {}
        static = chain(node(kind, value=1.0, **more))
        live = chain(node("TestBrightness", value=LIVE), node(kind, value=link("1"), **more))
        assert len(texts(open_run, static) + texts(open_run, live, 2)) == 3

    def test_two_async_nodes_overlap(self, local: Any) -> None:
        run = Run(local)
        calls = _calls(local)
        run.load(
            chain(
                node("TestBrightness", value=LIVE),
                node("TestAsyncAdd", value=link("1")),
                node("TestAsyncAdd", value=link("1")),
                node("TestAddInts", a=link("2"), b=link("3")),
            )
        )
        calls.clear()
        run.feed(video(0)).finish()
        assert [what for name, what in calls if name == "AsyncAdd"] == ["begin", "begin", "end", "end"]


class TestExpansion:
    def test_static(self, open_run: Open) -> None:
        assert texts(open_run, chain(node("TestExpand", value=1.0, times=3))) == ["4.0"]

    def test_live_every_frame(self, open_run: Open) -> None:
        graph = chain(node("TestBrightness", value=LIVE), node("TestExpand", value=link("1"), times=2))
        assert len(texts(open_run, graph, 3)) == 3

    def test_without_any_sign_beforehand(self, open_run: Open) -> None:
        graph = chain(node("TestBrightness", value=LIVE), node("TestSilentExpand", value=link("1")))
        assert len(texts(open_run, graph, 3)) == 3

    @pytest.mark.parametrize("left", [0, 1, 40])
    def test_loop_by_recursive_expansion(self, open_run: Open, left: int) -> None:
        graph = chain(node("TestCountdown", value=0.5, left=left))
        assert texts(open_run, graph) == [f"{left + 0.5}"]


class TestDynamicInputs:
    def test_autogrow(self, open_run: Open) -> None:
        graph = chain(
            node("TestSource", number=2.5), node("TestV3Grow", **{"numbers.n0": 1.0, "numbers.n1": link("1")})
        )
        assert texts(open_run, graph) == ["3.5"]


class TestCaching:
    def test_static_nodes_run_once(self, local: Any) -> None:
        run, calls = Run(local), _calls(local)
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
        run, calls = Run(local), _calls(local)
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
        run, calls = Run(local), _calls(local)
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
        run, calls = Run(local), _calls(local)
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
        run, calls = Run(local), _calls(local)
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
        run, calls = Run(local), _calls(local)
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


class TestSound:
    def test_a_buffer_is_gathered_and_put_out_with_its_time(self, open_run: Open) -> None:
        run = open_run()
        run.load(
            {
                "in": node("LoadAudioTensor", buffer_size=20.0),
                "g": node("TestGain", value=LIVE, gain=0.5),
                "out": node("SaveAudioTensor", audio=link("g")),
            }
        )
        run.feed(*(sound(i, 0.5) for i in range(5))).finish()
        assert [(f.pts, f.samples.shape[-1]) for f in run.sounds] == [(0, 960), (960, 960), (1920, 480)]
        assert abs(float(run.sounds[0].samples.mean()) - 0.25) < 1e-6

    def test_sound_that_only_feeds_a_text_passes_through(self, open_run: Open) -> None:
        run = open_run()
        run.load({**chain(node("TestLoudness", value=LIVE)), "in": node("LoadAudioTensor", buffer_size=10.0)})
        run.feed(sound(0), sound(1)).finish()
        assert len(run.sounds) == 2
        assert run.texts == ["0.25", "0.25"]

    def test_two_lanes_cross_by_last_value(self, open_run: Open) -> None:
        run = open_run()
        run.load(
            {
                "pic": node("LoadTensor"),
                "snd": node("LoadAudioTensor", buffer_size=10.0),
                "loud": node("TestLoudness", value=link("snd")),
                "fill": node("TestFill", like=link("pic"), number=link("loud")),
                "out": node("SaveTensor", images=link("fill")),
            }
        )
        assert {lane.value for lane in run.revision.lanes} == {"audio", "video"}
        run.feed(sound(0, 0.2), video(0), video(1), sound(1, 0.8), video(2)).finish()
        assert [round(grey(f) / 255, 1) for f in run.pictures] == [0.2, 0.2, 0.8]

    def test_a_live_source_may_have_another_sample_rate_than_the_one_before(self, open_run: Open) -> None:
        run = open_run(live=True)
        run.load(
            {
                "in": node("LoadAudioTensor", buffer_size=10.0),
                "g": node("TestGain", value=LIVE, gain=0.5),
                "out": node("SaveAudioTensor", audio=link("g")),
            }
        )
        run.feed(sound(0, samples=240), sound(1, samples=441, rate=44_100), sound(2, samples=480)).finish()
        assert [(f.sample_rate, f.pts, f.samples.shape[-1]) for f in run.sounds] == [
            (44_100, 441, 441),
            (48_000, 960, 480),
        ]
        assert not run.events_of(Stopped)

    def test_a_file_that_changes_its_sample_rate_is_told_what_to_do(self, open_run: Open) -> None:
        run = open_run()
        run.load({**chain(node("TestLoudness", value=LIVE)), "in": node("LoadAudioTensor", buffer_size=10.0)})
        from comfystream.errors import EngineError

        with pytest.raises(EngineError, match="from 48000 to 44100 Hz .convert it to one rate first"):
            run.feed(sound(0), sound(1, rate=44_100)).finish()


class TestClock:
    def test_a_workflow_without_input_ticks_by_its_clock(self, open_run: Open) -> None:
        run = open_run(clock_ticks=4, clock_fps=25.0)
        run.load({"c": node("TestCard", number=0.5, size=16), "out": node("SaveTensor", images=link("c"))})
        run.finish()
        assert [(f.pts, float(f.time_base), grey(f)) for f in run.pictures] == [(i, 0.04, 128) for i in range(4)]


def _calls(local: Any) -> list[tuple[str, object]]:
    counted = local.host.catalog.get("TestAdd").cls  # an engine since may have loaded the pack anew, by the same name
    kept: list[tuple[str, object]] = getattr(counted, counted.FUNCTION).__globals__["CALLS"]
    kept.clear()
    return kept


class TestKeeping:
    """What is kept, and that it is let go."""

    def test_what_was_loaded_before_a_failure_is_there_for_the_next_try(self, local: Any) -> None:
        run, calls = Run(local), _calls(local)
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
