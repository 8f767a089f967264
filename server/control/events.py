"""What a `Notice` carries, per event: one model each, made from the dataclass that the session says it with.

An event that is added to `NAMES` has its model, its place in `/api/v1/protocol` and its TypeScript type by that alone.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from pydantic import BaseModel, create_model

from .said import Said

__all__ = ["LEFT_OUT", "TextData", "data_model"]

# `revision` stands in the notice itself; paths and code of this machine (`trace`) are for the log.
LEFT_OUT = frozenset({"revision", "trace"})


class TextData(Said):
    """A text that the workflow put out: the node, the frame that it was made from, and its media time in seconds."""

    text: str
    node: str
    frame: int
    at_s: float


def data_model(event: type) -> type[BaseModel]:
    """The model of what a notice about `event`, a dataclass, carries."""
    hints = typing.get_type_hints(event)
    fields: dict[str, Any] = {
        field.name: (hints[field.name], ... if field.default is dataclasses.MISSING else field.default)
        for field in dataclasses.fields(event)
        if field.name not in LEFT_OUT
    }
    return create_model(f"{event.__name__}Data", __base__=Said, __doc__=event.__doc__, **fields)
