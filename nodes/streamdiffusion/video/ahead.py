"""A chunk that is made beside the frame loop, while the frames of the next one come in."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["Ahead"]

Make = Callable[[], Tensor]
Made = TypeVar("Made")


class Ahead:
    """At most one chunk on its way. Used by one thread; its own thread ends with it.

    On a GPU chunks are made on a stream of their own: who reads the frames of the chunk before does not wait for it.
    What is kept from chunk to chunk has to be made there, too (`now`): the allocator gives memory again in the order of
    the stream that it was taken on.

    Args:
        device: where chunks are made.
    """

    def __init__(self, device: torch.device) -> None:
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="video-chunk")
        self._future: Future[Tensor] | None = None
        self._asker: torch.cuda.Stream | None = None  # the frame loop's, on which what a chunk reads was made
        # with what it reads: that is given back only where it is known to be read
        self._make: Callable[[], Any] | None = None

    def now(self, make: Callable[[], Made]) -> Made:
        """What comes of a function that is called on this thread, on the stream of chunks. None is on its way."""
        if self._side is None:
            return make()
        self._begin(make)
        try:
            with torch.cuda.stream(self._side):
                made = make()
        finally:
            self._join()
        return self._handed(made)

    def start(self, make: Make) -> None:
        """Have a chunk made on the other thread. The one before was taken or dropped."""
        self._begin(make)
        self._future = self._pool.submit(self._run, make)

    def take(self) -> Tensor | None:
        """The chunk that was started; waits for it. None where none was.

        Raises:
            BaseException: what making it raised.
        """
        future, self._future = self._future, None
        if future is None:
            return None
        try:
            made = future.result()
        finally:
            self._join()
        return self._handed(made)

    def drop(self) -> None:
        """Forget what is on its way, once it is done: before, nobody else may touch the stream's memory.

        Any thread may end up with it: the garbage collector runs where it likes, in the chunk of another video, too.
        """
        if self._future is not None:
            wait([self._future])
            self._future = None
            self._join()

    def _begin(self, make: Callable[[], Any]) -> None:
        """The side stream goes on after all that the current one was given."""
        self._make = make
        if self._side is not None:
            self._asker = torch.cuda.current_stream(self._side.device)
            self._side.wait_stream(self._asker)

    def _handed(self, made: Made) -> Made:
        """The same, for the current stream to use."""
        if self._side is not None and isinstance(made, Tensor):
            made.record_stream(torch.cuda.current_stream(made.device))
        return made

    def _join(self) -> None:
        """Who asked goes on after all of the side stream, and so does who waits now: only then may memory be reused."""
        if self._side is not None and self._asker is not None:
            for stream in {self._asker, torch.cuda.current_stream(self._side.device)}:
                stream.wait_stream(self._side)
        self._make = None

    @torch.inference_mode()
    def _run(self, make: Make) -> Tensor:
        if self._side is None:
            return make()
        with torch.cuda.stream(self._side):
            return make()
