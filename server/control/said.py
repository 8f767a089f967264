"""The base of what the server says in JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Said"]


def _null_may_be_missing(schema: dict[str, Any]) -> None:
    """What is null may be left out, on the wire and so in the schema."""
    properties = schema.get("properties", {})
    required = [name for name in schema.get("required", ()) if not _may_be_null(properties[name])]
    schema.pop("required", None)
    if required:
        schema["required"] = required


def _may_be_null(schema: dict[str, Any]) -> bool:
    return schema.get("default", "") is None and any(one.get("type") == "null" for one in schema.get("anyOf", ()))


class Said(BaseModel):
    """What has a default is there all the same: schemas and types for programs say so."""

    model_config = ConfigDict(
        frozen=True, json_schema_serialization_defaults_required=True, json_schema_extra=_null_may_be_missing
    )
