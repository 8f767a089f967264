"""A device for tests without one: tensors that behave as CUDA's do where they must not be mixed or read, and streams
that do their copies as late as the events allow.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from comfystream.media.device.converter import TorchConverter

__all__ = ["FakeBackend", "FakeDeviceTensor", "on_device", "tensors_in"]

DEVICE = torch.device("cuda", 0)
NUMPY = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
_ACROSS = {torch.Tensor.copy_}
_READS = {torch.Tensor.numpy, torch.Tensor.__array__}


class FakeDeviceTensor(Tensor):
    """A tensor that says it is on cuda:0, and raises what torch raises there."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == torch.Tensor.device.__get__:
            return DEVICE
        if func == torch.Tensor.is_cuda.__get__:
            return True
        if func in _READS:
            raise TypeError(NUMPY)
        tensors = [*tensors_in((args, kwargs))]
        if func not in _ACROSS and any(type(one) is not FakeDeviceTensor and one.dim() for one in tensors):
            raise RuntimeError(MIXED)
        if func is torch.Tensor.cpu or (func is torch.Tensor.to and _names_cpu(args, kwargs)):
            FakeBackend.moved_to_host += 1
            return args[0].as_subclass(Tensor).clone()
        if func is torch.Tensor.to:
            args = tuple(one for one in args if not _is_device(one))
            kwargs = {name: value for name, value in kwargs.items() if not _is_device(value)}
            if len(args) == 1 and not kwargs:
                return args[0]
        return super().__torch_function__(func, types, args, kwargs)


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.device | str)


def _names_cpu(args: Any, kwargs: Any) -> bool:
    return any(_is_device(one) and torch.device(one).type == "cpu" for one in (*args[1:], *kwargs.values()))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All that are somewhere in lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in([*value.values()])


def on_device(tensor: Tensor) -> FakeDeviceTensor:
    """The same values "on cuda:0"."""
    return tensor.clone().as_subclass(FakeDeviceTensor)


class _FakeEvent:
    def __init__(self, backend: FakeBackend, stream: FakeStream, position: int) -> None:
        self._backend, self._stream, self._position = backend, stream, position

    def is_done(self) -> bool:
        return self._stream.done >= self._position

    def run(self) -> None:
        self._stream.run_to(self._position)

    def wait(self) -> None:
        self._backend.waits.append(threading.current_thread().name)
        if self._backend.gate is not None:
            self._backend.gate.wait(30)
        self.run()


class FakeStream:
    """Does what it is given when somebody waits for it; the compute stream does it at once."""

    def __init__(self, backend: FakeBackend, name: str) -> None:
        self._backend, self.name = backend, name
        self._work: list[Callable[[], None]] = []
        self._lock = threading.RLock()
        self.done = 0

    def give(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._work.append(work)
        if self.name == "compute":
            self.run_to(len(self._work))

    def run_to(self, position: int) -> None:
        with self._lock:
            while self.done < position:
                work, self.done = self._work[self.done], self.done + 1
                work()

    def run_all(self) -> None:
        self.run_to(len(self._work))

    def wait_for(self, event: _FakeEvent) -> None:
        self._backend.log.append((self.name, "waits for", event._stream.name))
        self.give(event.run)

    def record(self, again: _FakeEvent | None = None) -> _FakeEvent:
        return _FakeEvent(self._backend, self, len(self._work))


class FakeBackend:
    """See `comfystream.media.device.backend.DeviceBackend`.

    Attributes:
        waits: names of the threads that waited for an event.
        settled: names of the threads that waited for everything.
        made: how often memory was taken.
        log: which stream waited for which.
        gate: while it is set and not open, waiting for an event does not end.
    """

    name = "cuda:0 (fake)"
    device = DEVICE
    converter = TorchConverter()
    moved_to_host = 0

    def __init__(self) -> None:
        self.waits: list[str] = []
        self.settled: list[str] = []
        self.made = 0
        self.log: list[tuple[str, str, str]] = []
        self.gate: threading.Event | None = None
        self._compute = FakeStream(self, "compute")
        self.streams = [self._compute]
        self._current = threading.local()

    def pinned(self, size: int) -> Tensor:
        self.made += 1
        return torch.zeros(size, dtype=torch.uint8)

    def empty(self, size: int) -> Tensor:
        self.made += 1
        return on_device(torch.zeros(size, dtype=torch.uint8))

    def constant(self, values: Any) -> Tensor:
        return on_device(torch.tensor(values, dtype=torch.float32))

    def zeros(self, *shape: int) -> Tensor:
        return on_device(torch.zeros(shape))

    def to_device(self, tensor: Tensor) -> Tensor:
        return tensor if self.is_here(tensor) else on_device(tensor)

    def is_here(self, tensor: Tensor) -> bool:
        return isinstance(tensor, FakeDeviceTensor)

    def copy(self, target: Tensor, source: Tensor) -> None:
        stream: FakeStream = getattr(self._current, "stream", self._compute)
        plain = target.as_subclass(Tensor), source.as_subclass(Tensor)
        stream.give(lambda: _copy(*plain))

    def stream(self) -> FakeStream:
        self.streams.append(FakeStream(self, f"side {len(self.streams)}"))
        return self.streams[-1]

    def compute(self) -> FakeStream:
        return self._compute

    @contextlib.contextmanager
    def on(self, stream: FakeStream) -> Iterator[None]:
        self._current.stream = stream
        try:
            yield
        finally:
            del self._current.stream

    def settle(self) -> None:
        self.settled.append(threading.current_thread().name)
        for stream in self.streams:
            stream.run_all()


def _copy(target: Tensor, source: Tensor) -> None:
    target.copy_(source)
