"""The threads of a run and the channels that feed them."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

from comfystream.channels import BoundedQueue, Broadcast, Closed, LatestSlot, Subscription
from comfystream.engine.emitter import Emitter
from comfystream.engine.lane_io import audio_value
from comfystream.engine.meter import Meter
from comfystream.engine.protocol import RunnerOptions
from comfystream.engine.running import Running
from comfystream.errors import EngineError
from comfystream.frames import AudioFrame, Lane, VideoFrame
from comfystream.media.convert import TensorReader
from comfystream.media.sound import AudioBuffers

if TYPE_CHECKING:
    import av

    from comfystream.engine.delivery import PipelinedEmitter

__all__ = ["Input", "LaneState", "Lanes", "Reader", "Ticker"]

Input = VideoFrame | AudioFrame
FILE_QUEUE = 4
LONGEST_GAP_S = 1.0
LIVE_AUDIO_QUEUE = 100  # frames of 20 ms: two seconds, then the oldest go


class Ticker(Protocol):
    """What the threads call: the run that they belong to."""

    @property
    def options(self) -> RunnerOptions:
        """How the run treats its frames."""
        ...

    @property
    def current(self) -> Running | None:
        """The revision that ticks now."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended or is ending."""
        ...

    def enter_thread(self) -> None:
        """Called first on every thread that runs nodes."""

    def new_lane_states(self, lanes: Iterable[Lane]) -> dict[Lane, LaneState]:
        """What one thread owns, for each lane that ticks on it."""
        ...

    def tick(self, lane: Lane, frame: Input, state: LaneState) -> None:
        """One tick."""

    def crashed(self, error: BaseException) -> None:
        """A thread met something that is no node's fault."""


class Reader(Protocol):
    """From pictures to IMAGE tensors."""

    def read(self, image: av.VideoFrame) -> Any:
        """The picture as [1, H, W, 3], RGB, 0..1."""
        ...

    def close(self) -> None:
        """Give back what it holds on a device. Idempotent."""
        ...


class LaneState:
    """What one lane thread owns: its converters and what it knows about the sound and the pace."""

    def __init__(self, reader: Reader, emitter: Emitter | PipelinedEmitter) -> None:
        self.host_reader = TensorReader()
        self.reader = reader
        self.emitter = emitter
        self._buffers: AudioBuffers | None = None
        self._buffer_key = (0.0, 0)
        self._last_pts: int | None = None

    def read(self, frame: Input, for_host: bool) -> Any:
        """An input as nodes take it: an IMAGE tensor (of the host, if they want that), or an AUDIO value."""
        if isinstance(frame, VideoFrame):
            return (self.host_reader if for_host else self.reader).read(frame.image)
        return audio_value(frame)

    def gather(self, frame: AudioFrame, buffer_ms: float, *, live: bool) -> list[AudioFrame]:
        """Take sound in; the buffers for ticks that it fills.

        Args:
            frame: the sound.
            buffer_ms: length of a buffer.
            live: another sample rate is another source: what was gathered is forgotten. A file keeps one to its end.

        Raises:
            EngineError: the sample rate of a file changed.
        """
        key = (buffer_ms, frame.sample_rate)
        rate = self._buffer_key[1]
        if rate and frame.sample_rate != rate and not live:
            raise EngineError(
                f"the sound changed its sample rate from {rate} to {frame.sample_rate} Hz",
                hint="convert it to one rate first: ffmpeg -i IN -ar 48000 OUT",
            )
        if self._buffers is None or self._buffer_key != key:
            self._buffers, self._buffer_key = AudioBuffers(*key, longest_gap_s=LONGEST_GAP_S), key
        return self._buffers.push(frame)

    def flush(self) -> list[AudioFrame]:
        """What was gathered and fills no buffer."""
        return self._buffers.flush() if self._buffers is not None else []

    def close(self, *, discard: bool) -> None:
        """Put out what is under way, unless it is discarded, and give back what is held."""
        self.emitter.close(discard=discard)
        self.reader.close()

    def duration(self, frame: Input) -> int:
        """Media time that an input spans, or that passed since this was asked before; 0 when that cannot be known."""
        if isinstance(frame, AudioFrame):
            return int(Fraction(frame.samples.shape[-1], frame.sample_rate) / frame.time_base)
        before, self._last_pts = self._last_pts, frame.pts
        return max(frame.pts - before, 0) if before is not None else 0


