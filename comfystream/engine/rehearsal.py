"""Warm a prepared plan beside the running one: one tick per lane on a real picture, so that the switch costs nothing.

Nodes that the running plan shares are rehearsed on copies, so that the extra frame does not count for them; nodes that
are new are warmed themselves (a model that they load in their first call stays loaded). Output nodes are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np

from comfystream.engine.activation import Activation, Prepared
from comfystream.engine.bound import Binder
from comfystream.engine.lane_io import audio_value
from comfystream.engine.plan import Plan
from comfystream.engine.step import Schedule
from comfystream.frames import AudioFrame, Lane, VideoFrame
from comfystream.workflow.model import Link

__all__ = ["builds_before_a_frame", "needs_rehearsal", "picture_of", "rehearse", "silence"]

MakeActivation = Callable[[Prepared, Binder], Activation]


def builds_before_a_frame(plan: Plan) -> bool:
    """Whether a node of it makes something that takes long in its first call, for the size of the picture."""
    return any(step.spec.builds_on_first_call and step.schedule is not Schedule.STATIC for step in plan.steps.values())


def needs_rehearsal(plan: Plan, running: Plan | None) -> bool:
    """Whether the plan ticks a node (id and class) that the running one does not."""
    known = {(step.id, step.spec.cls) for step in running.steps.values()} if running is not None else set()
    return any(
        step.schedule is not Schedule.STATIC and (step.id, step.spec.cls) not in known for step in plan.steps.values()
    )


def rehearse(activation: Activation, picture: Any, mask: Any, sound: Mapping[str, Any] | None) -> dict[Link, Any]:
    """Tick every lane, sound first, and give the values that cross between lanes.

    Args:
        activation: made for this rehearsal (forked instances, no sinks).
        picture: an IMAGE tensor of the size to come.
        mask: the mask that goes with it.
        sound: an AUDIO value of one buffer.

    Raises:
        NodeError: a node raised; the plan is not fit to run.
    """
    for lane, tick in activation.lanes.items():
        value = {Lane.VIDEO: picture, Lane.AUDIO: sound}.get(lane)
        tick.run(value, mask if lane is Lane.VIDEO else None)
        tick.close()
    return activation.crossing_values()


def picture_of(sample: VideoFrame | tuple[int, int]) -> av.VideoFrame:
    """A frame's picture; a mid-grey one of that width and height when no frame has come yet."""
    if isinstance(sample, VideoFrame):
        return sample.image
    return av.VideoFrame.from_ndarray(np.full((sample[1], sample[0], 3), 128, np.uint8), "rgb24")


def silence(buffer_ms: float, sample_rate: int) -> dict[str, Any]:
    """An AUDIO value in which nothing is heard."""
    samples = np.zeros((1, max(int(sample_rate * buffer_ms / 1000), 1)), dtype=np.float32)
    return audio_value(AudioFrame(0, 0, Fraction(1, sample_rate), samples, sample_rate))
