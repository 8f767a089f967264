"""What stands behind a worker: something that is loaded once and makes a pipe for each stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from comfystream.byoc.messages import StreamParams
from comfystream.frames import AudioFrame, Frame, VideoFrame

__all__ = ["Backend", "Loading", "Modalities", "Outlet", "Pipe", "PipeReport", "StreamStart"]


@dataclass(frozen=True, slots=True)
class Outlet:
    """What a pipe may say besides frames; neither ever waits.

    Attributes:
        data: an item for the data channel: a string, or whatever JSON can hold.
        event: an event and the queue that it belongs to.
    """

    data: Callable[[Any], None]
    event: Callable[[dict[str, Any], str], None]


@dataclass(frozen=True, slots=True)
class StreamStart:
    """What a stream begins with.

    Attributes:
        id: the stream's name.
        params: as they came.
        size: width and height of the pictures that will come; None: as they come.
        capability: the name under which it was asked for; empty where there is one.
        outlet: for what is no frame.
    """

    id: str
    params: StreamParams
    size: tuple[int, int] | None
    capability: str
    outlet: Outlet


@dataclass(frozen=True, slots=True)
class Modalities:
    """What a stream's work reads ("video", "audio") and puts out ("video", "audio", "text")."""

    takes: frozenset[str]
    gives: frozenset[str]


@dataclass(frozen=True, slots=True)
class Loading:
    """What is going on before a stream is ready, in words; `share` says how much is done, 0..1, where that is known."""

    words: str
    share: float | None = None


@dataclass(frozen=True, slots=True)
class PipeReport:
    """How a pipe is.

    Attributes:
        state: "LOADING", "ONLINE", "DEGRADED_INFERENCE" or "ERROR".
        last_error: what went wrong last; empty for nothing.
        last_error_ms: when, in milliseconds since the epoch; 0 for never.
        restarts: how often what does the work had to be started anew.
        last_restart_ms: when, as above.
        details: further facts, for the status.
    """

    state: str = "ONLINE"
    last_error: str = ""
    last_error_ms: int = 0
    restarts: int = 0
    last_restart_ms: int = 0
    details: dict[str, Any] = field(default_factory=dict)


class Pipe(Protocol):
    """One stream's way through the worker. All of it is for the event loop's thread."""

    def submit(self, frame: VideoFrame | AudioFrame) -> None:
        """A frame has come; never waits."""
        ...

    def outputs(self) -> AsyncIterator[Frame]:
        """What comes out, until it is closed. Read by one reader."""
        ...

    async def update(self, params: StreamParams) -> None:
        """Take new parameters, all of them or none.

        Raises:
            ComfyStreamError: they cannot be used; the stream goes on as it was.
        """
        ...

    def loading(self) -> Loading | None:
        """What a viewer may see while it is not ready; None when it is. Its pictures are not shown meanwhile."""
        ...

    def report(self) -> PipeReport:
        """How it is."""
        ...

    async def lost(self) -> dict[str, int]:
        """Frames that went in and did not come out, by reason; what is not known at the moment is left out."""
        ...

    async def drain(self) -> None:
        """No frame will come any more: return when what is under way has come out."""
        ...

    async def close(self) -> None:
        """End it. Idempotent."""
        ...


class Backend(Protocol):
    """What does the work of all streams."""

    async def load(self) -> None:
        """Become ready.

        Raises:
            ComfyStreamError: it does not work out now; it is asked again later.
        """
        ...

    async def open(self, start: StreamStart) -> Pipe:
        """A pipe for a new stream; takes little time, what takes long goes on beside it.

        Raises:
            ComfyStreamError: the parameters cannot be used.
        """
        ...

    async def modalities(self, params: StreamParams, capability: str) -> Modalities:
        """What a stream with these parameters would read and put out.

        Raises:
            ComfyStreamError: the parameters cannot be used.
        """
        ...

    async def close(self) -> None:
        """Free everything. Idempotent."""
        ...
