"""The revisions of a session: which one is in force, what an edit makes of it, and whether an edit is stale."""

from __future__ import annotations

from collections.abc import Sequence

from comfystream.catalog.spec import Catalog
from comfystream.errors import WorkflowError
from comfystream.workflow.edits import Patch, SetValues, apply
from comfystream.workflow.history import Entry, History
from comfystream.workflow.model import Workflow

__all__ = ["Edits", "StaleRevision", "in_words"]


class StaleRevision(WorkflowError):
    """The revision that an edit was made for is not in force any more."""

    default_code = "stale_revision"


class Edits:
    """A history that may still be empty."""

    def __init__(self) -> None:
        self._history: History | None = None

    @property
    def number(self) -> int:
        """Of the revision in force; 0 for none."""
        return self._history.current.number if self._history is not None else 0

    @property
    def workflow(self) -> Workflow | None:
        """The workflow in force."""
        return self._history.current.workflow if self._history is not None else None

    @property
    def next_number(self) -> int:
        """What `push` will give."""
        return max((entry.number for entry in self._history.entries), default=0) + 1 if self._history else 1

    @property
    def can_undo(self) -> bool:
        """Whether there is an older revision."""
        return self._history is not None and self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone revision."""
        return self._history is not None and self._history.can_redo

    def expect(self, base: int | None) -> None:
        """Check that an edit was made for what is in force.

        Raises:
            StaleRevision: it was not.
        """
        if base is not None and base != self.number:
            raise StaleRevision(
                f"this edit was made for revision {base}, but {self.number} is in force",
                hint="somebody else has changed the workflow; read it again",
            )

    def patched(self, patches: Sequence[Patch], catalog: Catalog) -> Workflow:
        """The workflow with new values.

        Raises:
            WorkflowError: there is no workflow, or no such node or input.
        """
        if self.workflow is None:
            raise WorkflowError("there is no workflow to change", code="no_workflow", hint="set one first")
        return apply(self.workflow, SetValues(patches=list(patches)), catalog)

    def push(self, workflow: Workflow, who: str, why: str) -> Entry:
        """A new revision is in force."""
        if self._history is None:
            self._history = History(workflow, who=who, why=why)
            return self._history.current
        return self._history.push(workflow, who=who, why=why)

    def neighbour(self, by: int) -> Entry:
        """The revision before (-1) or after (1) the one in force.

        Raises:
            WorkflowError: there is none.
        """
        word = "undo" if by < 0 else "redo"
        if self._history is None or not (self._history.can_undo if by < 0 else self._history.can_redo):
            raise WorkflowError(f"there is nothing to {word}", code=f"nothing_to_{word}")
        entries = self._history.entries
        return entries[entries.index(self._history.current) + by]

    def go_to(self, entry: Entry) -> None:
        """`entry` is in force again."""
        self.restore(entry.number)

    def restore(self, number: int) -> None:
        """The revision with that number is in force again; one that is not kept any more is passed over."""
        if self._history is None or number not in {entry.number for entry in self._history.entries}:
            return
        while self._history.current.number > number:
            self._history.undo()
        while self._history.current.number < number:
            self._history.redo()


def in_words(patches: Sequence[Patch]) -> str:
    """What some patches change, for people."""
    named = ", ".join(f"{patch.node}.{patch.input}" for patch in patches[:3])
    return named if len(patches) <= 3 else f"{named} and {len(patches) - 3} more"
