"""A runner with everything it puts out, and short ways to write graphs and frames."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from comfystream.engine.protocol import Engine, FailPolicy, RunnerOptions
from comfystream.frames import AudioFrame, Frame, TextCue, VideoFrame
from comfystream.workflow.read import parse_workflow

DEADLINE_S = 60.0


def picture(value: int = 128, width: int = 32, height: int = 16) -> av.VideoFrame:
    """A plain grey picture of that 8-bit value."""
    rgb = np.full((height, width, 3), value, np.uint8)
    return av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p")


def video(id: int, value: int = 128, **size: int) -> VideoFrame:
    return VideoFrame(id, id, Fraction(1, 30), picture(value, **size))


def sound(id: int, value: float = 0.25, samples: int = 480, rate: int = 48_000) -> AudioFrame:
    return AudioFrame(id, id * samples, Fraction(1, rate), np.full((1, samples), value, np.float32), rate)


def grey(frame: Frame) -> int:
    """The 8-bit value in the middle of a picture."""
    assert isinstance(frame, VideoFrame)
    return int(frame.image.to_ndarray(format="rgb24")[frame.image.height // 2, frame.image.width // 2, 0])


def wait_for(condition: Callable[[], Any], what: str = "condition") -> Any:
    """Poll a condition of another thread until it holds."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.002)
    raise AssertionError(f"{what} did not come about within {DEADLINE_S} s")


class Run:
    """A runner with everything it puts out, for tests."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        options = {"live": False, "on_error": FailPolicy.STOP, **options}
        self.outputs: list[Frame] = []
        self.events: list[Any] = []
        self.changed = threading.Condition()
        self.runner = engine.open(RunnerOptions(**options), self.outputs.append, self.events.append)

    def load(self, graph: dict[str, Any], sample: Any = (32, 16)) -> Any:
        revision = self.runner.prepare(parse_workflow(graph), sample).result(DEADLINE_S)
        self.first_frame = self.runner.activate(revision)
        self.revision = revision
        return revision

    def feed(self, *frames: VideoFrame | AudioFrame) -> Run:
        for frame in frames:
            self.runner.submit(frame)
        return self

    def finish(self) -> Run:
        assert self.runner.finish(DEADLINE_S)
        return self

    @property
    def pictures(self) -> list[VideoFrame]:
        return [frame for frame in self.outputs if isinstance(frame, VideoFrame)]

    @property
    def sounds(self) -> list[AudioFrame]:
        return [frame for frame in self.outputs if isinstance(frame, AudioFrame)]

    @property
    def texts(self) -> list[str]:
        return [frame.text for frame in self.outputs if isinstance(frame, TextCue)]

    def events_of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def link(id: str, slot: int = 0) -> list[Any]:
    return [id, slot]


def to_text(class_type: str, live: str | None = None, /, **inputs: Any) -> dict[str, Any]:
    """A graph that puts out what node "n" gives, as text; `live` names the input that gets the live picture."""
    inputs = {**inputs, **({live: link("in")} if live else {})}
    return {
        "in": node("LoadTensor"),
        "n": node(class_type, **inputs),
        "text": node("TestToText", value=link("n")),
        "out": node("SaveTextTensor", data=link("text")),
    }


def fill(number: float, **more: Any) -> dict[str, Any]:
    """Live picture in, a picture of that brightness out."""
    return {
        "in": node("LoadTensor"),
        "fill": node("TestFill", like=link("in"), number=number),
        "out": node("SaveTensor", images=link("fill")),
        **more,
    }


@contextlib.contextmanager
def camera(run: Run) -> Iterator[None]:
    """Submits frames, each as soon as the one before has come out (or is overdue), until the block ends."""
    ended = threading.Event()

    def shoot() -> None:
        for id in itertools.count():
            before = len(run.outputs)
            run.runner.submit(video(id))
            for _ in range(200):
                if len(run.outputs) > before or ended.wait(0.005):
                    break
            if ended.is_set():
                return

    thread = threading.Thread(target=shoot)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(DEADLINE_S)


def shown(run: Run) -> int | None:
    """The brightness of the newest picture."""
    return grey(run.pictures[-1]) if run.pictures else None
