"""Another model under a running stream: the stream of before goes on until the next one is ready."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .beside import Beside
from .model import StreamModel
from .stream import Stream

__all__ = ["Handover"]


class Handover:
    """The stream of a node. Used by one thread."""

    def __init__(self) -> None:
        self._stream: Stream | None = None
        self._next: Stream | None = None
        self._work: Beside | None = None
        self._refused: StreamModel | None = None

    @property
    def stream(self) -> Stream | None:
        """What runs now."""
        return self._stream

    def to(self, model: StreamModel, make: Callable[[], Stream], image: Tensor) -> Stream:
        """The stream that takes the next frame; whether it is one of the model shows in its `model`.

        The very first one is made ready at once: that is in a rehearsal, or before the first frame.

        Args:
            model: what it should be of.
            make: makes a stream of it.
            image: the next frame.

        Raises:
            ComfyStreamError: the model cannot be made ready. This is said once; the stream of before goes on.
        """
        if self._stream is None or self._stream.model is model:
            self._drop_next()
            self._stream = self._stream or make()
            return self._stream
        if self._refused is model:
            return self._stream
        if self._next is None or self._next.model is not model:
            self._drop_next()
            self._next = make()
        if self._next.is_ready(image) or (self._work is not None and self._work.is_done):
            return self._finish(model)
        if self._work is None:
            waiting, shape = self._next, image[:1]
            self._work = Beside(lambda: waiting.prepare(shape))
        self._work.tell()
        return self._stream

    def _finish(self, model: StreamModel) -> Stream:
        work, made = self._work, self._next
        self._work = self._next = None
        self._refused = model  # until it is known that it is not
        if work is not None:
            work.tell()
            work.result()
        self._refused = None
        assert made is not None
        before, self._stream = self._stream, made
        if before is not None:
            before.close()
        return made

    def _drop_next(self) -> None:
        self._refused = None
        if self._work is not None:
            self._work.stop()
        self._work = self._next = None
