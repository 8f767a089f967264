"""A live source for benches: the same picture at a constant pace, on a thread of its own."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from types import TracebackType
from typing import Self

import av

from comfystream.engine.protocol import Runner
from comfystream.frames import Frame, Stamps, VideoFrame

__all__ = ["Arrivals", "Camera", "frame_of"]


def frame_of(image: av.VideoFrame, id: int, fps: int) -> VideoFrame:
    """A frame that was captured now."""
    return VideoFrame(id, id, Fraction(1, fps), image, Stamps(captured=time.monotonic_ns()))


class Camera:
    """Feeds a run until the end of a `with` block.

    Args:
        runner: gets the frames.
        image: what is on them.
        fps: frames per second.
    """

    def __init__(self, runner: Runner, image: av.VideoFrame, fps: int) -> None:
        self._runner = runner
        self._image = image
        self._fps = fps
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="bench-camera")
        self.fed = 0
        self.refused = 0

    def _feed(self) -> None:
        began = time.monotonic()
        while not self._ending.wait(max(began + self.fed / self._fps - time.monotonic(), 0)):
            self.refused += not self._runner.submit(frame_of(self._image, self.fed, self._fps))
            self.fed += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()


class Arrivals:
    """Notes when outputs came, and how old they were."""

    def __init__(self) -> None:
        self.at_ns: list[int] = []
        self.age_ms: list[float] = []

    def __call__(self, frame: Frame) -> None:
        """An output of a run."""
        now = time.monotonic_ns()
        self.at_ns.append(now)
        self.age_ms.append((now - frame.stamps.captured) / 1e6 if isinstance(frame, VideoFrame) else 0.0)

    def longest_gap_ms(self, since_ns: int, until_ns: int) -> float:
        """The longest time without an output in a span of monotonic time."""
        inside = [at for at in self.at_ns if since_ns < at < until_ns]
        marks = [since_ns, *inside, until_ns]
        return max(after - before for before, after in zip(marks, marks[1:], strict=False)) / 1e6
