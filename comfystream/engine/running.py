"""A revision in use: its activation, and whether it has proved itself."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from comfystream.engine.activation import Activation
from comfystream.engine.protocol import Revision
from comfystream.frames import Lane

__all__ = ["Running"]


@dataclass(slots=True)
class Running:
    """One revision from its switch on.

    Attributes:
        revision: its public face.
        activation: what ticks.
        previous: what ran before, kept until this one has made its first frame; then None.
        first_frame: resolved with the id of that frame, or failed when it is rolled back.
        is_settled: whether `first_frame` has its outcome (asking the future takes a lock, and this is asked per tick).
        text_sent: constant text outputs that were put out.
    """

    revision: Revision
    activation: Activation
    previous: Running | None = None
    first_frame: Future[int] = field(default_factory=Future)
    is_settled: bool = False
    text_sent: set[str] = field(default_factory=set)

    def takes(self, lane: Lane) -> bool:
        """Whether it ticks on this lane."""
        return lane in self.activation.lanes
