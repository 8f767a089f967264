"""A workload, ready to be measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .cost import Cost
from .stages import Stages

__all__ = ["Prepared"]


@dataclass(slots=True)
class Prepared:
    """What is measured.

    Attributes:
        tick: pictures [rows, height, width, 3] on the device to pictures; what it gives holds until the next call.
        pictures: random ones to feed it with.
        cost: of a tick, counted on the models as they are.
        cold_s: until it was ready, engines built.
        cached_s: the same again with what is built already; None where it was not tried.
        facts: what was measured, in words.
        proof: says what really ran: each network with its backend, whether it is recorded, engines used.
        stage: takes the time of its parts from now on.
        skipped: how many ticks gave an older picture.
        close: lets go of everything.
    """

    tick: Callable[[Tensor], Tensor]
    pictures: Tensor
    cost: Cost
    cold_s: float
    cached_s: float | None
    facts: dict[str, Any]
    proof: Callable[[], dict[str, Any]]
    stage: Callable[[Stages], None]
    skipped: Callable[[], int] = lambda: 0
    close: Callable[[], None] = field(default=lambda: None)
