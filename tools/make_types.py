#!/usr/bin/env python3
"""Write `ui/types/protocol.ts`: the control protocol and the API's answers as TypeScript, from the server's own models.

    make types                       sets up if needed
    python tools/make_types.py       with ComfyStream installed

`tests/tools/test_make_types.py` fails while the file is not what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from comfystream_server.control.described import SessionInfo
from comfystream_server.control.messages import Reply, Request
from comfystream_server.control.notices import notice_union
from comfystream_server.http.bodies import OfferBody
from comfystream_server.http.route_table import ROUTES

FILE = Path(__file__).resolve().parent.parent / "ui" / "types" / "protocol.ts"
HEAD = "// Made by `make types` from the server's models. Changes made here are lost.\n"
PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}

Schema = Mapping[str, Any]


def types() -> str:
    """The whole file."""
    asked: list[tuple[Any, Any, TypeAdapter[Any]]] = [
        ("Request", "validation", TypeAdapter(Request)),
        ("OfferBody", "validation", TypeAdapter(OfferBody)),
        ("Reply", "serialization", TypeAdapter(Reply)),
        ("Notice", "serialization", TypeAdapter(notice_union())),
        ("SessionInfo", "serialization", TypeAdapter(SessionInfo)),
    ]
    asked += [
        (key, "serialization", TypeAdapter(about.answer)) for key, about in ROUTES.items() if about.answer is not None
    ]
    schemas, shared = TypeAdapter.json_schemas(asked, ref_template="{model}")
    parts = [HEAD]
    for name in ("Request", "Notice"):
        parts.append(f"export type {name} =\n  | " + "\n  | ".join(_union(_schema_of(schemas, name))) + ";")
    parts += [_declared(name, schema) for name, schema in sorted(shared["$defs"].items())]
    parts.append(_events(shared["$defs"], _schema_of(schemas, "Notice")))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _schema_of(schemas: Mapping[tuple[Any, Any], Schema], key: str) -> Schema:
    return next(schema for (name, _), schema in schemas.items() if name == key)


def _union(schema: Schema) -> list[str]:
    return [_type(one) for one in schema["oneOf"]]


def _events(definitions: Mapping[str, Schema], notices: Schema) -> str:
    """What each event carries, by its name: for handlers that are kept in a table."""
    lines = ["/** What a notice carries, by its event. */", "export interface EventData {"]
    for name in _union(notices):
        properties = definitions[name]["properties"]
        lines.append(f"  {properties['event']['const']}: {_type(properties['data'])};")
    return "\n".join([*lines, "}"])


def _declared(name: str, schema: Schema) -> str:
    said = _comment(schema.get("description", ""), "")
    if schema.get("type") == "object" and "properties" in schema:
        return f"{said}export interface {name} {_object(schema, '')}"
    return f"{said}export type {name} = {_type(schema)};"


def _object(schema: Schema, indent: str) -> str:
    required = set(schema.get("required", ()))
    lines = [
        f"{_comment(one.get('description', ''), indent + '  ')}{indent}  "
        f"{name}{'' if name in required else '?'}: {_type(one)};"
        for name, one in schema["properties"].items()
    ]
    return "\n".join(["{", *lines, indent + "}"])


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        return str(schema["$ref"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " | ".join(dict.fromkeys(_type(one) for one in schema[union]))
    return _plain(schema)


def _plain(schema: Schema) -> str:
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(_type(one) for one in schema['prefixItems'])}]"
        item = _type(schema.get("items", {}))
        return f"({item})[]" if "|" in item else f"{item}[]"
    if kind == "object":
        more = schema.get("additionalProperties", True)
        return f"Record<string, {_type(more) if isinstance(more, dict) else 'unknown'}>"
    return PLAIN[kind] if isinstance(kind, str) else "unknown"


def _comment(text: str, indent: str) -> str:
    lines = text.replace("*/", "* /").strip().splitlines()
    if len(lines) < 2:
        return f"{indent}/** {lines[0]} */\n" if lines else ""
    body = "\n".join(f"{indent} * {line}".rstrip() for line in lines)
    return f"{indent}/**\n{body}\n{indent} */\n"


def main() -> None:
    """Write the file, if it is to change."""
    text = types()
    if FILE.is_file() and FILE.read_text("utf-8") == text:
        print(f"{FILE.name} is up to date")
        return
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(text, "utf-8")
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
