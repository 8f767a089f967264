"""What the engine and a loaded ComfyUI (or the stand-ins for it) share while nodes run.

Everything is looked up when it is needed: these modules are loaded by the catalog, and only where packs are loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from comfystream.errors import ComfyStreamError

__all__ = [
    "CurrentNode",
    "interruption",
    "is_interruption",
    "keeps_context",
    "listen_to_messages",
    "listen_to_progress",
    "node_context",
    "node_entrance",
    "raised_by_nodes",
    "throw_if_interrupted",
]

OnProgress = Callable[..., None]
RUN_NAME = "comfystream"  # where ComfyUI has the id of a queued prompt
OnMessage = Callable[[str, Any], None]


def raised_by_nodes() -> tuple[type[BaseException], ...]:
    """What ends a node and not more than that.

    ComfyUI's interruption, which nodes raise themselves to stop a prompt, is an Exception in 0.3.64 and a BaseException
    in 0.33.0, so that nodes which catch everything let it through. A lane must not end by it.
    """
    kind = _interruption_type()
    return (Exception,) if kind is None else (Exception, kind)


def is_interruption(error: BaseException) -> bool:
    """Whether somebody stopped the node: no fault of its own."""
    kind = _interruption_type()
    return kind is not None and isinstance(error, kind)


def interruption() -> BaseException:
    """What stops a sampler from inside its progress hook."""
    kind = _interruption_type()
    return kind() if kind is not None else ComfyStreamError("the run has ended", code="interrupted")


def _interruption_type() -> type[BaseException] | None:
    module = sys.modules.get("comfy.model_management")
    kind = getattr(module, "InterruptProcessingException", None)
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else None


def throw_if_interrupted() -> None:
    """Stop here if a pack asked for it, as ComfyUI's own hook does; raises InterruptProcessingException."""
    throw = getattr(sys.modules.get("comfy.model_management"), "throw_exception_if_processing_interrupted", None)
    if throw is not None:
        throw()


def listen_to_progress(hook: OnProgress) -> None:
    """Progress bars of nodes call `hook(value, total, preview, prompt_id=None, node_id=None)` from now on.

    A bar takes the hook when it is made. Without one, samplers run silently and cannot be stopped.
    """
    utils: Any = importlib.import_module("comfy.utils")
    utils.set_progress_bar_global_hook(hook)
    progress = _optional("comfy_execution.progress")
    if progress is not None:
        progress.add_progress_handler(_handler(progress.ProgressHandler, hook))


def _handler(base: type, hook: OnProgress) -> Any:
    """Hears `ComfyAPI.execution.set_progress`, which goes past the hook of the progress bars."""

    class Handler(base):  # type: ignore[misc]
        def update_handler(
            self, node_id: str, value: float, max_value: float, state: Any, prompt_id: str, image: Any = None
        ) -> None:
            hook(value, max_value, image, prompt_id, node_id)

    return Handler("comfystream")


def node_entrance() -> Callable[[Any], object]:
    """What is called with a `node_context` on the thread, or in the task, that calls a node.

    `get_executing_context()` answers it from then on: helpers of packs and `ComfyAPI` find there which node calls them.
    """
    utils = _optional("comfy_execution.utils")
    enter: Callable[[Any], object] = utils.current_executing_context.set if utils is not None else _enter_nothing
    return enter


def node_context(node_id: str, index: int | None = 0) -> Any:
    """Which node is called, and for which item of its lists."""
    utils = _optional("comfy_execution.utils")
    return None if utils is None else utils.ExecutionContext(RUN_NAME, node_id, index)


class CurrentNode:
    """A context for a thread that calls one node after the other; reads as that of the node which is called now.

    Entering a context costs as much as calling a node that does nothing, setting an attribute a tenth of that. What a
    node hears while it runs is the same on its thread and wherever its context was copied to. It differs later: a copy
    that outlives the call goes on to the nodes after it. So nodes that `keeps_context` names enter their own.
    """

    __slots__ = ("context",)

    def __init__(self) -> None:
        self.context: Any = node_context("")

    @property
    def prompt_id(self) -> str:
        """Of the run."""
        return str(self.context.prompt_id)

    @property
    def node_id(self) -> str:
        """Of the node."""
        return str(self.context.node_id)

    @property
    def list_index(self) -> int | None:
        """Of the item for which the node is called."""
        index: int | None = self.context.list_index
        return index

    def __iter__(self) -> Iterator[Any]:
        return iter(self.context)

    def __repr__(self) -> str:
        return repr(self.context)


def keeps_context(classes: Iterable[type]) -> bool:
    """Whether one of some node classes may keep, compare or hand on what `get_executing_context()` gives.

    That is so where a module of its pack has the function, or what is made of it, by a name. Others get there only
    through helpers outside of their pack, which look at the context and forget it.
    """
    known = {id(value) for name, values in _GIVES_CONTEXT.items() for value in _values(sys.modules.get(name), values)}
    packages = {cls.__module__.partition(".")[0] for cls in classes}
    modules = [module for name, module in [*sys.modules.items()] if name.partition(".")[0] in packages]
    return any(id(value) in known for module in modules for value in [*getattr(module, "__dict__", {}).values()])


_GIVES_CONTEXT = {
    "comfy_execution": (),
    "comfy_execution.utils": ("get_executing_context", "current_executing_context", "CurrentNodeContext"),
    "comfy_api.latest": ("ComfyAPI", "ComfyAPISync"),
}


def _values(module: Any, names: tuple[str, ...]) -> list[Any]:
    return [module, *(getattr(module, name, module) for name in names)] if module is not None else []


def _enter_nothing(context: Any) -> None:
    """A ComfyUI that keeps no such context."""


@cache
def _optional(name: str) -> Any | None:
    """A module that not every ComfyUI has; looked for once, for this is asked while nodes run."""
    return importlib.import_module(name) if importlib.util.find_spec(name) is not None else None


def listen_to_messages(hook: OnMessage) -> None:
    """`PromptServer.instance.send_sync(event, data)` calls `hook(event, data)` from now on."""
    server: Any = importlib.import_module("server")
    server.PromptServer.instance.on_message = hook
