"""Carries out the edits of a live session: each becomes a revision, prepared beside the one in force, then in force."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from comfystream.engine.events import Progress
from comfystream.errors import ComfyStreamError
from comfystream.session.live_edits import Edits, in_words
from comfystream.session.live_orders import Orders
from comfystream.session.live_run import LiveRun
from comfystream.session.live_state import (
    Change,
    PrepareFailed,
    RevisionChanged,
    SessionEvent,
    SessionState,
    StateChanged,
    StateMachine,
)
from comfystream.workflow.edits import Patch
from comfystream.workflow.model import Workflow

__all__ = ["Editor"]


class Editor:
    """One edit at a time; the session's `Orders` see to that.

    Args:
        run: where revisions are prepared and switched to.
        state: of the session; loading a workflow changes it, and so does an engine that gives up.
        orders: know whether an edit is overtaken by a newer one.
        on_event: hears of revisions, and of edits that failed.
        on_loaded: called once a revision is switched to, before its first frame is waited for.

    Attributes:
        edits: the revisions.
        progress: how far the workflow is that is being prepared; None while there is none.
    """

    def __init__(
        self,
        run: LiveRun,
        state: StateMachine,
        orders: Orders,
        on_event: Callable[[SessionEvent], None],
        on_loaded: Callable[[], None],
    ) -> None:
        self._run = run
        self._state = state
        self._orders = orders
        self._on_event = on_event
        self._on_loaded = on_loaded
        self.edits = Edits()
        self.progress: Progress | None = None

    async def replace(self, workflow: Workflow, who: str, why: str, base: int | None = None) -> Change:
        """Another workflow; raises what `LiveSession.set_workflow` raises."""
        self.edits.expect(base)
        number = self.edits.next_number
        first = await self._load(workflow, number)
        self.edits.push(workflow, who, why)
        self._on_event(RevisionChanged(number, who, why, first))
        return Change(number, first)

    async def patch(self, patches: Sequence[Patch], who: str, base: int | None = None) -> Change:
        """Other values in the workflow in force, all of them or none."""
        self.edits.expect(base)
        catalog = await self._run.catalog()
        return await self.replace(self.edits.patched(patches, catalog), who, in_words(patches))

    async def step(self, by: int, base: int | None) -> Change:
        """Back to the revision before (-1), or forward to the one that was undone last (1)."""
        self.edits.expect(base)
        entry = self.edits.neighbour(by)
        change = await self._load(entry.workflow, entry.number)
        self.edits.go_to(entry)
        self._on_event(RevisionChanged(entry.number, entry.who, "undo" if by < 0 else "redo", change))
        return Change(entry.number, change)

    async def _load(self, workflow: Workflow, number: int) -> int | None:
        """Prepare and switch; the id of the first frame, if frames come."""
        if self._state.now in (SessionState.IDLE, SessionState.FAILED):
            self._state.go(SessionState.PREPARING)
        self.progress = Progress(number, "check")
        try:
            first = await self._orders.unless_overtaken(self._run.load(workflow, number), self._run.withdraw)
        except ComfyStreamError as error:
            self._on_event(PrepareFailed(number, str(error)))
            if self._state.now is SessionState.PREPARING:
                self._state.go(SessionState.IDLE if self.edits.workflow is None else SessionState.FAILED, str(error))
            raise
        finally:
            self.progress = None
        if self._state.now is SessionState.PREPARING:
            self._state.go(SessionState.RUNNING)
        self._on_loaded()
        return await self._run.first_frame(first, is_paused=self._state.now is SessionState.PAUSED)

    def hear(self, event: SessionEvent) -> None:
        """What the run tells: it may say how far an edit is, or that another revision or state is in force."""
        match event:
            case Progress() if self.progress is not None:
                self.progress = event
            case RevisionChanged(revision=number):
                self.edits.restore(number)
            case StateChanged(state=state, reason=reason):
                if self._state.may_become(state):
                    self._state.go(state, reason)
                if self.progress is not None and self._state.now is SessionState.FAILED:
                    self._state.go(SessionState.PREPARING)  # by an edit that waits for another engine
