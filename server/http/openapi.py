"""The API as OpenAPI 3.1, made from the routes that are there, their docstrings, and the models; and its page."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter

import comfystream

from ..control.notices import notice_schema
from .answers import ErrorAnswer
from .guard import OPEN_PATHS, OPEN_PREFIX
from .route_table import GROUPS, ROUTES, About

__all__ = ["document", "key_of", "routes_of"]

VERSION = "3.1.0"
TWIN = "/live"
NOT_SHOWN = frozenset({"HEAD", "OPTIONS", "*"})  # what HTTP asks of every route
PREFIX = "#/components/schemas/"


def key_of(method: str, path: str) -> str:
    """The row of a route in `ROUTES`."""
    return f"{method} {path.removeprefix(TWIN) if path.startswith(TWIN + '/') else path}"


def routes_of(app: web.Application) -> Iterator[tuple[str, str, Any]]:
    """Method, path and handler of every route."""
    for route in app.router.routes():
        if route.method not in NOT_SHOWN and route.resource is not None:
            yield route.method, route.resource.canonical, route.handler


def document(app: web.Application) -> dict[str, Any]:
    """The OpenAPI document of the routes that `app` has."""
    found = [*routes_of(app)]
    abouts = {key: ROUTES[key] for method, path, _ in found if (key := key_of(method, path)) in ROUTES}
    schemas, components = _schemas(abouts)
    paths: dict[str, dict[str, Any]] = {}
    for method, path, handler in found:
        key = key_of(method, path)
        if key in abouts:
            operation = _operation(method, path, handler, abouts[key], schemas[key])
            paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": VERSION,
        "info": {
            "title": "ComfyStream",
            "version": comfystream.__version__,
            "description": "ComfyUI workflows on live video and sound. The routes under /live are the same as those "
            "without, for clients of the first generation.",
        },
        "tags": [{"name": name, "description": words} for name, words in GROUPS.items()],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Printed by the server when it starts."}
            },
        },
    }


def _schemas(abouts: dict[str, About]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Per route the schemas of its "body" and "answer", and what they refer to."""
    asked: list[tuple[Any, Any, TypeAdapter[Any]]] = [(("", "error"), "serialization", TypeAdapter(ErrorAnswer))]
    for key, about in abouts.items():
        if about.body is not None:
            asked.append(((key, "body"), "validation", TypeAdapter(about.body)))
        if about.answer is not None:
            asked.append(((key, "answer"), "serialization", TypeAdapter(about.answer)))
    made, definitions = TypeAdapter.json_schemas(asked, ref_template=PREFIX + "{model}")
    schemas: dict[str, dict[str, Any]] = {key: {} for key in abouts}
    for ((key, which), _), schema in made.items():
        if key:
            schemas[key][which] = schema
    return schemas, {**definitions.get("$defs", {}), **_notices()}


def _notices() -> dict[str, Any]:
    """What comes over the WebSocket by itself."""
    schema = _moved(notice_schema())
    definitions: dict[str, Any] = schema.pop("$defs")
    return {**definitions, "Notice": {**schema, "description": "What a session says by itself."}}


def _moved(schema: Any) -> Any:
    """The schema with references into this document."""
    if isinstance(schema, dict):
        return {key: _moved(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_moved(value) for value in schema]
    return schema.replace("#/$defs/", PREFIX) if isinstance(schema, str) else schema


def _operation(method: str, path: str, handler: Any, about: About, schemas: dict[str, Any]) -> dict[str, Any]:
    is_open = path in OPEN_PATHS or path.startswith(OPEN_PREFIX)
    parts = {
        "tags": [about.group],
        "operationId": f"{method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', path).rstrip('_')}",
        "summary": about.summary or _first_line(handler),
        "description": about.notes,
        "parameters": [*_parameters(path, about)],
        "requestBody": _body(about, schemas),
        "responses": _responses(about, schemas, is_open=is_open),
    }
    operation = {name: value for name, value in parts.items() if value}
    return {**operation, "security": []} if is_open else operation


def _first_line(handler: Any) -> str:
    return (inspect.getdoc(handler) or "").split("\n")[0]


def _parameters(path: str, about: About) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"{(\w+)", path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    for name, words in about.query.items():
        yield {"name": name, "in": "query", "description": words, "schema": {"type": "string"}}


def _body(about: About, schemas: dict[str, Any]) -> dict[str, Any] | None:
    if about.sends:
        return {"required": True, "content": {about.sends: {"schema": {"type": "string"}}}}
    if "body" not in schemas:
        return None
    content = {"schema": schemas["body"]} | ({"example": about.example} if about.example is not None else {})
    return {"required": True, "content": {"application/json": content}}


def _responses(about: About, schemas: dict[str, Any], *, is_open: bool) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if "answer" in schemas:
        content["application/json"] = {"schema": schemas["answer"]}
    if about.media and about.status in (200, 201):
        content[about.media] = {"schema": {"type": "string"}}
    good = {"description": "It went well."} | ({"content": content} if content else {})
    error = {"content": {"application/json": {"schema": {"$ref": PREFIX + "ErrorAnswer"}}}}
    refused = {} if is_open else {401: "A token is needed.", 403: "This token may not, or the page is a foreign one."}
    others = {str(status): {"description": words} | error for status, words in (refused | dict(about.others)).items()}
    return {str(about.status): good, **others, "default": {"description": "What is wrong, and where."} | error}
