"""A model that is ready to run: inputs and outputs are buffers that stay where they are.

The way of a tick: `put` copies each input into its buffer, `enqueue` runs, `outputs` are read. None of these waits for
the device, and none allocates: that is what `bind` is for, once per set of shapes, outside the tick. Outputs are
overwritten by the next `enqueue`; who needs them longer makes a copy.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from comfystream.errors import EngineError

from .spec import ModelSpec, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Runner", "memory_trouble", "on_device", "torch_dtype"]


def on_device(device: str) -> AbstractContextManager[object]:
    """Make a GPU the current one of this thread, which is the first one otherwise; nothing for other devices."""
    import torch

    if not device.startswith("cuda") or not torch.cuda.is_available():
        return contextlib.nullcontext()
    return torch.cuda.device(device)


def torch_dtype(name: str) -> torch.dtype:
    """An element type by the name that torch gives it."""
    import torch

    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise EngineError(f"{name} is no element type of torch", code="bad_input")
    return found


@contextlib.contextmanager
def memory_trouble(place: str) -> Iterator[None]:
    """Say it in plain words when the device is full.

    Raises:
        EngineError: with the code "out_of_memory".
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"{place}: out of GPU memory: {' '.join(str(error).split())[:160]}",
            code="out_of_memory",
            hint="use a smaller size or batch, or unload another model",
        ) from error


class Runner(ABC):
    """One model on one device.

    Args:
        spec: what it takes and gives.
        device: where its buffers are.
        backend: who runs it, for messages.
    """

    def __init__(self, spec: ModelSpec, device: str, backend: str) -> None:
        self.spec = spec
        self.device = device
        self.backend = backend
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        self._shapes: dict[str, Shape] = {}
        self._turn = threading.Lock()

    @property
    def place(self) -> str:
        """For messages: "unet (tensorrt)"."""
        return f"{self.spec.name} ({self.backend})"

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> None:
        """Make the buffers for these shapes, and run once. The same shapes again cost nothing.

        What was bound before is gone: outputs that were read before must not be read again.

        Args:
            shapes: of every input; None takes what the model is best at.

        Raises:
            EngineError: they do not fit the model, or the device has no room for them.
        """
        wanted = {name: tuple(shape) for name, shape in (shapes or self.spec.shapes()).items()}
        if wanted == self._shapes:
            return
        self.spec.check(wanted)
        with memory_trouble(self.place):
            self._shapes = {}
            self._allocate(wanted)
            self._prepare()
        self._shapes = wanted

    def put(self, name: str, value: Tensor) -> None:
        """Copy a value into the buffer of an input.

        Raises:
            EngineError: there is no such input, or the value has another shape than is bound.
        """
        try:
            buffer = self.inputs[name]
        except KeyError:
            if not self._shapes:
                raise EngineError(f"{self.place}: nothing is bound yet", code="not_bound") from None
            self.spec.input(name)
            raise
        if buffer.shape != value.shape:
            raise EngineError(
                f"{self.place}: input {name} is {list(value.shape)}, but {list(buffer.shape)} is bound",
                code="bad_shape",
                hint="bind the new shape first, outside the tick",
            )
        # a copy to ordinary memory that nobody waits for may not be there when the processor reads it
        buffer.copy_(value, non_blocking=buffer.device.type != "cpu")

    def run(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Bind, put, enqueue: for use outside a tick, and in it when the shapes are always the same.

        Raises:
            EngineError: as `bind` and `put` do.
        """
        if any(self._shapes.get(name) != value.shape for name, value in values.items()):
            self.bind({name: value.shape for name, value in values.items()})
        for name, value in values.items():
            self.put(name, value)
        self.enqueue()
        return self.outputs

    def results(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As `run`, but the outputs are the caller's own, and any thread may call it.

        What a node loaded is shared: by other sessions, and by a rehearsal that goes on beside the frames.

        Raises:
            EngineError: as `bind` and `put` do.
        """
        with self._turn:
            return {name: value.clone() for name, value in self.run(values).items()}

    def twin(self) -> Runner:
        """Another runner of the same model, with buffers of its own; weights and engine are shared.

        Two streams that use one model have a twin each, so that what one puts in never shows in the other.

        Raises:
            EngineError: it is closed, or the device has no room for it.
        """
        raise EngineError(f"{self.place} cannot be used twice", code="no_twin")

    def unrecorded(self) -> Runner:
        """What is to be bound and enqueued where the whole around it is recorded; itself, unless it is a recording."""
        return self

    def close(self) -> None:
        """Let go of buffers and engine."""
        self.inputs, self.outputs, self._shapes = {}, {}, {}

    def _allocate(self, shapes: Mapping[str, Shape]) -> None:
        import torch

        self.outputs = {}
        self.inputs = {
            one.name: torch.zeros(shapes[one.name], dtype=torch_dtype(one.dtype), device=self.device)
            for one in self.spec.inputs
        }

    @abstractmethod
    def _prepare(self) -> None:
        """Inputs are new: make the outputs, and do what the first run would have to do."""

    @abstractmethod
    def enqueue(self) -> None:
        """Run on the current stream, from the buffers to the buffers; does not wait for the device."""
