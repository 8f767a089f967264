"""Which workflow a stream asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from comfystream.catalog.spec import Catalog
from comfystream.errors import WorkflowError
from comfystream.workflow.model import Workflow
from comfystream.workflow.read import parse_workflow

__all__ = ["asked_workflow"]

NAMES = ("prompts", "prompt")


def asked_workflow(params: Mapping[str, Any], catalog: Catalog) -> Workflow | None:
    """The workflow of `prompts` (or `prompt`): a graph, its JSON as text, or a list whose first graph counts.

    Returns:
        None when none is given; blank texts and empty lists are none.

    Raises:
        WorkflowError: what is given is no workflow.
    """
    for name in NAMES:
        given = _first(params.get(name))
        if given is not None:
            return parse_workflow(given, catalog)
    return None


def _first(given: Any) -> Any:
    while isinstance(given, list | str):
        if isinstance(given, list):
            given = given[0] if given else None
        elif not given.strip():
            return None
        else:
            given = _from_text(given)
    return given


def _from_text(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkflowError(f"prompts: this is not JSON: {error}"[:300], code="json_syntax") from None
    if isinstance(found, str):
        raise WorkflowError("prompts: the text is no workflow", code="json_syntax")
    return found
