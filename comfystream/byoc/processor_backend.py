"""An app's `FrameProcessor` behind a worker: the newest picture goes in, sound goes through in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from comfystream.byoc.backend import Loading, Modalities, PipeReport, StreamStart
from comfystream.byoc.events import EVENTS, now_ms
from comfystream.byoc.frames import AudioFrame, VideoFrame, to_sound
from comfystream.byoc.messages import StreamParams
from comfystream.byoc.processor import FrameProcessor, call_with, current_stream
from comfystream.engine.protocol import FailPolicy
from comfystream.errors import ComfyStreamError, ConfigError, EngineError
from comfystream.frames import AudioFrame as Sound
from comfystream.frames import Frame
from comfystream.frames import VideoFrame as Picture
from comfystream.media.convert import ImageWriter, TensorReader
from comfystream.media.progress import ProgressPictures
from comfystream.media.slate import slate

__all__ = ["ProcessorBackend"]

_log = logging.getLogger(__name__)
SOUND_ROOM = 100
OUT_ROOM = 16
TELL_S = 1.0


class ProcessorBackend:
    """Makes pipes to one processor.

    Args:
        processor: of the app.
        on_start, on_stop: called beside the processor's own, for apps that give functions.
        on_error: what viewers get for a picture that the app failed on.
    """

    def __init__(
        self,
        processor: FrameProcessor,
        on_start: Callable[..., Any] | None = None,
        on_stop: Callable[..., Any] | None = None,
        on_error: FailPolicy = FailPolicy.HOLD,
    ) -> None:
        self.processor = processor
        self.on_error = on_error
        self.on_start = [processor.on_stream_start, *([on_start] if on_start else [])]
        self.on_stop = [processor.on_stream_stop, *([on_stop] if on_stop else [])]

    async def load(self) -> None:
        """Let it load its models, and torch with them: its import must not fall on the first picture."""
        await _asked(self.processor.start(), "load_failed")
        await asyncio.to_thread(_warm_up)

    async def open(self, start: StreamStart) -> ProcessorPipe:
        """A pipe; the app's own start goes on beside it."""
        given = start.params.model_dump(exclude_unset=True)
        if given:
            await _asked(call_with(None, self.processor.update_params, given), "params_refused")
        return ProcessorPipe(self, start, given)

    async def modalities(self, params: StreamParams, capability: str) -> Modalities:
        """An app may do anything with everything."""
        return Modalities(frozenset({"video", "audio"}), frozenset({"video", "audio", "text"}))

    async def close(self) -> None:
        """Nothing of an app has to be ended."""


def _warm_up() -> None:
    reader, writer = TensorReader(), ImageWriter()
    writer.write(reader.read(slate(16, 16, "")))


async def _asked(work: Any, code: str) -> None:
    """Await an app's code; what it raises becomes one of our errors."""
    try:
        await work
    except ComfyStreamError:
        raise
    except Exception as error:
        _log.warning("%s", code, exc_info=error)
        words = f"{type(error).__name__}: {error}"
        raise (ConfigError if code == "params_refused" else EngineError)(words, code=code) from error


