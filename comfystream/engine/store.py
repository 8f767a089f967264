"""What static nodes made, kept by content: equal node, equal inputs, equal result.

A signature is a small integer that stands for "this class with these constants, fed by nodes with these signatures".
It is interned bottom-up, so a chain of n nodes costs n steps (ComfyUI's keys list every ancestor anew: quadratic).
Node ids do not matter, unless the class is `NOT_IDEMPOTENT` or asks for its `UNIQUE_ID`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from comfystream.engine.step import Step

__all__ = ["Kept", "StaticStore", "Unsignable", "freeze"]


class Unsignable(Exception):
    """A constant (a tensor, an object) that has no value to compare by."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A result that is kept: slot values, and what the node shows in the editor."""

    outputs: tuple[Any, ...]
    ui: Mapping[str, Any] | None = None


def freeze(value: Any) -> Hashable:
    """A hashable that is equal for equal JSON-like values, and tells 1, 1.0 and True apart.

    Raises:
        Unsignable: the value is none of these.
    """
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, bool | int | float):
        if value != value:
            raise Unsignable
        return (type(value), value)
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    if isinstance(value, Mapping):
        return ("{}", *sorted(((str(key), freeze(item)) for key, item in value.items()), key=lambda pair: pair[0]))
    raise Unsignable


class StaticStore:
    """Results of static nodes for all revisions that are alive in this engine. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[Hashable, int] = {}
        self._numbers = itertools.count(1)
        self._kept: dict[int, Kept] = {}
        self._users: dict[int, int] = {}

    def sign(self, step: Step, above: Mapping[str, int | None], fingerprint: Any = None) -> int | None:
        """The signature of a step, or None when an input cannot be compared.

        Args:
            step: the node.
            above: signature per node id of the nodes that it links to.
            fingerprint: its IS_CHANGED value, if it has one.
        """
        try:
            parts: list[Hashable] = [(name, freeze(value)) for name, value in step.constants.items()]
            parts.append(("is_changed", freeze(fingerprint)))
        except Unsignable:
            return None
        for name, link in step.links:
            signature = above.get(link.node)
            if signature is None:
                return None
            parts.append((name, signature, link.slot))
        if step.spec.not_idempotent or "UNIQUE_ID" in step.hidden.values():
            parts.append(("id", step.id))
        key = (step.spec.cls, frozenset(parts))
        with self._lock:
            found = self._ids.get(key)
            if found is None:
                found = self._ids[key] = next(self._numbers)
            return found

    def get(self, signature: int | None) -> Kept | None:
        """What is kept for a signature, or None."""
        return None if signature is None else self._kept.get(signature)

    def put(self, signature: int | None, kept: Kept) -> None:
        """Keep a result until no revision uses its signature."""
        if signature is not None:
            with self._lock:
                self._kept[signature] = kept

    def forget(self, signatures: Iterable[int | None]) -> None:
        """Drop the results of these, whoever uses them: they are made again."""
        with self._lock:
            for signature in signatures:
                if signature is not None:
                    self._kept.pop(signature, None)

    def hold(self, signatures: Iterable[int]) -> None:
        """A revision that uses these is alive."""
        with self._lock:
            for signature in signatures:
                self._users[signature] = self._users.get(signature, 0) + 1

    def release(self, signatures: Iterable[int]) -> None:
        """A revision that used these is gone; what nobody uses is dropped."""
        with self._lock:
            for signature in signatures:
                left = self._users.get(signature, 0) - 1
                if left > 0:
                    self._users[signature] = left
                else:
                    self._users.pop(signature, None)
                    self._kept.pop(signature, None)
            if not self._users:
                self._ids.clear()  # nobody can ask for them again

    def __len__(self) -> int:
        return len(self._kept)
