"""What packs reach of ComfyUI's web server. Nothing is served: routes are kept and messages go to a listener.

It stands under the name `server` beside the other stand-ins, and beside the modules of a real ComfyUI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar

F = TypeVar("F")


class BinaryEventTypes:
    """Kinds of binary messages, as packs name them."""

    PREVIEW_IMAGE = 1
    UNENCODED_PREVIEW_IMAGE = 2
    TEXT = 3
    PREVIEW_IMAGE_WITH_METADATA = 4


@dataclass(frozen=True, slots=True)
class Route:
    """A route that a pack asked for."""

    verb: str
    path: str
    handler: Any


class Routes:
    """Keeps route handlers of any verb: `@routes.get("/path")`, and aiohttp's `router.add_get("/path", handler)`."""

    def __init__(self) -> None:
        self.kept: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self.kept)

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        if verb.startswith("__"):
            raise AttributeError(verb)
        if verb.startswith("add_"):
            return lambda path="", handler=None, *_, **__: self._keep(verb.removeprefix("add_"), path, handler)

        def route(path: str = "", *_: Any, **__: Any) -> Callable[[F], F]:
            return lambda handler: self._keep(verb, path, handler)

        return route

    def _keep(self, verb: str, path: Any, handler: F) -> F:
        self.kept.append(Route(verb, str(path), handler))
        return handler


class PromptServer:
    """The server as packs see it; `PromptServer.instance` is the only one.

    Attributes:
        on_message: called as `on_message(event, data)` for what nodes send; None drops it.
    """

    instance: PromptServer

    def __init__(self) -> None:
        self.routes = Routes()
        self.app = SimpleNamespace(router=Routes(), add_routes=lambda *_: None, middlewares=[])
        self.on_message: Callable[[str, Any], None] | None = None
        self.client_id: str | None = None
        self.last_node_id: str | None = None
        self.last_prompt_id: str | None = None
        self.loop = None
        self.number = 0
        self.port = 0
        self.address = "127.0.0.1"
        self.sockets: dict[str, Any] = {}
        self.sockets_metadata: dict[str, Any] = {}
        self.supports = ["custom_nodes_from_web"]
        self.prompt_queue = SimpleNamespace(currently_running={}, queue=[], history={})
        self.node_replace_manager = SimpleNamespace(register=lambda *_: None)
        self.user_manager = None
        self.on_prompt_handlers: list[Callable[[Any], Any]] = []

    def send_sync(self, event: str, data: Any, sid: str | None = None) -> None:
        """Hand a message to the listener."""
        if self.on_message is not None:
            self.on_message(event, data)

    def send_progress_text(self, text: str | bytes, node_id: str, sid: str | None = None) -> None:
        """Hand a node's progress text to the listener."""
        plain = text.decode(errors="replace") if isinstance(text, bytes) else text
        self.send_sync("progress_text", {"nodeId": node_id, "text": plain}, sid)

    def add_on_prompt_handler(self, handler: Callable[[Any], Any]) -> None:
        """Kept; prompts do not come in here, so it is never called."""
        self.on_prompt_handlers.append(handler)

    def queue_updated(self) -> None:
        """Nothing to tell: there is no queue."""


PromptServer.instance = PromptServer()