class ProcessorPipe:
    """One stream through the processor. Made by `ProcessorBackend.open`."""

    def __init__(self, owner: ProcessorBackend, start: StreamStart, params: dict[str, Any]) -> None:
        self._processor = owner.processor
        self._on_stop = owner.on_stop
        self._on_error = owner.on_error
        self._last_good: Picture | None = None
        self._outlet = start.outlet
        self._threads = ThreadPoolExecutor(1, "processor")
        self._writer = ImageWriter()
        self._card = ProgressPictures()
        self._picture: Picture | None = None
        self._replaced = 0
        self._sounds: deque[Sound] = deque(maxlen=SOUND_ROOM)
        self._outputs: asyncio.Queue[Frame | None] = asyncio.Queue(OUT_ROOM)
        self._wake = {Picture: asyncio.Event(), Sound: asyncio.Event()}
        self._idle = asyncio.Event()
        self._busy = 0
        self._ready = asyncio.Event()
        self._last_error, self._last_error_ms, self._told_ms, self._count = "", 0, 0, 0
        self._is_failing = False
        self._processor._streams.append(start.outlet.data)
        token = current_stream.set(start.outlet.data)  # for the tasks made here, and only for them
        starting = asyncio.create_task(self._begin(owner.on_start, params), name=f"processor-start-{start.id}")
        pumps = [self._pump_pictures(), self._pump_sounds()]
        self._tasks = [starting, *(asyncio.create_task(pump, name=f"processor-{start.id}") for pump in pumps)]
        current_stream.reset(token)

    async def _begin(self, hooks: Sequence[Callable[..., Any]], params: dict[str, Any]) -> None:
        try:
            for hook in hooks:
                await _asked(call_with(self._threads, hook, params), "start_failed")
        except ComfyStreamError as error:
            self._failed(error)
        self._ready.set()

    # --- frames

    def submit(self, frame: Picture | Sound) -> None:
        """A frame has come; a picture that was not taken yet is replaced."""
        if isinstance(frame, Picture):
            self._replaced += self._picture is not None
            self._picture = frame
        else:
            self._sounds.append(frame)
        self._wake[type(frame)].set()

    async def lost(self) -> dict[str, int]:
        """Pictures that were replaced by newer ones while the app was busy."""
        return {"work: busy": self._replaced} if self._replaced else {}

    async def outputs(self) -> AsyncIterator[Frame]:
        """What the app gives."""
        while (frame := await self._outputs.get()) is not None:
            yield frame

    async def _pump_pictures(self) -> None:
        await self._ready.wait()
        while True:
            await self._wake[Picture].wait()
            self._wake[Picture].clear()
            frame, self._picture = self._picture, None
            if frame is not None:
                with self._working():
                    try:
                        made = await self._process(frame)
                    except EngineError:
                        await self._outputs.put(None)
                        return
                    if made is not None:
                        await self._outputs.put(made)

    async def _process(self, frame: Picture) -> Picture | None:
        try:
            made = await call_with(self._threads, self._processor.process_video_async, VideoFrame(frame))
            if made is None:
                return None
            if not isinstance(made, VideoFrame):
                made = VideoFrame(frame).replace_tensor(made)
            if not made._is_replaced:
                out = made.frame
            else:
                out = await asyncio.get_running_loop().run_in_executor(self._threads, made.to_frame, self._writer)
        except Exception as error:  # noqa: BLE001 - node execution: an app's code may raise anything
            self._failed(error)
            return self._instead(frame)
        self._is_failing = False
        self._last_good = out
        return out

    def _instead(self, frame: Picture) -> Picture | None:
        """What goes out for a picture that the app failed on; the camera's own only if that was asked for."""
        match self._on_error:
            case FailPolicy.PASSTHROUGH:
                return frame
            case FailPolicy.STOP:
                raise EngineError(self._last_error, code="processor_failed")
            case FailPolicy.HOLD if self._last_good is not None:
                return replace(frame, image=self._last_good.image)
        size = (frame.image.width, frame.image.height)
        return replace(frame, image=self._card.picture(size, f"The processor failed: {self._last_error}"))

    async def _pump_sounds(self) -> None:
        await self._ready.wait()
        while True:
            await self._wake[Sound].wait()
            self._wake[Sound].clear()
            while self._sounds:
                with self._working():
                    for made in await self._hear(self._sounds.popleft()):
                        await self._outputs.put(made)

    async def _hear(self, frame: Sound) -> list[Sound]:
        try:
            made = await call_with(self._threads, self._processor.process_audio_async, AudioFrame(frame))
            runs = made if isinstance(made, list | tuple) else [] if made is None else [made]
            return [to_sound(run) for run in runs]
        except Exception as error:  # noqa: BLE001 - node execution: an app's code may raise anything
            self._failed(error)
            return [frame]

    @contextlib.contextmanager
    def _working(self) -> Any:
        self._busy += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    def _failed(self, error: Exception) -> None:
        """Remember it, and say so once a second with how often."""
        self._is_failing = True
        self._last_error, self._last_error_ms = f"{type(error).__name__}: {error}"[:2000], now_ms()
        self._count += 1
        if self._last_error_ms - self._told_ms >= TELL_S * 1000:
            _log.error("the processor failed %d times: %s", self._count, self._last_error, exc_info=error)
            self._outlet.event({"type": "error", "message": self._last_error, "count": self._count}, EVENTS)
            self._told_ms, self._count = self._last_error_ms, 0

    # --- the rest of a pipe

    async def update(self, params: StreamParams) -> None:
        """Hand them to the app."""
        if params.load_model:
            await _asked(self._processor.reload(), "load_failed")
        given = params.model_dump(exclude_unset=True, exclude={"load_model", "show_loading"})
        if given:
            await _asked(call_with(self._threads, self._processor.update_params, given), "params_refused")

    def loading(self) -> Loading | None:
        """While the app starts."""
        return None if self._ready.is_set() else Loading("The stream starts")

    def report(self) -> PipeReport:
        """How it is."""
        state = "LOADING" if not self._ready.is_set() else "DEGRADED_INFERENCE" if self._is_failing else "ONLINE"
        return PipeReport(state, self._last_error, self._last_error_ms)

    async def drain(self) -> None:
        """Until what was submitted has come out."""
        while self._picture is not None or self._sounds or self._busy:
            self._idle.clear()
            await self._idle.wait()

    async def close(self) -> None:
        """End it; the app is told. Idempotent."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._processor._streams.remove(self._outlet.data)
        while not self._outputs.empty():
            self._outputs.get_nowait()
        self._outputs.put_nowait(None)
        try:
            for hook in self._on_stop:
                await _asked(call_with(self._threads, hook), "stop_failed")
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)
