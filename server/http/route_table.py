"""What the API page says of each route, beside what it takes from the handler: one row for each.

A test holds this table and the routes together. A route under `/live` is the twin of the one without, and has no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..control.described import SessionInfo
from ..control.figures import Stats
from ..control.messages import Reply, Request
from ..library import Listed
from . import answers
from .bodies import OfferBody
from .sources import NewSession

__all__ = ["GROUPS", "ROUTES", "About"]

GROUPS: Mapping[str, str] = {
    "Sessions": "Live runs: who is there, what runs, figures, and the control protocol over REST and WebSocket.",
    "Workflows": "What can be run.",
    "Connecting": "How pictures and sound come and go.",
    "Watching": "Is it alive, how fast, how often.",
    "Pages": "For people.",
}
TEXT, HTML, EVENTS = "text/plain", "text/html", "websocket"


@dataclass(frozen=True, slots=True)
class About:
    """What is to be said of a route.

    Attributes:
        group: one of `GROUPS`.
        answer: type of a JSON answer; None for one that is no JSON.
        body: type of the JSON body; None for none.
        status: when it goes well.
        media: of an answer that is no JSON.
        sends: media type of a body that is no JSON.
        summary: in place of the handler's docstring.
        example: of the body.
        notes: more than a line.
        others: further statuses, and when.
        query: parameters in the address, and what they do.
    """

    group: str
    answer: Any = None
    body: Any = None
    status: int = 200
    media: str = ""
    sends: str = ""
    summary: str = ""
    example: Any = None
    notes: str = ""
    others: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    query: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


_PATCH = {"v": 1, "id": 1, "type": "patch", "patches": [{"node": "3", "input": "low_threshold", "value": 0.2}]}
_GRAPH = {
    "1": {"class_type": "LoadTensor", "inputs": {}},
    "2": {"class_type": "SaveTensor", "inputs": {"images": ["1", 0]}},
}
_NO_ROOM = {503: "No room: `Retry-After` says when to try again."}
_STALE = {409: "`base_revision` is not in force any more.", 422: "The workflow or the value cannot be used."}


def _connection(path: str) -> dict[str, About]:
    """A connection that was answered: trickle ICE and restarts (RFC 9725 4.3), and its end."""
    return {
        f"PATCH {path}": About(
            "Connecting",
            status=204,
            sends="application/trickle-ice-sdpfrag",
            summary="More ICE candidates, or an ICE restart.",
            notes="New `ice-ufrag` and `ice-pwd`, with `If-Match: *`, restart ICE: the answer is 200 with the "
            "credentials and candidates of this end and a new `ETag`; keys, pictures and channels go on.",
            others={
                200: "ICE is restarted.",
                412: "`If-Match` is not the connection's ETag.",
                422: "It cannot be restarted: delete and post again.",
                428: "`If-Match` is missing.",
            },
        ),
        f"DELETE {path}": About("Connecting", summary="End the connection."),
    }


def _signaling(word: str, summary: str) -> dict[str, About]:
    """WHIP and WHEP are the same but for what flows."""
    description = "application/sdp"
    query = {"workflow": "One of the server's, loaded before the answer."} if word == "whip" else {}
    return {
        f"POST /{word}/{{stream}}": About(
            "Connecting",
            status=201,
            media=description,
            sends=description,
            summary=summary,
            notes="`Location` is the connection: `DELETE` ends it, `PATCH` brings more candidates or restarts ICE.",
            query=query,
            others={406: "No codec that is spoken here.", 429: "Too many at once.", **_NO_ROOM},
        ),
        **_connection(f"/{word}/{{stream}}/{{resource}}"),
    }


ROUTES: Mapping[str, About] = {
    "GET /": About("Pages", media=HTML, notes="`OK` for who does not accept HTML."),
    "GET /docs": About("Pages", media=HTML),
    "GET /static/{file}": About("Pages", media="application/octet-stream"),
    "GET /favicon.ico": About("Pages", media="image/svg+xml"),
    "GET /openapi.json": About("Pages", dict[str, Any]),
    "GET /health": About(
        "Watching",
        answers.HealthAnswer,
        media=TEXT,
        notes="`OK`, or `ENGINE FAILED`, `DRAINING` with 503, as text; JSON for `Accept: application/json`.",
        others={503: "The engine has failed, or the server is ending."},
    ),
    "GET /metrics": About("Watching", media=TEXT, notes="In the text format of Prometheus."),
    "GET /streams/stats": About("Watching", dict[str, answers.Rates]),
    "GET /stream/{stream_id}/stats": About("Watching", answers.Rates | answers.StreamNotFound),
    "POST /offer": About(
        "Connecting",
        answers.OfferAnswer,
        OfferBody,
        example={"workflow": "edges", "offer": {"type": "offer", "sdp": "v=0 ..."}},
        notes="The first viewer of a new session, or with `session` one more of a session that is there.",
        others={422: "The workflow does not run.", **_NO_ROOM},
    ),
    **_connection("/offer/{resource}"),
    "POST /prompt": About(
        "Workflows",
        body=answers.WorkflowGraph,
        media=TEXT,
        example=_GRAPH,
        notes="Kept for the first generation of clients. It reaches every session that has a workflow, whoever runs "
        "it; to change one session use its `control` route.",
        others={422: "The workflow does not run; sessions keep what they had."},
    ),
    "GET /api/v1/config": About("Connecting", answers.ConfigAnswer),
    "GET /api/v1/workflows": About("Workflows", list[Listed]),
    "GET /api/v1/workflows/{name}": About("Workflows", answers.WorkflowAnswer, others={404: "There is none so named."}),
    "GET /api/v1/object_info": About("Workflows", dict[str, Any]),
    "GET /api/v1/protocol": About(
        "Sessions",
        dict[str, Any],
        notes="`request`, `reply` and `event`, each a schema. The same stands in this document.",
    ),
    "GET /api/v1/sessions": About("Sessions", list[answers.SessionBrief]),
    "GET /api/v1/sessions/{id}": About("Sessions", SessionInfo, others={404: "There is no such session."}),
    "DELETE /api/v1/sessions/{id}": About("Sessions", status=204, others={404: "There is no such session."}),
    "GET /api/v1/sessions/{id}/stats": About("Sessions", Stats, others={404: "There is no such session."}),
    "GET /api/v1/sessions/{id}/control": About(
        "Sessions",
        status=101,
        media=EVENTS,
        notes="Requests go in, replies and notices come out, as JSON texts: the messages of `POST` on this path.",
        query={"token": "For browsers, which cannot set headers here."},
    ),
    "POST /api/v1/sessions/{id}/control": About("Sessions", Reply, Request, example=_PATCH, others=_STALE),
    "GET /api/v1/sources": About("Sessions", answers.SourcesAnswer),
    "POST /api/v1/sessions": About(
        "Sessions",
        SessionInfo,
        NewSession,
        status=201,
        example={"name": "wall", "workflow": "edges", "source": {"type": "pattern", "width": 640, "height": 360}},
        notes="It goes on without viewers while its source runs; `DELETE` ends it.",
        others={409: "There is a session of that name.", 422: "The workflow or the source cannot be used.", **_NO_ROOM},
    ),
    "GET /api/v1/sessions/{id}/snapshot.jpg": About(
        "Watching", media="image/jpeg", others={404: "There is no such session.", 409: "There is no picture yet."}
    ),
    "GET /api/v1/sessions/{id}/preview.mjpg": About(
        "Watching",
        media="multipart/x-mixed-replace",
        query={"width": "Largest width; 640.", "fps": "Most pictures per second; 10."},
        others={404: "There is no such session."},
    ),
    "GET /connectivity": About("Pages", media=HTML),
    **_signaling("whip", "Publish into a session, which is made if there is none (WHIP, RFC 9725)."),
    **_signaling("whep", "Watch a session (WHEP)."),
}
