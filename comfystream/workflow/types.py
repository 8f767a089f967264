"""When an output may be linked to an input."""

from __future__ import annotations

from typing import Any

__all__ = ["ANY", "COMBO", "MATCH_TYPE", "is_combo", "matches"]

ANY = "*"
COMBO = "COMBO"
MATCH_TYPE = "COMFY_MATCHTYPE_V3"


def matches(received: Any, wanted: Any) -> bool:
    """Whether an output of type `received` may feed an input of type `wanted`.

    Unions ("A,B") match when they share a member; "*" and match types match everything; a legacy combo output (a list)
    feeds any combo. Node packs make their own any type as a `str` whose `!=` always answers False, so the comparison
    has to be `received != wanted`, in that order, and before all others.
    """
    if not received != wanted:  # noqa: SIM202 - see above
        return True
    if _is_one_of(received, (ANY, MATCH_TYPE)) or _is_one_of(wanted, (ANY, MATCH_TYPE)):
        return True
    if isinstance(received, list):
        return bool(wanted == COMBO)
    if not isinstance(received, str) or not isinstance(wanted, str):
        return False
    some, others = _members(received), _members(wanted)
    return ANY in some or ANY in others or not some.isdisjoint(others)


def is_combo(input_type: Any) -> bool:
    """Whether an input takes one of a list of values, in the legacy or the newer form."""
    return isinstance(input_type, list) or bool(input_type == COMBO)


def _is_one_of(value: Any, names: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in names


def _members(union: str) -> set[str]:
    return {member.strip() for member in union.split(",")}
