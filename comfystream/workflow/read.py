"""Reading a workflow from a file, whatever form it has."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfystream.errors import WorkflowError
from comfystream.workflow.api_format import is_api_format, parse_api
from comfystream.workflow.embedded import embedded_texts, is_picture
from comfystream.workflow.model import Workflow

if TYPE_CHECKING:
    from comfystream.catalog.spec import Catalog

__all__ = ["parse_workflow", "read_workflow"]

_SIZE_LIMIT = 256 * 1024 * 1024
_EXPORT_HINT = "export it from ComfyUI with Save or Save (API Format)"


def read_workflow(
    file: str | os.PathLike[str] | bytes, catalog: Catalog | None = None, *, source: str = ""
) -> Workflow:
    """A workflow from a JSON file (API or UI format) or from a PNG or WebP that ComfyUI wrote.

    Args:
        file: a path, or the content of the file.
        catalog: node classes; needed for the UI format, whose widget values carry no names.
        source: what messages call the file; the path's last part by default.

    Raises:
        WorkflowError: it cannot be read, or is no workflow.
    """
    if isinstance(file, bytes):
        return _from_bytes(file, catalog, source)
    path = Path(file)
    return _from_bytes(_load(path), catalog, source or path.name)


def parse_workflow(document: Any, catalog: Catalog | None = None, *, source: str = "") -> Workflow:
    """A workflow from parsed JSON: API format, its `{"prompt": ...}` envelope, or UI format.

    Raises:
        WorkflowError: it is no workflow, or is in UI format and there is no catalog.
    """
    if isinstance(document, list):
        raise _not_a_workflow(source, f"a list of {len(document)} items, not a workflow")
    if not isinstance(document, Mapping):
        raise _not_a_workflow(source, "not a workflow: the JSON is a single value")
    if isinstance(document.get("nodes"), list):
        return _from_ui(document, catalog, source)
    if is_api_format(document):
        return parse_api(document, source=source)
    for key in ("prompt", "workflow"):
        inner = document.get(key)
        if isinstance(inner, str):
            inner = _parse_json(inner, f"{source} ({key})" if source else key)
        if isinstance(inner, Mapping):
            return _from_envelope(document, inner, catalog, source)
    if not document:
        raise WorkflowError(_at(source, "the workflow has no nodes"), code="empty_workflow", hint=_EXPORT_HINT)
    raise _not_a_workflow(source, "this JSON is not a workflow: it has neither nodes nor class_type entries")


def _load(path: Path) -> bytes:
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise WorkflowError(f"{path.name}: too large for a workflow", code="too_large")
        return path.read_bytes()
    except FileNotFoundError:
        raise WorkflowError(f"{path}: there is no such file", code="file_not_found") from None
    except IsADirectoryError:
        raise WorkflowError(f"{path}: is a folder, not a workflow file", code="not_a_file") from None
    except OSError as error:
        raise WorkflowError(f"{path}: cannot be read: {error.strerror or error}", code="unreadable") from error


def _from_bytes(data: bytes, catalog: Catalog | None, source: str) -> Workflow:
    if is_picture(data):
        return _from_picture(data, catalog, source)
    if not data.strip():
        raise WorkflowError(_at(source, "the file is empty"), code="empty_file", hint=_EXPORT_HINT)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        message = _at(source, "neither JSON text nor a PNG or WebP picture")
        raise WorkflowError(message, code="not_json", hint=_EXPORT_HINT) from None
    return parse_workflow(_parse_json(text, source), catalog, source=source)


def _from_picture(data: bytes, catalog: Catalog | None, source: str) -> Workflow:
    texts = embedded_texts(data)
    ui = _ui_of(texts.get("workflow"))
    if "prompt" in texts:
        document = _parse_json(texts["prompt"], f"{source} (prompt)" if source else "prompt")
        if isinstance(document, Mapping) and is_api_format(document):
            return parse_api(document, source=source, ui=ui)
    if ui is not None:
        return parse_workflow(ui, catalog, source=source)
    raise WorkflowError(
        _at(source, "the picture carries no workflow"),
        code="no_embedded_workflow",
        hint="only pictures as ComfyUI saved them do; sites and chat programs strip it",
    )


def _ui_of(text: str | None) -> Mapping[str, Any] | None:
    """The editor's form that goes with a prompt; a damaged one is as good as none."""
    if text is None:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, Mapping) and isinstance(document.get("nodes"), list) else None


def _from_ui(document: Mapping[str, Any], catalog: Catalog | None, source: str) -> Workflow:
    if catalog is None:
        raise WorkflowError(
            _at(source, "a workflow in the editor's format can only be read together with the node classes"),
            code="needs_catalog",
            hint="export it with Save (API Format)",
        )
    from comfystream.workflow.ui_format import parse_ui

    return parse_ui(document, catalog, source=source)


def _from_envelope(
    document: Mapping[str, Any], inner: Mapping[str, Any], catalog: Catalog | None, source: str
) -> Workflow:
    if isinstance(inner.get("nodes"), list):
        return _from_ui(inner, catalog, source)
    if inner and not is_api_format(inner):
        raise _not_a_workflow(source, "what this JSON calls its workflow is none: no nodes and no class_type entries")
    extra = document.get("extra_data")
    info = extra.get("extra_pnginfo") if isinstance(extra, Mapping) else None
    ui = info.get("workflow") if isinstance(info, Mapping) else None
    return parse_api(inner, source=source, ui=ui if isinstance(ui, Mapping) else None)


def _parse_json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{source}:{error.lineno}:{error.colno}" if source else f"line {error.lineno}, column {error.colno}"
        raise WorkflowError(
            f"{place}: JSON syntax error: {error.msg}", code="json_syntax", hint=_syntax_hint(text, error)
        ) from None
    except RecursionError:
        raise WorkflowError(_at(source, "the JSON is nested too deeply"), code="json_syntax") from None
    except ValueError as error:  # an integer of thousands of digits
        raise WorkflowError(_at(source, f"a number in the JSON is too large: {error}"), code="json_syntax") from None


def _syntax_hint(text: str, error: json.JSONDecodeError) -> str:
    before, after = text[: error.pos].rstrip(), text[error.pos :].lstrip()
    if not before:
        return "this is not JSON at all; " + _EXPORT_HINT
    if not after:
        return "the file ends too early; it may have been cut off"
    if before.endswith(",") and after[0] in "}]":
        return f'remove the comma before "{after[0]}"'
    if after[0] in "}]" and before.endswith((",", ":")):
        return "a value is missing here"
    if after[0] == "'":
        return "JSON wants double quotes"
    if "delimiter" in error.msg:
        return "a comma, colon or closing bracket is missing before this place"
    if "Extra data" in error.msg:
        return "the workflow ends before this place; remove what follows"
    return ""


def _not_a_workflow(source: str, message: str) -> WorkflowError:
    return WorkflowError(_at(source, message), code="not_a_workflow", hint=_EXPORT_HINT)


def _at(source: str, message: str) -> str:
    return f"{source}: {message}" if source else message
