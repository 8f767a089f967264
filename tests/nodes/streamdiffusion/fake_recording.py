"""Stands for CUDA graphs: remembers operations and the tensors that they touched, and does just these again.

As a graph does, it knows nothing of Python: a number, a branch or a new tensor that the recorded function would take
from the host after its recording has no effect, so pictures come out wrong. What a graph cannot record is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fake_backends import FakeGraphs
from fake_device import tensors_in
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from comfystream.accel.backend import Capture
from comfystream.accel.graphed import WARM_RUNS
from comfystream.errors import EngineError

__all__ = ["FakeTickGraphs", "Recording", "record"]

WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal")  # these read the device's memory


class Recording(TorchDispatchMode):
    """The operations of one run, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in WAITS:
            raise EngineError(f"{func} waits for the device", code="not_capturable")
        given = {one.untyped_storage().data_ptr() for one in tensors_in((args, kwargs))}
        result = func(*args, **kwargs)
        fresh = [one for one in tensors_in(result) if one.untyped_storage().data_ptr() not in given]
        if fresh or func._schema.is_mutable:  # else a view: it stays what it is
            self.operations.append((func, args, kwargs, [] if func._schema.is_mutable else fresh))
        return result

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, results in self.operations:
            made = func(*args, **kwargs)
            for kept, new in zip(results, tensors_in(made), strict=bool(results)):
                kept.copy_(new)


def record(run: Callable[[], None], recordings: list[Recording] | None = None) -> Callable[[], None]:
    """A `Capture`, with the runs before it that the real one makes."""
    for _ in range(WARM_RUNS):
        run()
    recording = Recording()
    with recording:
        run()
    if recordings is not None:
        recordings.append(recording)
    return recording.replay


class FakeTickGraphs(FakeGraphs):
    """A backend that records whole ticks.

    Attributes:
        recordings: of ticks, in the order in which they were made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recordings: list[Recording] = []
        self.refuses = ""

    def tick_capture(self, device: str) -> Capture:
        return self.capture_tick

    def capture_tick(self, run: Callable[[], None]) -> Callable[[], None]:
        """See `Capture`; waits at the gate, and says on which thread it is."""
        if self.refuses:
            raise EngineError(self.refuses, code="not_capturable")
        done: list[Callable[[], None]] = []
        self.capture(lambda: done.append(record(run, self.recordings)))
        return done[0]
