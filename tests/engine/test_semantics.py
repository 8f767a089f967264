"""What a compatible executor must do, one test per item, on both engines."""

from __future__ import annotations

from typing import Any

import pytest
from engine_graphs import LIVE, Open, calls_of, chain, texts
from engine_harness import Run, grey, link, node, video

from comfystream.engine.events import NodeBlocked
from comfystream.errors import NodeError


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
        calls = calls_of(local)
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
