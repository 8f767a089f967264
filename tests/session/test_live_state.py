"""A session's states: which may follow which, and who hears of it."""

from __future__ import annotations

import pytest

from comfystream.errors import EngineError
from comfystream.session.live_state import SessionState, StateMachine


def test_a_change_is_told_once_with_its_reason() -> None:
    told: list[tuple[SessionState, str]] = []
    state = StateMachine(lambda now, reason: told.append((now, reason)))
    state.go(SessionState.PREPARING)
    state.go(SessionState.FAILED, "the engine gave up")
    state.go(SessionState.FAILED, "again")
    assert told == [(SessionState.PREPARING, ""), (SessionState.FAILED, "the engine gave up")]


def test_what_may_not_follow_is_refused_and_changes_nothing() -> None:
    told: list[SessionState] = []
    state = StateMachine(lambda now, reason: told.append(now))
    assert not state.may_become(SessionState.RUNNING)
    with pytest.raises(EngineError, match="a session that is idle cannot become running"):
        state.go(SessionState.RUNNING)
    assert state.now is SessionState.IDLE
    assert told == []


def test_nothing_follows_the_end() -> None:
    state = StateMachine(lambda now, reason: None)
    state.go(SessionState.ENDED)
    assert not any(state.may_become(other) for other in SessionState)
