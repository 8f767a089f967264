"""Outputs of a lane whose pictures come back from a device: put out in order, on a thread that may wait for them.

The lane's thread gives the conversion and the copy to the device and goes on with the next frame. Everything that is
put out, failures and texts too, goes through one queue, so that its order is that of the ticks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from comfystream.channels import BoundedQueue, Closed
from comfystream.engine.emitter import Emitter
from comfystream.engine.meter import Meter
from comfystream.engine.plan import Output
from comfystream.engine.protocol import FailPolicy
from comfystream.engine.running import Running
from comfystream.engine.values import PASSTHROUGH, Items, as_items
from comfystream.errors import NodeError
from comfystream.frames import AudioFrame, Lane, VideoFrame
from comfystream.media.convert import ImageWriter
from comfystream.media.device.reader import DEPTH
from comfystream.media.device.writer import DeviceWriter, Download

if TYPE_CHECKING:
    from comfystream.media.device.backend import DeviceBackend

__all__ = ["Delivery", "PipelinedEmitter"]

END_S = 2.0
Job = Callable[[], None]


class Delivery:
    """A thread that does jobs in order. Its queue is short: who is too fast waits.

    Args:
        name: of the thread.
        enter_thread: called first on it.
        crashed: told when a job raised; the jobs after it are not done.
    """

    def __init__(self, name: str, enter_thread: Job, crashed: Callable[[BaseException], None]) -> None:
        self._enter_thread = enter_thread
        self._crashed = crashed
        self._jobs: BoundedQueue[Job] = BoundedQueue(DEPTH)
        self._at_end: list[Job] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def at_end(self, job: Job) -> None:
        """Do this when the thread ends, for whatever reason."""
        self._at_end.append(job)

    def put(self, job: Job) -> None:
        """Queue a job.

        Raises:
            Closed: the thread has ended.
        """
        self._jobs.put(job)

    def flush(self) -> None:
        """Wait until all that was queued is done.

        Raises:
            Closed: the thread has ended.
        """
        done = threading.Event()
        self.put(done.set)
        while not done.wait(0.1):
            if not self._thread.is_alive():
                raise Closed

    def close(self, *, discard: bool) -> None:
        """Do what is queued, unless it is discarded, and end. Idempotent."""
        self._jobs.close(discard=discard)
        if self._thread is not threading.current_thread():
            self._thread.join(END_S if discard else None)

    def _run(self) -> None:
        self._enter_thread()
        try:
            for job in self._jobs:
                job()
        except Closed:
            pass  # nobody takes outputs any more
        except Exception as error:  # noqa: BLE001 - task scope: the thread has no caller, the run ends with it
            self._crashed(error)
        finally:
            self._jobs.close(discard=True)
            for job in self._at_end:
                job()


class PipelinedEmitter:
    """As `Emitter`, for a lane whose pictures are on a device. Used by that lane's thread only.

    Args:
        lane: whose outputs.
        emitter: puts out what has arrived, on the delivery's thread.
        backend: the device.
        delivery: the thread; several lanes may share one, and their outputs then come in the order of their ticks.
        blocker: the `ExecutionBlocker` class.
        meter: counts ticks when their outputs are out, conversions, and waiting for the device.
    """

    is_pipelined = True

    def __init__(
        self, lane: Lane, emitter: Emitter, backend: DeviceBackend, delivery: Delivery, blocker: type, meter: Meter
    ) -> None:
        self._lane = lane
        self._emitter = emitter
        self._backend = backend
        self._delivery = delivery
        self._blocker = blocker
        self._meter = meter
        self._downloads = DeviceWriter(backend)
        self._host = ImageWriter()
        delivery.at_end(self._downloads.close)

    def put(
        self,
        running: Running,
        outputs: tuple[Output, ...],
        values: tuple[Any, ...],
        frame: VideoFrame | AudioFrame,
        duration: Callable[[VideoFrame | AudioFrame], int],
    ) -> None:
        """As `Emitter.put`. What belongs to the tick is taken out of the values before this returns."""
        taken: list[Any] = []
        try:
            for output, value in zip(outputs, values, strict=True):
                taken.append(self._take(output, value, frame))
        except BaseException:
            _drop(taken)
            raise
        span = duration(frame) if self._asks_for_duration(running, outputs, taken) else 0

        def put_out() -> None:
            self._emitter.put(running, outputs, tuple(map(self._arrived, taken)), frame, lambda _: span)
            self._meter.tick(self._lane, time.monotonic_ns() - frame.stamps.entered)

        self._delivery.put(put_out)

    def _asks_for_duration(self, running: Running, outputs: tuple[Output, ...], taken: list[Any]) -> bool:
        return any(
            output.modality == "text"
            and value is not None
            and (output.is_live or output.node_id not in running.text_sent)
            for output, value in zip(outputs, taken, strict=True)
        )

    def _take(self, output: Output, value: Any, frame: VideoFrame | AudioFrame) -> Any:
        if value is None or value is PASSTHROUGH:
            return value
        if type(value) is self._blocker:
            return None  # either is an output that holds
        if output.modality == "video":
            return self._take_picture(output, value, frame)
        if output.modality == "audio":
            return self._emitter.sound(output, value, frame)
        return Items(str(item) for item in as_items(value))

    def _take_picture(self, output: Output, value: Any, frame: VideoFrame | AudioFrame) -> Any:
        picture = self._emitter.one_picture(output, value)
        like = frame.image if isinstance(frame, VideoFrame) else None
        if self._backend.is_here(picture):
            self._downloads.wait_for_room()
            began = time.perf_counter_ns()
            taken: Any = self._downloads.start(picture, like)
        else:  # made by a node on the host, who may write into it in the next tick
            began = time.perf_counter_ns()
            taken = self._host.write(picture, like)
        self._meter.convert_ns += time.perf_counter_ns() - began
        return taken

    def _arrived(self, value: Any) -> Any:
        if not isinstance(value, Download):
            return value
        began = time.perf_counter_ns()
        value.wait()
        self._meter.device_ns += time.perf_counter_ns() - began
        return value.image()

    def put_failed(
        self, running: Running, error: NodeError, frame: VideoFrame | AudioFrame, policy: FailPolicy
    ) -> None:
        """As `Emitter.put_failed`, after what is under way."""
        self._delivery.put(lambda: self._emitter.put_failed(running, error, frame, policy))

    def wait_for_room(self) -> None:
        """Wait until a picture that is read now can come back at once: the newest one is then worth reading."""
        self._downloads.wait_for_room()

    def flush(self) -> None:
        """Wait until all of it is out."""
        self._delivery.flush()

    def close(self, *, discard: bool) -> None:
        """Put out what is under way, unless it is discarded, and end the thread. Idempotent."""
        self._delivery.close(discard=discard)


def _drop(taken: list[Any]) -> None:
    for value in taken:
        if isinstance(value, Download):
            value.drop()
