"""Which nodes get their pictures where, with a device that behaves as CUDA does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_harness import DEADLINE_S, Run, grey, link, node, video, wait_for
from fake_device import FakeBackend

from comfystream.catalog.standin import Folders
from comfystream.engine.events import NodeFailed
from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import EngineOptions, FailPolicy, NodeTiming
from comfystream.errors import NodeError
from comfystream.workflow.read import parse_workflow

PACK = Path(__file__).with_name("device_pack.py")
HALF = 2  # 8-bit steps that a picture may change by on its way


@pytest.fixture(scope="module")
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture(scope="module", params=["compiled", "scheduled"])
def engine(
    request: pytest.FixtureRequest, backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalEngine]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "scheduled":
            patch.setattr("comfystream.engine.plan.may_expand", lambda spec: True)
        folders = Folders(base=str(tmp_path_factory.mktemp("home")))
        engine = LocalEngine(EngineOptions(packs=(str(PACK),), threads=1, folders=folders), backend=backend)
        yield engine
        engine.close()


@pytest.fixture
def open_run(engine: LocalEngine) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def open_(**options: Any) -> Run:
        runs.append(Run(engine, **options))
        return runs[-1]

    calls_of(engine).clear()
    yield open_
    for run in runs:
        run.runner.close()


def calls_of(engine: LocalEngine) -> list[tuple[str, list[str]]]:
    spec = engine.host.catalog.get("DevFine")
    assert spec is not None
    calls: list[tuple[str, list[str]]] = spec.cls.note.__globals__["CALLS"]
    return calls


def chain(*classes: str, **inputs: Any) -> dict[str, Any]:
    """Live picture in, one node of each class after another, picture out. Nodes are called n0, n1, ..."""
    graph: dict[str, Any] = {"in": node("LoadTensor")}
    above = link("in")
    for number, name in enumerate(classes):
        graph[f"n{number}"] = node(name, image=above, **inputs)
        above = link(f"n{number}")
    return {**graph, "out": node("SaveTensor", images=above)}


def places(run: Run) -> dict[str, str]:
    return {timing.class_type: timing.place for timing in run.runner.stats().nodes}


def timing_of(run: Run, class_type: str) -> NodeTiming:
    return next(timing for timing in run.runner.stats().nodes if timing.class_type == class_type)


def test_a_node_that_takes_what_comes_is_on_the_device(open_run: Callable[..., Run]) -> None:
    run = open_run()
    run.load(chain("DevFine"))
    run.feed(video(0, 100), video(1, 200)).finish()
    assert [grey(frame) for frame in run.pictures] == pytest.approx([100, 200], abs=HALF)
    assert places(run) == {"DevFine": "cuda"}
    assert timing_of(run, "DevFine").moved_bytes == 0


@pytest.mark.parametrize("class_type", ["DevNumpy", "DevMixes", "DevAsync"])
@pytest.mark.parametrize("live", [True, False])
def test_a_node_that_cannot_gets_the_host_s_memory(
    open_run: Callable[..., Run], engine: LocalEngine, class_type: str, live: bool
) -> None:
    run = open_run(live=live)
    run.load(chain("DevFine", class_type, dark=0.5))
    calls_of(engine).clear()
    for id, value in enumerate((200, 100)):
        run.feed(video(id, value))
        wait_for(lambda count=id: len(run.pictures) > count, "a picture")
    run.finish()
    assert [grey(frame) for frame in run.pictures] == pytest.approx([50, 25], abs=HALF)
    assert places(run) == {"DevFine": "cuda", class_type: "host"}
    expected = [] if live else ["cuda"]  # found out in the rehearsal, or with the first frame
    name = "DevNumpy" if class_type == "DevAsync" else class_type
    tried = [devices[0] for called, devices in calls_of(engine) if called in (name, class_type)]
    assert tried == [*expected, "cpu", "cpu"]
    moved = timing_of(run, class_type)
    assert moved.moved_bytes == (2 if live else 1) * 32 * 16 * 3 * 4  # attempts do not count
    assert moved.moved_ms > 0


def test_what_a_host_node_made_goes_back_for_a_node_on_the_device(
    open_run: Callable[..., Run], engine: LocalEngine
) -> None:
    run = open_run()
    run.load(chain("DevFine", "DevNumpy", "DevFine"))
    run.feed(video(0, 100), video(1, 50)).finish()
    assert [devices for name, devices in calls_of(engine) if name == "DevFine"] == [["cuda"]] * 4
    assert [grey(frame) for frame in run.pictures] == pytest.approx([100, 50], abs=HALF)


def test_between_host_nodes_nothing_is_moved(open_run: Callable[..., Run]) -> None:
    run = open_run()
    run.load(chain("DevFine", "DevNumpy", "DevNumpy"))
    run.feed(video(0), video(1), video(2)).finish()
    by_id = {timing.node_id: timing for timing in run.runner.stats().nodes}
    assert by_id["n1"].moved_bytes == 2 * 32 * 16 * 3 * 4
    assert by_id["n2"].moved_bytes == 0


def test_frames_that_only_host_nodes_read_do_not_go_up(open_run: Callable[..., Run], backend: FakeBackend) -> None:
    run = open_run(live=True)
    run.load(chain("DevNumpy"))
    before = FakeBackend.moved_to_host
    for id, value in enumerate((10, 200)):
        run.feed(video(id, value))
        wait_for(lambda count=id: len(run.pictures) > count, "a picture")
    assert FakeBackend.moved_to_host == before
    assert [grey(frame) for frame in run.pictures] == pytest.approx([10, 200], abs=HALF)


def test_a_static_picture_is_brought_to_a_node_that_needs_both_in_one_place(open_run: Callable[..., Run]) -> None:
    run = open_run()
    graph = {
        "in": node("LoadTensor"),
        "still": node("DevStatic", value=1.0),
        "both": node("DevBoth", image=link("in"), other=link("still")),
        "out": node("SaveTensor", images=link("both")),
    }
    run.load(graph)
    run.feed(video(0, 0), video(1, 200)).finish()
    assert [grey(frame) for frame in run.pictures] == pytest.approx([127, 227], abs=HALF)
    assert places(run)["DevBoth"] == "cuda"
    assert timing_of(run, "DevBoth").moved_bytes == 0  # once, with the first frame


def test_tensors_in_dictionaries_are_moved_too(open_run: Callable[..., Run]) -> None:
    run = open_run()
    graph = {
        "in": node("LoadTensor"),
        "latent": node("DevLatent", image=link("in")),
        "decode": node("DevDecode", latent=link("latent")),
        "out": node("SaveTensor", images=link("decode")),
    }
    run.load(graph)
    run.feed(video(0, 80)).finish()
    assert grey(run.pictures[0]) == pytest.approx(80, abs=HALF)
    assert places(run) == {"DevLatent": "cuda", "DevDecode": "host"}


def test_an_output_node_of_a_pack_is_placed_with_its_first_frame(open_run: Callable[..., Run]) -> None:
    run = open_run(live=True)
    graph = chain("DevFine")
    run.load({**graph, "save": node("DevSink", image=link("n0"))})
    run.feed(video(0, 80))
    wait_for(lambda: run.pictures, "a picture")
    assert places(run) == {"DevFine": "cuda", "DevSink": "host"}


def test_what_fails_anywhere_is_the_node_s_own_error(open_run: Callable[..., Run], engine: LocalEngine) -> None:
    run = open_run(live=True)
    with pytest.raises(NodeError, match="no such thing") as raised:
        run.runner.prepare(parse_workflow(chain("DevBroken")), (32, 16)).result(DEADLINE_S)
    assert (raised.value.node_id, raised.value.class_type) == ("n0", "DevBroken")
    assert calls_of(engine) == [("DevBroken", ["cuda"]), ("DevBroken", ["cpu"])]


def test_a_full_gpu_is_no_reason_to_go_to_the_host(open_run: Callable[..., Run], engine: LocalEngine) -> None:
    run = open_run(live=True)
    with pytest.raises(NodeError, match="out of memory"):
        run.runner.prepare(parse_workflow(chain("DevFull")), (32, 16)).result(DEADLINE_S)
    assert calls_of(engine) == [("DevFull", ["cuda"])]


def test_a_node_that_fails_later_for_where_its_pictures_are_is_moved_then(open_run: Callable[..., Run]) -> None:
    run = open_run()
    run.load(chain("DevSecond", "DevFine"))
    run.feed(video(0, 100), video(1, 200), video(2, 200)).finish()
    assert [grey(frame) for frame in run.pictures][0] == pytest.approx(100, abs=HALF)
    assert [grey(frame) for frame in run.pictures][2] == pytest.approx(200, abs=HALF)
    assert places(run) == {"DevSecond": "host", "DevFine": "cuda"}
    assert not run.events_of(NodeFailed)


def test_placements_are_kept_through_revisions(open_run: Callable[..., Run], engine: LocalEngine) -> None:
    run = open_run(live=True)
    run.load(chain("DevFine", "DevNumpy"))
    run.feed(video(0))
    wait_for(lambda: run.pictures, "a picture")
    calls_of(engine).clear()
    run.load(chain("DevFine", "DevNumpy", dark=0.5))
    run.feed(video(1, 200))
    wait_for(lambda: len(run.pictures) > 1, "a second picture")
    assert calls_of(engine) == [("DevFine", ["cuda"]), ("DevNumpy", ["cpu"])]
    assert places(run) == {"DevFine": "cuda", "DevNumpy": "host"}


def test_another_class_under_the_same_id_is_found_out_anew(open_run: Callable[..., Run]) -> None:
    run = open_run(live=True)
    run.load(chain("DevNumpy"))
    run.load(chain("DevFine"))
    run.feed(video(0, 70))
    wait_for(lambda: run.pictures, "a picture")
    assert places(run) == {"DevFine": "cuda"}


# --- the way of the frames


def test_the_lane_never_waits_for_the_device(open_run: Callable[..., Run], backend: FakeBackend) -> None:
    run = open_run()
    run.load(chain("DevFine"))
    run.feed(video(0))
    wait_for(lambda: run.pictures, "a picture")
    backend.waits.clear()
    settled, made = len(backend.settled), backend.made
    run.feed(*(video(id) for id in range(1, 20)))
    wait_for(lambda: len(run.pictures) == 20, "all pictures")
    assert {name.split("-")[0] for name in backend.waits} == {"emit"}
    assert backend.made - made <= 2 * 2  # the two other places of the ring
    assert len(backend.settled) - settled <= 2


def test_files_come_out_whole_and_in_order(open_run: Callable[..., Run]) -> None:
    run = open_run()
    run.load(chain("DevFine", "DevNumpy", "DevFine"))
    run.feed(*(video(id, id * 2) for id in range(100))).finish()
    assert [frame.id for frame in run.pictures] == [*range(100)]
    assert [grey(frame) for frame in run.pictures] == pytest.approx([id * 2 for id in range(100)], abs=HALF)


def test_the_ring_holds_the_lane_back_and_the_newest_picture_wins(
    open_run: Callable[..., Run], backend: FakeBackend
) -> None:
    run = open_run(live=True)
    run.load(chain("DevFine"))
    run.feed(video(0))
    wait_for(lambda: run.pictures, "a picture")
    backend.gate = threading.Event()
    try:
        for id in range(1, 40):
            run.feed(video(id))
            wait_for(lambda: True)
        wait_for(lambda: run.runner.stats().dropped.get("newest_wins", 0) > 30, "drops")
    finally:
        gate, backend.gate = backend.gate, None
        gate.set()
    wait_for(lambda: run.pictures[-1].id == 39, "the newest picture")
    ids = [frame.id for frame in run.pictures]
    assert ids == sorted(ids)
    assert len(ids) <= 1 + 5  # three under way, one that its lane held, one that waited


@pytest.mark.parametrize(
    ("policy", "third"), [(FailPolicy.HOLD, 20), (FailPolicy.PASSTHROUGH, 30)], ids=["hold", "passthrough"]
)
def test_the_policy_for_a_failed_frame_works_in_order(
    open_run: Callable[..., Run], policy: FailPolicy, third: int
) -> None:
    run = open_run(on_error=policy)
    run.load(chain("DevFlaky"))
    run.feed(*(video(id, 10 + 10 * id) for id in range(6))).finish()
    assert [frame.id for frame in run.pictures] == [*range(6)]
    shown = [grey(frame) for frame in run.pictures]
    assert shown[:4] == pytest.approx([10, 20, third, 40], abs=HALF)
    assert len(run.events_of(NodeFailed)) == 1


def test_with_stop_what_came_before_is_out_when_the_run_ends(open_run: Callable[..., Run]) -> None:
    run = open_run(on_error=FailPolicy.STOP)
    run.load(chain("DevFlaky"))
    run.feed(video(0), video(1), video(2))
    with pytest.raises(NodeError, match="every third"):
        run.finish()
    assert [frame.id for frame in run.pictures] == [0, 1]


def test_closing_ends_a_run_whose_device_hangs(open_run: Callable[..., Run], backend: FakeBackend) -> None:
    run = open_run(live=True)
    run.load(chain("DevFine"))
    backend.gate = gate = threading.Event()
    backend.waits.clear()
    try:
        run.feed(video(0))
        wait_for(lambda: backend.waits, "a thread that waits for the device")
        began = time.monotonic()
        run.runner.close()
        assert time.monotonic() - began < DEADLINE_S
    finally:
        backend.gate = None
        gate.set()
    assert not run.pictures
