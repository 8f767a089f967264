"""How often a node is asked whether it changed, and what holds between two asks."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from comfystream.engine.fingerprint import Fingerprint

STEP: Any = SimpleNamespace(links=(), constants={"path": "a.png"})


class Turned:
    """A clock that stands still until somebody turns it, but for the node that is asked: that takes its time."""

    def __init__(self) -> None:
        self.now = 0

    def now_ns(self) -> int:
        return self.now

    def sleep_until_ns(self, deadline_ns: int) -> None:
        self.now = max(self.now, deadline_ns)


@pytest.mark.parametrize(("answers", "changes"), [((1, 1, 1), False), ((math.nan,) * 3, True)])
def test_a_slow_answer_holds_for_a_while_and_nan_always_runs(answers: tuple[float, ...], changes: bool) -> None:
    clock, asked, left = Turned(), [], list(answers)

    def ask(path: str) -> float:
        asked.append(path)
        clock.now += 5_000_000  # as when another program has the processor
        return left.pop(0)

    fingerprint = Fingerprint(STEP, ask, {}, clock)
    assert fingerprint.changed()  # there was no answer before
    for _ in range(10):
        clock.now += 33_000_000
        assert fingerprint.changed() is changes
    assert asked == ["a.png"]
    clock.now += 500_000_000
    assert fingerprint.changed() is changes
    assert len(asked) == 2
