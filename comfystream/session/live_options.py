"""How a live session is asked to treat its frames."""

from __future__ import annotations

from dataclasses import dataclass

from comfystream.engine.protocol import FailPolicy
from comfystream.session.live_size import FrameSize

__all__ = ["LiveOptions"]


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a session treats its frames.

    Attributes:
        on_error: what viewers get for a frame whose node raised.
        clock_fps: pictures per second of a workflow without a live input.
        size: what size the graph's pictures have.
        abandoned_after_s: how long a session without viewers goes on.
    """

    on_error: FailPolicy = FailPolicy.HOLD
    clock_fps: float = 30.0
    size: FrameSize = FrameSize()
    abandoned_after_s: float = 30.0
