"""What a node says while it takes long reaches whoever watches, and is where it can be stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_harness import DEADLINE_S, Run, camera, fill, link, node, shown, wait_for

from comfystream.engine.child import ChildEngine
from comfystream.engine.events import Progress
from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import Engine, EngineOptions
from comfystream.node_progress import listening, report
from comfystream.workflow.read import parse_workflow
from comfystream_server.control.notices import notice

PACKS = tuple(str(Path(__file__).with_name(name)) for name in ("saying_pack.py", "testing_pack"))


@pytest.fixture(scope="module", params=[LocalEngine, ChildEngine])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = request.param(EngineOptions(packs=PACKS, threads=1))
    yield made
    made.close()


def graph(cls: str, **inputs: Any) -> dict[str, Any]:
    made = fill(0.0, builder=node(cls, **inputs))
    made["fill"]["inputs"]["number"] = link("builder")
    return made


def test_words_come_with_the_node_and_how_far_it_is(engine: Engine) -> None:
    run = Run(engine, live=True)
    run.load(fill(0.0))
    with camera(run):
        wait_for(lambda: shown(run) == 0)
        run.load(graph("SayingBuilder", number=1.0, parts=3))
        wait_for(lambda: shown(run) == 255)
    said = [event for event in run.events_of(Progress) if event.message]
    assert [event.message for event in said] == [f"building engine {part}/3 (unet)" for part in (1, 2, 3)]
    assert {(event.node_id, event.phase, event.maximum) for event in said} == {("builder", "load", 3)}
    assert [event.value for event in said] == [0, 1, 2]
    told = notice(said[-1])
    assert told is not None
    assert told.data["message"] == "building engine 3/3 (unet)"
    run.runner.close()


def test_what_a_live_node_says_comes_too(engine: Engine) -> None:
    """It makes something ready beside the stream: words in a tick, and an empty line when it is done."""
    run = Run(engine, live=True)
    live = fill(0.0)
    live["out"]["inputs"]["images"] = link("saying")
    live["saying"] = node("SayingTick", image=link("fill"))
    run.load(live)
    with camera(run):
        wait_for(lambda: any(event.message == "recording" and event.revision == 0 for event in run.events_of(Progress)))
        wait_for(lambda: run.events_of(Progress)[-1].message == "")
    said = [event.message for event in run.events_of(Progress) if event.revision == 0]
    assert set(said) == {"recording", ""}, "of a tick, which belongs to no revision that is prepared"
    assert said.index("recording") < said.index("")
    run.runner.close()


def test_a_run_that_ends_does_not_wait_for_what_is_built(engine: Engine) -> None:
    run = Run(engine, live=True)
    run.load(fill(0.0))
    building = run.runner.prepare(parse_workflow(graph("EndlessBuilder", number=1.0, parts=1)), (32, 16))
    wait_for(lambda: any(event.message for event in run.events_of(Progress)))
    run.runner.close()
    assert building.exception(DEADLINE_S) is not None


def test_without_a_listener_it_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    heard: list[Any] = []
    with listening(lambda *said: heard.append(said)):
        report("building", 1, 2)
    report("loading")
    assert heard == [("building", 1, 2)]
    assert [record.message for record in caplog.records] == ["loading"]
