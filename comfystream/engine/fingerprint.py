"""When a node says that it changed (IS_CHANGED, fingerprint_inputs)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from comfystream.clock import Clock
from comfystream.engine.step import Step

__all__ = ["NEVER_EQUAL", "Fingerprint"]

NEVER_EQUAL = float("nan")

_CHEAP_NS = 200_000
_BUDGET = 100
"""A cheap fingerprint is asked for every tick. Another may take a hundredth of the time: one that took 5 ms (a file
hash) is asked for again after 500 ms."""


class Fingerprint:
    """Asks one node whether it changed, without letting an expensive answer slow the frames down.

    Only constants are handed over (links are None), as in ComfyUI. A fingerprint that raises counts as changed.
    """

    def __init__(self, step: Step, ask: Callable[..., Any], extra: Mapping[str, Any], clock: Clock) -> None:
        self._ask = ask
        self._arguments = _accepted(ask, {**dict.fromkeys((name for name, _ in step.links)), **extra, **step.constants})
        self._clock = clock
        self._next_ns = 0
        self.value: Any = None

    def evaluate(self) -> Any:
        """Ask now. NaN when the node raises or answers with a coroutine (those always run)."""
        began = self._clock.now_ns()
        try:
            value = self._ask(**self._arguments)
            if inspect.iscoroutine(value):
                value.close()
                value = NEVER_EQUAL
        except Exception:  # noqa: BLE001 - node execution: a node that cannot tell is run
            value = NEVER_EQUAL
        now = self._clock.now_ns()
        spent = now - began
        self._next_ns = now + spent * _BUDGET if spent > _CHEAP_NS else 0
        self.value = value
        return value

    def changed(self) -> bool:
        """Whether the answer differs from the last one. Between two asks it does not; but NaN always does."""
        if self._clock.now_ns() < self._next_ns:
            return not _equal(self.value, self.value)
        before = self.value
        return not _equal(before, self.evaluate())


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except (ValueError, RuntimeError, TypeError):  # tensors and arrays: no single truth
        return False


def _accepted(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the function takes; some packs write `IS_CHANGED(s)` beside inputs that it does not name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return dict(arguments)
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name in parameters}
