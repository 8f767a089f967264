"""Memory, streams and events of a device: the seam between the frame path and what it runs on."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from comfystream.errors import ConfigError
from comfystream.gpu_turns import device_wide
from comfystream.media.device.converter import Converter, TorchConverter, best_converter

__all__ = [
    "CudaBackend",
    "DeviceBackend",
    "Event",
    "HostBackend",
    "Stream",
    "open_backend",
    "where_frames_go",
    "why_no_device",
]


class Event(Protocol):
    """A point in the work of a stream."""

    def is_done(self) -> bool:
        """Whether the work before it is done; does not wait."""
        ...

    def wait(self) -> None:
        """Let the calling thread wait until it is."""
        ...


class Stream(Protocol):
    """Work that the device does in order."""

    def wait_for(self, event: Event) -> None:
        """What is given to this stream from now on starts after the event; the calling thread goes on."""
        ...

    def record(self, again: Event | None = None) -> Event:
        """A point after all that was given to it so far.

        Args:
            again: an event that nobody waits for any more, to be used again; which streams wait for it stays as it was.
        """
        ...


class DeviceBackend(Protocol):
    """A device. Memory and streams may be used from any thread; "current" is per thread, as in torch."""

    @property
    def name(self) -> str:
        """For people: "cuda:0 (NVIDIA H200)"."""
        ...

    @property
    def device(self) -> torch.device:
        """What tensors on it have as their device."""
        ...

    @property
    def converter(self) -> Converter:
        """Who converts pictures there. The first time may take seconds."""
        ...

    def pinned(self, size: int) -> Tensor:
        """Uint8 [size] on the host, for copies that need not wait."""
        ...

    def empty(self, size: int) -> Tensor:
        """Uint8 [size] on the device."""
        ...

    def constant(self, values: NDArray[Any] | Sequence[float]) -> Tensor:
        """Float32 on the device. May wait for it."""
        ...

    def zeros(self, *shape: int) -> Tensor:
        """Float32 on the device."""
        ...

    def to_device(self, tensor: Tensor) -> Tensor:
        """The tensor on the device, without waiting for it; the same one if it is there."""
        ...

    def is_here(self, tensor: Tensor) -> bool:
        """Whether a tensor is on the device."""
        ...

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Give a copy to the current stream."""
        ...

    def stream(self) -> Stream:
        """A new one, beside the others."""
        ...

    def compute(self) -> Stream:
        """The current one: where nodes put their work."""
        ...

    def on(self, stream: Stream) -> AbstractContextManager[None]:
        """Make a stream current."""
        ...

    def settle(self) -> None:
        """Wait until nothing is under way. For the borders of a run, never in a tick."""
        ...


class _Done:
    """The event of a device that does everything at once."""

    def is_done(self) -> bool:
        return True

    def wait(self) -> None:
        pass


class _AtOnce:
    def wait_for(self, event: Event) -> None:
        pass

    def record(self, again: Event | None = None) -> Event:
        return again or _Done()


class HostBackend:
    """The processor as a device: the same code, for tests and for measuring where no GPU is."""

    name = "cpu"
    device = torch.device("cpu")
    converter: Converter = TorchConverter()

    def pinned(self, size: int) -> Tensor:
        """See `DeviceBackend.pinned`."""
        return torch.zeros(size, dtype=torch.uint8)

    def empty(self, size: int) -> Tensor:
        """See `DeviceBackend.empty`."""
        return torch.zeros(size, dtype=torch.uint8)

    def constant(self, values: NDArray[Any] | Sequence[float]) -> Tensor:
        """See `DeviceBackend.constant`."""
        return torch.tensor(values, dtype=torch.float32)

    def zeros(self, *shape: int) -> Tensor:
        """See `DeviceBackend.zeros`."""
        return torch.zeros(shape)

    def to_device(self, tensor: Tensor) -> Tensor:
        """See `DeviceBackend.to_device`."""
        return tensor

    def is_here(self, tensor: Tensor) -> bool:
        """See `DeviceBackend.is_here`."""
        return tensor.device.type == "cpu"

    def copy(self, target: Tensor, source: Tensor) -> None:
        """See `DeviceBackend.copy`."""
        target.copy_(source)

    def stream(self) -> Stream:
        """See `DeviceBackend.stream`."""
        return _AtOnce()

    def compute(self) -> Stream:
        """See `DeviceBackend.compute`."""
        return _AtOnce()

    def on(self, stream: Stream) -> AbstractContextManager[None]:
        """See `DeviceBackend.on`."""
        return contextlib.nullcontext()

    def settle(self) -> None:
        """See `DeviceBackend.settle`."""


