"""What was made ready of one model: runners that nobody uses themselves, of which every stream takes twins."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from comfystream.accel.runner import Runner

__all__ = ["BoundRunner", "Shelf"]


class Shelf:
    """Runners by what they are. Any thread may ask; who makes something holds `making`, so that it is made once.

    Attributes:
        making: held while something is made.
        most_rows: what the runners are made for, once there are some.
    """

    def __init__(self) -> None:
        self.making = threading.Lock()
        self.most_rows = 0
        self._kept: dict[Hashable, Runner] = {}

    def get(self, key: Hashable) -> Runner | None:
        """What is there under a key."""
        return self._kept.get(key)

    def put(self, key: Hashable, runner: Runner) -> None:
        """Keep a runner, as long as the model lives."""
        self._kept[key] = runner


class BoundRunner:
    """A runner that is bound to one set of shapes, and what was put into it last."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._last: dict[str, object] = {}
        self._is_clear = False

    def put(self, name: str, value: Tensor, version: object = None) -> None:
        """Copy a value into an input; nothing happens where the same version of it was put in last.

        Args:
            name: of the input.
            value: its shape is the one that is bound.
            version: an object that is another one whenever the value is; None for a value that is new each time.
        """
        if version is not None and self._last.get(name) is version:
            return
        self.runner.put(name, value)
        self._last[name] = version  # held, so that no other object takes its identity

    def sum_into(self, names: Sequence[str], given: Sequence[Tensor], is_first: bool) -> None:
        """Values into inputs, in place of what is there, or added to it."""
        into = [self.runner.inputs[name] for name in names]
        fitting = [value.to(own) for value, own in zip(given, into, strict=True)]  # the value itself, mostly
        if is_first:
            torch._foreach_copy_(into, fitting)
        else:
            torch._foreach_add_(into, fitting)
        self._is_clear = False

    def clear(self, names: Sequence[str]) -> None:
        """Zeros into inputs that were summed into."""
        if not self._is_clear:
            torch._foreach_zero_([self.runner.inputs[name] for name in names])
            self._is_clear = True
