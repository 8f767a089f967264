"""In which form results go out: what was asked for, by a field or by the Accept header, and what there is."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from comfystream.engine.once_job import OnceDone, Result, Wanted

from .asked import Options
from .faults import Refused

__all__ = ["Form", "answer", "metadata", "wanted_form"]

FORMS = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "image": "image/*",
    "mp4": "video/mp4",
    "video": "video/mp4",
    "wav": "audio/wav",
    "audio": "audio/wav",
    "json": "application/json",
    "sse": "text/event-stream",
}
IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
SAME = {"audio/x-wav": "audio/wav", "audio/wave": "audio/wav", "audio/*": "audio/wav", "video/*": "video/mp4"}
ANY = "*/*"


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a reply.

    Attributes:
        mime: "image/png", "image/*", "video/mp4", "audio/wav", "application/json", or "*/*" for whatever fits.
        is_stream: server-sent events, whatever the results are.
    """

    mime: str
    is_stream: bool = False

    def wanted(self, options: Options, most_bytes: int = 0, most_results: int = 0) -> Wanted:
        """What the engine is to write, and how much at most."""
        image, is_video = IMAGES.get(self.mime, "png"), self.mime == "video/mp4"
        return Wanted(image, options.quality, is_video, options.fps, most_bytes, most_results)


def wanted_form(options: Options, accept: str) -> Form:
    """The form that is asked for.

    Raises:
        Refused: nothing that is asked for can be made.
    """
    if options.format:
        mime = FORMS.get(options.format.lower())
        if mime is None:
            known = ", ".join(FORMS)
            raise Refused("format: there is no such form", field="format", code="bad_field", hint=f"one of {known}")
        is_stream = options.stream or mime == "text/event-stream"
        return Form(ANY if mime == "text/event-stream" else mime, is_stream)
    accepted = [SAME.get(mime, mime) for mime in _accepted(accept)]
    is_stream = options.stream or (bool(accepted) and accepted[0] == "text/event-stream")
    usable = [mime for mime in accepted if mime in (*FORMS.values(), ANY) and mime != "text/event-stream"]
    if not usable and accepted and not is_stream:
        raise Refused(
            f"Accept: {accept[:100]}: nothing of that is made here",
            status=406,
            code="not_acceptable",
            hint="image/png, image/jpeg, image/webp, video/mp4, audio/wav, application/json or text/event-stream",
        )
    return Form(usable[0] if usable else ANY, is_stream)


def _accepted(header: str) -> list[str]:
    """Media types, the most wanted first."""
    found: list[tuple[float, str]] = []
    for part in header.split(","):
        mime, *parameters = (piece.strip() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        if mime and weight > 0:
            found.append((weight, mime.lower()))
    return [mime for _, mime in sorted(found, key=lambda one: -one[0])]


def metadata(name: str, seed: int | None, done: OnceDone, seconds: float) -> dict[str, Any]:
    """What `X-Metadata` says."""
    first = next((one for one in done.results if one.width), None)
    kinds = [one.kind for one in done.results]
    return {
        **({"seed": seed} if seed is not None else {}),
        **({"width": first.width, "height": first.height} if first is not None else {}),
        "seconds": round(seconds, 3),
        "workflow": name[:200],
        "results": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "nodes_run": len(done.ran),
    }


def answer(form: Form, done: OnceDone, folder: Path, told: dict[str, Any]) -> web.Response:
    """The results as one reply. Reads their files: for a thread.

    Raises:
        Refused: they are not what the form can hold.
    """
    headers = {"X-Metadata": json.dumps(told)}
    if form.mime != "application/json":
        one = _only(form, done)
        if one is not None:
            return web.Response(body=(folder / one.file).read_bytes(), content_type=one.mime, headers=headers)
    results = [document(one, folder) for one in done.results]
    images = [one["data"] for one in results if one["type"] == "image"]
    texts = [one["text"] for one in results if one["type"] == "text"]
    body = {"status": "success", **told, "images": images, "texts": texts, "results": results}
    return web.Response(text=json.dumps(body), content_type="application/json", headers=headers)


def _only(form: Form, done: OnceDone) -> Result | None:
    """The result that is the reply by itself; None when JSON has to hold them."""
    files = [one for one in done.results if one.file]
    if form.mime == ANY:
        return files[0] if len(done.results) == len(files) == 1 else None
    kind = form.mime.split("/")[0]
    fitting = [one for one in files if one.mime.split("/")[0] == kind]
    if len(fitting) == 1:
        return fitting[0]
    there = f"gave {len(fitting)} of them" if fitting else "gave none"
    raise Refused(
        f"{form.mime} was asked for, and the workflow {there}",
        status=406,
        code="not_acceptable",
        hint='ask for JSON ("format": "json"), which holds whatever there is',
    )


def document(one: Result, folder: Path) -> dict[str, Any]:
    """A result as JSON: files as data URLs."""
    if one.kind == "text":
        return {"type": "text", "node": one.node_id, "text": one.text}
    data = base64.b64encode((folder / one.file).read_bytes()).decode()
    size = {"width": one.width, "height": one.height} if one.width else {}
    return {"type": one.kind, "node": one.node_id, "mime": one.mime, **size, "data": f"data:{one.mime};base64,{data}"}
