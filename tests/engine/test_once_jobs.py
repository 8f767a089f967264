"""Single runs beside live ones, on both kinds of engine: files in, files out, stopped when nobody wants them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_harness import DEADLINE_S, Run, camera, fill, link, node, shown, wait_for
from PIL import Image

from comfystream.engine.events import Progress
from comfystream.engine.once_job import OnceDone, OnceJob, OnceStopped, Result, Wanted
from comfystream.engine.protocol import Engine, FailPolicy
from comfystream.errors import NodeError, WorkflowError
from comfystream.workflow.read import parse_workflow

IDS = itertools.count(1)


def run(engine: Engine, graph: dict[str, Any], folder: Path, heard: list[Any] | None = None, **more: Any) -> OnceDone:
    job = OnceJob(parse_workflow(graph), str(folder), **more)
    events = [] if heard is None else heard
    return engine.run_once(next(IDS), job, events.append).result(DEADLINE_S)


def picture(folder: Path, value: int, size: tuple[int, int] = (32, 16), alpha: int | None = None) -> str:
    pixels = np.full((size[1], size[0], 3 if alpha is None else 4), value, np.uint8)
    if alpha is not None:
        pixels[..., 3] = alpha
    Image.fromarray(pixels).save(folder / "in.png")
    return "in.png"


def opened(folder: Path, result: Result) -> Image.Image:
    return Image.open(folder / result.file)


@pytest.mark.parametrize("source", ["LoadTensor", "LoadImage", "PrimaryInputLoadImage"])
def test_a_given_picture_stands_for_the_live_one(engine: Engine, tmp_path: Path, source: str) -> None:
    inputs = {} if source == "LoadTensor" else {"image": "none.png"}
    graph = {
        "in": node(source, **inputs),
        "add": node("TestAdd", value=link("in"), amount=-0.5),
        "out": node("PreviewImage", images=link("add")),
    }
    heard: list[Any] = []
    done = run(engine, graph, tmp_path, heard, given={"in": picture(tmp_path, 255)})
    (result,) = done.results
    assert (result.kind, result.mime, result.width, result.height) == ("image", "image/png", 32, 16)
    assert opened(tmp_path, result).getpixel((3, 3)) in {(127, 127, 127), (128, 128, 128)}
    assert done.ran == ("add",)
    assert [event.phase for event in heard if isinstance(event, Progress)][-1] == "write"
    assert "add" in {event.node_id for event in heard}


def test_transparency_is_the_mask_and_the_size_is_brought(engine: Engine, tmp_path: Path) -> None:
    graph = {
        "in": node("LoadImage", image="none.png"),
        "mask": node("TestBrightness", value=link("in", 1)),
        "text": node("PreviewAny", source=link("mask")),
        "out": node("SaveImage", images=link("in"), filename_prefix="x"),
    }
    given = {"in": picture(tmp_path, 255, alpha=51)}
    results = run(engine, graph, tmp_path, given=given, size=(20, 10), wanted=Wanted("jpeg")).results
    assert {result.kind for result in results} == {"image", "text"}
    assert float(next(result.text for result in results if result.kind == "text")) == pytest.approx(0.8, abs=0.01)
    made = opened(tmp_path, next(result for result in results if result.kind == "image"))
    assert (made.size, made.format) == ((20, 10), "JPEG")


def test_what_does_not_depend_on_the_picture_is_kept(engine: Engine, tmp_path: Path) -> None:
    graph = {
        "in": node("LoadTensor"),
        "load": node("TestSource", number=0.25, tag=tmp_path.name),
        "fill": node("TestFill", like=link("in"), number=link("load")),
        "out": node("SaveTensor", images=link("fill")),
    }
    given = {"in": picture(tmp_path, 9)}
    assert run(engine, graph, tmp_path, given=given).ran == ("load", "fill")
    assert run(engine, graph, tmp_path, given=given).ran == ("fill",)


def test_a_film_with_its_sound(engine: Engine, tmp_path: Path) -> None:
    graph = {
        "cards": node("EmptyImage", width=32, height=32, batch_size=8, color=0x40C040),
        "film": node("SaveImage", images=link("cards"), filename_prefix="x"),
        "tone": node("EmptyAudio", duration=1.0, sample_rate=44100, channels=2),
        "heard": node("SaveAudioTensor", audio=link("tone")),
    }
    import av

    (result,) = run(engine, graph, tmp_path, wanted=Wanted(as_video=True, fps=8)).results
    assert (result.kind, result.mime) == ("video", "video/mp4")
    with av.open(str(tmp_path / result.file)) as file:
        assert len(file.streams.audio) == 1
        assert sum(1 for _ in file.decode(video=0)) == 8
    apart = run(engine, graph, tmp_path).results
    assert [one.kind for one in apart] == ["image"] * 8 + ["audio"]


@pytest.mark.parametrize(
    ("graph", "code"),
    [
        ({"in": node("LoadTensor")}, "prompt_no_outputs"),
        ({"a": node("TestNone"), "out": node("PreviewImage", images=link("a"))}, "missing_node_type"),
        ({"a": node("LoadImage", image="no.png"), "out": node("PreviewImage", images=link("a"))}, ""),
    ],
)
def test_what_cannot_run_is_said(engine: Engine, tmp_path: Path, graph: dict[str, Any], code: str) -> None:
    with pytest.raises(WorkflowError) as raised:
        run(engine, graph, tmp_path)
    assert not code or raised.value.code == code


def test_a_picture_that_is_none_and_a_node_that_fails(engine: Engine, tmp_path: Path) -> None:
    graph = {"in": node("LoadTensor"), "out": node("SaveTensor", images=link("in"))}
    (tmp_path / "bad").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    with pytest.raises(WorkflowError) as raised:
        run(engine, graph, tmp_path, given={"in": "bad"})
    assert raised.value.code == "bad_image"
    failing = {**graph, "f": node("TestFail", value=link("in"), on="all"), "out": node("SaveTensor", images=link("f"))}
    with pytest.raises(NodeError, match="the test asked for this") as failed:
        run(engine, failing, tmp_path, given={"in": picture(tmp_path, 1)})
    assert failed.value.node_id == "f"
    assert run(engine, graph, tmp_path, given={"in": picture(tmp_path, 1)}).results


def test_one_that_is_stopped_ends_between_nodes_and_the_next_one_runs(engine: Engine, tmp_path: Path) -> None:
    graph: dict[str, Any] = {"n0": node("TestSource", number=0.5, tag=tmp_path.name)}
    graph |= {f"n{i}": node("TestSlow", value=link(f"n{i - 1}"), seconds=0.05) for i in range(1, 400)}
    graph |= {"card": node("TestCard", number=link("n399"), size=8), "out": node("PreviewImage", images=link("card"))}
    began = threading.Event()
    id, waiting = next(IDS), next(IDS)
    job = OnceJob(parse_workflow(graph), str(tmp_path))
    first = engine.run_once(id, job, lambda event: began.set() if getattr(event, "done", 0) > 2 else None)
    second = engine.run_once(waiting, job, lambda event: None)
    assert began.wait(10), first.exception() if first.done() else "it did not begin"
    engine.stop_once(waiting)
    engine.stop_once(id)
    for future in (first, second):
        with pytest.raises(OnceStopped):
            future.result(DEADLINE_S)
    engine.stop_once(id)  # it is over: nothing happens
    short = {"card": node("TestCard", number=0.5, size=8), "out": node("PreviewImage", images=link("card"))}
    assert run(engine, short, tmp_path).results


def test_live_pictures_go_on_meanwhile(engine: Engine, tmp_path: Path, open_run: Callable[..., Run]) -> None:
    live = open_run(live=True, on_error=FailPolicy.HOLD)
    live.load(fill(0.5))
    graph: dict[str, Any] = {"n0": node("TestSource", number=0.5, tag=tmp_path.name)}
    graph |= {f"n{i}": node("TestSlow", value=link(f"n{i - 1}"), seconds=0.05) for i in range(1, 20)}
    graph |= {"card": node("TestCard", number=link("n19"), size=8), "out": node("PreviewImage", images=link("card"))}
    with camera(live):
        wait_for(lambda: len(live.pictures) > 3)
        before = len(live.pictures)
        future = engine.run_once(next(IDS), OnceJob(parse_workflow(graph), str(tmp_path)), lambda event: None)
        wait_for(lambda: len(live.pictures) > before + 5 or future.done())
        assert not future.done(), "pictures came while it ran"
        assert future.result(DEADLINE_S).results
        assert shown(live) in range(120, 136)


def test_a_stream_finds_what_a_run_has_loaded(engine: Engine, tmp_path: Path, open_run: Callable[..., Run]) -> None:
    graph = {
        "in": node("LoadTensor"),
        "load": node("TestSource", number=0.5, tag=f"warm {tmp_path.name}"),
        "fill": node("TestFill", like=link("in"), number=link("load")),
        "out": node("SaveTensor", images=link("fill")),
    }
    assert "load" in run(engine, graph, tmp_path, given={"in": picture(tmp_path, 9)}).ran
    assert open_run().load(graph).nodes_run == ()
