"""The workflows that a run has had, with who changed what; undo and redo walk through them."""

from __future__ import annotations

from dataclasses import dataclass

from comfystream.errors import WorkflowError
from comfystream.workflow.model import Workflow

__all__ = ["Entry", "History"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One revision: `who` made it and `why`, both free text."""

    number: int
    workflow: Workflow
    who: str = ""
    why: str = ""


class History:
    """Revisions numbered from 1; a number is never given twice.

    Args:
        first: the workflow that it starts with.
        limit: how many revisions are kept; the oldest go first.
        who, why: for the first revision.
    """

    def __init__(self, first: Workflow, *, limit: int = 100, who: str = "", why: str = "start") -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        self._limit = limit
        self._entries = [Entry(1, first, who, why)]
        self._position = 0
        self._last_number = 1

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is kept, oldest first; undone revisions come after the current one."""
        return tuple(self._entries)

    @property
    def current(self) -> Entry:
        """The revision that counts now."""
        return self._entries[self._position]

    @property
    def can_undo(self) -> bool:
        """Whether there is an older revision."""
        return self._position > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone revision."""
        return self._position + 1 < len(self._entries)

    def push(self, workflow: Workflow, *, who: str = "", why: str = "") -> Entry:
        """A new revision after the current one; undone ones are forgotten."""
        self._last_number += 1
        entry = Entry(self._last_number, workflow, who, why)
        self._entries = [*self._entries[: self._position + 1], entry][-self._limit :]
        self._position = len(self._entries) - 1
        return entry

    def undo(self) -> Entry:
        """Back to the revision before.

        Raises:
            WorkflowError: there is none.
        """
        return self._step(-1, self.can_undo, "undo")

    def redo(self) -> Entry:
        """Forward to the revision that was undone last.

        Raises:
            WorkflowError: there is none.
        """
        return self._step(1, self.can_redo, "redo")

    def _step(self, by: int, is_there: bool, word: str) -> Entry:
        if not is_there:
            raise WorkflowError(f"there is nothing to {word}", code=f"nothing_to_{word}")
        self._position += by
        return self.current
