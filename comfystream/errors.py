"""One tree of errors. Each has a code for programs, a message and a hint for people, and what it is about.

ComfyStreamError
+-- WorkflowError   (ValueError)    a workflow file or an edit that cannot be used
+-- EngineError     (RuntimeError)  the engine could not load, run or switch a workflow
|   +-- NodeError                   a node raised while it ran
|   +-- EngineDied                  the engine process ended
+-- MediaError      (OSError)       a file, stream or device that cannot be read or written
+-- NetworkError    (ConnectionError)
+-- ConfigError     (ValueError)    a setting, flag or config file
+-- AssetError      (OSError)       a model or node pack that is missing or broken
+-- BusyError       (RuntimeError)  a limit is reached; try again later
"""

from __future__ import annotations

__all__ = [
    "AssetError",
    "BusyError",
    "ComfyStreamError",
    "ConfigError",
    "EngineDied",
    "EngineError",
    "MediaError",
    "NetworkError",
    "NodeError",
    "WorkflowError",
]


class ComfyStreamError(Exception):
    """Base of all errors that ComfyStream raises on purpose.

    Args:
        message: one line that says what is wrong and where (file, line, node, input).
        code: short machine-readable name; stays the same across versions.
        hint: what the person can do about it, in plain words; may be empty.
        node_id: the workflow node it is about, if any.
    """

    default_code = "error"

    def __init__(self, message: str, *, code: str = "", hint: str = "", node_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.node_id = node_id

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross the pipe between the server and the engine process."""
        return _rebuild, (type(self), self.message, dict(self.__dict__))


def _rebuild(cls: type[ComfyStreamError], message: str, state: dict[str, object]) -> ComfyStreamError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class WorkflowError(ComfyStreamError, ValueError):
    """A workflow file or an edit that cannot be used."""

    default_code = "workflow"


class EngineError(ComfyStreamError, RuntimeError):
    """The engine could not load, run or switch a workflow."""

    default_code = "engine"


class NodeError(EngineError):
    """A node raised while it ran; `__cause__` is what it raised (in the same process), `trace` its traceback text.

    Args:
        message: the node's own message; its class in front of it is left out, for the place says it already.
        class_type: the node's class key.
        exception_type: qualified name of what it raised.
        trace: traceback as text.
    """

    default_code = "node_failed"

    def __init__(
        self,
        message: str,
        *,
        node_id: str,
        class_type: str,
        exception_type: str = "",
        trace: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message.removeprefix(f"{class_type}: "), hint=hint, node_id=node_id)
        self.class_type = class_type
        self.exception_type = exception_type
        self.trace = trace

    def __str__(self) -> str:
        place = f'node {self.node_id} "{self.class_type}"'
        return f"{place}: {super().__str__()}"


class EngineDied(EngineError):
    """The engine process ended while something was asked of it."""

    default_code = "engine_died"


class MediaError(ComfyStreamError, OSError):
    """A file, stream or device that cannot be read or written."""

    default_code = "media"


class NetworkError(ComfyStreamError, ConnectionError):
    """A peer that cannot be reached or that broke the protocol."""

    default_code = "network"


class ConfigError(ComfyStreamError, ValueError):
    """A setting, a flag or a config file that cannot be used."""

    default_code = "config"


class AssetError(ComfyStreamError, OSError):
    """A model or a node pack that is missing or broken."""

    default_code = "asset"


class BusyError(ComfyStreamError, RuntimeError):
    """A limit is reached; the same call may succeed later."""

    default_code = "busy"
