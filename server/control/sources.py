"""Choosing the source of a session, as the control protocol says it."""

from __future__ import annotations

import asyncio
from fractions import Fraction

from comfystream.errors import ComfyStreamError, MediaError, NetworkError
from comfystream.session.live import LiveSession
from comfystream.session.live_state import Change
from comfystream.session.source_rules import SourceRules
from comfystream.session.source_state import SourcePlan

from . import messages as m
from .described import SourceBody

__all__ = ["choose", "described", "field_of", "place_of"]


async def choose(
    session: LiveSession, rules: SourceRules, choice: m.SourceChoice, *, is_keeping: bool = False
) -> Change:
    """Do what a choice says; raises what `LiveSession.set_source` raises."""
    plan = await asyncio.to_thread(_plan, rules, choice)
    return await session.set_source(plan, is_keeping=is_keeping)


def _plan(rules: SourceRules, choice: m.SourceChoice) -> SourcePlan | None:
    match choice:
        case m.FileChoice():
            return rules.file(choice.path, is_looped=choice.is_looped, has_sound=choice.has_sound)
        case m.UrlChoice():
            return rules.url(choice.url)
        case m.PatternChoice():
            fps = Fraction(choice.fps).limit_denominator(1001)
            return rules.pattern(choice.width, choice.height, fps, has_sound=choice.has_sound)
        case m.NoChoice():
            return rules.none()
        case m.ViewerChoice():
            return None


def described(session: LiveSession) -> SourceBody:
    """The session's source as it is now."""
    chosen = session.chosen
    return SourceBody(
        type=chosen.type, name=chosen.name, state=chosen.state.value, reason=chosen.reason, sender=session.source
    )


def field_of(request: m.Request, error: ComfyStreamError) -> str | None:
    """The place in a request that an error is about, where it is known."""
    if isinstance(request, m.SetSource) and isinstance(error, MediaError | NetworkError):
        return place_of(request.source)
    return None


def place_of(choice: m.SourceChoice) -> str:
    """The place of what a choice names."""
    return {"file": "source.path", "url": "source.url"}.get(choice.type, "source")
