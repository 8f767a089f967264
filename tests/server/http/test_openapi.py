"""The OpenAPI document says what the server does: every route, and answers as they really come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import WSMsgType
from app_harness import app_with, browser
from engine_harness import fill
from jsonschema import Draft202012Validator, ValidationError
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine
from comfystream.settings import ServerSettings
from comfystream_server.app import make_app
from comfystream_server.http.openapi import document, key_of, routes_of
from comfystream_server.http.route_table import GROUPS, ROUTES


@pytest.fixture(scope="module")
def app() -> Any:
    return make_app(ServerSettings(), lambda: pytest.fail("the engine is not needed"))


@pytest.fixture(scope="module")
def api(app: Any) -> dict[str, Any]:
    return document(app)


def test_every_route_has_a_row_and_every_row_a_route(app: Any) -> None:
    assert {key_of(method, path) for method, path, _ in routes_of(app)} == set(ROUTES)


def test_every_route_is_in_the_document_and_described(app: Any, api: dict[str, Any]) -> None:
    for method, path, _ in routes_of(app):
        operation = api["paths"][path][method.lower()]
        assert operation["summary"], path
        assert operation["tags"][0] in GROUPS
        assert operation["responses"]
    ids = [operation["operationId"] for path in api["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(_references, node.values())) if node else own
    return set().union(*map(_references, node)) if isinstance(node, list) and node else set()


def test_nothing_refers_to_what_is_not_there(api: dict[str, Any]) -> None:
    references = _references(api)
    assert "#/components/schemas/Notice" not in references  # it is only for who reads
    assert {one.rsplit("/", 1)[1] for one in references} <= set(api["components"]["schemas"])
    for schema in api["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_parameters_stand_in_the_path_and_in_the_query(api: dict[str, Any]) -> None:
    control = api["paths"]["/api/v1/sessions/{id}/control"]
    assert [(one["name"], one["in"]) for one in control["get"]["parameters"]] == [("id", "path"), ("token", "query")]


def test_open_routes_ask_for_no_token_and_others_do(api: dict[str, Any]) -> None:
    assert api["paths"]["/health"]["get"]["security"] == []
    assert "security" not in api["paths"]["/metrics"]["get"]
    assert "401" in api["paths"]["/metrics"]["get"]["responses"]


def fits(api: dict[str, Any], schema: dict[str, Any], answer: Any) -> None:
    Draft202012Validator({**schema, "components": api["components"]}).validate(answer)


def answer_of(api: dict[str, Any], path: str, method: str = "get", status: str = "200") -> dict[str, Any]:
    schema: dict[str, Any] = api["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"]
    return schema


@on_loop
async def test_answers_are_as_the_document_says(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        _, api = await app.json("GET", "/openapi.json")
        async with browser(app, "comfystream", prompts=fill(0.5)) as viewer:
            await until(lambda: viewer.shown is not None)
            id = viewer.session
            for path in (
                "/api/v1/config",
                "/api/v1/workflows",
                "/api/v1/workflows/edges",
                "/api/v1/object_info",
                "/api/v1/protocol",
                "/api/v1/sessions",
                f"/api/v1/sessions/{id}",
                f"/api/v1/sessions/{id}/stats",
                "/health",
                "/streams/stats",
                f"/stream/{id}/stats",
                "/stream/nobody/stats",
            ):
                status, answer = await app.json("GET", path, headers={"Accept": "application/json"})
                template = path.replace(id, "{id}").replace("edges", "{name}").replace("nobody", "{stream_id}")
                template = template.replace("stream/{id}", "stream/{stream_id}")
                assert status == 200, path
                fits(api, answer_of(api, template), answer)
            await viewer.ask("comfystream", type="describe")
            await until(lambda: viewer.events("stats"))
            for _, said in viewer.said:
                name = "Notice" if said["type"] == "event" else "Reply"
                fits(api, {"$ref": f"#/components/schemas/{name}"}, said)
            control = f"/api/v1/sessions/{id}/control"
            template = "/api/v1/sessions/{id}/control"
            for body in ({"type": "describe"}, {"type": "nonsense"}):
                status, answer = await app.json("POST", control, body)
                fits(api, answer_of(api, template, "post"), answer)
            for missing in ("/api/v1/workflows/nothing", "/api/v1/sessions/nobody"):
                status, answer = await app.json("GET", missing)
                assert status == 404
                fits(api, {"$ref": "#/components/schemas/ErrorAnswer"}, answer)


@on_loop
async def test_a_wrong_answer_would_be_found(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        _, api = await app.json("GET", "/openapi.json")
        _, config = await app.json("GET", "/api/v1/config")
        schema = answer_of(api, "/api/v1/config")
        for wrong in ({**config, "more": 1}, {**config, "protocol": "one"}, {"ice_servers": []}, []):
            with pytest.raises(ValidationError):
                fits(api, schema, wrong)


@on_loop
async def test_the_control_socket_says_what_the_document_says(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        _, api = await app.json("GET", "/openapi.json")
        session = await app.parts.sessions.create()
        async with app.client.ws_connect(f"/api/v1/sessions/{session.id}/control") as socket:
            await socket.send_json({"type": "pause"})
            heard = set()
            async with asyncio.timeout(20):
                while heard != {"reply", "state", "stats", "shutdown"}:
                    message = await socket.receive()
                    assert message.type is WSMsgType.TEXT
                    said = message.json()
                    name = "Notice" if said["type"] == "event" else "Reply"
                    fits(api, {"$ref": f"#/components/schemas/{name}"}, said)
                    heard.add(said.get("event", "reply"))
                    app.parts.sessions.drain(1)
