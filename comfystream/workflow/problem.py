"""What can be wrong with a workflow, in ComfyUI's words and in plain ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MISSING_CLASS", "Problem", "did_you_mean", "nearest"]

MISSING_CLASS = "missing_node_type"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong (or odd) with a workflow, in ComfyUI's words and in plain ones.

    Attributes:
        type: ComfyUI's error type ("required_input_missing", "value_not_in_list", ...) or one of ours.
        message: ComfyUI's message for that type.
        details: what exactly ("images", "radius: 99 > 31").
        hint: what to do about it, in plain words.
        node_id, class_type, input_name: where; None for the whole workflow.
        is_error: False for a warning; a workflow with warnings runs.
        extra_info: ComfyUI's `extra_info` for that type.
    """

    type: str
    message: str
    details: str = ""
    hint: str = ""
    node_id: str | None = None
    class_type: str | None = None
    input_name: str | None = None
    is_error: bool = True
    extra_info: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line: the place, ComfyUI's words, the hint. A missing class is told in plain words alone."""
        if self.type == MISSING_CLASS and self.hint:
            return self.hint
        place = "" if self.node_id is None else f'node {self.node_id} "{self.class_type}": '
        details = f": {self.details}" if self.details else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{details}{hint}"


def nearest(word: str, known: Iterable[str], limit: int = 3, likeness: float = 0.6) -> list[str]:
    """The names in `known` that look most like `word`, best first; case does not count.

    Args:
        word: what was given.
        known: what there is.
        limit: at most so many.
        likeness: at least so alike, 0 to 1: 0.6 is another word of the kind, 0.85 a slip of the finger.
    """
    by_folded: dict[str, str] = {}
    for name in known:
        by_folded.setdefault(name.casefold(), name)
    found = difflib.get_close_matches(word.casefold(), list(by_folded), n=limit, cutoff=likeness)
    return [by_folded[name] for name in found]


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint that names the nearest of `known`, or `otherwise` when none is near."""
    names = nearest(word, known)
    if not names:
        return otherwise
    *most, last = (f'"{name}"' for name in names)
    return f"did you mean {', '.join(most)} or {last}?" if most else f"did you mean {last}?"
