"""A request and its workflow brought together: values in their places, files in the job's folder."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfystream.catalog.spec import Catalog
from comfystream.engine.once_job import OnceJob, Wanted
from comfystream.errors import WorkflowError
from comfystream.workflow.bind import INPUTS
from comfystream.workflow.edits import Patch, SetValues, apply, parse_target
from comfystream.workflow.model import Node, Workflow
from comfystream.workflow.problem import did_you_mean

from .asked import MOST_PIXELS, Asked, check_picture
from .faults import TOO_LARGE, Refused
from .places import KNOWN, Place, Places
from .tasks import Named

__all__ = ["Prepared", "prepare"]

FIELDS = ("image", "audio", "workflow", "values", "params", "format", "quality", "fps", "stream", "timeout_seconds")
SIZE = ("width", "height")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What goes to the engine.

    Attributes:
        named: the workflow as it was found.
        job: what to run.
        seed: that was set; None where the workflow has none.
    """

    named: Named
    job: OnceJob
    seed: int | None


def prepare(asked: Asked, named: Named, catalog: Catalog, folder: Path, wanted: Wanted) -> Prepared:
    """Put everything in its place; writes the request's files into the folder. May take a moment: for a thread.

    Raises:
        Refused: something has no place, or is missing; says which field.
        WorkflowError: a value that cannot be set.
    """
    places = Places(named.workflow, catalog, named.declared)
    given = _write_media(asked, places, folder)
    fields, size = _fields(asked, places, given)
    seed = _seed(asked, places, fields)
    patches = _patches(fields, places)
    patches += _values(asked, named.workflow, catalog)
    workflow = _patched(named.workflow, patches, catalog)
    return Prepared(named, OnceJob(workflow, str(folder), given, size, wanted), seed)


def _fields(asked: Asked, places: Places, given: dict[str, str]) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """The values by name, and the size that the request's picture is brought to."""
    options = asked.options
    fields: dict[str, Any] = dict(asked.more)
    fields.update({name: value for name in SIZE if (value := getattr(options, name)) is not None})
    width, height = options.width, options.height
    if width and height and width * height > MOST_PIXELS:
        raise Refused("width x height is too large", field="width", status=TOO_LARGE, code="too_many_pixels")
    if not given or not any(name in fields for name in SIZE) or any(places.of(name) for name in SIZE):
        return fields, None
    if width is None or height is None:
        missing = "width" if width is None else "height"
        raise Refused(f"{missing}: width and height are given together", field=missing, code="bad_field")
    return {name: value for name, value in fields.items() if name not in SIZE}, (width, height)


def _seed(asked: Asked, places: Places, fields: dict[str, Any]) -> int | None:
    """The seed that is wanted, or one by lot: the same request is to give another picture."""
    found = places.of("seed")
    wanted = asked.options.seed
    if not found:
        if wanted is not None:
            fields["seed"] = wanted
        return None
    fields["seed"] = secrets.randbelow(1 << 32) if wanted is None or wanted < 0 else wanted
    return int(fields["seed"])


def _patches(fields: dict[str, Any], places: Places) -> list[tuple[str, Patch]]:
    made = []
    for name, value in fields.items():
        found = places.of(name)
        if not found:
            raise _unknown(name, places)
        made += [(name, _patch(place, value)) for place in found]
    return made


def _patch(place: Place, value: Any) -> Patch:
    return Patch(node=place.node, input=place.input, value=value)


def _unknown(name: str, places: Places) -> Refused:
    takes = places.names()
    if name in KNOWN:
        words = f'this workflow has no place for "{name}"'
        hint = f"it takes {', '.join(takes)}; " if takes else ""
        return Refused(words, field=name, code="no_place", hint=f'{hint}"values" sets any input of any node')
    known = [*FIELDS, *takes]
    hint = did_you_mean(name, known, f"there are: {', '.join(known)}")
    return Refused(f'there is no field "{name[:80]}"', field=name[:80], code="unknown_field", hint=hint)


def _values(asked: Asked, workflow: Workflow, catalog: Catalog) -> list[tuple[str, Patch]]:
    """`values` and `params`: constants by "node.input", the node by id, title or class."""
    made = []
    for group, values in (("params", asked.options.params), ("values", asked.options.values)):
        for target, value in values.items():
            field = f"{group}.{target}"[:200]
            try:
                if "=" in target:
                    raise WorkflowError(f'"{target}" is no node.input', code="bad_target")
                patch = parse_target(workflow, f"{target}={json.dumps(value)}", catalog)
            except WorkflowError as error:
                raise _about(error, field) from None
            made.append((field, patch.model_copy(update={"value": value})))
    return made


def _about(error: WorkflowError, field: str) -> Refused:
    return Refused(
        f"{field}: {error.message}"[:500], field=field, code=error.code, hint=error.hint[:500], node_id=error.node_id
    )


def _patched(workflow: Workflow, patches: list[tuple[str, Patch]], catalog: Catalog) -> Workflow:
    for field, patch in patches:
        try:
            workflow = apply(workflow, SetValues(patches=[patch]), catalog)
        except WorkflowError as error:
            raise _about(error, field) from None
    return workflow


# --- files


def _write_media(asked: Asked, places: Places, folder: Path) -> dict[str, str]:
    """The request's files, by the node that is to give them."""
    given: dict[str, str] = {}
    for index, (name, data) in enumerate(asked.media.items()):
        node = _loader(name, places)
        if INPUTS.get(node.class_type) == "video":
            check_picture(name, data)
        file = f"in-{index}"
        Path(folder, file).write_bytes(data)
        given[node.id] = file
    live = [node for node in (places.picture(), places.sound()) if node is not None]
    for node in live:
        if node.id not in given and node.class_type not in ("LoadImage", "LoadAudio"):
            field = "image" if INPUTS.get(node.class_type) == "video" else "audio"
            raise Refused(
                f"{field}: this workflow needs one", field=field, code="missing_field", hint="base64, or a form's file"
            )
    return given


def _loader(name: str, places: Places) -> Node:
    node = {"image": places.picture, "audio": places.sound}[name]() if name in ("image", "audio") else None
    node = node or places.loader(name)
    if node is None:
        raise Refused(
            f'this workflow has no place for "{name[:80]}"',
            field=name[:80],
            code="no_place",
            hint="a node that loads a picture or sound goes by its title or id; LoadImage is one",
        )
    return node