class Lanes:
    """The threads of a run and the channels that feed them.

    Live: a thread per lane; a picture waits in a slot where a newer one replaces it, sound in a queue that forgets its
    oldest. Files: one thread for all lanes, fed in the order of submission, and the writer waits.
    """

    def __init__(self, runner: Ticker, live: bool) -> None:
        self._runner = runner
        self._live = live
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._started: set[str] = set()
        self._pictures: LatestSlot[Input] = LatestSlot()
        self._sound: Broadcast[Input] = Broadcast()
        self._sound_inbox: Subscription[Input] = self._sound.subscribe(LIVE_AUDIO_QUEUE)
        self._file: BoundedQueue[tuple[Lane, Input]] = BoundedQueue(FILE_QUEUE)
        self._ending = threading.Event()

    def follow(self, running: Running) -> None:
        """Start the threads that a revision needs."""
        if running.takes(Lane.CLOCK):
            self._start("clock", self._run_clock)

    def submit(self, lane: Lane, frame: Input, meter: Meter) -> bool:
        """Queue an input. False when an older one was dropped for it."""
        if not self._live:
            self._start("file", self._run_file)
            self._file.put((lane, frame))
            return True
        if lane is Lane.VIDEO:
            self._start("video", self._run_pictures)
            replaced = self._pictures.put(frame)
            meter.dropped["newest_wins"] += replaced
            return not replaced
        self._start("audio", self._run_sound)
        before = self._sound_inbox.dropped
        self._sound.put(frame)
        lost = self._sound_inbox.dropped - before
        meter.dropped["audio_backlog"] += lost
        return not lost

    def _start(self, name: str, target: Callable[[], None]) -> None:
        if name in self._started:
            return
        with self._lock:
            if name in self._started or self._ending.is_set():
                return
            self._started.add(name)
            thread = threading.Thread(target=self._guarded, args=(target,), name=f"lane-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _guarded(self, target: Callable[[], None]) -> None:
        self._runner.enter_thread()
        try:
            target()
        except Closed:
            return
        except Exception as error:  # noqa: BLE001 - task scope: a lane thread has no caller, the run ends with it
            self._runner.crashed(error)

    # --- loops

    @contextlib.contextmanager
    def _states(self, *lanes: Lane) -> Iterator[dict[Lane, LaneState]]:
        states = self._runner.new_lane_states(lanes)
        try:
            yield states
        finally:
            for state in states.values():
                state.close(discard=self._runner.is_closed)

    def _run_file(self) -> None:
        with self._states(*Lane) as states:
            for lane, frame in self._file:
                if lane is Lane.VIDEO:
                    self._runner.tick(lane, frame, states[lane])
                else:
                    self._feed_sound(frame, states[lane])
            self._flush_sound(states[Lane.AUDIO])

    def _run_pictures(self) -> None:
        with self._states(Lane.VIDEO) as states:
            state = states[Lane.VIDEO]
            while True:
                state.emitter.wait_for_room()
                self._runner.tick(Lane.VIDEO, self._pictures.get(), state)

    def _run_sound(self) -> None:
        with self._states(Lane.AUDIO) as states:
            for frame in self._sound_inbox:
                self._feed_sound(frame, states[Lane.AUDIO])
            self._flush_sound(states[Lane.AUDIO])

    def _feed_sound(self, frame: Input, state: LaneState) -> None:
        running = self._runner.current
        wanted = running.activation.plan.audio_buffer_ms if running is not None else 0.0
        if wanted and isinstance(frame, AudioFrame):
            for buffer in state.gather(frame, wanted, live=self._live):
                self._runner.tick(Lane.AUDIO, buffer, state)

    def _flush_sound(self, state: LaneState) -> None:
        for rest in state.flush():
            if not self._runner.is_closed:
                self._runner.tick(Lane.AUDIO, rest, state)

    def _run_clock(self) -> None:
        """Tick a workflow without an input: paced when live, as fast as it can for a file."""
        with self._states(Lane.CLOCK) as states:
            self._tick_by_clock(states[Lane.CLOCK])

    def _tick_by_clock(self, state: LaneState) -> None:
        options = self._runner.options
        fps = Fraction(options.clock_fps).limit_denominator(1001 * 60)
        began = time.monotonic()
        for count in itertools.count():
            if self._ending.is_set() or (options.clock_ticks is not None and count >= options.clock_ticks):
                return
            due = began + float(count / fps)
            if self._live and self._ending.wait(max(due - time.monotonic(), 0)):
                return
            blank: Any = None
            self._runner.tick(Lane.CLOCK, VideoFrame(count, count, 1 / fps, blank), state)

    # --- the end

    def close_inputs(self, *, discard: bool) -> None:
        """Nothing more comes; what is queued is still done unless it is discarded."""
        if discard or self._live or self._runner.options.clock_ticks is None:
            self._ending.set()
        self._pictures.close()
        self._sound.close()
        self._file.close(discard=discard)

    def join(self, timeout_s: float | None) -> bool:
        """Wait for the threads to end."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            threads = [*self._threads]
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(None if deadline is None else max(deadline - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in threads if thread is not threading.current_thread())