class _CudaEvent:
    def __init__(self, event: torch.cuda.Event) -> None:
        self.inner = event

    def is_done(self) -> bool:
        return bool(self.inner.query())  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        self.inner.synchronize()


class _CudaStream:
    def __init__(self, stream: torch.cuda.Stream) -> None:
        self.inner = stream

    def wait_for(self, event: Event) -> None:
        assert isinstance(event, _CudaEvent)
        self.inner.wait_event(event.inner)

    def record(self, again: Event | None = None) -> Event:
        if not isinstance(again, _CudaEvent):
            # a thread that waits for it sleeps
            again = _CudaEvent(torch.cuda.Event(blocking=True))  # type: ignore[no-untyped-call]
        again.inner.record(self.inner)
        return again


class CudaBackend:
    """An NVIDIA GPU (or what torch presents as one).

    Args:
        index: which.
    """

    def __init__(self, index: int = 0) -> None:
        self.device = torch.device("cuda", index)
        self.name = f"{self.device} ({torch.cuda.get_device_name(index)})"

    @property
    def converter(self) -> Converter:
        """See `DeviceBackend.converter`."""
        return _converter_of(self.device.index)

    def pinned(self, size: int) -> Tensor:
        """See `DeviceBackend.pinned`."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def empty(self, size: int) -> Tensor:
        """See `DeviceBackend.empty`."""
        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def constant(self, values: NDArray[Any] | Sequence[float]) -> Tensor:
        """See `DeviceBackend.constant`."""
        return torch.tensor(values, dtype=torch.float32).to(self.device)

    def zeros(self, *shape: int) -> Tensor:
        """See `DeviceBackend.zeros`."""
        return torch.zeros(shape, device=self.device)

    def to_device(self, tensor: Tensor) -> Tensor:
        """See `DeviceBackend.to_device`."""
        return tensor.to(self.device, non_blocking=True)

    def is_here(self, tensor: Tensor) -> bool:
        """See `DeviceBackend.is_here`."""
        return tensor.device == self.device

    def copy(self, target: Tensor, source: Tensor) -> None:
        """See `DeviceBackend.copy`."""
        target.copy_(source, non_blocking=True)

    def stream(self) -> Stream:
        """See `DeviceBackend.stream`."""
        return _CudaStream(torch.cuda.Stream(self.device))  # type: ignore[no-untyped-call]

    def compute(self) -> Stream:
        """See `DeviceBackend.compute`."""
        return _CudaStream(torch.cuda.current_stream(self.device))

    def on(self, stream: Stream) -> AbstractContextManager[None]:
        """See `DeviceBackend.on`."""
        assert isinstance(stream, _CudaStream)
        context: AbstractContextManager[None] = torch.cuda.stream(stream.inner)
        return context

    def settle(self) -> None:
        """See `DeviceBackend.settle`."""
        with device_wide():
            torch.cuda.synchronize(self.device)


@functools.cache
def _converter_of(index: int) -> Converter:
    return best_converter(CudaBackend(index))


def where_frames_go() -> str:
    """Where `--frames-on auto` puts pictures and what converts them there, for people. It may compile: seconds."""
    found = open_backend("auto")
    if found is None:
        return f"on the host: {why_no_device()}"
    return f"on {found.name}, converted by {found.converter.name}"


@functools.cache
def why_no_device() -> str:
    """Empty when torch can use a GPU, proved by using it; else the reason."""
    if torch.version.cuda is None and torch.version.hip is None:
        return "this PyTorch is built without CUDA"
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device"
    try:
        torch.ones(1, device="cuda").add_(1).cpu()
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return ""


def open_backend(wanted: str) -> DeviceBackend | None:
    """The device that frames are to go to; None for the host.

    Args:
        wanted: "auto" (a GPU if there is one), "host", or "cuda".

    Raises:
        ConfigError: "cuda", but there is no GPU that works.
    """
    if wanted == "host":
        return None
    reason = why_no_device()
    if not reason:
        return CudaBackend()
    if wanted == "cuda":
        raise ConfigError(
            f"frames cannot be on a GPU: {reason}", code="no_gpu", hint="--frames-on auto or host works without one"
        )
    return None
