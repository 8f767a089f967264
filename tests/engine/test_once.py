"""A workflow run once, as ComfyUI runs it: what is called, what is kept, what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from engine_harness import link, node

from comfystream.engine.local import LocalEngine
from comfystream.engine.once import OnceResult, OnceRunner
from comfystream.errors import NodeError, WorkflowError
from comfystream.workflow.read import parse_workflow


@pytest.fixture
def once(local: LocalEngine) -> Iterator[OnceRunner]:
    runner = OnceRunner(local.host)
    yield runner
    runner.close()


def run(once: OnceRunner, graph: dict[str, Any], targets: list[str] | None = None) -> OnceResult:
    return once.run(parse_workflow(graph), targets)


def graph(**source: Any) -> dict[str, Any]:
    return {
        "a": node("TestSource", number=1.0, **source),
        "b": node("TestAdd", value=link("a"), amount=1.0),
        "c": node("TestAdd", value=link("a"), amount=2.0),
        "out_b": node("TestSink", value=link("b")),
        "out_c": node("TestSink", value=link("c")),
    }


def test_everything_runs_the_first_time_and_nothing_the_second(once: OnceRunner) -> None:
    first = run(once, graph(tag="full"))
    assert set(first.ran) == {"a", "b", "c", "out_b", "out_c"}
    assert first.outputs == {"out_b": {"value": [1]}, "out_c": {"value": [1]}}
    second = run(once, graph(tag="full"))
    assert second.ran == ()
    assert set(second.kept) == {"a", "b", "c", "out_b", "out_c"}
    assert second.outputs == first.outputs


def test_only_what_is_below_a_change_runs_again(once: OnceRunner) -> None:
    run(once, graph(tag="part"))
    changed = graph(tag="part")
    changed["c"]["inputs"]["amount"] = 3.0
    result = run(once, changed)
    assert result.ran == ("c", "out_c")
    assert set(result.kept) == {"a", "b", "out_b"}


def test_what_the_last_run_did_not_use_is_dropped(once: OnceRunner) -> None:
    run(once, graph(tag="dropped"))
    run(once, {"x": node("TestSource", number=5.0), "out": node("TestSink", value=link("x"))})
    assert "a" in run(once, graph(tag="dropped")).ran


def test_a_raw_link_counts_as_a_link(once: OnceRunner) -> None:
    loop = {
        "a": node("TestSource", number=1.0),
        "r": node("TestRawLink", value=link("a")),
        "out": node("TestSink", value=link("r")),
    }
    assert run(once, loop).ran == ("a", "r", "out")
    loop["a"]["inputs"]["number"] = 2.0
    assert run(once, loop).ran == ("a", "r", "out")


def test_is_changed_decides(once: OnceRunner, local: LocalEngine) -> None:
    spec = local.host.catalog.get("TestChanging")
    assert spec is not None
    changing: Any = spec.cls
    changing.now = 1.0
    workflow = {"a": node("TestChanging", scale=1.0), "out": node("TestSink", value=link("a"))}
    run(once, workflow)
    assert run(once, workflow).ran == ()
    changing.now = 2.0
    assert run(once, workflow).ran == ("a", "out")


def test_only_the_wanted_output_runs(once: OnceRunner) -> None:
    result = run(once, graph(tag="targets"), ["out_b"])
    assert set(result.ran) == {"a", "b", "out_b"}


def test_a_bad_output_does_not_stop_a_good_one(once: OnceRunner) -> None:
    workflow = graph(tag="bad root")
    workflow["b"]["inputs"]["amount"] = 99.0
    result = run(once, workflow)
    assert "out_c" in result.ran
    assert "out_b" not in result.ran
    assert result.check.dropped == ("out_b",)


def test_no_good_output_is_an_error(once: OnceRunner) -> None:
    with pytest.raises(WorkflowError):
        run(once, {"a": node("TestSource", number=1.0)})


def test_a_node_that_raises_is_named_and_the_next_run_is_fine(once: OnceRunner) -> None:
    workflow = graph(tag="after an error")
    workflow["b"] = node("TestFail", value=link("a"), on="all")
    with pytest.raises(NodeError, match='node b "TestFail"'):
        run(once, workflow)
    assert "out_b" in run(once, graph(tag="after an error")).ran


def test_lists_and_expansion(once: OnceRunner) -> None:
    workflow = {
        "list": node("TestMakeList", value=0, count=3),
        "sum": node("TestSumList", value=link("list")),
        "loop": node("TestCountdown", value=link("sum"), left=3),
        "out": node("TestSink", value=link("loop")),
    }
    result = run(once, workflow)
    assert result.ran[-1] == "out"
    assert any(id.startswith("loop.") for id in result.ran)
