"""Streams and events of the simulated device, as clocks: they find work that nothing orders."""

from __future__ import annotations

import itertools
import threading
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .memory import Block

__all__ = [
    "Event",
    "Stream",
    "StreamContext",
    "Times",
    "calls",
    "check_free",
    "complete",
    "current",
    "default_stream",
    "done",
    "hazards",
    "launch",
    "set_stream",
    "settle",
    "sync_debug_mode",
    "waits",
]

Times = dict[int, int]  # by stream: how much of its work is done, or must be

RECORDING: set[Any] = set()  # graphs, of any thread: none may wait for the whole device meanwhile

_LOCK = threading.RLock()
_NUMBERS = itertools.count()
_HERE = threading.local()
_STREAMS: weakref.WeakSet[Stream] = weakref.WeakSet()
_SEEN: Times = {}  # what the host knows to be done
_PENDING: list[tuple[int, int, Callable[[], None]]] = []  # stream, time, work that nobody waited for yet
_MODE = {"mode": "default"}

calls: Counter[str] = Counter()
"""What was given to the device so far, by the names that a profile has for it."""

hazards: list[str] = []
"""What was found, for the end of a test: races raise where they are found, but somebody may catch that."""


def _merge(into: Times, other: Times) -> None:
    for number, time in other.items():
        if into.get(number, 0) < time:
            into[number] = time


def _hazard(text: str) -> None:
    where = [line for line in traceback.format_stack()[:-2] if "simulated_cuda" not in line and "/torch/" not in line]
    hazards.append(f"{text}\n{''.join(where[-6:])}")


def done(times: Times) -> bool:
    """Whether the host has seen that this much is done."""
    with _LOCK:
        return all(_SEEN.get(number, 0) >= time for number, time in times.items())


class Stream:
    """See torch.cuda.Stream."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.number = next(_NUMBERS)
        self.device = torch.device("cuda", 0)
        self.priority = priority
        self.times: Times = {}
        self.context: list[Stream] = []
        _STREAMS.add(self)

    @property
    def cuda_stream(self) -> int:
        return self.number

    stream_id = cuda_stream

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)

    def wait_event(self, event: Event) -> None:
        with _LOCK:
            _merge(self.times, event.times)

    def wait_stream(self, stream: Stream) -> None:
        with _LOCK:
            _merge(self.times, stream.times)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def query(self) -> bool:
        return done(self.times)

    def synchronize(self) -> None:
        waits("Stream.synchronize")
        complete(self.times)

    def __enter__(self) -> Stream:
        self.context.append(current())
        _HERE.stream = self
        return self

    def __exit__(self, *_: object) -> None:
        _HERE.stream = self.context.pop()


class StreamContext:
    """See torch.cuda.stream."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        self.before = current()
        if self.stream is not None:
            _HERE.stream = self.stream

    def __exit__(self, *_: object) -> None:
        _HERE.stream = self.before


class Event:
    """See torch.cuda.Event. What it stands for is done when asked for the second time, not before."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, **_: Any) -> None:
        self.times: Times = {}
        self.is_timed = enable_timing
        self.questions = 0

    def record(self, stream: Stream | None = None) -> None:
        stream = stream or current()
        with _LOCK:
            stream.times[stream.number] = stream.times.get(stream.number, 0) + 1
            self.times = dict(stream.times)
            self.questions = 0

    def wait(self, stream: Stream | None = None) -> None:
        (stream or current()).wait_event(self)

    def query(self) -> bool:
        if not done(self.times):
            self.questions += 1
            if self.questions < 2:
                return False
            complete(self.times)
        return True

    def synchronize(self) -> None:
        complete(self.times)

    def elapsed_time(self, other: Event) -> float:
        """Made up: milliseconds here are pieces of work."""
        if not (self.is_timed and other.is_timed):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        return float(sum(other.times.values()) - sum(self.times.values())) / 1000


_DEFAULT = Stream()


def default_stream(device: Any = None) -> Stream:
    return _DEFAULT


def current(device: Any = None) -> Stream:
    return getattr(_HERE, "stream", _DEFAULT)


def set_stream(stream: Stream) -> None:
    _HERE.stream = stream


def sync_debug_mode(mode: str | int) -> None:
    _MODE["mode"] = {0: "default", 1: "warn", 2: "error"}.get(mode, mode)  # type: ignore[arg-type, assignment]


def waits(what: str) -> None:
    """The host is about to wait for the device.

    Raises:
        RuntimeError: while the debug mode is "error".
    """
    if _MODE["mode"] == "error":
        raise RuntimeError(f"called a synchronizing CUDA operation ({what})")


def launch(
    reads: Iterable[Block],
    writes: Iterable[Block],
    later: Callable[[], None] | None = None,
    what: str = "cudaLaunchKernel",
) -> tuple[int, int]:
    """Put work on the current stream.

    Args:
        what: the call of the CUDA runtime that does it.
        reads, writes: memory that it touches.
        later: what is done only when somebody waits for it.

    Returns:
        Its stream, and its time in that stream.

    Raises:
        RuntimeError: another stream touches the same memory, and nothing says which comes first.
    """
    stream = current()
    with _LOCK:
        calls[what] += 1
        _merge(stream.times, _SEEN)
        times, number = stream.times, stream.number
        times[number] = now = times.get(number, 0) + 1
        for block in {*reads, *writes}:
            if block.written is not None and times.get(block.written[0], 0) < block.written[1]:
                _race(f"stream {number} reads or writes what stream {block.written[0]} is writing")
        for block in writes:
            for other, time in block.read.items():
                if times.get(other, 0) < time:
                    _race(f"stream {number} writes what stream {other} is reading")
            block.written, block.read = (number, now), {}
        for block in reads:
            block.read[number] = now
        if later is not None:
            _PENDING.append((number, now, later))
    return number, now


def _race(text: str) -> None:
    _hazard(f"race: {text}")
    raise RuntimeError(f"race on the simulated GPU: {text}")


def check_free(block: Block) -> None:
    """Nobody holds this memory any more: the next allocation on its stream may get it."""
    with _LOCK:
        used = dict(block.read)
        if block.written is not None:
            used[block.written[0]] = max(block.written[1], used.get(block.written[0], 0))
        for number, time in used.items():
            if number == block.home.number or number in block.kept_for:
                continue
            if max(block.home.times.get(number, 0), _SEEN.get(number, 0)) < time:
                _hazard(f"memory of stream {block.home.number} was given back while stream {number} uses it")


def complete(times: Times) -> None:
    """The host has waited until this much is done."""
    with _LOCK:
        due = [one for one in _PENDING if times.get(one[0], 0) >= one[1]]
        _PENDING[:] = [one for one in _PENDING if times.get(one[0], 0) < one[1]]
        _merge(_SEEN, times)
    for _, _, work in due:
        work()


def settle(device: Any = None) -> None:
    """See torch.cuda.synchronize."""
    waits("synchronize")
    if RECORDING:
        raise RuntimeError("operation not permitted when stream is capturing (another thread waits for the device)")
    times: Times = {}
    with _LOCK:
        for stream in [*_STREAMS]:
            _merge(times, stream.times)
    complete(times)
