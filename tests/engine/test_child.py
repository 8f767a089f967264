"""The engine process may die at any moment: the run says so and goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from engine_harness import DEADLINE_S, Run, camera, fill, grey, link, node, shown, video, wait_for

from comfystream.engine.child import ChildEngine
from comfystream.engine.events import EngineLost, EngineRestarted, Stopped
from comfystream.engine.protocol import EngineOptions
from comfystream.errors import ComfyStreamError, EngineDied

LIVE = link("in")


@pytest.fixture
def mortal(options: EngineOptions) -> Iterator[ChildEngine]:
    """An engine process of the test's own."""
    engine = ChildEngine(options)
    yield engine
    engine.close()


def test_killed_while_live_it_comes_back_with_the_last_good_revision(mortal: ChildEngine) -> None:
    run = Run(mortal, live=True)
    run.load(fill(0.0))
    run.load(fill(1.0))
    with camera(run):
        wait_for(lambda: shown(run) == 255)
        os.kill(mortal.pid, signal.SIGKILL)
        (event,) = wait_for(lambda: run.events_of(EngineRestarted), "the restart")
        count = len(run.pictures)
        wait_for(lambda: len(run.pictures) > count + 5)
    assert "SIGKILL" in event.reason
    (lost,) = run.events_of(EngineLost)
    assert run.events.index(lost) < run.events.index(event), "it is said at once"
    assert lost.reason == event.reason
    assert shown(run) == 255
    run.load(fill(0.0))  # and it takes edits, with numbers that go on
    assert run.revision.number == 4
    run.runner.close()


def test_all_runs_come_back(mortal: ChildEngine) -> None:
    runs = [Run(mortal, live=True) for _ in range(3)]
    for number, run in enumerate(runs):
        run.load(fill(number / 2))
        with camera(run):
            wait_for(lambda run=run: run.pictures)
    os.kill(mortal.pid, signal.SIGKILL)
    for number, run in enumerate(runs):
        wait_for(lambda run=run: run.events_of(EngineRestarted), "the restart")
        count = len(run.pictures)
        with camera(run):
            wait_for(lambda run=run, count=count: len(run.pictures) > count + 5)
        assert shown(run) == pytest.approx(number * 127.5, abs=1)
        run.runner.close()


def test_a_run_that_begins_while_it_comes_back_waits_for_that(mortal: ChildEngine) -> None:
    os.kill(mortal.pid, signal.SIGKILL)
    run = Run(mortal, live=True)
    run.load(fill(1.0))
    with camera(run):
        wait_for(lambda: shown(run) == 255)
    assert not run.events_of(EngineLost), "it had not begun"
    assert not mortal.is_lost
    run.runner.close()


def test_a_segfault_names_the_code_and_goes_back_to_the_revision_before(mortal: ChildEngine) -> None:
    run = Run(mortal, live=True)
    run.load(fill(0.0))
    with camera(run):
        wait_for(lambda: shown(run) == 0)
        run.load(fill(1.0, fill=node("TestDie", value=LIVE, how="segfault", on=2)))  # call 1 is the rehearsal
        (event,) = wait_for(lambda: run.events_of(EngineRestarted), "the restart")
        count = len(run.pictures)
        wait_for(lambda: len(run.pictures) > count + 5)
    assert "SIGSEGV" in event.reason
    assert "trouble.py" in event.reason
    assert shown(run) == 0
    run.runner.close()


def test_dying_while_a_revision_is_prepared_fails_only_that(mortal: ChildEngine) -> None:
    run = Run(mortal, live=True)
    run.load(fill(0.0))
    with camera(run):
        wait_for(lambda: shown(run) == 0)
        with pytest.raises(EngineDied, match="SIGKILL"):
            run.load(fill(1.0, fill=node("TestDie", value=LIVE, how="kill", on=1)))
        wait_for(lambda: run.events_of(EngineRestarted), "the restart")
        count = len(run.pictures)
        wait_for(lambda: len(run.pictures) > count + 5)
    assert shown(run) == 0
    run.runner.close()


def test_a_file_loses_no_frame(mortal: ChildEngine) -> None:
    run = Run(mortal)
    run.load(fill(0.0))
    for i in range(40):
        if i == 20:
            os.kill(mortal.pid, signal.SIGKILL)
        run.runner.submit(video(i))
    run.finish()
    assert [f.id for f in run.pictures] == list(range(40))
    run.runner.close()


def test_a_workflow_that_always_kills_it_ends_the_run_with_the_reason(mortal: ChildEngine) -> None:
    run = Run(mortal)
    run.load(fill(0.0, fill=node("TestDie", value=LIVE, how="kill", on=1)))
    run.runner.submit(video(0))
    wait_for(lambda: run.events_of(Stopped), "the end")
    with pytest.raises(ComfyStreamError, match="SIGKILL"):
        run.runner.finish(DEADLINE_S)
    other = Run(mortal)  # the engine itself is there for others
    other.load(fill(1.0))
    other.feed(video(0)).finish()
    assert grey(other.pictures[0]) == 255
    other.runner.close()


def test_two_runs_in_one_engine_do_not_touch_each_other(mortal: ChildEngine) -> None:
    dark, light = Run(mortal), Run(mortal)
    dark.load(fill(0.0))
    light.load(fill(1.0))
    dark.feed(*(video(i) for i in range(5)))
    light.feed(*(video(i) for i in range(5)))
    dark.runner.close()
    light.finish()
    assert {grey(f) for f in light.pictures} == {255}
    light.runner.close()


def test_closing_ends_the_process(options: EngineOptions) -> None:
    engine = ChildEngine(options)
    pid = engine.pid
    engine.close()
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_pack_that_ends_the_process_while_loading_says_so(tmp_path: Any) -> None:
    (tmp_path / "deadly.py").write_text("import os\nprint('last words', flush=True)\nos._exit(7)\n")
    with pytest.raises(EngineDied, match="exit code 7") as caught:
        ChildEngine(EngineOptions(packs=(str(tmp_path / "deadly.py"),)))
    assert "last words" in caught.value.hint
