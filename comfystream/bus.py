"""Where a live stream and nodes that run outside our engine (in the ComfyUI editor) meet: last values, small queues.

Inside our engine live inputs and outputs are bound to their nodes directly and nothing passes here.
"""

from __future__ import annotations

import queue
import threading
from typing import Any, Literal

__all__ = [
    "FeedQueue",
    "LastValues",
    "Modality",
    "audio_inputs",
    "audio_outputs",
    "image_inputs",
    "image_outputs",
    "inputs",
    "outputs",
    "text_outputs",
]

Modality = Literal["video", "audio", "text"]
OUTPUT_ITEMS = 256  # far more than a reader is ever behind; without a reader the oldest go


class LastValues:
    """The newest value of each modality."""

    def __init__(self) -> None:
        self._values: dict[Modality, Any] = {}
        self._lock = threading.Lock()

    def put(self, modality: Modality, value: Any) -> None:
        """Replace the value of a modality."""
        with self._lock:
            self._values[modality] = value

    def get(self, modality: Modality) -> Any:
        """The newest value, None when there was none."""
        with self._lock:
            return self._values.get(modality)

    def clear(self) -> None:
        """Forget all values (the stream has ended)."""
        with self._lock:
            self._values.clear()


class FeedQueue(queue.Queue[Any]):
    """A bounded queue whose `put` never waits: the oldest item goes.

    Attributes:
        fed: how many items were ever put; 0 means that no stream feeds it.
        dropped: how many of them went unread.
    """

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.fed = 0
        self.dropped = 0

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Append an item; `block` and `timeout` are those of `queue.Queue` and change nothing."""
        with self.mutex:
            if self._qsize() >= self.maxsize:
                self._get()
                self.dropped += 1
            self._put(item)
            self.fed += 1
            self.not_empty.notify()

    def clear(self) -> None:
        """Drop all items and forget that there was a stream."""
        with self.mutex:
            self.queue.clear()
            self.fed = 0


# Items of the input queues are frames: `.side_data.input` is the tensor or array; for sound there is `.sample_rate`.
inputs = LastValues()
outputs = LastValues()
image_inputs = FeedQueue(1)
image_outputs = FeedQueue(OUTPUT_ITEMS)
audio_inputs = FeedQueue(OUTPUT_ITEMS)
audio_outputs = FeedQueue(OUTPUT_ITEMS)
text_outputs = FeedQueue(OUTPUT_ITEMS)
